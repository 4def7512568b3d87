"""Job view: what users see of jobs, as messages of the contract."""

from __future__ import annotations

from dataclasses import replace

from batchyard.array_values import NO_VALUES
from batchyard.ids import AttemptId, attempt_id
from batchyard.resources import NO_USAGE
from batchyard.states import JobState
from batchyard.task_messages import CONDITIONS
from batchyard.v1 import job_pb2
from batchyard_controller.convert.definitions import NODES
from batchyard_controller.convert.hosts import USAGE, end_cause_number
from batchyard_controller.convert.jobs import ARRAY_VALUES, dependency_messages, job_state_number, spec_message
from batchyard_controller.core.access.roles import Principal, Verb, may
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.jobs.ends import has_succeeded
from batchyard_controller.core.jobs.variables import log_stream_name
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import Children
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.placement.refusals import HOPELESS_BLOCKS
from batchyard_controller.core.views import causes, history, parts, waiting, words
from batchyard_controller.core.views.dependents import dependents_of
from batchyard_controller.core.views.parts import Part, PartState
from batchyard_controller.core.world.world import World


def job_message(world: World, unit: Unit) -> job_pb2.Job:
    """Describe a job, a parent, one child or one node."""
    summary = summary_message(world, unit)
    live = history.live_attempt(world, unit)
    attempts = [_ended_message(world, unit, ended) for ended in unit.attempts]
    if live is not None:
        attempts.append(_live_message(world, unit, live))
    job = unit.job
    return spec_message(
        job.spec,
        None if unit.is_parent and job.spec.nodes is not None else unit.task,
        id=summary.id,
        name=job.name,
        state=summary.state,
        status_reason=summary.status_reason,
        created_at_ms=job.created_at_ms,
        started_at_ms=summary.started_at_ms,
        stopped_at_ms=summary.stopped_at_ms,
        attempts=attempts,
        nodes=NODES.write(job.spec.nodes) if unit.is_parent and job.spec.nodes is not None else None,
        node=summary.node if summary.HasField("node") else None,
        array=_described_array(unit, summary),
        depends_on=dependency_messages(job.depends_on),
        is_cancelled=summary.is_cancelled,
        is_terminated=summary.is_terminated,
        exit_code=summary.exit_code if summary.HasField("exit_code") else None,
        waiting_reason=waiting.waiting_reason(world, unit),
        ending_cause=causes.ending_cause(world, unit),
    )


def summary_message(world: World, unit: Unit, state: JobState | None = None) -> job_pb2.JobSummary:
    """Describe a job in short; *state* stands in for the present one (for past moves)."""
    ended = unit.attempts
    live = history.live_attempt(world, unit)
    last = ended[-1] if ended else None
    host_id = live.host_id if live is not None else last.host_id if last is not None else ""
    started, stopped = history.span(world, unit)
    return job_pb2.JobSummary(
        id=unit.id,
        name=unit.job.name,
        queue=unit.job.spec.queue,
        state=job_state_number(state or unit.state),
        status_reason=waiting.status_reason(world, unit),
        created_at_ms=unit.job.created_at_ms,
        started_at_ms=started,
        stopped_at_ms=stopped,
        exit_code=last.exit_code if last is not None and live is None else None,
        array=_array(unit),
        node=_node(unit),
        job_definition=unit.job.spec.definition,
        host_name=words.host_name(world, host_id),
        attempts=len(ended) + (live is not None),
        attempt_ids=_uncommon_ids(unit, live) if world.restore is not None else (),
        reason=last.reason if last is not None and live is None else "",
        is_cancelled=history.is_cancelled(unit),
        is_terminated=history.is_terminated(unit),
        share_identifier=unit.job.spec.share_identifier,
        scheduled_at_ms=live.claimed_at_ms if live is not None else last.claimed_at_ms if last is not None else 0,
        cpu_millis=0 if unit.is_parent else unit.task.resources.cpu_millis,
        consumables=dict(unit.consumables if unit.is_node else unit.job.spec.consumables),
        submitted_by=unit.job.spec.submitted_by,
        containers=() if unit.task.is_plain else [container.shown_name for container in unit.task.all_containers],
        owner=unit.job.spec.owner,
    )


def _uncommon_ids(unit: Unit, live: Attempt | None) -> list[AttemptId]:
    """Return the ids of a unit's attempts, unless they are those of a yard that was never restored."""
    ran = unit.main if unit.is_parent else unit
    ids = [ended.id_of(ran.id) for ended in unit.attempts] + ([live.id] if live is not None else [])
    return ids if ids != [attempt_id(ran.id, number) for number in range(1, len(ids) + 1)] else []


def _array(unit: Unit) -> job_pb2.ArrayProperties | None:
    job = unit.job
    if job.kind is not JobKind.ARRAY:
        return None
    if unit.is_child:
        number = unit.number
        shown = None if number == unit.index else number
        return job_pb2.ArrayProperties(size=job.size, index=unit.index, number=shown)
    return job_pb2.ArrayProperties(
        size=job.size,
        concurrency=job.concurrency,
        max_fails=job.max_fails,
        status_summary={str(s): job.children.count(s) for s in JobState},
        status_summary_updated_at_ms=job.children.updated_at_ms or job.created_at_ms,
    )


def _described_array(unit: Unit, summary: job_pb2.JobSummary) -> job_pb2.ArrayProperties | None:
    """Return what is told of an array or a child with what is too long for lists."""
    if not summary.HasField("array"):
        return None
    array, values = summary.array, unit.job.values
    if unit.is_child and (item := values.item(unit.number)) is not None:
        array.item = item
    elif unit.is_parent and values != NO_VALUES:
        array.values.CopyFrom(ARRAY_VALUES.write(values))
    return array


def _node(unit: Unit) -> job_pb2.NodeDetails | None:
    nodes = unit.job.spec.nodes
    return None if nodes is None else job_pb2.NodeDetails(num_nodes=nodes.count, main_node=nodes.main, index=unit.index)


def _ended_message(world: World, unit: Unit, ended: EndedAttempt) -> job_pb2.Attempt:
    ran = unit.main if unit.is_parent else unit
    name = ended.id_of(ran.id)
    count = len(unit.task.containers)
    told = [_container_message(unit, name, part) for part in parts.ended_parts(unit.task, ended.containers)]
    return job_pb2.Attempt(
        id=name,
        number=ended.number,
        state=job_pb2.JOB_STATE_SUCCEEDED if has_succeeded(ended) else job_pb2.JOB_STATE_FAILED,
        cause=end_cause_number(ended.cause),
        compute_environment=ended.compute_environment,
        retry_verdict=words.verdict(ended.verdict),
        host_id=ended.host_id,
        host_name=words.host_name(world, ended.host_id),
        host_address=words.host_address(world, unit, ended.host_id),
        claimed_at_ms=ended.claimed_at_ms,
        started_at_ms=ended.started_at_ms,
        stopped_at_ms=ended.stopped_at_ms,
        exit_code=ended.exit_code,
        reason=ended.reason,
        status_reason=words.attempt_reason(unit, ended),
        log_stream_name=log_stream_name(unit.job, name) if ended.started_at_ms and unit.task.is_plain else "",
        containers=told[:count],
        init_containers=told[count:],
        **words.pod_of(world, ran, ended.host_id),
        gpu_uuids=ended.gpu_uuids,
        image_digest=ended.image_digest,
        epoch=ended.epoch,
        usage=USAGE.write(ended.usage) if ended.usage != NO_USAGE else None,
    )


def _live_message(world: World, unit: Unit, attempt: Attempt) -> job_pb2.Attempt:
    is_running = attempt.started_at_ms != 0
    count = len(unit.task.containers)
    told = [_container_message(unit, attempt.id, part) for part in parts.live_parts(world, unit.task, attempt)]
    return job_pb2.Attempt(
        id=attempt.id,
        number=attempt.number,
        state=job_pb2.JOB_STATE_RUNNING if is_running else job_pb2.JOB_STATE_STARTING,
        compute_environment=attempt.compute_environment,
        host_id=attempt.host_id,
        host_name=words.host_name(world, attempt.host_id),
        host_address=words.host_address(world, unit, attempt.host_id),
        claimed_at_ms=attempt.claimed_at_ms,
        started_at_ms=attempt.started_at_ms,
        log_stream_name=log_stream_name(unit.job, attempt.id) if is_running and unit.task.is_plain else "",
        containers=told[:count],
        init_containers=told[count:],
        **words.pod_of(world, world.unit_of(attempt), attempt.host_id),
        gpu_uuids=[gpu.uuid for gpu in attempt.gpus],
        image_digest=attempt.image_digest,
        epoch=attempt.epoch,
    )


def _container_message(unit: Unit, attempt: str, part: Part) -> job_pb2.ContainerStatus:
    """Tell of one of several containers; one that never ran has no log."""
    end, has_log = part.end, part.end.started_at_ms or part.state is not PartState.ENDED
    return job_pb2.ContainerStatus(
        name=end.name,
        exit_code=end.exit_code,
        reason=end.reason,
        started_at_ms=end.started_at_ms,
        stopped_at_ms=end.stopped_at_ms,
        container_id=end.container_id,
        image_digest=end.image_digest,
        log_stream_name=log_stream_name(unit.job, attempt, end.name) if has_log else "",
        state=job_pb2.ContainerState.Value(f"CONTAINER_STATE_{part.state}"),
        waits_for=CONDITIONS.write(part.waits_for),
    )


def digest_message(children: Children, cells: int) -> job_pb2.GetArrayDigestResponse:
    """Say how many children of an array are in which state, in so many parts at most."""
    width = -(-children.size // cells)
    return job_pb2.GetArrayDigestResponse(
        size=children.size,
        width=width,
        cells=[
            job_pb2.ArrayCell(counts={str(state): found for state, found in counts.items()})
            for counts in children.counts_by(width)
        ],
    )


def explain_message(world: World, reader: Principal, unit: Unit) -> job_pb2.ExplainJobResponse:
    """Say why a job is where it is, and of which others *reader* may know."""
    waits = waiting.waits_for_host(unit)
    place = waiting.place_of(world, unit)
    if place is not None and not _sees(world, reader, place.first_id):
        place = replace(place, first_id="")
    dependents = dependents_of(world, unit)
    refusals = waiting.refusals(world, unit) if waits else ()
    return job_pb2.ExplainJobResponse(
        job_id=unit.id,
        state=job_state_number(unit.state),
        summary=waiting.summary(world, unit, place),
        refusals=[
            job_pb2.Refusal(
                kind=r.kind,
                asked=r.asked,
                free=r.free,
                largest_free=r.largest_free,
                largest_capacity=r.largest_capacity,
                message=r.message,
            )
            for r in refusals
        ],
        position=place.ahead + 1 if place is not None else 0,
        position_is_least=place is not None and not place.is_exact,
        first_job_id=place.first_id if place is not None else "",
        estimated_start_at_ms=place.starts_at_ms if place is not None else 0,
        eligible_hosts=waiting.eligible_hosts(world, unit) if waits else 0,
        dependent_ids=[each for each in dependents.ids if _sees(world, reader, each)],
        dependents=dependents.count,
        dependents_is_least=not dependents.is_exact,
        cannot_run=any(refusal.block in HOPELESS_BLOCKS for refusal in refusals),
    )


def _sees(world: World, reader: Principal, job_id: str) -> bool:
    unit = world.find(job_id)
    return unit is not None and may(reader, Verb.READ, job_thing(unit.job.spec))
