"""Logs are read by offset or from their tail, followed to the attempt's end, and swept."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard_agent.core.attempts import Phase
from batchyard_agent.logs import LogFile, LogNotFoundError, Logs, Slice, doomed_logs
from batchyard_agent.runtimes import log_limit

from .core.builders import A, B, C


class Yard:
    """Logs of attempts whose phases the test sets."""

    def __init__(self, folder, **limits: int) -> None:
        self.phases = {A: Phase.RUNNING}
        self.logs = Logs(folder / "logs", phase_of=self.phases.get, **limits)

    def write(self, data: bytes, attempt_id=A) -> None:
        with self.logs.path(attempt_id).open("ab") as file:
            file.write(data)


@pytest.fixture
def yard(tmp_path):
    return Yard(tmp_path)


async def test_a_log_is_read_slice_by_slice_to_its_end(yard):
    yard.write(b"one\ntwo\n")
    assert await yard.logs.read(A, limit_bytes=5) == Slice(data=b"one\nt", next_offset=5, end=False)
    assert await yard.logs.read(A, offset=5) == Slice(data=b"wo\n", next_offset=8, end=False)
    yard.phases[A] = Phase.ENDED
    assert await yard.logs.read(A, offset=5, limit_bytes=1) == Slice(data=b"w", next_offset=6, end=False)
    assert await yard.logs.read(A, offset=6) == Slice(data=b"o\n", next_offset=8, end=True)
    assert await yard.logs.read(A, offset=8, wait_ms=60_000) == Slice(data=b"", next_offset=8, end=True)


@pytest.mark.parametrize("last", [b"", b"unfinished"])
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 1000, 20_000])
async def test_the_tail_is_the_last_lines(yard, lines, last):
    whole = [b"line %d\n" % number for number in range(15_000)] + ([last] if last else [])
    yard.write(b"".join(whole))
    expected = b"".join(whole[-lines:]) if lines else b""
    read = await yard.logs.read(A, tail_lines=lines, limit_bytes=1 << 20)
    assert (read.data, read.next_offset) == (expected, sum(map(len, whole)))


async def test_a_tail_beyond_the_limit_goes_on_at_the_next_offset(yard):
    yard.write(b"aa\nbb\ncc\n")
    first = await yard.logs.read(A, tail_lines=2, limit_bytes=4)
    assert first == Slice(data=b"bb\nc", next_offset=7, end=False)
    assert (await yard.logs.read(A, offset=first.next_offset)).data == b"c\n"


async def test_a_reader_is_woken_by_the_first_new_byte(yard):
    reading = asyncio.create_task(yard.logs.read(A, offset=0, wait_ms=30_000))
    await asyncio.sleep(0)
    yard.write(b"here")
    assert await reading == Slice(data=b"here", next_offset=4, end=False)


async def test_a_reader_is_woken_by_the_end_of_the_attempt(yard):
    yard.write(b"all")
    reading = asyncio.create_task(yard.logs.read(A, offset=3, wait_ms=30_000))
    await asyncio.sleep(0)
    yard.phases[A] = Phase.ENDED
    assert await reading == Slice(data=b"", next_offset=3, end=True)


async def test_an_empty_answer_comes_after_the_wait(yard):
    assert await yard.logs.read(A, wait_ms=1) == Slice(data=b"", next_offset=0, end=False)


async def test_an_offset_beyond_the_end_means_the_end(yard):
    yard.write(b"abc")
    assert await yard.logs.read(A, offset=99) == Slice(data=b"", next_offset=3, end=False)
    assert await yard.logs.read(A, offset=-1) == Slice(data=b"abc", next_offset=3, end=False)


async def test_an_attempt_that_wrote_nothing_has_an_empty_log(yard):
    yard.phases[A] = Phase.ENDED
    assert await yard.logs.read(A) == Slice(data=b"", next_offset=0, end=True)


async def test_a_log_that_nobody_knows_is_an_error(yard):
    with pytest.raises(LogNotFoundError, match="this host has no log of attempt job-b#1"):
        await yard.logs.read(B)


async def test_a_log_outlives_the_memory_of_its_attempt(yard):
    yard.write(b"old", B)
    assert await yard.logs.read(B) == Slice(data=b"old", next_offset=3, end=True)


@pytest.mark.parametrize("attempt_id", ["../../etc/passwd", "a/b", "..", ".", "a\0b", "0192:3#1", "ä ö"])
def test_no_attempt_id_leads_out_of_the_folder(yard, tmp_path, attempt_id):
    path = yard.logs.path(attempt_id)
    assert path.parent == tmp_path / "logs"
    path.write_bytes(b"x")
    assert path.resolve().parent == (tmp_path / "logs").resolve()


def long_log(yard, limit=1 << 20) -> bytes:
    """Write 40 MB whose cause stands in the last line, and bound it."""
    whole = b"".join(b"chatter %07d\n" % number for number in range(2_500_000)) + b"ERROR: cause\n"
    yard.write(whole)
    log_limit.enforce(yard.logs.path(A), limit)
    return whole


async def test_of_a_long_log_the_last_line_is_read_and_no_hole(yard):
    whole = long_log(yard)
    assert (await yard.logs.read(A, tail_lines=1)).data == b"ERROR: cause\n"
    assert (await yard.logs.read(A, tail_lines=1000)).data == b"".join(whole.splitlines(keepends=True)[-1000:])
    offset, parts = 0, []
    while (read := await yard.logs.read(A, offset=offset, limit_bytes=1 << 20)).data:
        assert read.data in whole or log_limit.marker(1 << 20) in read.data
        offset = read.next_offset
        parts.append(read.data)
    shown = b"".join(parts)
    assert offset == len(whole)
    assert shown.count(log_limit.marker(1 << 20)) == 1
    assert b"\0" not in shown
    assert 1 << 20 <= len(shown) + 8192 <= (1 << 20) + 16384
    # The tail reaches back over the hole: two ends of about half a MiB hold some 33,000 lines each.
    over = await yard.logs.read(A, tail_lines=40_000, limit_bytes=1 << 20)
    assert over.data.endswith(log_limit.marker(1 << 20))


async def test_a_hole_that_a_job_made_is_not_shown(yard):
    yard.write(b"begun\n")
    os.truncate(yard.logs.path(A), 5 << 30)
    yard.write(b"the end\n")
    assert (await yard.logs.read(A)).data.rstrip(b"\0") == b"begun\n"
    assert (await yard.logs.read(A, offset=1 << 30)).data.lstrip(b"\0") == b"the end\n"
    assert (await yard.logs.read(A, tail_lines=1)).data.lstrip(b"\0") == b"the end\n"


def test_what_a_log_takes_is_what_it_takes_of_the_disk(tmp_path):
    """A log with a hole of 5 GB costs no other log its place."""
    yard = Yard(tmp_path, total_bytes_max=1 << 20)
    yard.write(b"of another job", B)
    yard.write(b"begun")
    os.truncate(yard.logs.path(A), 5 << 30)
    log_limit.enforce(yard.logs.path(A), 1 << 20)
    assert yard.logs.sweep(yard.logs.path(B).stat().st_mtime, 0) == []
    assert yard.logs.path(B).read_bytes() == b"of another job"


def file(attempt_id, size_bytes, changed_at_s) -> LogFile:
    return LogFile(attempt_id=attempt_id, used_bytes=size_bytes, changed_at_s=changed_at_s)


@pytest.mark.parametrize(
    ("total_bytes", "expected"),
    [
        (60, [A]),  # A is too old
        (71, [A, B]),  # and B must make room
        (1000, [A, B, C]),
    ],
)
def test_old_logs_go_and_then_the_oldest_until_the_rest_fits(total_bytes, expected):
    files = [file(C, 30, 300), file(A, 10, 0), file(B, 20, 200)]
    doomed = doomed_logs(files, total_bytes, now_s=300, age_max_s=300, total_bytes_max=60)
    assert [each.attempt_id for each in doomed] == expected


def test_the_sweep_spares_the_living(tmp_path):
    yard = Yard(tmp_path, age_max_s=100, total_bytes_max=10)
    for attempt_id in (A, B):
        yard.write(b"x" * 100, attempt_id)
        os.utime(yard.logs.path(attempt_id), (0, 0))
    assert yard.logs.sweep(wall_s=50, boot_s=0) == [B]
    assert (yard.logs.path(A).exists(), yard.logs.path(B).exists()) == (True, False)


def test_no_step_of_the_clock_makes_a_log_old(tmp_path):
    """Neither while the agent runs nor when it finds the clock ahead as it starts."""
    yard = Yard(tmp_path, age_max_s=100)
    yard.write(b"x", B)
    os.utime(yard.logs.path(B), (1_000, 1_000))
    assert yard.logs.sweep(wall_s=1_000_000, boot_s=5) == []
    assert yard.logs.sweep(wall_s=1_050, boot_s=55) == []
    assert yard.logs.sweep(wall_s=2_000_000, boot_s=60) == []
    assert yard.logs.sweep(wall_s=2_000_100, boot_s=160) == [B]


def test_any_id_gives_a_name_in_the_folder(tmp_path):
    """Ids of letters that all have and others alike, named as earlier versions named them."""
    logs = Logs(tmp_path, phase_of={}.get)

    @given(st.text())
    def check(attempt_id):
        assert logs.path(attempt_id) == tmp_path / (quote(attempt_id, safe="") + ".log")

    check()
