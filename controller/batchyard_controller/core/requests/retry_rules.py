"""Retry rules: what a retry strategy may say. Source: AWS Batch API reference, RetryStrategy and EvaluateOnExit."""

from __future__ import annotations

import re

from batchyard.errors import Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.model.jobs import RetryStrategy

from .checks import Violations, check_range, check_text, quote

_EXIT_CODE_PATTERN = re.compile(r"\d*\*?", re.ASCII)
_TEXT_PATTERN = re.compile(r"[A-Za-z0-9.:\s]*\*?", re.ASCII)
_PATTERN_CHARACTERS = {
    _EXIT_CODE_PATTERN: "digits",
    _TEXT_PATTERN: "letters, digits, '.', ':' and white space",
}


def check_retry(out: Violations, field: str, retry: RetryStrategy) -> None:
    """Check a retry strategy (AWS: RetryStrategy, EvaluateOnExit)."""
    if retry.rules and not retry.attempts:
        text = "RetryAttempts must be provided with retry strategy"
        out.append(Violation(f"{field}.attempts", text, Reason.REQUIRED))
    else:
        check_range(out, f"{field}.attempts", retry.attempts, 1, limits.ATTEMPTS_MAX)
    check_range(
        out, f"{field}.infrastructure_retries", retry.infrastructure_retries, 0, limits.INFRASTRUCTURE_RETRIES_MAX
    )
    check_range(out, f"{field}.spot_attempts", retry.spot_attempts, 0, limits.SPOT_ATTEMPTS_MAX)
    name, again = "preemption_retries_before_termination", retry.preemption_retries_before_termination
    check_range(out, f"{field}.{name}", -1 if again is None else again, -1, limits.PREEMPTIONS_MAX)
    if len(retry.rules) > limits.EXIT_RULES_MAX:
        text = f"{len(retry.rules)} rules; at most {limits.EXIT_RULES_MAX} are allowed"
        out.append(Violation(f"{field}.evaluate_on_exit", text, Reason.TOO_MANY))
    for i, rule in enumerate(retry.rules):
        at = f"{field}.evaluate_on_exit[{i}]"
        patterns = {
            "on_status_reason": (rule.on_status_reason, _TEXT_PATTERN),
            "on_reason": (rule.on_reason, _TEXT_PATTERN),
            "on_exit_code": (rule.on_exit_code, _EXIT_CODE_PATTERN),
        }
        if not any(pattern for pattern, _ in patterns.values()):
            text = "at least one of on_status_reason, on_reason, on_exit_code is required"
            out.append(Violation(at, text, Reason.REQUIRED))
        for name, (pattern, grammar) in patterns.items():
            check_text(out, f"{at}.{name}", pattern, limits.PATTERN_LENGTH_MAX)
            if not grammar.fullmatch(pattern):
                allowed = _PATTERN_CHARACTERS[grammar]
                text = f"{quote(pattern)} is no pattern: only {allowed} are allowed, and a '*' at the end"
                out.append(Violation(f"{at}.{name}", text, Reason.MALFORMED))
