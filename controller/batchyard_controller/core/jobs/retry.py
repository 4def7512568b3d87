"""
Retry: may a failed attempt be followed by another?

Order of checks (AWS Batch User Guide, "Automated job retries"): a job that was
cancelled, terminated or timed out is never retried; then the limit of
attempts, which counts tries and not retries, and of those lost with their host
only such as are not made up for (``infrastructure_retries``, ours); then the evaluate-on-exit rules,
of which the first match decides; no match means retry.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import EndedAttempt
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, RetryStrategy

from .ends import is_host_loss


class RetryDecision(StrEnum):
    """What was decided, for machines."""

    RETRY = "retry"
    NEVER = "never retried"
    EXHAUSTED = "attempts exhausted"
    RULE_EXIT = "rule says exit"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and its reason, for people."""

    decision: RetryDecision
    reason: str

    @property
    def is_retry(self) -> bool:
        """Whether another attempt follows."""
        return self.decision is RetryDecision.RETRY


def evaluate(strategy: RetryStrategy, cause: EndCause, attempts: tuple[EndedAttempt, ...]) -> Verdict:
    """Decide what follows the last of *attempts*, which failed of *cause*."""
    ended = attempts[-1]
    if cause in (EndCause.STOPPED, EndCause.TIMED_OUT):
        return Verdict(RetryDecision.NEVER, f"{cause} attempts are never retried")
    counted = ended.number - min(strategy.infrastructure_retries, sum(map(is_host_loss, attempts)))
    if counted >= strategy.attempts:
        return Verdict(RetryDecision.EXHAUSTED, f"attempt {counted} of {strategy.attempts}")
    for place, rule in enumerate(strategy.rules, start=1):
        if matches(rule, ended):
            if rule.action is ExitAction.EXIT:
                return Verdict(RetryDecision.RULE_EXIT, f"evaluateOnExit rule {place} says EXIT")
            return Verdict(RetryDecision.RETRY, f"evaluateOnExit rule {place} says RETRY")
    return Verdict(RetryDecision.RETRY, f"attempt {counted} of {strategy.attempts}")


def matches(rule: ExitRule, ended: EndedAttempt) -> bool:
    """Say whether all patterns that *rule* gives match the attempt."""
    exit_code = "" if ended.exit_code is None else str(ended.exit_code)
    asked = (
        (rule.on_status_reason, ended.status_reason),
        (rule.on_reason, ended.reason),
        (rule.on_exit_code, exit_code),
    )
    return all(_pattern_matches(pattern, text) for pattern, text in asked if pattern)


def _pattern_matches(pattern: str, text: str) -> bool:
    """A trailing ``*`` matches any rest, also an empty text; else the whole text must be equal."""
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    return text == pattern
