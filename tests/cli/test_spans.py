"""Times as people say them: lengths with units, moments by the clocks of here beside UTC."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard.cli import spans

MOMENT = 1_764_072_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400), ("1.5h", 5400), ("1h 30m", 5400), ("0.5", 0.5)],
)  # fmt: skip
def test_lengths_of_time_have_units(text: str, seconds: float) -> None:
    assert spans.parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "5m5", "-5", "m", "5 m", "1h,2m", "٣s", "1e3", "inf"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a length of time such as 90s, 15m, 2h or 1d"):
        spans.parse_span(text)


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 90, 3600, 5400, 86_400, 90_061, 604_800])
def test_lengths_are_written_as_they_are_read(seconds: int) -> None:
    assert spans.parse_span(spans.whole(seconds)) == seconds


def test_a_timeout_may_have_a_unit_and_is_shown_with_one(run: Run, yard: Yard) -> None:
    job = run("submit", "--timeout", "1h30m", "--", "true").out.strip()
    assert yard.client.describe_job(job).timeout_s == 5400
    assert "Timeout    1h 30m" in run("describe", job).out
    assert run("job-definition", "register", "d", "--timeout", "15m", "--", "true").code == 0
    assert yard.client.describe_job_definitions(["d"])[0].timeout_s == 900
    assert run("wait", job, "--timeout", "0.05s").code == 124
    refused = run("submit", "--timeout", "0.5", "--", "true")
    assert (refused.code, "'0.5' is no whole number of seconds" in refused.err) == (2, True)


def test_a_queues_limit_may_have_a_unit_and_is_shown_as_it_is_given(run: Run, yard: Yard) -> None:
    limit = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT=1h30m"
    assert run("queue", "create", "slow", "--time-limit", limit).code == 0
    (made,) = yard.client.describe_job_queues(["slow"])
    assert [action.max_time_s for action in made.job_state_time_limit_actions] == [5400]
    assert limit in run("queue", "describe", "slow").out


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as there:
        there.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_moments_are_told_by_the_clocks_of_here_too() -> None:
    assert spans.moment(MOMENT, MOMENT + 60_000) == "2025-11-25 12:00:00Z (21:00 JST, 1m ago)"


def test_where_clocks_show_utc_it_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert spans.moment(MOMENT, MOMENT + 60_000) == "2025-11-25 12:00:00Z (1m ago)"
