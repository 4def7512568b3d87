"""Whose supervisors an agent finds: its own, whatever other processes of the machine have open."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes import running

from batchyard_agent.runtimes import process_table
from batchyard_agent.runtimes.process import ProcessRuntime

from .process_attempts import Host, now_ms

WAIT = "echo up; exec sleep 600"
FAR_BELOW = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(25):
    os.mkdir("0" * 200)
    os.chdir("0" * 200)
os.dup2(os.open("x", os.O_RDWR | os.O_CREAT), 0)
os.execvp("sh", ["sh", "-c", sys.argv[2]])
"""


@contextlib.contextmanager
def leader(*command: str, stdin: Path | None = None) -> Iterator[int]:
    """Run what says that it is up, in a session of its own; yield its pid."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(stdin.open("r")) if stdin else None
        process = stack.enter_context(running(command, stdin=file, stdout=subprocess.PIPE, start_new_session=True))
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process.pid


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "attempts"
    folder.mkdir(parents=True)
    return folder


def record(folder: Path, name: str = "a_231") -> Path:
    path = folder / name
    path.touch()
    return path


def test_a_supervisor_is_found_also_by_a_removed_record(records: Path) -> None:
    """With another file in its place, and also after the folder was made anew."""
    mine = record(records)
    with leader("sh", "-c", WAIT, stdin=mine) as pid:
        assert process_table.supervisors(mine) == [pid]
        os.link(mine, records.parent / "elsewhere")
        mine.unlink()
        assert process_table.supervisors(mine) == [pid]
        record(records)
        assert process_table.supervisors(mine) == [pid]
        shutil.rmtree(records)
        records.mkdir()
        assert process_table.kept_in(records) == {mine.name}


def test_a_stdin_too_far_below_to_be_named_is_passed_over(records: Path, tmp_path: Path) -> None:
    """A path of more than 4096 bytes cannot be read, and whoever has it open keeps no agent from starting."""
    with leader(sys.executable, "-c", FAR_BELOW, str(tmp_path), WAIT):
        assert process_table.kept_in(records) == set()


async def test_what_cannot_be_an_attempts_record_is_none(records: Path, tmp_path: Path) -> None:
    """Neither bytes that are no text, escaped or plain, nor the names that temporary files have."""
    runtime = ProcessRuntime(tmp_path / "state", tmp_path / "scratch", now_ms=now_ms, enforcement="rlimit")
    host = await Host(runtime).open()
    names = ["_ff", os.fsdecode(b"\xff"), "_", "a.new", "a_41"]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(leader("sh", "-c", WAIT, stdin=record(records, name)))
        assert process_table.kept_in(records) == set(names)
        record(records)
        assert await host.runtime.launched() == ["a#1"]
    await host.runtime.close()


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="only who may mount has the same paths for other files")
@pytest.mark.parametrize("becomes", ["kept", "removed"])
def test_another_mount_namespaces_records_are_not_ours(records: Path, becomes: str) -> None:
    """An agent in a container may have the same state path; its attempts are left alone."""
    mine = record(records)
    script = f"mount -t tmpfs x {records} && : >{mine} && exec <{mine} && {'rm' if becomes == 'removed' else 'ls'} {mine} >&2; "
    with leader("unshare", "-m", "sh", "-c", script + WAIT):
        assert process_table.supervisors(mine) == []
        assert process_table.kept_in(records) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's records are out of others' reach")
def test_a_removed_file_of_somebody_elses_is_no_record(records: Path) -> None:
    """On the same disk and under the same name, as a mount namespace of a job's own makes it."""
    theirs = record(records)
    os.chown(theirs, 65534, -1)
    with leader("sh", "-c", WAIT, stdin=theirs):
        theirs.unlink()
        assert process_table.supervisors(theirs) == []
