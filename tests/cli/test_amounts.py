"""Amounts: nothing seems to fit that does not."""

from __future__ import annotations

import pytest

from batchyard.cli import spans
from batchyard.cli.hosts import _memory, _show_host, _show_hosts
from batchyard.cli.jobs import _show_explanation
from batchyard.v1.host_pb2 import DescribeHostResponse, Host, HostFacts, HostUsage
from batchyard.v1.job_pb2 import JOB_STATE_RUNNABLE, ExplainJobResponse, Refusal
from batchyard.v1.resources_pb2 import Resources


@pytest.mark.parametrize(
    ("mib", "there", "asked"),
    [
        (512, "512M", "512M"),
        (1023, "1023M", "1023M"),
        (2040, "1.9G", "2G"),
        (2048, "2G", "2G"),
        (2049, "2G", "2.1G"),
        (1536, "1.5G", "1.5G"),
        ((1 << 20) - 1, "1023.9G", "1024G"),
        ((1 << 20) + 1, "1T", "1.1T"),
    ],
)
def test_what_there_is_is_never_rounded_up_nor_what_is_asked_for_down(mib: int, there: str, asked: str) -> None:
    assert (spans.mib(mib), spans.mib(mib, asked=True)) == (there, asked)


def test_what_attempts_hold_of_a_host_never_seems_more_than_it_has() -> None:
    host = Host(facts=HostFacts(capacity=Resources(memory_mib=2040)), allocated=Resources(memory_mib=2000))
    assert _memory(host) == "1.9G/1.9G"


def test_hosts_show_nothing_as_more_than_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in the table nor of one host."""
    capacity = Resources(memory_mib=2040, disk_mib=2040)
    host = Host(facts=HostFacts(name="alpha", capacity=capacity), usage=HostUsage(disk_free_mib=2040))
    _show_hosts("table", [host], 0)
    _show_host(DescribeHostResponse(host=host), 0)
    told = capsys.readouterr().out
    assert (told.count("1.9G"), "2G" in told) == (4, False), told


def test_explain_never_shows_as_fitting_what_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = Refusal(kind="memory_mib", asked=2049, free=2047, largest_free=2046, largest_capacity=2045)
    _show_explanation(ExplainJobResponse(state=JOB_STATE_RUNNABLE, refusals=[refusal]))
    assert capsys.readouterr().out.splitlines()[-1].split() == ["memory_mib", "2.1G", "1.9G", "1.9G", "1.9G"]


@pytest.mark.parametrize(
    ("dependents", "is_least", "told"),
    [
        (0, False, ""),
        (2, False, "a, b"),
        (30, False, "30 jobs, first a, b"),
        (999, True, "at least 999 jobs, first a, b"),
    ],
)
def test_explain_tells_who_waits(
    dependents: int, is_least: bool, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["a", "b"][:dependents]
    explained = ExplainJobResponse(
        state=JOB_STATE_RUNNABLE, dependent_ids=ids, dependents=dependents, dependents_is_least=is_least
    )
    _show_explanation(explained)
    shown = [line.partition("  ")[2].strip() for line in capsys.readouterr().out.splitlines() if "Dependents" in line]
    assert shown == ([told] if told else [])
