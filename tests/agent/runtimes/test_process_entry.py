"""Commands in attempts of the process runtime: they are what the attempt is, and end with it, whoever dies."""

from __future__ import annotations

import os
import pwd
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.tasks import Ulimit
from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.protocol import EntryRefusedError, Started, StopSignal, Wanted, Window

from .entries import run, visit
from .process_attempts import Host, lives, part, runtime, several, shell, until

AS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may reach, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(
    params=[
        ("rlimit", False),
        ("auto", False),
        pytest.param(("rlimit", True), marks=pytest.mark.skipif(not AS_ROOT, reason="only root can be others")),
        pytest.param(("auto", True), marks=pytest.mark.skipif(not AS_ROOT, reason="only root can be others")),
    ],
    ids=["own-rlimit", "own-cgroup", "jail-rlimit", "jail-cgroup"],
)
async def host(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Host]:
    enforcement, is_other = request.param
    user = job_user.find(None, allow_root=False) if is_other else None
    opened = await Host(runtime(folder, user=user, enforcement=enforcement)).open()
    yield opened
    await opened.clear()


async def started(host: Host, folder: Path, script: str = "exec sleep 1000", **settings: object) -> object:
    spec = shell(folder, script, **settings)
    host.runtime.launch(spec)
    await until(lambda: any(isinstance(each, Started) for each in host.of(spec)))
    return spec


def pids_of(word: str) -> list[int]:
    """Return the processes with a word among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid in found if lives(pid)]


async def test_it_is_what_the_attempt_is(host: Host, folder: Path) -> None:
    """User, groups, rights, folder, cgroup, limits, variables, processes that it sees: line for line."""
    facts = (
        "id; pwd; grep -E 'Cap|NoNewPrivs' /proc/self/status; cut -d: -f2- /proc/self/cgroup; ulimit -n; "
        "readlink /proc/self/ns/pid /proc/self/ns/mnt; "
        "tr '\\0' '\\n' </proc/self/environ | grep -v -E '^(_|SHLVL|OLDPWD|PWD)=' | sort; grep realtime /proc/self/limits"
    )
    limits = (Ulimit(name="nofile", soft_limit=77, hard_limit=99),)
    script = f"({facts}) >new; mv new facts; exec sleep 1000"
    settings = {"ulimits": limits, "environment": {"A": "b c"}, "secrets": {"S": "x"}}
    spec = await started(host, folder, script, **settings)
    own = await run(host.runtime, spec, "sh", "-c", "while [ ! -e facts ]; do sleep 0.05; done; cat facts")
    code, out, err = await run(host.runtime, spec, "sh", "-c", facts)
    assert (code, err) == (0, b"")
    assert len(out.splitlines()) > 15
    assert out.decode().splitlines() == own[1].decode().splitlines()


async def test_streams_are_apart_and_the_code_is_its_own(host: Host, folder: Path) -> None:
    spec = await started(host, folder)
    assert await run(host.runtime, spec, "sh", "-c", "echo o; echo e >&2; exit 7") == (7, b"o\n", b"e\n")
    assert await run(host.runtime, spec, "cat") == (0, b"", b""), "without input it reads nothing"
    data = os.urandom(3 << 20)
    assert await run(host.runtime, spec, "cat", data=data) == (0, data, b"")
    assert (await run(host.runtime, spec, "sh", "-c", "kill -9 $$"))[0] == 137


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/no/such", 127), ("/etc/passwd", 126)])
async def test_what_cannot_be_started_is_told_as_by_a_shell(host: Host, folder: Path, command: str, code: int) -> None:
    spec = await started(host, folder)
    told, _, why = await run(host.runtime, spec, command)
    assert told == code
    assert command.encode() in why


async def test_a_terminal_is_its_own(host: Host, folder: Path) -> None:
    spec = await started(host, folder)
    window = Window(rows=33, columns=99)
    shell_ = await visit(
        host.runtime, spec, "sh", "-c", "tty; stty size; echo $TERM; trap 'echo got; exit 5' INT; stty -echo; echo on; "
        "while :; do sleep 0.05; done", stdin=True, terminal=True, window=window, terminal_type="vt100",
    )  # fmt: skip
    await shell_.until(lambda out: b"on\r\n" in out)
    assert shell_.out.splitlines()[1:3] == [b"33 99", b"vt100"]
    assert shell_.out.startswith(b"/dev/pts/")
    await shell_.entry.write(b"\x03")
    assert (await shell_.end()).exit_code == 5
    await shell_.close()
    sized = await visit(
        host.runtime, spec, "sh", "-c", "echo on; read x; stty size", stdin=True, terminal=True, window=window
    )
    await sized.until(lambda out: b"on\r\n" in out)
    await sized.entry.resize(Window(rows=44, columns=111))
    await sized.entry.write(b"\n")
    await sized.until(lambda out: b"44 111" in out)
    await sized.close()


async def test_nothing_of_it_outlives_the_attempt(host: Host, folder: Path) -> None:
    """Not the command, nor what it left behind, in another session and deaf to signals; and that ends no attempt."""
    word = f"9{os.getpid() % 1000:03d}{NOBODY % 10}11"
    spec = await started(host, folder)
    script = f"trap '' HUP TERM; setsid sh -c 'trap \"\" HUP TERM; sleep {word}; :' & sleep {word}; :"
    one = await visit(host.runtime, spec, "sh", "-c", script)
    left = await run(host.runtime, spec, "sh", "-c", f"setsid sleep {word} >/dev/null 2>&1 & exit 3")
    assert left[0] == 3
    await until(lambda: len(pids_of(word)) >= 3)
    assert len(host.of(spec)) == 1, "the attempt goes on"
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    await host.end(spec)
    assert pids_of(word) == [], "its end is told when nothing is left"
    assert (await one.end()).exit_code == 137
    await one.close()
    with pytest.raises(EntryRefusedError, match="does not run"):
        await host.runtime.enter(spec, "", Wanted(command=("true",)))


async def test_an_attempt_that_ends_by_itself_takes_its_visits_along(host: Host, folder: Path) -> None:
    word = f"8{os.getpid() % 1000:03d}21"
    spec = await started(host, folder, "while [ ! -e end ]; do sleep 0.05; done; exit 4")
    one = await visit(host.runtime, spec, "sh", "-c", f"touch end; trap '' HUP TERM; sleep {word}; :")
    assert (await host.end(spec)).exit_code == 4  # type: ignore[union-attr]  # it ran
    assert pids_of(word) == []
    assert (await one.end()).exit_code == 137
    await one.close()


async def test_it_is_hung_up_on_when_it_is_let_go(host: Host, folder: Path) -> None:
    word = f"7{os.getpid() % 1000:03d}31"
    spec = await started(host, folder)
    for is_terminal in (False, True):
        one = await visit(host.runtime, spec, "sleep", word, terminal=is_terminal)
        await until(lambda: pids_of(word))
        await one.close()
        await until(lambda: not pids_of(word))
    assert len(host.of(spec)) == 1


async def test_a_keeper_that_is_killed_costs_its_code_and_no_attempt(host: Host, folder: Path) -> None:
    word = f"6{os.getpid() % 1000:03d}41"
    spec = await started(host, folder, "while [ ! -e end ]; do sleep 0.05; done; exit 4")
    one = await visit(host.runtime, spec, "sh", "-c", f"trap '' HUP; sleep {word}; :")
    await until(lambda: pids_of(word))
    former = host.keeper_pid()
    os.kill(former, signal.SIGKILL)
    end = await one.end()
    assert (end.exit_code, end.error) == (None, "the host's keeper was replaced, the exit code is lost")
    await one.close()
    await until(lambda: host.keeper_pid() not in (0, former) and host.runtime._link.is_open)
    assert await run(host.runtime, spec, "sh", "-c", "echo again") == (0, b"again\n", b"")
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    await host.end(spec)
    await until(lambda: not pids_of(word))


async def test_of_several_processes_one_is_entered(host: Host, folder: Path) -> None:
    spec = several(part(folder, "a", "exec sleep 1000"), part(folder, "b", "exec sleep 1000"))
    spec = replace(spec, parts=tuple(replace(each, environment={"WHO": each.part}) for each in spec.parts))
    host.runtime.launch(spec)
    await until(lambda: len([each for each in host.runtime._live.values() if each.pid]) == 2)
    assert await run(host.runtime, spec, "sh", "-c", "echo $WHO", part="b") == (0, b"b\n", b"")


async def test_who_reads_slowly_makes_it_wait(host: Host, folder: Path) -> None:
    """Of what nobody takes no more is held than pipes hold."""
    spec = await started(host, folder)
    entry = await host.runtime.enter(
        spec, "", Wanted(command=("sh", "-c", "head -c 100000000 /dev/zero; echo done >end"))
    )
    assert (await run(host.runtime, spec, "sh", "-c", "sleep 0.3; cat end"))[0] == 1
    await entry.close()  # type: ignore[union-attr]  # it runs
