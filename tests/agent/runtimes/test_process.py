"""Attempts as real processes: what they print, how they end, what they may use."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from batchyard.tasks import Ulimit
from batchyard_agent.runtimes import log_limit
from batchyard_agent.runtimes.plain_names import attempt_id_of, plain_name
from batchyard_agent.runtimes.protocol import Device, Exited, Mount, Started, StartFailed, StopSignal

from .cgroups import needs_cgroup
from .process_attempts import (
    Host,
    attempt,
    lives,
    log_of,
    now_ms,
    runtime,
    shell,
    until,
    zombie_children,
)

WITH_CGROUP = pytest.param("auto", marks=needs_cgroup)
MODES = ["rlimit", WITH_CGROUP]


@pytest.fixture(params=MODES)
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    """A runtime in each way of keeping limits that this machine has."""
    opened = await Host(runtime(tmp_path, enforcement=request.param)).open()
    yield opened
    await opened.clear()


async def test_output_reaches_the_log_in_order(host: Host, tmp_path: Path) -> None:
    """Both streams end up in one file, as they come."""
    spec = shell(tmp_path, "echo one; echo two >&2; echo three")
    before_ms = now_ms()
    end = await host.done(spec)
    assert log_of(spec) == "one\ntwo\nthree\n"
    started, stopped = host.of(spec)
    assert isinstance(started, Started)
    assert stopped is end
    assert isinstance(end, Exited)
    assert before_ms <= started.started_at_ms <= end.stopped_at_ms <= now_ms()
    assert (end.exit_code, end.out_of_memory, end.reason) == (0, False, "")


@pytest.mark.parametrize(
    ("script", "exit_code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 127", 127), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)],
)
async def test_exit_code_is_what_a_shell_gives(host: Host, tmp_path: Path, script: str, exit_code: int) -> None:
    """128 + n after signal n, and nothing but the command's own words in the log."""
    spec = shell(tmp_path, script)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == exit_code
    assert log_of(spec) == ""


async def test_arguments_are_never_interpreted(host: Host, tmp_path: Path) -> None:
    """What looks like shell is only text; the command sees its own name as given."""
    spec = attempt(tmp_path, "sh", "-c", 'printf "%s\\n" "$0" "$@"', "$(id)", "a b", "", "`x`;", "é")
    await host.done(spec)
    assert log_of(spec) == "$(id)\na b\n\n`x`;\né\n"


async def test_a_command_named_as_a_shell_builtin_is_the_program(host: Host, tmp_path: Path) -> None:
    """A job may be called ``kill`` or ``echo``: the supervisor does not take it for its own."""
    end = await host.done(attempt(tmp_path, "echo", "-e", "a\\tb"))
    assert isinstance(end, Exited)
    program = subprocess.run(["echo", "-e", "a\\tb"], check=True, capture_output=True, text=True)
    assert log_of(attempt(tmp_path)) == program.stdout


async def test_environment_is_exactly_what_was_asked(host: Host, tmp_path: Path) -> None:
    """Names that no shell can spell, and those it would change, arrive too; nothing of the agent's leaks."""
    wanted = {
        "PLAIN": "x y\nz",
        "odd-name.1": "a=b",
        "IFS": "q",
        "OPTIND": "no number",
        "PPID": "1",
        "PATH": os.environ["PATH"],
        "BASH_FUNC_f%%": "() { :; }",
    }
    spec = attempt(tmp_path, sys.executable, "-c", "import os; print(ascii(dict(os.environb)))", environment=wanted)
    end = await host.done(spec)
    assert isinstance(end, Exited), end
    seen = {name.decode(): value.decode() for name, value in eval(log_of(spec)).items()}
    assert {name: seen.get(name) for name in wanted} == wanted
    assert set(seen) - set(wanted) <= {"HOME", "PWD", "LC_CTYPE"}


@pytest.mark.parametrize("asked", [None, {"HOME": "/elsewhere"}])
async def test_home_is_the_attempts_folder_unless_it_was_asked(
    host: Host, tmp_path: Path, asked: dict[str, str] | None
) -> None:
    spec = attempt(tmp_path, "sh", "-c", 'echo "$HOME"; pwd', environment=asked)
    assert isinstance(await host.done(spec), Exited)
    home, folder = log_of(spec).splitlines()
    assert home == (asked["HOME"] if asked else folder)


async def test_attempt_has_a_folder_no_stdin_and_default_signals(host: Host, tmp_path: Path) -> None:
    """It starts in an empty folder of its own, in which it may write."""
    script = "ls -A; cat; touch here; pwd; grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd | wc -l"
    spec = shell(tmp_path, script)
    await host.done(spec)
    folder, blocked, ignored, descriptors = log_of(spec).split("\n")[:4]
    assert folder == str(tmp_path / "scratch" / plain_name(spec.attempt_id))
    # What this process itself was started with is handed on; what Python ignores is not.
    ours = Path("/proc/self/status").read_text().split("SigIgn:")[1].split()[0]
    pythons = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ))
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) == int(ours, 16) & ~pythons
    assert int(descriptors) == 4  # 0, 1, 2 and ls's own: neither the record nor anything of the agent's
    assert not await host.runtime.remove([spec.attempt_id])
    assert not Path(folder).exists()
    assert spec.log_path.exists()
    assert await host.runtime.launched() == []


@pytest.mark.parametrize(
    ("command", "exit_code", "text"),
    [
        (("no-such-command",), 127, 'exec: "no-such-command": executable file not found in $PATH'),
        (("/no/such/file",), 127, 'exec: "/no/such/file": no such file or directory'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 126, 'exec: "/etc": permission denied'),
        (("",), 127, 'exec: "": executable file not found in $PATH'),
        ((), None, "no command specified"),
        (("true", "a\0b"), None, "embedded null byte"),
        (("true", "x" * 200_000), None, "Argument list too long"),
    ],
)
async def test_command_that_cannot_run_never_ran(
    host: Host, tmp_path: Path, command: tuple[str, ...], exit_code: int | None, text: str
) -> None:
    """It is told as a failed start, with nothing left behind."""
    spec = attempt(tmp_path, *command)
    end = await host.done(spec)
    assert isinstance(end, StartFailed)
    assert end.exit_code == exit_code
    assert end.reason.startswith("CannotStartContainerError: ")
    assert text in end.reason
    assert host.of(spec) == [end]
    assert await host.runtime.launched() == []
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_what_needs_a_container_or_another_user_is_refused(host: Host, tmp_path: Path) -> None:
    """The process runtime does not pretend."""
    for number, spec in enumerate(
        [
            attempt(tmp_path, "true", user="nobody-at-all", number=1),
            attempt(tmp_path, "true", readonly_root_filesystem=True, number=2),
            attempt(tmp_path, "true", working_directory="/no/such/folder", number=3),
            attempt(tmp_path, "true", ulimits=(Ulimit(name="colour", soft_limit=1, hard_limit=1),), number=4),
            attempt(tmp_path, "true", mounts=(Mount(container_path="/x", host_path="/tmp"),), number=6),
            attempt(tmp_path, "true", devices=(Device(host_path="/dev/null", container_path="/x"),), number=7),
            attempt(tmp_path, "true", privileged=True, number=8),
        ]
    ):
        assert isinstance(await host.done(spec), StartFailed), number
    assert isinstance(await host.done(attempt(tmp_path, "true", user=str(os.getuid()), number=5)), Exited)


async def test_ulimits_hold(host: Host, tmp_path: Path) -> None:
    """Both values, by the names that AWS and Docker use."""
    spec = shell(tmp_path, "ulimit -Sn; ulimit -Hn", ulimits=(Ulimit(name="nofile", soft_limit=100, hard_limit=200),))
    assert isinstance(await host.done(spec), Exited)
    assert log_of(spec) == "100\n200\n"


async def test_an_attempt_is_launched_once(host: Host, tmp_path: Path) -> None:
    """A second launch is refused, whatever became of the first."""
    spec = shell(tmp_path, "echo once")
    await host.done(spec)
    with pytest.raises(FileExistsError):
        host.runtime.launch(spec)
    assert log_of(spec) == "once\n"
    assert await host.runtime.launched() == [spec.attempt_id]


async def test_term_reaches_the_command_before_it_loses_its_children(host: Host, tmp_path: Path) -> None:
    """A handler runs, every time, and decides itself what its children hear."""
    script = "trap 'echo saved; exit 9' TERM; (trap 'echo child; exit' TERM; {sleep}) & {sleep} & echo ready; wait"
    script = script.format(sleep="while :; do sleep 0.2; done")
    specs = [shell(tmp_path, script, number=number) for number in range(1, 17)]
    for spec in specs:
        host.runtime.launch(spec)
    for spec in specs:
        await until(lambda spec=spec: "ready" in log_of(spec))  # type: ignore[misc]  # a default binds it
        await host.runtime.signal(spec.attempt_id, StopSignal.TERM)
    for spec in specs:
        end = await host.end(spec)
        assert isinstance(end, Exited)
        assert (end.exit_code, log_of(spec)) == (9, "ready\nsaved\n")


async def test_a_killed_command_cannot_outlive_its_children_for_a_last_word(host: Host, tmp_path: Path) -> None:
    for number in range(1, 11):
        spec = shell(tmp_path, "echo ready; sleep 600; exit 0", number=number)
        host.runtime.launch(spec)
        await until(lambda spec=spec: "ready" in log_of(spec))  # type: ignore[misc]  # a default binds it
        await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
        end = await host.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == 137


async def test_term_reaches_the_command_and_kill_ends_the_stubborn(host: Host, tmp_path: Path) -> None:
    """A command that ignores SIGTERM is ended by SIGKILL, exit code 137."""
    spec = shell(tmp_path, "trap 'echo ignored' TERM; echo ready; while :; do sleep 0.05; done")
    host.runtime.launch(spec)
    await until(lambda: "ready" in log_of(spec))
    await host.runtime.signal(spec.attempt_id, StopSignal.TERM)
    await until(lambda: "ignored" in log_of(spec))
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.out_of_memory) == (137, False)
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)  # of an ended attempt: no error


@pytest.mark.parametrize(("signal", "exit_code"), [(StopSignal.TERM, 143), (StopSignal.KILL, 137)])
async def test_a_signal_right_after_launch_is_not_lost(
    host: Host, tmp_path: Path, signal: StopSignal, exit_code: int
) -> None:
    """Even before the supervisor has called the command."""
    for number in range(1, 11):
        spec = attempt(tmp_path, "sleep", "600", number=number)
        host.runtime.launch(spec)
        await host.runtime.signal(spec.attempt_id, signal)
        end = await host.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == exit_code


async def test_stopped_group_can_be_killed(host: Host, tmp_path: Path) -> None:
    """An attempt that stops its whole group, its supervisor included, still ends."""
    spec = shell(tmp_path, "echo ready; kill -STOP 0; echo never")
    host.runtime.launch(spec)
    await until(lambda: "ready" in log_of(spec))
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 137
    assert log_of(spec) == "ready\n"


LEAVE = "import subprocess as s; print(s.Popen(['sleep', '600'], {}).pid, flush=True); raise SystemExit(3)"


@pytest.mark.parametrize("how", ["stdin=None", "process_group=0"])
async def test_leftovers_end_with_the_command(host: Host, tmp_path: Path, how: str) -> None:
    """Nothing of an attempt lives on when its end is told, also out of its own process group."""
    spec = attempt(tmp_path, sys.executable, "-c", LEAVE.format(how))
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 3
    assert not lives(int(log_of(spec)))


@pytest.mark.parametrize("host", [WITH_CGROUP], indirect=True)
async def test_a_cgroup_holds_even_daemons(host: Host, tmp_path: Path) -> None:
    """A process that makes itself a session of its own ends with the attempt all the same."""
    spec = attempt(tmp_path, sys.executable, "-c", LEAVE.format("start_new_session=True"))
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 3
    assert not lives(int(log_of(spec)))


@pytest.mark.parametrize("host", [WITH_CGROUP], indirect=True)
async def test_cpu_quota_holds(host: Host, tmp_path: Path) -> None:
    """Two busy processes of an attempt with a fifth of a CPU get a fifth of a CPU."""
    busy = "import os, time; os.fork(); t = time.monotonic() + 1\nwhile time.monotonic() < t: pass\nprint(time.process_time())"
    spec = attempt(tmp_path, sys.executable, "-c", busy, cpu_millis=200)
    await host.done(spec)
    assert sum(map(float, log_of(spec).split())) < 0.5


async def test_a_group_that_signals_itself_keeps_its_exit_code(host: Host, tmp_path: Path) -> None:
    """``kill 0`` in a job's own script ends the job, not its supervisor."""
    end = await host.done(shell(tmp_path, "kill -TERM 0; exit 9"))
    assert isinstance(end, Exited)
    assert end.exit_code == 143


HOG = "x = bytearray(160 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nimport time; print('kept'); time.sleep(600)"


async def test_too_much_memory_ends_the_attempt(host: Host, tmp_path: Path) -> None:
    """With code 137, whoever keeps the limit."""
    spec = attempt(tmp_path, sys.executable, "-c", HOG, memory_mib=64)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.out_of_memory) == (137, True)


@pytest.mark.parametrize("exit_code", [0, 5, 143])
async def test_a_child_killed_for_memory_leaves_the_commands_exit_code(
    host: Host, tmp_path: Path, exit_code: int
) -> None:
    """What the command makes of it is told, and that a process was killed."""
    script = f'"$0" -c "{HOG}"; sleep 0.1; exit {exit_code}'
    spec = attempt(tmp_path, "sh", "-c", script, sys.executable, memory_mib=64)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.out_of_memory) == (exit_code, True)


async def test_too_much_disk_ends_the_attempt(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By blocks that it really takes, and with the reason; one that keeps within its amount goes on."""
    monkeypatch.setattr("batchyard_agent.runtimes.disk_watch.INTERVAL_S", 0.1)
    modest = "truncate -s 5G hole; head -c 1000000 /dev/zero >small; ln -s / all; sleep 1; exit 3"
    glutton = "mkdir deep; head -c 20000000 /dev/zero >deep/large; sleep 600"
    specs = [shell(tmp_path, script, number=n, disk_mib=10) for n, script in enumerate((modest, glutton), start=1)]
    for spec in specs:
        host.runtime.launch(spec)
    ends = [await host.end(spec) for spec in specs]
    assert [(end.exit_code, end.reason) for end in ends if isinstance(end, Exited)] == [
        (3, ""),
        (137, "Killed as its working folder took more than the 10 MiB that it asked for"),
    ]


async def test_a_folder_that_cannot_be_measured_holds_up_no_other(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch outlives it."""
    monkeypatch.setattr("batchyard_agent.runtimes.disk_watch.INTERVAL_S", 0.1)
    odd = shell(tmp_path, "rmdir $PWD; ln -s loop $PWD; echo ready; sleep 600", number=1, disk_mib=10)
    host.runtime.launch(odd)
    await until(lambda: "ready" in log_of(odd))
    glutton = shell(tmp_path, "head -c 20000000 /dev/zero >large; sleep 600", number=2, disk_mib=10)
    end = await host.done(glutton)
    assert isinstance(end, Exited)
    assert end.exit_code == 137


async def test_a_deep_tree_is_measured_and_removed(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchyard_agent.runtimes.disk_watch.INTERVAL_S", 0.1)
    script = (
        "i=0; while [ $i -lt 1200 ]; do mkdir d; cd d; i=$((i+1)); done; head -c 40000000 /dev/zero >large; sleep 600"
    )
    spec = shell(tmp_path, script, disk_mib=30)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 137
    assert not await host.runtime.remove([spec.attempt_id])
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_memory_below_the_limit_is_left_alone(host: Host, tmp_path: Path) -> None:
    """Reserved, untouched address space does not count."""
    script = "import mmap; m = mmap.mmap(-1, 8 << 30, prot=0); x = bytearray(80 << 20); print('fine')"
    spec = attempt(tmp_path, sys.executable, "-c", script, memory_mib=128)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, log_of(spec)) == (0, "fine\n")


async def test_both_ends_of_a_long_log_are_kept(host: Host, tmp_path: Path) -> None:
    """Also while the attempt runs on, and whatever it says at its very end."""
    limit = 64 << 10
    pause = ": >flag; while [ ! -e go ]; do sleep 0.05; done"
    script = f"echo begun; yes 0123456789 | head -c 4000000; echo; {pause}"
    spec = shell(tmp_path, script + "; yes again | head -c 4000000; echo; echo the cause; exit 4", log_bytes_max=limit)
    host.runtime.launch(spec)
    scratch = tmp_path / "scratch" / plain_name(spec.attempt_id)
    await until((scratch / "flag").exists)
    await until(lambda: log_limit.used_bytes(spec.log_path) <= limit + 4096)
    assert (
        spec.log_path.read_bytes().endswith(b"0123456789\n01\n") or b"0123456789\n" in spec.log_path.read_bytes()[-64:]
    )
    (scratch / "go").touch()
    await host.end(spec)
    content = spec.log_path.read_bytes()
    assert content.startswith(b"begun\n0123456789\n")
    assert log_limit.marker(limit) in content
    assert content.endswith(b"\nthe cause\n")
    assert log_limit.used_bytes(spec.log_path) <= limit + 4096


async def test_two_hundred_attempts_leave_nothing_behind(host: Host, tmp_path: Path) -> None:
    """At concurrency 8: every exit code right, no zombie, no open file, no folder."""
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    slots = asyncio.Semaphore(8)

    async def one(number: int) -> int:
        async with slots:
            spec = shell(tmp_path, f"exit {number % 100}", number=number)
            end = await host.done(spec)
            assert isinstance(end, Exited)
            assert not await host.runtime.remove([spec.attempt_id])
            return end.exit_code

    codes = await asyncio.gather(*(one(number) for number in range(1, 201)))
    assert codes == [number % 100 for number in range(1, 201)]
    assert zombie_children() == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert await host.runtime.launched() == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_plain_name_can_be_read_back() -> None:
    """An attempt id becomes a name that is safe as a file's, and none other becomes the same."""
    for attempt_id in ("0190c7e0-0000-7000-8000-000000000001:5#1", "..", "a/b", "a_2fb", "é#%"):
        name = plain_name(attempt_id)
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
        assert attempt_id_of(name) == attempt_id


@pytest.fixture(autouse=True)
def no_zombies() -> Iterator[None]:
    for keeper in zombie_children():  # of an agent that other tests have played in this process
        os.waitpid(keeper, 0)
    yield
    assert zombie_children() == []


@pytest.mark.parametrize("host", ["rlimit"], indirect=True)
async def test_a_full_disk_is_a_failed_start_and_no_lost_end(host: Host, tmp_path: Path) -> None:
    """What cannot be recorded is not launched; and it can be, once there is space."""
    spec = attempt(tmp_path, "true")
    await host.done(spec)
    assert not await host.runtime.remove([spec.attempt_id])
    again = attempt(tmp_path, "true", number=2)
    keeper = host.keeper_pid()
    # Stands in for a full disk: no file of the keeper can grow.
    soft, hard = resource.prlimit(keeper, resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        assert isinstance(await host.done(again), StartFailed)
    finally:
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, (soft, hard))
    assert await host.runtime.launched() == []
    host.told.clear()
    assert isinstance(await host.done(again), Exited)
