"""
What follows for the nodes of a job from one another: they start after their main node, and end with it.

Laws: nobody but the main node is told to start before that runs, which is not stored but
seen by its attempt; so claims of which some were lost with a leader are known to no host,
and dropped. A try of a job is over when its main node's is; another one begins when no
node of the last is left on any host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from batchyard.ids import HostId, JobId
from batchyard.states import EndCause, JobState
from batchyard_controller.core.commands import SendStart, SendStop
from batchyard_controller.core.model.attempts import Attempt, AttemptEnd
from batchyard_controller.core.model.endings import BY_ATTEMPT, Ending, Trigger
from batchyard_controller.core.model.jobs import Job, JobKind
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world import records
from batchyard_controller.core.world.occupancy import live_nodes
from batchyard_controller.core.world.world import World

from .progress import Out, Progress

MAIN_EXITED = "Main node exited"
"""Status reason of nodes that are stopped as their main node has ended; AWS's is not known."""

End = Callable[[World, Attempt, AttemptEnd, Instant, Out], None]
"""Ends an attempt; see `attempts.end_attempt`."""


def may_start(world: World, attempt: Attempt) -> bool:
    """Say whether a host may be told of an attempt: of a node only once its main node runs."""
    if not attempt.is_node:
        return True
    unit = world.unit_of(attempt)
    if unit.leads:
        return True
    main = world.live_attempt(unit.main)
    return main is not None and main.number == attempt.number and main.started_at_ms > 0


def is_told(world: World, attempt: Attempt) -> bool:
    """Say whether a host may have been told of an attempt."""
    if not is_left_over(world, attempt):
        return may_start(world, attempt)
    last = world.unit_of(attempt).main.attempts[-1]
    return last.started_at_ms > 0


def is_left_over(world: World, attempt: Attempt) -> bool:
    """Say whether a node's try goes on, or is yet to start, though its main node's is over."""
    return attempt.is_node and world.unit_of(attempt).main.next_number > attempt.number


def starts(world: World, attempts: Iterable[Attempt]) -> Out:
    """Return what tells hosts to start those attempts that may be; one without a session hears of them as it joins."""
    by_host: dict[HostId, list[Attempt]] = {}
    for attempt in attempts:
        if may_start(world, attempt):
            by_host.setdefault(attempt.host_id, []).append(attempt)
    sessions = {host_id: world.hosts[host_id].session for host_id in by_host}
    return [
        SendStart(host_id, sessions[host_id], tuple(told)) for host_id, told in by_host.items() if sessions[host_id]
    ]


def on_node_started(world: World, unit: Unit, out: Out) -> None:
    """Have the other nodes started, if it is the main one that runs."""
    if unit.leads:
        others = (each for each in live_nodes(world, unit.job) if each.index != unit.index)
        out += starts(world, (each for each in others if not each.is_stopping))


def on_node_ended(world: World, unit: Unit, end: End, now: Instant, out: Out) -> None:
    """Stop the others if it was the main node that ended, or if they fail together; begin again after the last."""
    nodes, main = unit.job.spec.nodes, unit.main
    assert nodes is not None, f"{unit.id} is no node"
    if unit.leads:
        follow_main(world, unit.job, end, now, out)
    elif nodes.fail_together and main.state.is_active and unit.state is JobState.FAILED:
        _stop_all(world, unit.job, f"Node {unit.child} failed", out)
    else:
        Progress(world, now, out).admit(unit.job)


def follow_main(world: World, job: Job, end: End, now: Instant, out: Out) -> None:
    """Stop what is left of a try whose main node's is over, and let the next one begin after that."""
    main = Unit(job).main
    if main.state.is_active:
        return
    ended = main.attempts
    was_started = bool(ended) and ended[-1].started_at_ms > 0
    _stop_all(world, job, MAIN_EXITED, out if was_started else [])
    if not was_started:  # nobody else was told to start
        for attempt in live_nodes(world, job):
            end(world, attempt, AttemptEnd(cause=EndCause.STOPPED), now, out)
    Progress(world, now, out).admit(job)


def _stop_all(world: World, job: Job, reason: str, out: Out) -> None:
    """Stop what is live; what was to stop before is told again, as of a node whose main one had not started no host was."""
    for attempt in live_nodes(world, job):
        if not attempt.is_stopping:
            records.stop_attempt(world, world.unit_of(attempt), attempt, reason)
        out.append(SendStop(attempt.host_id, attempt.id))


# After a restart --------------------------------------------------------------------


def whole_claims(world: World, attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return those of the stored claims that are in force: those of nodes only if none of their job's is missing."""
    kept: list[Attempt] = []
    of_nodes: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        (of_nodes.setdefault(attempt.job_id, []) if attempt.is_node else kept).append(attempt)
    for claims in of_nodes.values():
        job = world.unit_of(claims[0]).job
        number = Unit(job).next_number
        newest = {claim.index for claim in claims if claim.number == number}
        ended = (node.index for node in units_of(job) if node.next_number > number)
        is_whole = len(newest.union(ended)) == job.size
        records.mend(world, "attempt", (claim.id for claim in claims if claim.number == number and not is_whole))
        kept += [claim for claim in claims if claim.number < number or is_whole]
    return kept


def preempt_all(world: World, job: Job) -> None:
    """Have all nodes of a job make room of which some are to, as a commit was cut short: all of them are stopped or none."""
    live = live_nodes(world, job)
    told = next((attempt for attempt in live if attempt.preempted_for), None)
    if told is None:
        return
    for attempt in [attempt for attempt in live if not attempt.is_stopping]:
        beneficiary = JobId(told.preempted_for)
        records.preempt_attempt(world, world.unit_of(attempt), attempt, beneficiary, gives_back=told.gives_back)


def end_cut_short(world: World, job: Job, now: Instant, out: Out) -> None:
    """End those nodes of a job that has ended that neither ran nor were ended with it, as a commit was cut short."""
    assert job.ending is not None, f"{job.id} has not ended"
    ending = job.ending
    if ending.trigger in BY_ATTEMPT:
        ending = Ending(trigger=Trigger.NODES_ENDED, words=MAIN_EXITED)
    Progress(world, now, out).fail_waiting(job, ending)


def has_nodes_left(job: Job) -> bool:
    """Say whether a job has ended, and some of its nodes have not."""
    return job.kind is JobKind.NODES and job.state.is_final and not job.children.all_final
