"""Jobs that mean ill: the keeper and other attempts live, what they took comes back, and their end is told right."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.security import SecurityLevel
from batchyard_agent.keeper import marks
from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.process_launch import CannotLaunchError, refuse_below_level
from batchyard_agent.runtimes.protocol import Exited, StopSignal

from .cgroups import needs_cgroup
from .process_attempts import Host, attempt, lives, log_of, runtime, shell, until
from .process_records import kept

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as somebody else")

PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
"""One that the job's user may call, too, if there is one."""

DAEMON = """
import os, resource, sys, time
for _ in range(2):
    if os.fork():
        os.{how}
    os.setsid()
os.environ.clear()
os.chdir("/")
for fd in range(3):
    os.close(fd)
time.sleep(600)
"""
BOMB = """
import os, sys, time
ends = time.monotonic() + 600
made = 0
while time.monotonic() < ends:
    try:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600 if made > 3 else 0)
        made += 1
        if made > 40:
            time.sleep(600)
    except OSError:
        time.sleep(0.01)
"""
EVERYTHING = """
import glob, os
for place in ["/proc/self/fd", f"/proc/{os.getppid()}/fd", f"/proc/{os.getppid()}/task/{os.getppid()}/fd"]:
    try:
        names = os.listdir(place)
    except OSError:
        continue
    for name in names:
        for flags in (os.O_WRONLY, os.O_RDWR):
            try:
                os.write(os.open(f"{place}/{name}", flags | os.O_NONBLOCK), b"rubbish" * 1000)
            except OSError:
                pass
for fd in range(3, 256):
    try:
        os.write(fd, b"rubbish")
    except OSError:
        pass
for path in ["/proc/self/oom_score_adj", f"/proc/{os.getppid()}/oom_score_adj", f"/proc/{os.getppid()}/comm"]:
    try:
        with open(path, "w") as file:
            file.write("1000")
    except OSError:
        pass
raise SystemExit(9)
"""


@pytest.fixture(params=["rlimit", pytest.param("auto", marks=needs_cgroup)])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    """With a job user of its own where that can be had, in a folder that it may enter."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        user = job_user.find(None, allow_root=False)
        opened = await Host(runtime(folder, user=user, enforcement=request.param)).open()
        opened.folder = folder  # type: ignore[attr-defined]  # where a test finds its attempts
        yield opened
        await opened.clear()


@pytest.fixture
def folder(host: Host) -> Path:
    return host.folder  # type: ignore[attr-defined]


def mark_of(folder: Path, number: int = 0) -> int:
    return [each.mark for each in kept(folder / "keeper").values()][number]


async def beside(host: Host, folder: Path) -> int:
    """Start another attempt beside what is tried; return its pid."""
    spec = shell(folder, "echo $$; exec sleep 600", number=99)
    host.runtime.launch(spec)
    (live,) = host.runtime._live.values()
    await until(lambda: live.pid and log_of(spec))
    return live.pid


@pytest.mark.parametrize("how", ["_exit(0)", "wait()"])
async def test_a_daemon_ends_with_its_attempt(host: Host, folder: Path, how: str) -> None:
    """Twice forked, in a session of its own, without environment, open files and parents."""
    script = DAEMON.format(how=how)
    spec = attempt(folder, "sh", "-c", '"$0" -c "$1" & sleep 0.7; exit 3', PYTHON, script)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 3
    assert not marks.marked(mark_of(folder))


async def test_a_fork_bomb_comes_to_its_end(host: Host, folder: Path) -> None:
    """Also without cgroups: nobody of it is left, and another attempt goes on."""
    other = await beside(host, folder)
    spec = attempt(folder, PYTHON, "-c", BOMB)
    host.runtime.launch(spec)
    await until(lambda: len(kept(folder / "keeper")) == 2)
    mark = mark_of(folder, 1)
    await until(lambda: len(marks.marked(mark)) > 100)
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 137
    assert not marks.marked(mark)
    assert lives(other)


async def test_what_writes_everywhere_reaches_nothing(host: Host, folder: Path) -> None:
    other, keeper = await beside(host, folder), host.keeper_pid()
    spec = attempt(folder, PYTHON, "-c", EVERYTHING)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 9
    assert host.keeper_pid() == keeper
    assert lives(other)
    again = await host.done(shell(folder, "exit 5", number=3))
    assert isinstance(again, Exited)
    assert again.exit_code == 5


@as_root
async def test_a_job_of_another_user_neither_sees_nor_reaches_what_is_not_its_own(host: Host, folder: Path) -> None:
    """Neither by its number nor with everybody else, the other attempts of that user among them."""
    if not host.runtime._link.can_isolate:
        pytest.skip("the kernel gives no pid namespaces here")
    keeper, other = host.keeper_pid(), await beside(host, folder)
    script = f"ls -d /proc/[0-9]* | wc -l; kill -9 {other} {keeper} $PPID; kill -STOP $PPID; kill -9 -1; exit 4"
    spec = shell(folder, script)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 4
    # Itself, ls, wc and what is first in its namespace.
    assert int(log_of(spec).splitlines()[0]) <= 4
    assert host.keeper_pid() == keeper
    assert lives(keeper)
    assert lives(other)


WRONGS = {
    "the user of a file": "chown 0 own",
    "a device": "mknod disk b 8 0",
    "a mount": "mount -t tmpfs none .",
    "a root of its own": "chroot . /bin/true",
    "a higher priority": "nice -n -5 true && [ $(nice -n -5 nice) = -5 ]",
    "the machine's memory": "head -c 1 /dev/mem",
    "the kernel's settings": "echo 1 > /proc/sys/kernel/panic",
    "passwords": "head -c 1 /etc/shadow",
    "system folders": "touch /etc/mine /usr/mine /root/mine",
    "the agent's folder": "ls {folder}/keeper",
    "the first process": "kill -0 {keeper}",
    "another attempt's memory": "head -c 1 /proc/{other}/mem",
    "another attempt's environment": "cat /proc/{other}/environ",
    "a user of its own": "setpriv --reuid 0 true",
}


@as_root
async def test_what_a_process_at_a_level_may_not_do(host: Host, folder: Path) -> None:
    if not host.runtime.is_isolated:
        pytest.skip("the kernel gives no pid namespaces here")
    keeper, other = host.keeper_pid(), await beside(host, folder)
    tried = [f'({command}) >/dev/null 2>&1 && echo "WENT THROUGH: {name}"' for name, command in WRONGS.items()]
    script = "touch own && echo made\n" + "\n".join(tried).format(folder=folder, keeper=keeper, other=other) + "\ntrue"
    spec = replace(shell(folder, script), security_level=SecurityLevel.RESTRICTED)
    end = await host.done(spec)
    assert isinstance(end, Exited), end
    assert log_of(spec).splitlines() == ["made"]


async def test_who_runs_as_the_agent_is_kept_to_no_level(folder: Path, host: Host) -> None:
    with pytest.raises(CannotLaunchError, match="security level BASELINE takes an agent of root") as refused:
        refuse_below_level(replace(shell(folder, "true"), security_level=SecurityLevel.BASELINE), is_kept_apart=False)
    assert refused.value.host_failed


async def test_a_job_that_stops_itself_and_all_its_own_is_ended(host: Host, folder: Path) -> None:
    spec = shell(folder, "(setsid sleep 600 &); echo ready; kill -STOP 0")
    host.runtime.launch(spec)
    await until(lambda: "ready" in log_of(spec))
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 137
    assert not marks.marked(mark_of(folder))
