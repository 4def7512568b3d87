"""Bringing a container's output into its log: bounded, resumable, no byte twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard_agent.runtimes.docker_logs import LOST_MARKER, LogFile, read_tail
from batchyard_agent.runtimes.log_limit import marker


def pour(path: Path, bytes_max: int, *chunks: bytes) -> bytes:
    with LogFile(path, bytes_max) as log_file:
        for chunk in chunks:
            log_file.take(chunk)
    return path.read_bytes()


@given(
    output=st.binary(max_size=60),
    bytes_max=st.integers(min_value=0, max_value=80),
    stops=st.lists(st.integers(min_value=0, max_value=60), max_size=4),
    step=st.integers(min_value=1, max_value=20),
)
def test_log_is_the_same_however_often_it_is_taken_up(
    tmp_path_factory: pytest.TempPathFactory, output: bytes, bytes_max: int, stops: list[int], step: int
) -> None:
    """Each stop is an agent's death somewhere in the output; the last reader gets all of it."""
    path = tmp_path_factory.mktemp("log") / "log"
    for stop in [*stops, len(output)]:
        seen = output[:stop]
        pour(path, bytes_max, *(seen[start : start + step] for start in range(0, len(seen), step)))
    expected = output if len(output) <= bytes_max else output[:bytes_max] + marker(bytes_max)
    assert path.read_bytes() == expected


def test_output_that_the_engine_threw_away_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    pour(path, 1000, b"one\ntwo\n")
    assert pour(path, 1000, b"five\n", b"six\n") == b"one\ntwo\n" + LOST_MARKER + b"five\nsix\n"


def test_full_log_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "log"
    full = pour(path, 4, b"12345")
    assert full == b"1234" + marker(4)
    with LogFile(path, 4) as log_file:
        assert log_file.is_full
        log_file.take(b"other")
    assert path.read_bytes() == full


def test_tail_is_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert (read_tail(path, 4), read_tail(path, 100)) == (b"6789", b"0123456789")
