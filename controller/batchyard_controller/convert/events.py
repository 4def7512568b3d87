"""Events of the trail: from what is kept to the contract."""

from __future__ import annotations

from batchyard.v1 import attempt_pb2
from batchyard.v1 import event_pb2 as pb
from batchyard_controller.core.commands import Published, PublishMove, Subject
from batchyard_controller.core.views.happenings import move_text, moved_id, notice_text, notice_words
from batchyard_controller.core.views.words import host_name
from batchyard_controller.core.world.world import World

from .jobs import job_state_number

_SUBJECTS = {
    Subject.HOST: pb.SUBJECT_HOST,
    Subject.QUEUE: pb.SUBJECT_QUEUE,
    Subject.YARD: pb.SUBJECT_YARD,
}


def event_message(world: World, told: Published, epoch: int, cursor: str) -> pb.Event:
    """Return what is told of one move or notice."""
    if not isinstance(told, PublishMove):
        is_host = told.subject is Subject.HOST
        return pb.Event(
            cursor=cursor,
            at_ms=told.at_ms,
            subject=_SUBJECTS[told.subject],
            host_id=told.id if is_host else "",
            host_name=host_name(world, told.id) if is_host else "",
            queue=told.id if told.subject is Subject.QUEUE else "",
            what=told.what,
            text=notice_text(told),
            by_job_id=told.by,
            words=notice_words(told),
            epoch=epoch,
        )
    why, job = told.why, world.jobs.get(told.job_id)
    return pb.Event(
        cursor=cursor,
        at_ms=told.at_ms,
        subject=pb.SUBJECT_JOB,
        job_id=moved_id(world, told),
        children=told.stop - (told.index or 0) if told.is_run else 0,
        host_id=why.host_id,
        host_name=host_name(world, why.host_id) if why.host_id else "",
        queue=job.spec.queue if job is not None else "",
        previous_state=job_state_number(told.before),
        state=job_state_number(told.after),
        what=why.trigger or "",
        text=move_text(world, told),
        attempt=why.attempt,
        end_cause=attempt_pb2.EndCause.Value(f"END_CAUSE_{why.end}")
        if why.end is not None
        else attempt_pb2.END_CAUSE_UNSPECIFIED,
        exit_code=why.exit_code,
        by_job_id=why.by,
        words=why.words,
        epoch=epoch,
    )
