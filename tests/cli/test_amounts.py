"""Amounts: nothing seems to fit that does not."""

from __future__ import annotations

import pytest

from batchyard.cli import spans
from batchyard.cli.hosts import _memory
from batchyard.v1.host_pb2 import Host, HostFacts
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
