"""What a log takes of the disk, and what a job sets aside beyond its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.processes import running

from batchyard_agent.runtimes import log_limit

LIMIT = 1 << 20
ASIDE = 64 << 20

WRITER = """
import os, subprocess, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(60_000):
    os.write(log, b"%d\\n" % number)
    if number % 20_000 == 1:
        subprocess.run(["fallocate", "-n", "-l", "64M", sys.argv[1]], check=True)
        print("aside", flush=True)
"""


def set_aside(path: Path, *options: str) -> None:
    subprocess.run(["fallocate", "-n", *options, "-l", str(ASIDE), path], check=True)


def blocks_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def shown(path: Path) -> bytes:
    """Return what readers show of a log."""
    with path.open("rb") as file:
        parts = [*log_limit.stretches(file.fileno(), 0, path.stat().st_size)]
        return b"".join(os.pread(file.fileno(), stop - start, start) for start, stop in parts).replace(b"\0", b"")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "1.log"
    path.write_bytes(b"begun\n")
    set_aside(path)
    return path


def test_what_is_set_aside_counts(log: Path) -> None:
    assert log_limit.used_bytes(log) >= ASIDE


def test_it_is_given_back_while_the_job_writes_on(log: Path) -> None:
    """Readers see what was written and no hole."""
    assert log_limit.enforce(log, LIMIT)
    assert blocks_bytes(log) <= 2 * LIMIT
    with log.open("ab") as file:
        file.write(b"the end\n")
    assert shown(log) == b"begun\nthe end\n"


def test_what_is_set_aside_far_away_is_reached(log: Path) -> None:
    set_aside(log, "-o", "20G")
    for _ in range(20):
        log_limit.enforce(log, LIMIT)
    assert blocks_bytes(log) <= 2 * LIMIT


def test_nothing_is_left_of_it_at_the_end(log: Path) -> None:
    log_limit.finish(log, LIMIT)
    assert log.read_bytes() == b"begun\n"
    assert blocks_bytes(log) <= 4096


def test_nothing_that_is_written_meanwhile_is_lost(tmp_path: Path) -> None:
    """All lines are there, in order, whenever the end was moved."""
    log = tmp_path / "1.log"
    with running([sys.executable, "-c", WRITER, str(log)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        moved = 0
        for _ in writer.stdout:
            while log_limit.used_bytes(log) > 2 * LIMIT:
                log_limit.enforce(log, LIMIT)
                moved += 1
        assert writer.wait() == 0
    assert moved
    log_limit.finish(log, LIMIT)
    lines = shown(log).split(b"\n")
    assert [int(line) for line in lines if line] == list(range(60_000))


def test_a_fast_writer_has_set_nothing_aside(tmp_path: Path) -> None:
    """What stands there is data: its end is not moved."""
    log = tmp_path / "1.log"
    log.write_bytes(b"x" * 3 * LIMIT)
    fd = os.open(log, os.O_RDWR)
    log_limit._give_back(fd, LIMIT)
    os.close(fd)
    assert log.stat().st_size == 3 * LIMIT


@pytest.mark.parametrize("size", [0, 1])
def test_a_log_that_takes_no_block_was_written_all_the_same(tmp_path: Path, size: int) -> None:
    (tmp_path / "1.log").write_bytes(b"x" * size)
    assert log_limit.was_written(tmp_path / "1.log") is bool(size)
    assert not log_limit.was_written(tmp_path / "2.log")
