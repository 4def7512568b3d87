"""What ``usage`` writes: a table with hints, JSON, comma-separated values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.sdk.host import Host
from tests.sdk.yard import Yard
from tests.services.hand_agent import running

from batchyard import container
from batchyard.v1.attempt_pb2 import Usage

MINUTES_2 = 120_000
START_MS = 1_700_000_000_000


async def run_for_two_minutes(host: Host, exit_code: int = 0, **fields: Any) -> None:
    (spec,) = await host.take()
    begun = running(spec.attempt_id)
    begun.started_at_ms = START_MS
    await host.report(begun)
    await host.end(spec.attempt_id, exit_code, started_at_ms=START_MS, stopped_at_ms=START_MS + MINUTES_2, **fields)


@pytest.fixture
def host(yard: Yard) -> Host:
    """A host on which two jobs have run: one that used little of much, one of which nothing is known."""
    host = yard.join()
    used = Usage(peak_memory_kib=1_258_291, user_cpu_ms=20_000, system_cpu_ms=4_000)
    yard.submit(container=container(["work"], vcpus=2, memory="2G"))
    yard.do(run_for_two_minutes(host, usage=used))
    yard.submit(container=container(["work"], vcpus=1, memory=256))
    yard.do(run_for_two_minutes(host, 1))
    return host


def test_a_table_says_what_was_taken_and_hints_at_what_was_not_used(run: Run, yard: Yard, host: Host) -> None:
    told = run("usage", "--by", "queue", "--by", "day")
    assert [line.split() for line in told.out.splitlines()] == [
        ["QUEUE", "DAY", "TRIES", "FAILED", "VCPU-HOURS", "USED", "GIB-HOURS", "USED", "PEAK", "GPU-HOURS"],
        ["default", "2023-11-14", "2", "1", "0.10", "7%", "0.07", "60%", "1229M", "0.00"],
    ]
    assert told.err == "batchyard: default 2023-11-14: asked for 1.5 vCPUs on average, used 0.1\n"


def test_scripts_get_json_or_comma_separated_values(run: Run, yard: Yard, host: Host) -> None:
    (told,) = json.loads(run("usage", "-o", "json").out)
    expected: dict[str, Any] = {
        "user": "administrator",
        "attempts": 2,
        "failed": 1,
        "wall_ms": 2 * MINUTES_2,
        "cpu_asked_ms": 3 * MINUTES_2,
        "cpu_used_ms": 24_000,
        "gpu_asked_ms": 0,
        "memory_asked_mib_s": 2048 * 120,
        "memory_used_mib_s": 147_455,
        "peak_memory_kib": 1_258_291,
        "peak_asked_mib": 2048,
    }
    assert told == expected
    heading, row = run("usage", "-o", "csv").out.splitlines()
    assert dict(zip(heading.split(","), row.split(","), strict=True)) == {k: str(v) for k, v in expected.items()}
    assert run("usage", "-o", "csv", "--from", "2024-01-01").out.splitlines() == [heading]


def test_what_is_summed_can_be_chosen(run: Run, yard: Yard, host: Host) -> None:
    def tries(*flags: str) -> int:
        return sum(int(each["attempts"]) for each in json.loads(run("usage", *flags, "-o", "json").out))

    assert tries("--from", "2023-11-14", "--to", "2999-01-01") == 2
    assert tries("--to", "2023-11-14") == 0
    assert tries("--since", "1h") == 0
    assert tries("--user", "nobody") == 0
    assert tries("-q", "default", "--by", "job") == 2
    assert run("usage", "-q", "none").code == 3
    wrong = run("usage", "--from", "yesterday")
    assert (wrong.code, "no day such as 2026-11-26" in wrong.err) == (2, True)


def test_describe_says_what_was_asked_for_in_vain(run: Run, yard: Yard) -> None:
    host = yard.join()
    job_id = yard.submit(container=container(["work"], vcpus=1, memory="8G"))
    yard.do(run_for_two_minutes(host, usage=Usage(peak_memory_kib=1_258_291, user_cpu_ms=110_000)))
    assert "asked for 8 GiB of memory, used 1.2 at most" in run("describe", job_id).out
