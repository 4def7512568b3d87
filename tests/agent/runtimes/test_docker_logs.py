"""Bringing a container's output into its log: bounded, resumable, no byte twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchyard_agent.runtimes.docker_logs import read_tail
from batchyard_agent.runtimes.log_file import LOST_MARKER, LogFile
from batchyard_agent.runtimes.log_limit import marker, stretches, used_bytes


def pour(path: Path, bytes_max: int, *chunks: bytes) -> bytes:
    with LogFile(path, bytes_max) as log_file:
        for chunk in chunks:
            log_file.take(chunk)
    return path.read_bytes()


def shown(path: Path) -> bytes:
    """Return what readers are shown: all but the holes."""
    with path.open("rb") as file:
        parts = list(stretches(file.fileno(), 0, path.stat().st_size))
        return b"".join(os.pread(file.fileno(), stop - start, start) for start, stop in parts)


LIMIT = 32 << 10
LINES = b"".join(b"line %06d\n" % number for number in range(1 << 15))


@settings(max_examples=30)
@given(
    size=st.integers(min_value=0, max_value=len(LINES)),
    stops=st.lists(st.integers(min_value=0, max_value=len(LINES)), max_size=4),
    step=st.integers(min_value=1 << 12, max_value=1 << 17),
)
def test_log_is_the_same_however_often_it_is_taken_up(
    tmp_path_factory: pytest.TempPathFactory, size: int, stops: list[int], step: int
) -> None:
    """Each stop is an agent's death somewhere in the output; the last reader gets all of it, and both ends stay."""
    path = tmp_path_factory.mktemp("log") / "log"
    output = LINES[:size]
    for stop in [*stops, len(output)]:
        seen = output[:stop]
        pour(path, LIMIT, *(seen[start : start + step] for start in range(0, len(seen), step)))
    found = shown(path)
    assert path.stat().st_size == len(output)
    if marker(LIMIT) not in found:  # ends are whole blocks of the disk: one more fits between
        assert found == output
        assert len(output) <= LIMIT + 4096
    else:
        head, line, tail = found.partition(marker(LIMIT))
        assert output.startswith(head)
        assert output.endswith(tail)
        assert line
        assert len(tail) >= LIMIT // 2
        assert used_bytes(path) <= LIMIT + 4096


def test_output_that_the_engine_threw_away_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    pour(path, 1000, b"one\ntwo\n")
    assert pour(path, 1000, b"five\n", b"six\n") == b"one\ntwo\n" + LOST_MARKER + b"five\nsix\n"


def test_tail_is_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    assert (read_tail(path, 4), read_tail(path, 100)) == (b"6789", b"0123456789")
