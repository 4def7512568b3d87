"""Evaluate on exit: which failed attempts are followed by another, and which never."""

from __future__ import annotations

import pytest

from batchyard.states import EndCause
from batchyard_controller.core.jobs import retry
from batchyard_controller.core.model.attempts import EndedAttempt, RetryDecision, Verdict
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, RetryStrategy
from batchyard_controller.core.requests.checks import Violations
from batchyard_controller.core.requests.retry_rules import check_retry

RETRY_HOST_LOSS = (
    ExitRule(action=ExitAction.RETRY, on_status_reason="Host EC2*"),
    ExitRule(action=ExitAction.EXIT, on_reason="*"),
)
"""What AWS's guide shows: try again after the loss of a host, and after nothing else."""


def ended(reason: str = "", exit_code: int | None = None, cause: EndCause = EndCause.EXITED) -> EndedAttempt:
    return EndedAttempt(number=1, cause=cause, host_id="i-1", reason=reason, exit_code=exit_code)


@pytest.mark.parametrize(
    ("attempt", "is_retry"),
    [
        (ended(cause=EndCause.LOST), True),
        (ended(cause=EndCause.FENCED), True),
        (ended(exit_code=1), False),
        (ended("OutOfMemoryError: killed", 137, EndCause.OUT_OF_MEMORY), False),
        (ended("Host EC2 is no more", cause=EndCause.START_FAILED), False),
    ],
)
def test_the_catch_all_matches_also_without_a_reason(attempt: EndedAttempt, is_retry: bool):
    """``onReason: "*"`` as the last rule decides whatever no rule before it did."""
    strategy = RetryStrategy(attempts=3, rules=RETRY_HOST_LOSS)
    said = (
        Verdict(decision=RetryDecision.RETRY, rule=1) if is_retry else Verdict(decision=RetryDecision.RULE_EXIT, rule=2)
    )
    assert retry.evaluate(strategy, (attempt,)) == said


@pytest.mark.parametrize("cause", [EndCause.STOPPED, EndCause.TIMED_OUT])
def test_stopped_and_timed_out_attempts_are_never_retried(cause: EndCause):
    """Not even where a rule says RETRY."""
    strategy = RetryStrategy(attempts=10, rules=(ExitRule(action=ExitAction.RETRY, on_reason="*"),))
    assert retry.evaluate(strategy, (ended(exit_code=137, cause=cause),)) == Verdict(decision=RetryDecision.NEVER)


@pytest.mark.parametrize(
    ("rule", "attempt", "does_match"),
    [
        (ExitRule(action=ExitAction.EXIT, on_exit_code="13*"), ended(exit_code=137), True),
        (ExitRule(action=ExitAction.EXIT, on_exit_code="13"), ended(exit_code=137), False),
        (ExitRule(action=ExitAction.EXIT, on_exit_code="13*"), ended(), False),
        (ExitRule(action=ExitAction.EXIT, on_reason="Docker*", on_exit_code="1"), ended("DockerTimeout", 1), True),
        (ExitRule(action=ExitAction.EXIT, on_reason="Docker*", on_exit_code="1"), ended("DockerTimeout", 2), False),
        (ExitRule(action=ExitAction.EXIT, on_reason="docker*"), ended("DockerTimeout"), False),
    ],
)
def test_all_patterns_of_a_rule_must_match(rule: ExitRule, attempt: EndedAttempt, does_match: bool):
    """A trailing star matches any rest; else the whole text, letter case included, must be equal."""
    assert retry.matches(rule, attempt) is does_match


@pytest.mark.parametrize(
    ("field", "pattern", "is_allowed"),
    [
        ("on_status_reason", "Host EC2*", True),
        ("on_status_reason", "Host EC2 (instance i-1)*", False),
        ("on_reason", "OutOfMemoryError: Container killed*", True),
        ("on_reason", "a\tb.1", True),
        ("on_reason", "a_b", False),
        ("on_reason", "a-b", False),
        ("on_reason", "*b", False),
        ("on_reason", "ä", False),
        ("on_exit_code", "13*", True),
        ("on_exit_code", "*", True),
        ("on_exit_code", "-1", False),
        ("on_exit_code", "1 ", False),
    ],
)
def test_the_grammar_of_patterns(field: str, pattern: str, is_allowed: bool):
    """Letters, digits, '.', ':' and white space, or digits alone; a star only at the end."""
    rule = ExitRule(action=ExitAction.RETRY, **{field: pattern})  # type: ignore[arg-type]  # one of three text fields
    out: Violations = []
    check_retry(out, "retry_strategy", RetryStrategy(attempts=2, rules=(rule,)))
    assert [v.field for v in out] == ([] if is_allowed else [f"retry_strategy.evaluate_on_exit[0].{field}"])
