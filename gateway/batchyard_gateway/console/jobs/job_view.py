"""
Job view: what the page of one job shows.

Pure: a job of the contract in, records and pairs for a template out. Law: of a secret
nothing but its name is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from batchyard import wording
from batchyard.states import FINAL_STATES, WAITING_STATES, JobState
from batchyard.v1 import attempt_pb2
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.console.hosts.host_view import path_of
from batchyard_gateway.console.visit import Command, aws, batchyard
from batchyard_gateway.console.writing import amounts

from . import job_rows, why

Pair = tuple[str, str]

_PROCESS = "process://"
_RECALLED = "Cross-share preemption"
"""Begins the status reason of what a quota share had to give back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A step of a job's life; *after_ms* since the one before, None of the first."""

    what: str
    at_ms: int
    after_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """
    An attempt.

    Attributes:
        outcome: Its state, and what it ended of.
        host_path: Of the host's page, below ``hosts/``.
        reason: The runtime's words, or AWS's.
        verdict: What the retry strategy said.
        ran_ms: None if it never ran.
        used: Processor time and the most memory at once; empty where that is unknown.
    """

    number: int
    state: str
    outcome: str
    host: str
    host_path: str
    environment: str
    claimed_at_ms: int
    started_at_ms: int
    stopped_at_ms: int
    ran_ms: int | None
    used: str
    exit_code: str
    reason: str
    verdict: str
    gpus: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One of several containers of an attempt.

    Attributes:
        state: Empty where its host tells nothing of it.
        ran_ms: None if it never ran.
        reason: The runtime's words, or what it waits for.
        has_log: Whether it may have written one.
    """

    name: str
    state: str
    started_at_ms: int
    ran_ms: int | None
    exit_code: str
    reason: str
    has_log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A job that is waited for; *state* is empty of one that is forgotten."""

    id: str
    kind: str
    name: str
    state: str
    cause: str


def timeline(job: pb.Job) -> list[Moment]:
    """Return submission, placement, start and end, as far as it came."""
    placed = next((attempt.claimed_at_ms for attempt in job.attempts), 0)
    steps = [("Submitted", job.created_at_ms), ("Given a host", placed), ("Started", job.started_at_ms)]
    steps.append(("Ended", job.stopped_at_ms))
    found: list[Moment] = []
    for what, at_ms in steps:
        if at_ms:
            # Clocks of controller and hosts may differ a little.
            after_ms = max(0, at_ms - found[-1].at_ms) if found else None
            found.append(Moment(what=what, at_ms=at_ms, after_ms=after_ms))
    return found


def tries(job: pb.Job, now_ms: int) -> list[Try]:
    """Return the attempts, the latest first."""
    return [
        Try(
            number=each.number,
            state=wording.word(pb.JobState, each.state),
            outcome=_outcome(each),
            host=each.host_name or each.host_id,
            host_path=path_of(each.host_name, each.host_id),
            environment=each.compute_environment,
            claimed_at_ms=each.claimed_at_ms,
            started_at_ms=each.started_at_ms,
            stopped_at_ms=each.stopped_at_ms,
            ran_ms=job_rows.ran_ms(each.started_at_ms, each.stopped_at_ms, now_ms),
            used=_used(each),
            exit_code=str(each.exit_code) if each.HasField("exit_code") else "",
            reason=each.reason or each.status_reason,
            verdict=each.retry_verdict,
            gpus=tuple(each.gpu_uuids),
        )
        for each in reversed(job.attempts)
    ]


def parts(job: pb.Job, now_ms: int) -> list[Part]:
    """Return the containers of the latest attempt, in their order; none of a job of one."""
    if not job.attempts:
        return []
    last = job.attempts[-1]
    return [
        Part(
            name=each.name,
            state=wording.word(pb.ContainerState, each.state),
            started_at_ms=each.started_at_ms,
            ran_ms=job_rows.ran_ms(each.started_at_ms, each.stopped_at_ms or last.stopped_at_ms, now_ms),
            exit_code=str(each.exit_code) if each.HasField("exit_code") else "",
            reason=each.reason or _waits("waits for", each.waits_for),
            has_log=bool(each.log_stream_name),
        )
        for each in last.containers
    ]


def _used(attempt: pb.Attempt) -> str:
    """Return what an attempt has used; processor time in seconds, as an attempt may take less than one."""
    if not attempt.HasField("usage"):
        return ""
    usage = attempt.usage
    seconds = (usage.user_cpu_ms + usage.system_cpu_ms) / 1000
    return f"{seconds:.2f} s CPU, {amounts.memory(usage.peak_memory_kib / 1024)}"


def _outcome(attempt: pb.Attempt) -> str:
    """Return what an attempt ended of; of one that was preempted, for whose sake."""
    if attempt.cause == attempt_pb2.END_CAUSE_PREEMPTED:
        return preempted(attempt)
    return wording.word(attempt_pb2.EndCause, attempt.cause).replace("_", " ").lower()


def preempted(attempt: pb.Attempt) -> str:
    """Return why an attempt was preempted: its share gave back what it had borrowed, or a job of higher rank had no room."""
    if attempt.status_reason.startswith(_RECALLED):
        return "preempted: its share gave back capacity that it had borrowed"
    return attempt.status_reason.replace("Preempted", "preempted", 1) or "preempted"


def stopped(job: pb.Job) -> str:
    """Return why a job waits again, if its last attempt was preempted; else nothing."""
    last = job.attempts[-1] if job.attempts else None
    if last is None or last.cause != attempt_pb2.END_CAUSE_PREEMPTED:
        return ""
    return f"Attempt {last.number} was {preempted(last)}. It runs again."


def needed(job: pb.Job, found: Sequence[pb.Job]) -> list[Needed]:
    """Return what a job waits for, with what is known of it; those that failed come first."""
    known = {each.id: each for each in found}
    rows = []
    for dependency in job.depends_on:
        other = known.get(dependency.job_id)
        rows.append(
            Needed(
                id=dependency.job_id,
                kind=_KINDS.get(dependency.type, "its end in success"),
                name=other.name if other is not None else "",
                state=wording.job_state(other) if other is not None else "",
                cause=other.ending_cause if other is not None else "",
            )
        )
    return sorted(rows, key=lambda row: row.state != JobState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependents:
    """Who waits for a job: the first of them, and how many there are in words."""

    rows: Sequence[Needed]
    count: str


def dependents(explained: pb.ExplainJobResponse, found: Sequence[pb.Job]) -> Dependents | None:
    """Return who waits for a job, with what is known of those that are named; None if nobody does."""
    known = {each.id: each for each in found}
    rows = [
        Needed(
            id=other.id, kind=_kind(other, explained.job_id), name=other.name, state=wording.job_state(other), cause=""
        )
        for other in (known.get(job_id) for job_id in explained.dependent_ids)
        if other is not None
    ]
    if not rows:
        return None
    least = "at least " if explained.dependents_is_least else ""
    more = f"; the first {len(rows)}" if explained.dependents > len(rows) else ""
    jobs = "1 job" if explained.dependents == 1 else f"{explained.dependents:,} jobs"
    return Dependents(rows=rows, count=f"{least}{jobs}{more}")


def _kind(other: pb.Job, job_id: str) -> str:
    """Return what of a job another one waits for."""
    array_id = job_id.partition(":")[0]
    kinds = [each.type for each in other.depends_on if each.job_id == array_id]
    return _KINDS.get(kinds[0] if kinds else pb.DEPENDENCY_TYPE_SEQUENTIAL, "its end in success")


_KINDS = {
    pb.DEPENDENCY_TYPE_N_TO_N: "child by child (N_TO_N)",
    pb.DEPENDENCY_TYPE_SEQUENTIAL: "its own children, one after the other (SEQUENTIAL)",
    pb.DEPENDENCY_TYPE_AFTER_ANY: "its end, whatever it is",
    pb.DEPENDENCY_TYPE_AFTER_FAILURE: "its failure",
}


def facts(job: pb.Job) -> list[Pair]:
    """Return what a job is and asks for, in words; what is not given is left out."""
    if job.HasField("nodes"):
        return _node_facts(job)
    container, resources = job.container, job.container.resources
    is_process = container.image in ("", _PROCESS)
    of_container = [
        ("Image", "a plain process on the host" if is_process else container.image),
        ("vCPU", why.amount("cpu_millis", resources.cpu_millis)),
        ("Memory", why.amount("memory_mib", resources.memory_mib)),
        ("GPU", why.amount("gpu_millis", resources.gpu_millis) if resources.gpu_millis else ""),
        ("GPU models", ", ".join(container.gpu_models)),
        ("Memory of each GPU", f"{container.gpu_memory_mib:,} MiB or more" if container.gpu_memory_mib else ""),
        ("Disk", why.amount("disk_mib", resources.disk_mib) if resources.disk_mib else ""),
        ("User", container.user),
        ("Working directory", container.working_directory),
        ("Privileged", "yes" if container.privileged else ""),
        ("Log kept", f"{container.log_size_mib} MiB" if container.log_size_mib else ""),
    ]
    pairs = [
        *_of_pod(job),
        *([(each.name, _part(each)) for each in job.task.containers] or of_container),
        *[(f"{each.name}, before", _part(each)) for each in job.task.init_containers],
        ("Consumables", ", ".join(f"{count} of {name}" for name, count in sorted(job.consumables.items()))),
        ("Timeout", f"{job.timeout_s:,} s an attempt" if job.timeout_s else ""),
        ("Children at once", f"at most {job.array.concurrency:,}" if job.array.concurrency else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def _of_pod(job: pb.Job) -> list[Pair]:
    """Return which pod a job is, and where."""
    latest = job.attempts[-1] if job.attempts else pb.Attempt()
    pod = job.task.pod
    where = f"{latest.pod_name} in namespace {latest.pod_namespace} of cluster {latest.cluster}"
    is_on_host = not pod.HasField("host_network") or pod.host_network
    network = "its host's" if is_on_host else "the cluster's"
    return [
        ("Pod", where if latest.pod_name else ""),
        ("Network", network if job.task.HasField("pod") else ""),
        ("Service account", pod.service_account),
    ]


def _part(container: definition_pb.ContainerProperties) -> str:
    """Say in a line what one of several containers is."""
    asked = container.resources
    parts = [
        container.image,
        shlex.join([*container.entrypoint, *container.command]),
        f"{why.amount('cpu_millis', asked.cpu_millis)} vCPU, {why.amount('memory_mib', asked.memory_mib)}",
        "" if container.essential or not container.HasField("essential") else "not essential",
        _waits("after", container.depends_on),
    ]
    return "; ".join(part for part in parts if part)


def _waits(word: str, conditions: Sequence[definition_pb.ContainerDependency]) -> str:
    """Say for what of which others a container waits; nothing if for none."""
    found = [
        f"{wording.word(definition_pb.ContainerCondition, each.condition).lower()} of {each.container}"
        for each in conditions
    ]
    return f"{word} {' and '.join(found)}" if found else ""


def _node_facts(job: pb.Job) -> list[Pair]:
    """Return what the nodes of a job are, range by range."""
    pairs = [
        ("Nodes", f"{job.nodes.num_nodes:,}, the main one is {job.nodes.main_node}"),
        ("When one fails", "the attempt is over" if job.nodes.fail_together else ""),
        ("Timeout", f"{job.timeout_s:,} s an attempt" if job.timeout_s else ""),
    ]
    for each in job.nodes.ranges:
        asked = [part.resources for part in (each.task.containers if each.HasField("task") else [each.container])]
        amounts = [
            (kind, sum(getattr(one, kind) for one in asked)) for kind in ("cpu_millis", "memory_mib", "gpu_millis")
        ]
        pairs.append((f"Nodes {each.target_nodes}", ", ".join(why.amount(kind, n) for kind, n in amounts if n)))
    return [(name, value) for name, value in pairs if value]


def scheduling(job: pb.Job) -> list[Pair]:
    """Return whose turn a job takes, how it is tried again, and what becomes of it when it is stopped for others."""
    retry = job.retry_strategy
    pairs = [
        ("Share", job.share_identifier),
        ("Scheduling priority", str(job.scheduling_priority) if job.HasField("scheduling_priority") else ""),
        ("Attempts", f"at most {max(retry.attempts, 1)}"),
        ("After faults of hosts", _infrastructure(retry)),
        ("Fence", amounts.fence(job.fence_s)),
        ("After being preempted", _preempted(retry)),
        ("On spot hosts", f"{retry.spot_attempts} reclaims, then on-demand alone" if retry.spot_attempts else ""),
    ]
    return [(name, value) for name, value in pairs if value]


def rules(job: pb.Job) -> list[str]:
    """Return the rules of the retry strategy as sentences, in their order."""
    found = []
    for rule in job.retry_strategy.evaluate_on_exit:
        patterns = (
            ("status reason", rule.on_status_reason), ("reason", rule.on_reason), ("exit code", rule.on_exit_code)
        )  # fmt: skip
        when = " and ".join(f"{name} {pattern}" for name, pattern in patterns if pattern)
        action = wording.word(definition_pb.EvaluateOnExitAction, rule.action).lower()
        found.append(f"{action} on {when}")
    return found


def _infrastructure(retry: definition_pb.RetryStrategy) -> str:
    times = retry.infrastructure_retries if retry.HasField("infrastructure_retries") else 5
    return f"{times} more" if times else "none more"


def _preempted(retry: definition_pb.RetryStrategy) -> str:
    is_given = retry.HasField("preemption_retries_before_termination")
    times = retry.preemption_retries_before_termination if is_given else -1
    if times < 0:
        return "it runs again, any number of times"
    return f"it runs again {times} {'time' if times == 1 else 'times'} at most"


def actions(job: pb.Job) -> list[str]:
    """Return what may be done with a job where it is: ``cancel`` while it waits, ``terminate`` until it ends."""
    state = wording.job_state(job)
    if state in FINAL_STATES:
        return []
    return (["cancel"] if state in WAITING_STATES else []) + ["terminate"]


def has_priority(job: pb.Job) -> bool:
    """Say whether a job's place in its share may be changed."""
    is_child = job.array.HasField("index")
    return bool(job.share_identifier) and wording.job_state(job) not in FINAL_STATES and not is_child


def commands(job: pb.Job) -> list[Command]:
    """Return lines that show and stop the same."""
    lines = [batchyard("describe", job.id), aws("describe-jobs", "--jobs", job.id)]
    if wording.job_state(job) in FINAL_STATES:
        return lines + ([batchyard("logs", job.id)] if job.attempts else [])
    lines.append(batchyard("explain", job.id))
    if job.attempts:
        lines.append(batchyard("logs", "--follow", job.id))
    lines.append(batchyard("terminate", job.id, "--reason", "not needed"))
    return [*lines, aws("terminate-job", "--job-id", job.id, "--reason", "not needed")]
