"""
Happenings: what the trail tells, in sentences, and to whom.

Texts are made here of facts and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from batchyard.ids import JobId, unit_id
from batchyard.states import EndCause
from batchyard_controller.core.access.roles import Kind, Principal, Thing, Verb, may
from batchyard_controller.core.access.things import job_thing, queue_thing
from batchyard_controller.core.commands import Happening, Published, PublishMove, PublishNotice, Subject
from batchyard_controller.core.jobs.lifecycle import BECAUSE
from batchyard_controller.core.model.endings import Trigger
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.units import names_child
from batchyard_controller.core.placement.refusals import Block
from batchyard_controller.core.world.world import World

from .words import blocked, host_name

_HAPPENED = {
    Happening.JOINED: "its agent connected",
    Happening.LEFT: "its agent disconnected; what runs there goes on",
    Happening.FELL_SILENT: "it gets no new work; what runs there goes on",
    Happening.CORDONED: "an operator cordoned it: it gets no new work",
    Happening.DRAINED: "an operator drains it: it gets no new work, and what runs there may end",
    Happening.FREED: "an operator lets it have work again",
    Happening.RECLAIMED: "it is going to be taken away",
    Happening.APPROVED: "an operator approved what it says of itself",
    Happening.REMOVED: "an operator removed it; what ran there is lost",
    Happening.REPLACED: "its machine joined anew under its name; what ran there ends by its fence",
    Happening.FORGOTTEN: "it was not heard of for so long that it is forgotten",
    Happening.DOUBTED: "starts failed there; it rests for a while",
    Happening.CLOCK_OFF: "it gets no new work until its clock is right",
    Happening.CLOCK_RIGHT: "its clock is right again",
    Happening.BLOCKED: "who is first in line cannot be placed",
    Happening.ALERTED: "",
    Happening.EVENTS_LOST: "events were dropped before they were passed on",
}


def move_text(world: World, move: PublishMove) -> str:
    """Say why a job, a child or several moved."""
    why = move.why
    parts = [BECAUSE[why.trigger] if why.trigger is not None else ""]
    if why.attempt:
        parts.append(f"attempt {why.attempt} on {host_name(world, why.host_id)}")
    if why.exit_code is not None:
        parts.append(f"exit code {why.exit_code}")
    if why.end not in (None, EndCause.EXITED):
        parts.append(str(why.end).lower().replace("_", " "))
    if why.by:
        parts.append(f"{'for' if why.trigger is Trigger.PREEMPTED else 'after'} {why.by}")
    parts.append(why.words)
    return "; ".join(part for part in parts if part)


def notice_text(notice: PublishNotice) -> str:
    """Say what happened to a host, a queue or the yard."""
    about = f"job {notice.by}" if notice.by else ""
    return "; ".join(part for part in (_HAPPENED[notice.what], about, notice_words(notice)) if part)


def notice_words(notice: PublishNotice) -> str:
    """Return what more is known of it; of a blocked queue AWS's text, as its code alone is kept."""
    is_code = notice.what is Happening.BLOCKED and notice.words in set(Block)
    return blocked(Block(notice.words)) if is_code else notice.words


def moved_id(world: World, move: PublishMove) -> JobId:
    """Return what users call who moved; of a job that is forgotten a node is called as a child."""
    job = world.jobs.get(move.job_id)
    return unit_id(move.job_id, move.index, is_node=job is not None and job.kind is JobKind.NODES)


def may_see(world: World, reader: Principal, told: Published) -> bool:
    """Say whether a caller may be told; of jobs that are no longer kept nobody but the administrator may."""
    if reader.is_administrator:
        return True
    if isinstance(told, PublishMove):
        job = world.jobs.get(told.job_id)
        return job is not None and may(reader, Verb.READ, job_thing(job.spec))
    thing = queue_thing(told.id) if told.subject is Subject.QUEUE else Thing(Kind.HOST)
    return may(reader, Verb.READ, thing)


def of_job(told: Published, job_id: JobId, index: int | None) -> Iterator[Published]:
    """Yield what of a move, or of a run of them, is about a job with all its children, or about one of these."""
    if isinstance(told, PublishMove) and told.job_id == job_id:
        if not names_child(index):
            yield told
        elif told.is_run and index in range(told.index or 0, told.stop):
            yield told._replace(index=index, stop=0)
        elif told.index == index and not told.is_run:
            yield told


def of_host(told: Published, host_id: str) -> Iterator[Published]:
    """Yield what is about a host, or about a try on it."""
    is_its = told.why.host_id == host_id if isinstance(told, PublishMove) else told.id == host_id
    if is_its:
        yield told
