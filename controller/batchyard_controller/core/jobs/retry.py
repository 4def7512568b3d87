"""
Retry: may a failed attempt be followed by another?

Order of checks (AWS Batch User Guide, "Automated job retries"): a job that was
cancelled, terminated or timed out is never retried; then the limit of
attempts, which counts tries and not retries, and of those lost with their host
only such as are not made up for (``infrastructure_retries``, ours); then the evaluate-on-exit rules,
of which the first match decides; no match means retry.
"""

from __future__ import annotations

from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, RetryStrategy

from .ends import HOST_LOSSES, status_reason


def evaluate(strategy: RetryStrategy, attempts: tuple[EndedAttempt, ...]) -> Verdict:
    """Decide what follows the last of *attempts*, which failed."""
    ended = attempts[-1]
    if ended.cause in (EndCause.STOPPED, EndCause.TIMED_OUT):
        return Verdict(decision=RetryDecision.NEVER)
    lost = sum(each.cause in HOST_LOSSES for each in attempts)
    if ended.number - min(strategy.infrastructure_retries, lost) >= strategy.attempts:
        return Verdict(decision=RetryDecision.EXHAUSTED)
    for place, rule in enumerate(strategy.rules, start=1):
        if matches(rule, ended):
            decision = RetryDecision.RULE_EXIT if rule.action is ExitAction.EXIT else RetryDecision.RETRY
            return Verdict(decision=decision, rule=place)
    return Verdict(decision=RetryDecision.RETRY)


def matches(rule: ExitRule, ended: EndedAttempt) -> bool:
    """Say whether all patterns that *rule* gives match the attempt."""
    exit_code = "" if ended.exit_code is None else str(ended.exit_code)
    asked = (
        (rule.on_status_reason, status_reason(ended)),
        (rule.on_reason, ended.reason),
        (rule.on_exit_code, exit_code),
    )
    return all(_pattern_matches(pattern, text) for pattern, text in asked if pattern)


def _pattern_matches(pattern: str, text: str) -> bool:
    """A trailing ``*`` matches any rest, also an empty text; else the whole text must be equal."""
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text == pattern
