"""
Job ids as people write them: whole, as the beginning of one, or ``last``.

A child's ``:<index>`` or a node's ``#<index>`` may follow each, or several children's
``:1-5,9``. Ids begin with the time of submission, so that a
beginning says where to look. A job that was submitted here last is remembered in the
user's state folder.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from batchyard import settings
from batchyard.ids import is_uuid

if TYPE_CHECKING:
    from batchyard.sync import Client

LAST = "last"

SHORT_LENGTH_MIN = 13
"""The whole of an id's time: jobs of different milliseconds differ in it."""

SAME_MS_LENGTH = 23
"""The time and 26 random bits: of a thousand jobs of one millisecond one in 70,000 shares them with another."""

SAME_MS_LENGTH_MIN = 18
"""The time and 12 random bits, for tables that have no room for more."""

CHILDREN_MAX = 10_000
"""As many as are watched by id."""

_TIME_DIGITS = 12
_CLOCKS_APART_MS = 60_000
"""How far a job's submission may lie from its id's time."""

_FEW = 5


def full(client: Client, given: str) -> str:
    """
    Return the id that is meant; what looks like none is left to the controller.

    Raises:
        InvalidArgumentError: several jobs' ids begin so.
        NotFoundError: none does, or nothing was submitted here.
    """
    job, rest = _split(given)
    if job == LAST:
        return _last() + rest
    if is_uuid(job) or not job or not _is_beginning(job):
        return given
    return _begun(client, job) + rest


def all_full(client: Client, given: Iterable[str]) -> list[str]:
    """
    Return the ids that are meant, each once; of ``ID:1-5,9`` each of these children.

    Raises:
        InvalidArgumentError: these are no numbers, or more than ``CHILDREN_MAX``.
        InvalidArgumentError, NotFoundError: as of `full`.
    """
    return list(dict.fromkeys(one for each in given for one in _children(client, each)))


def _children(client: Client, given: str) -> list[str]:
    from batchyard.array_values import numbers_of
    from batchyard.errors import InvalidArgumentError, Reason, Violation

    job, colon, numbers = given.partition(":")
    if not colon or not ("-" in numbers or "," in numbers):
        return [full(client, given)]
    try:
        found = numbers_of(numbers)
    except ValueError as err:
        raise InvalidArgumentError.from_violations([Violation("job_id", str(err), Reason.MALFORMED)]) from err
    if len(found) > CHILDREN_MAX:
        text = f"{given[:60]!r} names {len(found)} children; at most {CHILDREN_MAX} are taken at once"
        raise InvalidArgumentError.from_violations([Violation("job_id", text, Reason.TOO_MANY)])
    array = full(client, job)
    return [f"{array}:{found.at(place)}" for place in range(len(found))]


def short(ids: Sequence[str], same_ms_length: int = SAME_MS_LENGTH) -> list[str]:
    """
    Return for each id of a list a beginning that no other begins with; a child keeps its index.

    Args:
        ids: What a table shows.
        same_ms_length: How much to show of all, where some were made in one millisecond: then
            there are others that the table does not show, and only random digits tell them apart.
    """
    jobs = sorted({_split(each)[0] for each in ids})
    shared = [_shared(one, other) for one, other in pairwise(jobs)]
    is_crowded = any(length >= SHORT_LENGTH_MIN for length in shared)
    needed = dict.fromkeys(jobs, same_ms_length if is_crowded else SHORT_LENGTH_MIN)
    for (one, other), length in zip(pairwise(jobs), shared, strict=True):
        needed[one], needed[other] = max(needed[one], length + 1), max(needed[other], length + 1)
    return [job[: needed[job]] + rest for job, rest in map(_split, ids)]


def _split(given: str) -> tuple[str, str]:
    """Split what names a job from what names one of its children or nodes."""
    job = re.split("[:#]", given, maxsplit=1)[0]
    return job, given[len(job) :]


def _shared(one: str, other: str) -> int:
    """Return how long the beginning is that two ids share."""
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


def remember(job_id: str) -> None:
    """Keep *job_id* as the last one submitted; that it cannot be kept is no reason to fail a submit."""
    with contextlib.suppress(OSError):
        path = settings.state_dir() / "last-job"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            draft.write_text(f"{job_id}\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _last() -> str:
    from batchyard.errors import NotFoundError

    try:
        last = (settings.state_dir() / "last-job").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        last = ""
    if not last:
        raise NotFoundError("no job was submitted from here yet, so none is the last")
    return last


def _is_beginning(text: str) -> bool:
    template = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
    return len(text) < len(template) and all(
        char in "0123456789abcdef" if place == "x" else char == place
        for char, place in zip(text, template, strict=False)
    )


def _begun(client: Client, beginning: str) -> str:
    """Find the one job whose id begins so, among those of the time that the beginning tells."""
    from batchyard.errors import InvalidArgumentError, NotFoundError, Reason, Violation

    digits = beginning.replace("-", "")[:_TIME_DIGITS]
    first_ms = int(digits.ljust(_TIME_DIGITS, "0"), 16)
    last_ms = int(digits.ljust(_TIME_DIGITS, "f"), 16)
    listed = client.list_jobs(
        created_after_ms=max(first_ms - _CLOCKS_APART_MS, 0),
        created_before_ms=last_ms + _CLOCKS_APART_MS,
        page_size=1000,
    )
    found = list(islice((job.id for job in listed if job.id.startswith(beginning)), _FEW))
    listed.close()
    if not found:
        raise NotFoundError(f"no job's id begins with {beginning}", reason=Reason.JOB_NOT_FOUND)
    if len(found) > 1:
        more = ", ..." if len(found) == _FEW else ""
        text = f"the ids of several jobs begin with {beginning}: {', '.join(found)}{more}"
        raise InvalidArgumentError.from_violations([Violation("job_id", text, Reason.INVALID_VALUE)])
    return found[0]
