"""
Upgrade: records as earlier versions wrote them, in today's form.

Plain JSON on both sides, no records. Each kind knows its old form by a field that
today's form does not have; a record of today passes untouched.

Version 0.1 (until November 2026) kept one container a job, and of an end only the
text that users saw. Causes are told by these texts, as decisions were then.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Stored = dict[str, Any]

_CHUNK = 64
_STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
_CAUSES = ("EXITED", "START_FAILED", "STOPPED", "TIMED_OUT", "OUT_OF_MEMORY", "FENCED", "LOST")
_DEPENDENCY_FAILED = "Dependent Job failed"
_WAITED_FOR_FAILURE = re.compile(r"Dependent Job succeeded: (\S+) was waited for to fail")
_TIME_LIMIT = "Canceled by JobStateTimeLimit action due to reason: "
_BY_TEXT = {
    _DEPENDENCY_FAILED: "DEPENDENCY_FAILED",
    "JobQueue deleted": "QUEUE_DELETED",
    "The job and its job definition have more than 50 tags in all, which cannot be propagated": "TOO_MANY_TAGS",
}


def upgrade(kind: str, value: bytes) -> bytes:
    """
    Return a stored record in today's form.

    Args:
        kind: Kind of the record (see `keys`), or ``spec`` for the part of a job's submission.
        value: Its bytes, of whatever version.

    Raises:
        msgspec.DecodeError, ValueError: it is no record of any version.
    """
    mark, bring_up_to_date = _OLD_FORMS.get(kind, (b"", None))
    if bring_up_to_date is None or mark not in value:
        return value
    stored = msgspec.json.decode(value)
    bring_up_to_date(stored)
    return msgspec.json.encode(stored)


def _upgrade_job(stored: Stored) -> None:
    if size := stored.pop("array_size", 0):
        stored |= {"kind": "ARRAY", "size": size, "concurrency": stored.pop("array_concurrency", 0)}
    if isinstance(stored.get("spec"), dict):
        _upgrade_task(stored["spec"])


def _upgrade_task(stored: Stored) -> None:
    """One container with volumes of its own becomes a task."""
    if isinstance(container := stored.pop("container", None), dict):
        volumes = container.pop("volumes", [])
        stored["task"] = {"containers": [container], "volumes": volumes}


def _upgrade_environment(stored: Stored) -> None:
    """An environment of Fargate was one of EC2 whose type only its AWS members told."""
    said = msgspec.json.decode(dict(stored.get("annotations", ())).get("aws", "{}"))
    kind = said.get("computeResources", {}).get("type", "") if isinstance(said, dict) else ""
    if kind in ("FARGATE", "FARGATE_SPOT"):
        stored["compute_resources"] |= {"type": kind, "allocation_strategy": "BEST_FIT_PROGRESSIVE"}


def _upgrade_state(stored: Stored) -> None:
    state, text = stored.pop("state", ""), stored.pop("status_reason", "")
    texts = [attempt.get("status_reason", "") for attempt in stored.get("attempts", ())]
    stored["attempts"] = [_ended(attempt) for attempt in stored.get("attempts", ())]
    # A single job that never ran had no such time.
    is_array = not texts and stored.pop("stopped_at_ms", 0) != 0
    if rest := stored.get("rest_end"):
        stored["rest_end"] = {
            "ending": _child_ending(rest["reason"], stored.get("terminate_reason", "")),
            "at_ms": rest["at_ms"],
        }
    if state == "SUCCEEDED":
        stored["ending"] = {"trigger": "CHILDREN_SUCCEEDED" if is_array else "SUCCEEDED"}
    elif state == "FAILED" and is_array:
        stored["ending"] = {"trigger": "CHILDREN_ENDED"}
    elif state == "FAILED":
        stored["ending"] = _job_ending(text, stored, texts[-1:])


def _job_ending(text: str, stop: Mapping[str, Any], of_last_attempt: list[str]) -> Stored:
    """Tell why a single job failed."""
    if text.startswith(_TIME_LIMIT):
        return {"trigger": "TIME_LIMIT_PASSED", "words": text.removeprefix(_TIME_LIMIT)}
    if stop.get("is_cancelled"):
        return {"trigger": "CANCELLED", "words": text}
    if stop.get("terminate_reason"):
        return {"trigger": "TERMINATED", "words": text}
    return {"trigger": "FAILED"} if of_last_attempt == [text] else _by_text(text)


def _child_ending(text: str, terminate_reason: str) -> Stored:
    """Tell why a child failed by anything but its last try."""
    if text.startswith(_TIME_LIMIT):
        return {"trigger": "TIME_LIMIT_PASSED", "words": text.removeprefix(_TIME_LIMIT)}
    if text and text == terminate_reason:
        return {"trigger": "TERMINATED", "words": text}
    return _by_text(text)


def _by_text(text: str) -> Stored:
    """Tell an ending by its text alone; one that is nobody else's is that of a cancellation."""
    if match := _WAITED_FOR_FAILURE.fullmatch(text):
        return {"trigger": "DEPENDENCY_FAILED", "waited_for": {"job_id": match[1], "type": "AFTER_FAILURE"}}
    return {"trigger": _BY_TEXT[text]} if text in _BY_TEXT else {"trigger": "CANCELLED", "words": text}


def _ended(attempt: Stored) -> Stored:
    """Give a try that is over the cause that its texts tell."""
    text = attempt.pop("status_reason", "")
    attempt["cause"] = _cause(text, attempt.get("reason", ""))
    return attempt


def _cause(text: str, reason: str) -> str:
    if reason.startswith("OutOfMemoryError"):
        return "OUT_OF_MEMORY"
    if text.startswith("Host EC2 (instance ") and text.endswith(") terminated."):
        return "LOST"
    by_text = {
        "Essential container in task exited": "EXITED",
        "Task failed to start": "START_FAILED",
        "Job attempt duration exceeded timeout": "TIMED_OUT",
    }
    return by_text.get(text, "STOPPED")


def upgrade_children(value: bytes, terminate_reason: str) -> bytes:
    """Return an old chunk in today's form; *terminate_reason* says why its array was terminated, if it was."""
    stored = msgspec.json.decode(value)
    states, attempts = (base64.b64decode(stored[name]) for name in ("states", "attempts"))
    texts, reasons = stored.pop("status_reasons"), stored["reasons"]
    causes = [_CAUSES.index(_cause(texts.get(str(i), ""), reasons.get(str(i), ""))) for i in range(_CHUNK)]
    stored["causes"] = bytes(c if n else 0 for c, n in zip(causes, attempts, strict=True))
    stored["environment_names"] = [""]
    stored["environments"] = bytes(2 * _CHUNK)
    stored["earlier"] = {i: [_ended(each) for each in tries] for i, tries in stored["earlier"].items()}
    ends, cancelled = stored.pop("end_reasons"), stored.pop("cancelled")
    stops = stored["terminate_reasons"]
    stored["endings"] = {}
    for i, text in ends.items():
        if _STATES[states[int(i)]] != "FAILED":
            continue
        if int(i) in cancelled:
            stored["endings"][i] = {"trigger": "CANCELLED", "words": text}
        elif i in stops:
            stored["endings"][i] = {"trigger": "TERMINATED", "words": text}
        elif not attempts[int(i)] or text != texts.get(i):
            stored["endings"][i] = _child_ending(text, terminate_reason)
    return msgspec.json.encode(stored)


_OLD_FORMS: dict[str, tuple[bytes, Callable[[Stored], None]]] = {
    "definition": (b'"container":', _upgrade_task),
    "environment": (b'\\"type\\":\\"FARGATE', _upgrade_environment),
    "job": (b'"array_size":', _upgrade_job),
    "spec": (b'"container":', _upgrade_task),
    "state": (b'"state":', _upgrade_state),
}
"""By kind: what only the old form holds, and what brings it up to date."""

OLD_CHUNK = b'"status_reasons":'
"""What only the old form of a chunk of children holds."""
