"""The agent dies, by kill -9, and another takes over: what it learns of attempts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.processes import running

from batchyard_agent import keeper_link
from batchyard_agent.keeper import marks, record, wire
from batchyard_agent.runtimes import process
from batchyard_agent.runtimes.plain_names import plain_name
from batchyard_agent.runtimes.protocol import Adoption, Exited, Started, StopSignal, Vanished

from .process_attempts import Host, attempt, lives, log_of, now_ms, runtime, shell, until
from .process_records import end_attempts, keeper, kept, signal_keeper

KERNEL_TELLS_CODES = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
"""Of processes that others have waited for."""

FORMER_AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from process_attempts import Host, runtime, shell

async def main():
    folder = Path(sys.argv[2])
    host = await Host(runtime(folder, enforcement=sys.argv[3])).open()
    for number, script in enumerate(sys.argv[4:], start=1):
        host.runtime.launch(shell(folder, script, number=number))
    print("launched", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Agents:
    """A former agent in a process of its own, and its successor here."""

    def __init__(self, folder: Path, enforcement: str) -> None:
        self.folder = folder
        self.enforcement = enforcement

    @contextlib.contextmanager
    def former(self, *scripts: str, all_launched: bool = True) -> Iterator[subprocess.Popen[str]]:
        """Run an agent that launches these; it is killed in the end."""
        arguments = [str(Path(__file__).parent), str(self.folder), self.enforcement, *scripts]
        with running([sys.executable, "-c", FORMER_AGENT, *arguments], stdout=subprocess.PIPE) as agent:
            assert agent.stdout is not None
            if all_launched:
                assert any(line == "launched\n" for line in agent.stdout)
            yield agent

    def heir(self) -> Host:
        return Host(runtime(self.folder, enforcement=self.enforcement))  # type: ignore[arg-type]

    async def successor(self) -> Host:
        return await self.heir().open()

    def kill_keeper(self) -> None:
        assert signal_keeper(self.folder / "keeper")


@pytest.fixture(params=["rlimit", "auto"])
def agents(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agents]:
    yield Agents(tmp_path, request.param)
    end_attempts(tmp_path / "keeper")


@pytest.fixture
async def heir(agents: Agents) -> AsyncIterator[Host]:
    """The successor, to be opened once the former agent is dead, as one lets no other in."""
    host = agents.heir()
    yield host
    await host.close()


async def test_a_running_attempt_goes_on_and_its_code_is_learnt(agents: Agents, heir: Host, tmp_path: Path) -> None:
    """Same process, right exit code, true start time; its limits' cgroup is found again."""
    spec = shell(tmp_path, "")
    with agents.former("echo $$; while [ ! -e go ]; do sleep 0.02; done; exit 7"):
        await until(lambda: log_of(spec))
    killed_at_ms = now_ms()
    await heir.open()
    assert await heir.runtime.launched() == [spec.attempt_id]
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN  # asked twice, told once
    pid = int(log_of(spec))
    assert lives(pid)
    go = tmp_path / "scratch" / plain_name(spec.attempt_id) / "go"
    go.touch()
    end = await heir.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 7
    started = heir.of(spec)[0]
    assert isinstance(started, Started)
    assert started.started_at_ms <= killed_at_ms
    # By the clock of files, as stop times are: it is a few milliseconds behind the other.
    assert go.stat().st_mtime_ns // 1_000_000 <= end.stopped_at_ms
    assert len(heir.of(spec)) == 2
    assert log_of(spec) == f"{pid}\n"


async def test_an_attempt_that_ended_meanwhile_is_learnt(agents: Agents, heir: Host, tmp_path: Path) -> None:
    """Exit code and stop time are as they were, however late one asks."""
    specs = [shell(tmp_path, "", number=number) for number in (1, 2, 3)]
    wait = "while kill -0 $(cat agent); do sleep 0.02; done 2>/dev/null;"
    scripts = [f"cd {tmp_path}; echo up; until [ -s agent ]; do sleep 0.02; done; {wait} exit {n}" for n in (0, 1, 42)]
    with agents.former(*scripts) as agent:
        await until(lambda: all(log_of(spec) for spec in specs))
        (tmp_path / "agent").write_text(str(agent.pid))
    await until(lambda: all(each.ended for each in kept(tmp_path / "keeper").values()))
    ended_by_ms = now_ms()
    await heir.open()
    for spec, code in zip(specs, (0, 1, 42), strict=True):
        assert await heir.runtime.adopt(spec) is Adoption.KNOWN
        end = await heir.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == code
        assert end.stopped_at_ms <= ended_by_ms


async def test_signals_reach_an_adopted_attempt(agents: Agents, heir: Host, tmp_path: Path) -> None:
    """The successor can stop what it did not start."""
    spec = shell(tmp_path, "")
    with agents.former("trap '' TERM; echo ready; while :; do sleep 0.05; done"):
        await until(lambda: log_of(spec))
    await heir.open()
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    await heir.runtime.signal(spec.attempt_id, StopSignal.TERM)
    await heir.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await heir.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 137


@pytest.mark.parametrize("turn", range(4))
async def test_an_agent_killed_while_it_launches_starts_nothing_twice(
    agents: Agents, tmp_path: Path, turn: int
) -> None:
    """Killed at whatever moment: adopting and launching what was not, each attempt runs exactly once."""
    scripts = [f"echo {number} >>{tmp_path}/witness; exit {number}" for number in range(1, 31)]
    witness = tmp_path / "witness"
    with agents.former(*scripts, all_launched=False):
        await until(lambda: witness.exists() and len(witness.read_text().split()) > 2 * turn)
    heir = await agents.successor()
    for number, script in enumerate(scripts, start=1):
        spec = shell(tmp_path, script, number=number)
        if await heir.runtime.adopt(spec) is Adoption.NOT_LAUNCHED:
            heir.runtime.launch(spec)
        end = await heir.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == number
        assert not await heir.runtime.remove([spec.attempt_id])
    assert sorted(map(int, witness.read_text().split())) == list(range(1, 31))
    await heir.clear()


async def test_what_was_never_launched_is_said_so(agents: Agents, tmp_path: Path) -> None:
    """A keeper that was killed before it had started it has written down that it would, and no process id."""
    spec, prepared = attempt(tmp_path, "true"), attempt(tmp_path, "true", number=2)
    begin_journal(tmp_path, record.line("start", plain_name(prepared.attempt_id), "7", "5"))
    heir = await agents.successor()
    for each in (spec, prepared):
        assert await heir.runtime.adopt(each) is Adoption.NOT_LAUNCHED
        assert isinstance(await heir.done(each), Exited)
    await heir.clear()


def begin_journal(folder: Path, *lines: bytes, boot_id: str = "") -> None:
    boot_id = boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (folder / "keeper").mkdir(mode=0o700)
    (folder / "keeper" / "journal").write_bytes(record.line("keeper", "1", boot_id) + b"".join(lines))


@pytest.mark.parametrize("who", ["keeper", "agent and keeper"])
async def test_attempts_of_a_killed_keeper_keep_their_exit_codes(agents: Agents, tmp_path: Path, who: str) -> None:
    """Same processes, and what was started by one keeper and ends under another is told once."""
    names = [f"gate{number}" for number in range(3)]
    scripts = [
        f"echo $$; while [ ! -e {tmp_path / name} ]; do sleep 0.02; done; exit 4{n}" for n, name in enumerate(names)
    ]
    specs = [shell(tmp_path, script, number=number) for number, script in enumerate(scripts, start=1)]
    if who == "keeper":
        host = await agents.successor()
        for spec in specs:
            host.runtime.launch(spec)
        await until(lambda: all(log_of(spec) for spec in specs))
        agents.kill_keeper()
    else:
        with agents.former(*scripts):
            await until(lambda: all(log_of(spec) for spec in specs))
            agents.kill_keeper()
        host = await agents.successor()
        for spec in specs:
            assert await host.runtime.adopt(spec) is Adoption.KNOWN
    await until(lambda: keeper(tmp_path / "keeper"))
    await until(lambda: len(host.runtime._link.kept) == 3)
    for number, spec in enumerate(specs):
        assert lives(int(log_of(spec)))
        (tmp_path / names[number]).touch()
        end = await host.end(spec)
        if isinstance(end, Vanished) and not KERNEL_TELLS_CODES:
            continue  # its parent is the first process of all, which tells nobody
        assert isinstance(end, Exited)
        assert end.exit_code == 40 + number
        assert [type(each) for each in host.of(spec)] == [Started, Exited]
    await host.clear()


async def test_what_a_keeper_did_not_hear_the_next_forgets(agents: Agents, tmp_path: Path) -> None:
    """Told to forget while it stands still, and then killed, it leaves nothing to its successor."""
    host = await agents.successor()
    specs = [attempt(tmp_path, "true", number=number) for number in (1, 2)]
    for spec in specs:
        host.runtime.launch(spec)
        await host.end(spec)
    before = signal_keeper(tmp_path / "keeper", signal.SIGSTOP)
    assert before
    assert not await host.runtime.remove([specs[0].attempt_id])
    agents.kill_keeper()
    assert not await host.runtime.remove([specs[1].attempt_id])
    await until(lambda: keeper(tmp_path / "keeper") not in {0, before})
    await until(lambda: host.runtime._link.is_open)
    assert host.runtime._link.kept == {}
    await until(lambda: not kept(tmp_path / "keeper"))
    await host.clear()


async def test_a_keeper_that_stands_still_is_replaced(
    agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it kept goes on."""
    monkeypatch.setattr(keeper_link, "SILENCE_LIMIT_S", 0.5)
    monkeypatch.setattr(keeper_link, "PING_S", 0.1)
    host = await agents.successor()
    spec = attempt(tmp_path, "sleep", "600")
    host.runtime.launch(spec)
    await until(lambda: host.of(spec))
    before = signal_keeper(tmp_path / "keeper", signal.SIGSTOP)
    assert before
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)  # said again to the next one
    await until(lambda: keeper(tmp_path / "keeper") not in {0, before})
    end = await host.end(spec)
    assert (isinstance(end, Exited) and end.exit_code == 137) or not KERNEL_TELLS_CODES
    await host.clear()


async def test_a_keeper_of_another_version_becomes_the_agents(
    agents: Agents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place: what it keeps stays its own, and is told as if nothing had been."""
    spec, gate = shell(tmp_path, ""), tmp_path / "gate"
    with agents.former(f"echo $$; while [ ! -e {gate} ]; do sleep 0.02; done; exit 6"):
        await until(lambda: log_of(spec))
    before = keeper(tmp_path / "keeper")
    program = tmp_path / "batchyard_agent" / "keeper"
    shutil.copytree(keeper_link._PROGRAM, program)
    (program / "wire.py").write_text((program / "wire.py").read_text() + 'VERSION = b"another"\n')
    monkeypatch.setattr(wire, "VERSION", b"another")
    monkeypatch.setattr(keeper_link, "_PROGRAM", str(program))
    heir = await agents.successor()
    assert keeper(tmp_path / "keeper") == before
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    gate.touch()
    end = await heir.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 6
    await heir.clear()


@pytest.mark.parametrize("turn", range(4))
async def test_a_keeper_killed_while_it_starts_starts_nothing_twice(agents: Agents, tmp_path: Path, turn: int) -> None:
    """Killed again and again: each attempt runs exactly once, and its code is the right one or said to be lost."""
    host = await agents.successor()
    witness, unknown = tmp_path / "witness", 0
    specs = [shell(tmp_path, f"echo {n} >>{witness}; exit {n}", number=n) for n in range(1, 41)]
    for number, spec in enumerate(specs):
        if number % 10 == turn:
            await until(lambda: signal_keeper(tmp_path / "keeper"))
        host.runtime.launch(spec)
        await asyncio.sleep(0.002 * turn)
    for number, spec in enumerate(specs, start=1):
        end = await host.end(spec)
        if isinstance(end, Vanished):
            unknown += 1
        else:
            assert isinstance(end, Exited)
            assert end.exit_code == number
    ran = sorted(map(int, witness.read_text().split()))
    assert len(ran) == len(set(ran))
    assert len(ran) >= 40 - unknown
    assert unknown <= 4 * 8  # those alone that ended in the moment between two keepers
    await host.clear()


@pytest.mark.parametrize("damage", ["", None, "pid\tx\n"])
@pytest.mark.parametrize("is_keeper_killed", [False, True])
async def test_a_job_that_damages_the_journal_is_ended_and_never_started_again(
    agents: Agents, tmp_path: Path, damage: str | None, is_keeper_killed: bool
) -> None:
    """As one can that runs as the agent's own user. While the keeper lives, it knows better."""
    spec, journal = shell(tmp_path, ""), tmp_path / "keeper" / "journal"
    with agents.former("echo $$; sleep 600 & exec sleep 600"):
        await until(lambda: log_of(spec))
        if damage is None:
            journal.unlink()
        else:
            journal.write_text(damage)
        if is_keeper_killed:
            agents.kill_keeper()
    heir = await agents.successor()
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    if is_keeper_killed:
        assert await heir.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=process.DAMAGED_REASON)
        assert not lives(int(log_of(spec)))
    else:
        await heir.runtime.signal(spec.attempt_id, StopSignal.KILL)
        end = await heir.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == 137
    await heir.clear()


async def test_a_keeper_whose_folder_is_removed_ends_what_it_keeps(agents: Agents, tmp_path: Path) -> None:
    """Nobody can find it any more."""
    spec = shell(tmp_path, "")
    with agents.former("echo $$; (setsid sleep 600 &); exec sleep 600"):
        await until(lambda: log_of(spec))
        mark = next(iter(kept(tmp_path / "keeper").values())).mark
        shutil.rmtree(tmp_path / "keeper")
        await until(lambda: not marks.marked(mark))


async def test_what_no_keeper_knows_is_killed_by_the_next(agents: Agents, tmp_path: Path) -> None:
    """Both killed and all wiped: its processes bear the mark of the place."""
    spec = shell(tmp_path, "")
    with agents.former("echo $$; (setsid sleep 600 &); exec sleep 600"):
        await until(lambda: log_of(spec))
        mark = next(iter(kept(tmp_path / "keeper").values())).mark
        agents.kill_keeper()
    shutil.rmtree(tmp_path / "keeper")
    shutil.rmtree(tmp_path / "state")
    heir = await agents.successor()
    assert not marks.marked(mark)
    await heir.clear()


@pytest.mark.parametrize("is_known", [True, False])
async def test_after_a_reboot_nothing_is_launched_again(agents: Agents, tmp_path: Path, is_known: bool) -> None:
    """The keeper's journal may be lost with the machine, so that it says nothing proves nothing then."""
    spec = attempt(tmp_path, "true")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "boot").write_text("an earlier boot")
    if is_known:
        name = plain_name(spec.attempt_id)
        begin_journal(tmp_path, record.line("start", name, "7", "5"), record.line("pid", name, "1"), boot_id="earlier")
    heir = await agents.successor()
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    assert await heir.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=process.REBOOT_REASON, is_reboot=True)
    await heir.clear()


@pytest.mark.parametrize("wiped", ["state", "nothing"])
async def test_what_no_agents_journal_knows_is_found_and_killed(agents: Agents, tmp_path: Path, wiped: str) -> None:
    """With all that it has started."""
    spec = shell(tmp_path, "")
    with agents.former("sleep 300 & echo $$ $!; wait"):
        await until(lambda: log_of(spec))
    pids = [int(pid) for pid in log_of(spec).split()]
    if wiped == "state":
        shutil.rmtree(tmp_path / "state")
    heir = await agents.successor()
    assert await heir.runtime.launched() == [spec.attempt_id]
    await heir.runtime.discard(spec.attempt_id)
    assert not any(map(lives, pids))
    assert await heir.runtime.launched() == []
    await heir.runtime.discard(spec.attempt_id)
    await heir.clear()
