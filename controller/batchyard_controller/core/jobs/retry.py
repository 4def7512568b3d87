"""
Retry: may a failed attempt be followed by another?

Order of checks (AWS Batch User Guide, "Automated job retries"): a job that was
cancelled, terminated or timed out is never retried; then, ours, a try that its host
failed is followed by one elsewhere, which does not count (``infrastructure_retries``
bounds such tries), and so is one that was preempted (``preemption_retries_before_termination``
bounds these), whatever the rules say; then the limit of attempts, which counts tries and not retries; then
the evaluate-on-exit rules, of which the first match decides; no match means retry.
"""

from __future__ import annotations

from batchyard.states import EndCause
from batchyard_controller.core.model.attempts import EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, RetryStrategy

from .ends import HOST_FAULTS, is_of_host, status_reason


def evaluate(strategy: RetryStrategy, attempts: tuple[EndedAttempt, ...], *, has_other_taker: bool = False) -> Verdict:
    """
    Decide what follows the last of *attempts*, which failed.

    Args:
        strategy: The job's.
        attempts: All tries of the unit, oldest first.
        has_other_taker: Another host that has not failed the unit could take it, which
            alone can show whether an image that could not be had is had by nobody.
    """
    ended = attempts[-1]
    if ended.cause in (EndCause.STOPPED, EndCause.TIMED_OUT):
        return Verdict(decision=RetryDecision.NEVER)
    preempted = sum(each.cause is EndCause.PREEMPTED for each in attempts)
    if ended.cause is EndCause.PREEMPTED:
        again = strategy.preemption_retries_before_termination
        is_over = again is not None and 0 <= again < preempted
        return Verdict(decision=RetryDecision.EXHAUSTED if is_over else RetryDecision.PREEMPTED)
    of_host = sum(map(is_of_host, attempts[:-1]))
    is_start = ended.cause is EndCause.HOST_ERROR or (ended.cause is EndCause.IMAGE_UNAVAILABLE and has_other_taker)
    if is_start and of_host < strategy.infrastructure_retries:
        return Verdict(decision=RetryDecision.ELSEWHERE)  # rules are about the job, and about hosts that AWS takes away
    of_host += ended.cause in HOST_FAULTS
    if ended.number - preempted - min(strategy.infrastructure_retries, of_host) >= strategy.attempts:
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
