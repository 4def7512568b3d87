"""What hosts are, and their agents' reports."""

from __future__ import annotations

from collections.abc import Iterable

from batchyard.errors import Reason, Violation
from batchyard.ids import AttemptId
from batchyard.resources import NO_USAGE, NOTHING, Resources, Usage
from batchyard.rows import ListOf, Row, Rows
from batchyard.states import EndCause
from batchyard.task_messages import read_ends
from batchyard.v1 import (
    agent_pb2,
    attempt_pb2,
    host_pb2,
    resources_pb2,
)
from batchyard_controller.core import limits
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.model.attempts import AttemptEnd, GpuClaim
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.model.room import Room
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.requests.settings_rules import check_host_facts, check_reserved

_GPUS = ListOf(
    Rows(GpuFacts, host_pb2.Gpu, message_only=("memory_used_mib", "utilization_percent", "allocated_millis"))
)
_GPU_CLAIMS = ListOf(Rows(GpuClaim, agent_pb2.GpuClaim))
USAGE = Rows(Usage, attempt_pb2.Usage)
_RESERVED = Rows(Resources, resources_pb2.Resources)
_FACTS = Rows(HostFacts, host_pb2.HostFacts, Row("capacity", always=True), Row("gpus", kind=_GPUS))


def host_facts(message: host_pb2.HostFacts) -> HostFacts:
    """
    Turn an agent's words about its host into the core's.

    Raises:
        InvalidArgumentError: they say more than is kept of a host, or nonsense.
    """
    facts = _FACTS.read(message)
    refuse(check_host_facts(facts))
    return facts


def host_usage(message: host_pb2.HostUsage) -> host_pb2.HostUsage:
    """
    Return what a host says that it is doing, made anew: no more of it is kept than is known here.

    Raises:
        InvalidArgumentError: it says more than is kept, or nonsense.
    """
    out: Violations = []
    numbers = ("cpu_percent", "memory_used_mib", "disk_free_mib")
    for name, high in zip(numbers, (limits.INT32_MAX, limits.MEMORY_MIB_MAX, limits.DISK_MIB_MAX), strict=True):
        check_range(out, f"usage.{name}", getattr(message, name), 0, high)
    if len(message.gpus) > limits.HOST_GPUS_MAX:
        text = f"{len(message.gpus)} given; at most {limits.HOST_GPUS_MAX} are allowed"
        out.append(Violation("usage.gpus", text, Reason.TOO_MANY))
    for gpu in message.gpus[: limits.HOST_GPUS_MAX]:
        for name in ("uuid", "model", "fault"):
            check_text(out, f"usage.gpus.{name}", getattr(gpu, name), limits.HOST_TEXT_LENGTH_MAX)
    refuse(out)
    kept = {name: getattr(message, name) for name in (*numbers, "wall_ms")}
    usage = host_pb2.HostUsage(**kept, gpus=message.gpus)
    if message.HasField("reserved"):
        usage.reserved.CopyFrom(message.reserved)
    usage.DiscardUnknownFields()
    return usage


def reserved(message: host_pb2.HostUsage) -> Resources:
    """
    Return what others than this yard hold of a host.

    Raises:
        InvalidArgumentError: it is no amount.
    """
    amounts = _RESERVED.read(message.reserved)
    refuse(check_reserved(amounts))
    return amounts


def host_facts_message(value: HostFacts) -> host_pb2.HostFacts:
    """Turn what a host is into a message."""
    return _FACTS.write(value)


_PHASES = {
    agent_pb2.ATTEMPT_PHASE_STARTING: Phase.STARTING,
    agent_pb2.ATTEMPT_PHASE_RUNNING: Phase.RUNNING,
    agent_pb2.ATTEMPT_PHASE_ENDED: Phase.ENDED,
}
_CAUSES = {attempt_pb2.EndCause.Value(f"END_CAUSE_{cause}"): cause for cause in EndCause}
_CAUSE_NUMBERS = {cause: number for number, cause in _CAUSES.items()}


def end_cause_number(cause: EndCause) -> attempt_pb2.EndCause.ValueType:
    """Turn a cause into its number on the wire."""
    return _CAUSE_NUMBERS[cause]


def reports(messages: Iterable[agent_pb2.AttemptReport]) -> tuple[Report, ...]:
    """Turn an agent's reports into the core's; one of an unknown phase says nothing."""
    return tuple(_report(m) for m in messages if m.phase in _PHASES)


def _report(message: agent_pb2.AttemptReport) -> Report:
    name = AttemptId(message.attempt_id)
    # What is mostly not said is mostly not read: to find out costs a tenth of reading nothing.
    gpus = _GPU_CLAIMS.read(message.gpus) if message.gpus else ()
    resources = _RESERVED.read(message.resources) if message.HasField("resources") else NOTHING
    containers = read_ends(message.containers) if message.containers else ()
    if message.phase != agent_pb2.ATTEMPT_PHASE_ENDED:
        return Report(
            attempt_id=name,
            phase=_PHASES[message.phase],
            started_at_ms=message.started_at_ms,
            containers=containers,
            hindrance=message.reason,
            image_digest=message.image_digest,
            gpus=gpus,
            resources=resources,
        )
    end = AttemptEnd(
        cause=_CAUSES.get(message.cause, EndCause.EXITED),
        started_at_ms=message.started_at_ms,
        stopped_at_ms=message.stopped_at_ms,
        exit_code=_exit_code(message.exit_code) if message.HasField("exit_code") else None,
        reason=message.reason,
        usage=USAGE.read(message.usage) if message.HasField("usage") else NO_USAGE,
        containers=containers,
        image_digest=message.image_digest,
    )
    return Report(
        attempt_id=name,
        phase=Phase.ENDED,
        started_at_ms=message.started_at_ms,
        end=end,
        gpus=gpus,
        resources=resources,
    )


def _exit_code(said: int) -> int:
    """Return an exit code that a process can have; any other counts as the highest."""
    return said if 0 <= said <= limits.EXIT_CODE_MAX else limits.EXIT_CODE_MAX


def room_message(room: Room) -> host_pb2.StoreRoom:
    """Turn what room a store has into a message."""
    return host_pb2.StoreRoom(
        size_bytes=room.size_bytes,
        used_bytes=room.used_bytes,
        quota_bytes=room.quota_bytes,
        is_tight=room.is_tight,
        fault=room.fault,
    )
