"""What former versions left goes when nothing uses it any more."""

from __future__ import annotations

import os
import subprocess
import time

from tests.processes import running

from batchyard_agent.keeper import marks
from batchyard_agent.upgrade import end_former_attempts, remove_former_scratch


def test_former_working_folders_go_with_their_attempts(tmp_path):
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "runs").touch()
    for name in ("runs", "gone"):
        (tmp_path / "scratch" / name).mkdir(parents=True)
        (tmp_path / "scratch" / name / "file").touch()
    remove_former_scratch(tmp_path)
    assert [folder.name for folder in (tmp_path / "scratch").iterdir()] == ["runs"]
    (tmp_path / "attempts" / "runs").unlink()
    remove_former_scratch(tmp_path)
    remove_former_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attempts"]


def test_what_ran_under_a_supervisor_is_ended(tmp_path):
    """As attempts of versions without a keeper did; what has the same record open and is no session of it goes on."""
    record = tmp_path / "attempts" / "a_231"
    record.parent.mkdir()
    record.write_text('{"started_at_ms": 5, "boot_id": "b", "cgroup": []}\n')
    (tmp_path / "attempts" / "damaged").write_text("x")
    with record.open("r+") as stdin:
        stdin.seek(0, 2)
        line = ["sh", "-c", 'echo "pid $$" >&0; sleep 600 </dev/null & echo up; wait']
        with running(line, stdin=stdin, stdout=subprocess.PIPE, start_new_session=True) as supervisor:
            assert supervisor.stdout is not None
            assert supervisor.stdout.readline() == "up\n"
            assert end_former_attempts(tmp_path) == {"a_231", "damaged"}
            supervisor.wait(60)
            # What was killed may take a moment to go.
            deadline_s = time.monotonic() + 30
            while [pid for pid in marks.pids() if session_of(pid) == supervisor.pid and marks.lives(pid)]:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
    assert end_former_attempts(tmp_path) == set()


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
