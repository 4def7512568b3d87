"""
Rules: what AWS allows and the contract does not forbid, with AWS's texts.

Pure checks over members of the right types. Where AWS's own text is known it stands
here word by word (typing errors included); elsewhere one in the same style. The
contract's own rules are the controller's to check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from batchyard.ids import is_job_name, is_name
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

DESCRIBE_MAX = 100
DEFINITION_BYTES_MAX = 24 << 10
PAYLOAD_BYTES_MAX = 30 << 10
OVERRIDES_LENGTH_MAX = 8192
DEPENDENCIES_MAX = 20
ARRAY_SIZE_MIN, ARRAY_SIZE_MAX = 2, 10_000
ATTEMPTS_MAX = 10
EXIT_RULES_MAX = 5
PATTERN_LENGTH_MAX = 512
TIMEOUT_S_MIN = 60
REASON_LENGTH_MAX = 1024
STOP_MAX = 50
SCHEDULING_PRIORITY_MAX = 9999
SHARE_DECAY_S_MAX = 604_800
COMPUTE_RESERVATION_MAX = 99
WEIGHT_FACTOR_MIN, WEIGHT_FACTOR_MAX = 0.0001, 999.9999
JOB_STATUSES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
RESERVED_VARIABLES = "AWS_BATCH"

_TEXT_PATTERN = re.compile(r"[A-Za-z0-9.:\s]*\*?", re.ASCII)
_EXIT_CODE_PATTERN = re.compile(r"[0-9]*\*?", re.ASCII)


def check_name(noun: str, name: str) -> None:
    """Check the name of a queue, a definition or an environment."""
    if not is_name(name):
        raise ExecutionException(f"{noun} name should match valid pattern")


def check_job_name(name: str) -> None:
    """Check a job's name."""
    if not is_job_name(name):
        raise ExecutionException("Job name should match valid pattern")


def check_between(noun: str, value: float | None, low: float, high: float) -> None:
    """Check that a number, if it is given, lies between two limits, both allowed."""
    if value is not None and not low <= value <= high:
        raise ExecutionException(f"{noun} must be between {low} and {high}, not {value}")


def is_said(value: Any) -> bool:
    """Say whether a value asks for anything: 0 does, and nothing, no, and what is empty do not."""
    return value is not None and value is not False and value not in ("", [], {})


def check_not_given(members: Members, texts: Mapping[str, str]) -> None:
    """Refuse members that are not offered, each with its own text."""
    for name, text in texts.items():
        if is_said(members.get(name)):
            raise ClientException(f"{name}: {text}")


def check_describe(noun: str, names: Collection[str]) -> None:
    """Check how many are asked for at once."""
    if len(names) > DESCRIBE_MAX:
        raise ClientException(f"Maximum number of {noun} supported is {DESCRIBE_MAX}")


def page_size(members: Members, most: int = DESCRIBE_MAX) -> int:
    """Return how many results a page may have; the most where nothing is said."""
    check_between("maxResults", members.get("maxResults"), 1, most)
    return int(members.get("maxResults", most))


def check_size(noun: str, members: Members, bytes_max: int) -> None:
    """Check how long an input is as JSON."""
    size = length_of(members)
    if size > bytes_max:
        raise ExecutionException(f"{noun} size must be at most {bytes_max} bytes, not {size}")


def length_of(value: Any) -> int:
    """Return how many bytes a value has as JSON."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def check_variables(environment: Sequence[Mapping[str, str]]) -> None:
    """Check names of environment variables."""
    for each in environment:
        name = each.get("name", "")
        if not name:
            raise ExecutionException("Environment variable name is required")
        if name.startswith(RESERVED_VARIABLES):
            raise ExecutionException(
                f"Environment variables cannot start with {RESERVED_VARIABLES}, which is reserved: {name[:128]}"
            )


def check_retry(members: Members) -> None:
    """Check a retry strategy."""
    retry = members.get("retryStrategy", {})
    rules = retry.get("evaluateOnExit", ())
    if rules and "attempts" not in retry:
        raise ExecutionException("RetryAttempts must be provided with retry strategy")
    check_between("RetryAttempts", retry.get("attempts"), 1, ATTEMPTS_MAX)
    if len(rules) > EXIT_RULES_MAX:
        raise ExecutionException(f"EvaluateOnExit must have at most {EXIT_RULES_MAX} entries, not {len(rules)}")
    for rule in rules:
        _check_exit_rule(rule)


def _check_exit_rule(rule: Members) -> None:
    grammars = {"onStatusReason": _TEXT_PATTERN, "onReason": _TEXT_PATTERN, "onExitCode": _EXIT_CODE_PATTERN}
    allowed = {_TEXT_PATTERN: "letters, digits, '.', ':' and white space", _EXIT_CODE_PATTERN: "digits"}
    if not any(rule.get(name) for name in grammars):
        raise ExecutionException("EvaluateOnExit needs at least one of onStatusReason, onReason and onExitCode")
    for name, grammar in grammars.items():
        pattern = rule.get(name, "")
        if len(pattern) > PATTERN_LENGTH_MAX:
            raise ExecutionException(f"{name} must be at most {PATTERN_LENGTH_MAX} characters long")
        if not grammar.fullmatch(pattern):
            raise ExecutionException(
                f"{name} '{pattern[:100]}' is not a valid pattern: it may hold {allowed[grammar]}, and a * at its end"
            )


def check_timeout(members: Members) -> None:
    """Check a timeout."""
    seconds = members.get("timeout", {}).get("attemptDurationSeconds")
    if seconds is not None and seconds < TIMEOUT_S_MIN:
        raise ExecutionException(f"attemptDurationSeconds must be at least {TIMEOUT_S_MIN} seconds, not {seconds}")


def check_reason(members: Members) -> None:
    """Check why a job is stopped."""
    if not members["reason"]:
        raise ClientException("reason is required")
    if len(members["reason"]) > REASON_LENGTH_MAX:
        raise ClientException(f"reason must be at most {REASON_LENGTH_MAX} characters long")
