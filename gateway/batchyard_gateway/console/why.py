"""
Why: what a job's page says of a job that waits, and of one that failed.

Pure: what the controller explained and what an attempt ended of, to sentences, a table of
amounts and hints. Causes are those of docs/jobs.md; 126, 127 and 128 + the signal are the
exit codes of POSIX shells (IEEE Std 1003.1, 2.8.2), which containers' engines took over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchyard import wording
from batchyard.states import EndCause
from batchyard.v1 import attempt_pb2
from batchyard.v1 import job_pb2 as pb

LOG_LINES = 20
"""Of the end of a failed attempt's log."""

LINE_CHARACTERS_MAX = 2_000

_AMOUNTS = {"cpu_millis": "vCPU", "memory_mib": "memory", "gpu_millis": "GPU", "disk_mib": "disk"}

_HINTS: dict[int, str] = {
    126: "126: the command was found and could not be run: it is no program for this host, or is not executable.",
    127: "127: the command was not found: it is not in the image, or not on the host's PATH. No shell runs a "
    "command, so that a line for one needs sh -c.",
    137: "137: killed (SIGKILL): out of memory, or it did not end within 30 s of being asked to.",
    139: "139: the program broke down (SIGSEGV): a bug in it, or a library of another processor.",
    143: "143: asked to end (SIGTERM): it was terminated, preempted, or ended itself so.",
}
_CAUSES = {
    EndCause.OUT_OF_MEMORY: "It had reached its memory: ask for more than {memory_mib:,} MiB.",
    EndCause.TIMED_OUT: "It ran for longer than its timeout of {timeout_s:,} s.",
    EndCause.IMAGE_UNAVAILABLE: "The host could not get the image {image}: is its name right, is it in the "
    "registry, and may the host read there?",
    EndCause.START_FAILED: "It never ran: command, image, folders and user are those of the definition?",
    EndCause.HOST_ERROR: "Something of its host failed under it; it was not the job's doing.",
    EndCause.LOST: "Its host went down under it, or lost its traces; it was not the job's doing.",
    EndCause.FENCED: "Its host had lost touch with the controller for too long and killed it.",
    EndCause.RECLAIMED: "Its host was taken away (spot).",
    EndCause.PREEMPTED: "It was stopped so that a job of higher rank, or of a share to which the capacity belongs, had room.",
}
_PULL = re.compile(r"CannotPullContainer|pull access denied|manifest unknown|ImagePull", re.IGNORECASE)
# Colours and moves of a cursor, and what else a screen takes for a command (ECMA-48).
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """What is asked of one resource against what there is, as texts."""

    what: str
    asked: str
    free: str
    most_free: str
    largest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """
    Why a job waits.

    Attributes:
        summary: In one sentence, with what each resource and rule says.
        amounts: Resources of which too little is free.
        place: Where it stands in its queue, in words; empty if it is not in line.
        first_id: Who comes first there; empty if it does.
        starts_at_ms: At the latest, as far as is known; else 0.
        hosts: How many suit it by kind and runtime.
    """

    summary: str
    amounts: Sequence[Amount]
    place: str
    first_id: str
    starts_at_ms: int
    hosts: int


def waiting(explained: pb.ExplainJobResponse) -> Waiting:
    """Return why a job waits, of what the controller explained."""
    place = ""
    if explained.position:
        least = "at least " if explained.position_is_least else ""
        place = f"{least}{explained.position:,}" if explained.first_job_id else "first"
    return Waiting(
        summary=explained.summary,
        amounts=[_amount(refusal) for refusal in explained.refusals if refusal.kind in _AMOUNTS],
        place=place,
        first_id=explained.first_job_id,
        starts_at_ms=explained.estimated_start_at_ms,
        hosts=explained.eligible_hosts,
    )


def hints(job: pb.Job) -> list[str]:
    """Return what may have been wrong with a job that failed, the cause that is known first."""
    if not job.attempts:
        return []
    last = job.attempts[-1]
    found = []
    cause = wording.word(attempt_pb2.EndCause, last.cause)
    container = next((each for each in job.task.containers if each.image), job.container)
    if cause in _CAUSES:
        text = _CAUSES[EndCause(cause)]
        found.append(
            text.format(
                memory_mib=container.resources.memory_mib, timeout_s=job.timeout_s, image=container.image or "(none)"
            )
        )
    elif _PULL.search(last.reason):
        found.append(_CAUSES[EndCause.IMAGE_UNAVAILABLE].format(image=container.image or "(none)"))
    # A cause that is known says more than the signal by which the attempt was ended.
    is_told = cause in (EndCause.OUT_OF_MEMORY, EndCause.TIMED_OUT, EndCause.STOPPED, EndCause.PREEMPTED)
    if last.HasField("exit_code") and last.exit_code in _HINTS and not is_told:
        found.append(_HINTS[last.exit_code])
    if not found and last.exit_code:
        found.append(f"Its command ended with exit code {last.exit_code}.")
    return found


def log_end(data: bytes) -> str:
    """Return the last lines of a log as text, without what a terminal would take for commands."""
    lines = data.decode(errors="replace").replace("\r\n", "\n").splitlines()[-LOG_LINES:]
    return "\n".join(_CONTROL.sub("", line)[:LINE_CHARACTERS_MAX] for line in lines)


def amount(kind: str, value: int) -> str:
    """Return an amount of a resource in its unit."""
    write = _WRITTEN.get(kind)
    return write(value) if write is not None else f"{value:,}"


def _amount(refusal: pb.Refusal) -> Amount:
    asked, free, most_free, largest = (
        amount(refusal.kind, value)
        for value in (refusal.asked, refusal.free, refusal.largest_free, refusal.largest_capacity)
    )
    return Amount(what=_AMOUNTS[refusal.kind], asked=asked, free=free, most_free=most_free, largest=largest)


def _millis(value: int) -> str:
    return f"{value / 1000:,.3f}".rstrip("0").rstrip(".")


def _mib(value: int) -> str:
    return f"{value / 1024:,.1f} GiB" if value >= 10 * 1024 else f"{value:,} MiB"


_WRITTEN: dict[str, Callable[[int], str]] = {
    "cpu_millis": _millis, "gpu_millis": _millis, "memory_mib": _mib, "disk_mib": _mib
}  # fmt: skip
