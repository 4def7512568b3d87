"""
Wording: enum values of the contract as users say them.

``JOB_STATE_RUNNING`` on the wire is ``RUNNING`` to a person. Words of the wire
are accepted too, so that JSON output can be fed back.
"""

from __future__ import annotations

from typing import Any, Protocol

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.states import JobState
from batchyard.v1.host_pb2 import HostFacts, ProcessIsolation
from batchyard.v1.job_pb2 import JobState as WireJobState

Enum = EnumTypeWrapper | type[EnumTypeWrapper] | Any
"""An enum of a generated module; its stub type is the generated class."""


class HasState(Protocol):
    """A job, a job summary or an attempt."""

    @property
    def state(self) -> Any:
        """Number of the state on the wire."""


def word(enum: Enum, value: int) -> str:
    """
    Return the word of a number of *enum*; empty for the unspecified value.

    A number that this version does not know (a newer controller) is returned as
    its digits.
    """
    if value == 0:
        return ""
    names = enum.DESCRIPTOR.values_by_number
    if value not in names:
        return str(value)
    return str(names[value].name).removeprefix(_prefix(enum))


def words(enum: Enum) -> list[str]:
    """Return all words of *enum* but the unspecified one, in the order of the contract."""
    return [word(enum, value.number) for value in enum.DESCRIPTOR.values if value.number]


def number(enum: Enum, field: str, text: str) -> int:
    """
    Return the number of a word of *enum*.

    Raises:
        InvalidArgumentError: naming *field*, if *text* is none of its words.
    """
    wanted = text.upper().replace("-", "_") if isinstance(text, str) else ""
    for name in (wanted, _prefix(enum) + wanted):
        value = enum.DESCRIPTOR.values_by_name.get(name)
        if value is not None and value.number:
            return int(value.number)
    violation = Violation(field, f"must be one of {', '.join(words(enum))}, not {text!r}", Reason.UNKNOWN_VALUE)
    raise InvalidArgumentError.from_violations([violation])


def job_state(job: HasState) -> JobState:
    """Return the state of a job, a job summary or an attempt."""
    return JobState(word(WireJobState, job.state))


def _prefix(enum: Enum) -> str:
    return str(enum.DESCRIPTOR.values_by_number[0].name).removesuffix("UNSPECIFIED")


def node_of(facts: HostFacts) -> str:
    """Say of which cluster a host is a node, and where its agent makes pods; nothing of others."""
    node = facts.kubernetes
    others = f", also {', '.join(node.other_namespaces)}" if node.other_namespaces else ""
    return f"cluster {node.cluster}, namespace {node.namespace}{others}" if facts.HasField("kubernetes") else ""


def sandbox(facts: HostFacts) -> str:
    """Return what keeps jobs of Fargate apart on a host; empty of one that takes none."""
    if "FARGATE" not in facts.platforms:
        return ""
    disk = "" if facts.enforces_disk else "; disk is counted, not bounded"
    return f"{facts.sandbox or 'none: containers alone'}{disk}"


def isolation(processes: ProcessIsolation) -> str:
    """Return how a host keeps processes of jobs apart, and what of that it cannot; empty where it takes none."""
    if not processes.enforcement:
        return ""
    limits = f"limits by {processes.enforcement}"
    if processes.enforcement == "rlimit":
        limits = "no cgroups: memory looked at twice a second, CPU not enforced"
    others = "apart from each other" if processes.hides_processes else "not hidden from each other"
    gpus = "GPUs of their own alone" if processes.hides_gpus else "GPUs hidden by variables alone"
    privileges = "no new privileges" if processes.no_new_privileges else "privileges of the agent's user"
    return f"as {processes.user}, {limits}, {others}, {privileges}, {gpus}"
