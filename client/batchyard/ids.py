"""
Ids: how things are named, and nothing else.

Job ids are time-ordered UUIDs (RFC 9562, version 7), so that ids sort by
submission. An array child is ``<job id>:<index>``, a node of a multi-node job is
``<job id>#<index>``, as on AWS, and an attempt of any of them is its id and
``#<number>``, with ``-<generation>`` behind it in a yard whose store was put back from a
backup: whoever holds an id knows which of the two it is, and no function here
takes either. A task id is an attempt's id in letters that CloudWatch log streams and
ARNs may hold. Time and randomness are arguments, so
that whoever decides stays deterministic.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NewType

JobId = NewType("JobId", str)
"""A job, an array child with its ``:<index>``, or a node with its ``#<index>``."""

AttemptId = NewType("AttemptId", str)
HostId = NewType("HostId", str)
LaunchId = NewType("LaunchId", str)
"""A host that a provider launched, or was asked to; the host's name as well."""

BY_REQUEST = "request:"
"""Stands before a request id where a job is named by how it was submitted, its id being not yet known."""

NAME_LENGTH_MAX = 128
"""Longest name of a job, queue, definition or environment (AWS: SubmitJob)."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNIT = re.compile(rf"(?P<job>[^:#]*)[:#](?P<index>{_INDEX.pattern})")
_TASK = re.compile(
    rf"(?P<job>{_UUID.pattern})(?:(?P<mark>[._])(?P<index>{_INDEX.pattern}))?_(?P<number>[1-9][0-9]{{0,8}})"
    r"(?:-(?P<generation>[1-9][0-9]{0,9}))?"
)
_TRY = re.compile(r"(?P<unit>.+)#(?P<number>[1-9][0-9]{0,8})(?:-(?P<generation>[1-9][0-9]{0,9}))?", re.DOTALL)


def uuid7(now_ms: int, entropy: bytes) -> str:
    """
    Make a time-ordered UUID.

    Args:
        now_ms: Milliseconds since the epoch.
        entropy: Ten random bytes.
    """
    value = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy[:10], "big")
    return _uuid(value, 7)


def made_at_ms(uuid: str) -> int:
    """Return when a time-ordered UUID was made, in milliseconds since the epoch."""
    return int(uuid.replace("-", "")[:12], 16)


def named_uuid(name: str) -> str:
    """Make the UUID that belongs to a name, always the same (of a hash, version 8: its kind is our own)."""
    return _uuid(int.from_bytes(sha256(name.encode()).digest()[:16], "big"), 8)


def _uuid(value: int, version: int) -> str:
    value = value & ~(0xF << 76) | version << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid(text: str) -> bool:
    """Say whether *text* is a UUID in lower-case canonical form."""
    return _UUID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Say whether *text* may name a queue, a definition or an environment."""
    return _NAME.fullmatch(text) is not None


def is_job_name(text: str) -> bool:
    """Say whether *text* may name a job: as a name, first a letter or digit."""
    return _JOB_NAME.fullmatch(text) is not None


def child_id(parent: str, index: int) -> JobId:
    """Return the id of child *index* of array job *parent*."""
    return JobId(f"{parent}:{index}")


def node_id(parent: str, index: int) -> JobId:
    """Return the id of node *index* of multi-node job *parent*."""
    return JobId(f"{parent}#{index}")


def unit_id(job_id: str, index: int | None, *, is_node: bool = False) -> JobId:
    """Return the id of child, or node, *index* of a job; for None, the job's own."""
    if index is None:
        return JobId(job_id)
    return node_id(job_id, index) if is_node else child_id(job_id, index)


def unit_order(job_id: str) -> tuple[JobId, int]:
    """Return by what ids of jobs, children and nodes are sorted: a job stands before these."""
    parent, index = split_job_id(job_id)
    return parent, -1 if index is None else index


def split_job_id(job_id: str) -> tuple[JobId, int | None]:
    """Split a job id into the job's own id and the child's or node's index, if any."""
    match = _UNIT.fullmatch(job_id)
    return (JobId(job_id), None) if match is None else (JobId(match["job"]), int(match["index"]))


def attempt_id(job_id: str, number: int, generation: int = 0) -> AttemptId:
    """Return the id of try *number* (from 1) of a job, child or node, claimed in that generation of its yard's store."""
    return AttemptId(f"{job_id}#{number}-{generation}" if generation else f"{job_id}#{number}")


def split_attempt_id(attempt_id: str) -> tuple[JobId, int, int]:
    """
    Split an attempt's id into the id of its job, child or node, its number and its generation.

    Raises:
        ValueError: it is no attempt's id.
    """
    match = _TRY.fullmatch(attempt_id)
    if match is None:
        raise ValueError(f"{attempt_id!r} is no attempt's id")
    return JobId(match["unit"]), int(match["number"]), int(match["generation"] or 0)


def task_id(attempt_id: str) -> str:
    """Return an attempt's id without ``:`` and ``#``, which log streams and ARNs may not hold."""
    return attempt_id.replace(":", ".").replace("#", "_")


def attempt_id_of_task(text: str) -> AttemptId | None:
    """Return the attempt whose task id is *text*; None when it is no task id."""
    match = _TASK.fullmatch(text)
    if match is None:
        return None
    index = None if match["index"] is None else int(match["index"])
    whose = unit_id(match["job"], index, is_node=match["mark"] == "_")
    return attempt_id(whose, int(match["number"]), int(match["generation"] or 0))


def log_stream_prefix(definition: str, job_name: str, container: str = "default") -> str:
    """
    Return what the names of a job's log streams begin with; its attempts' task ids follow.

    Args:
        definition: ``name:revision``, or empty.
        job_name: Stands in for a definition's name.
        container: Which of several.
    """
    return f"{(definition.partition(':')[0] or job_name)[:200]}/{container}/"
