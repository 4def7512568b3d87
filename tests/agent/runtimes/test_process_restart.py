"""The agent dies, by kill -9, and another takes over: what it learns of attempts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.processes import running

from batchyard_agent.runtimes import process, supervisor
from batchyard_agent.runtimes.process import ProcessRuntime
from batchyard_agent.runtimes.protocol import Adoption, Exited, Started, StartFailed, StopSignal, Vanished

from .cgroups import needs_cgroup
from .process_attempts import Host, attempt, lives, log_of, now_ms, shell, until
from .process_records import end_attempts

FORMER_AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from process_attempts import Host, now_ms, shell
from batchyard_agent.runtimes.process import ProcessRuntime

async def main():
    folder = Path(sys.argv[2])
    host = await Host(ProcessRuntime(folder / "state", folder / "scratch", now_ms=now_ms, enforcement=sys.argv[3])).open()
    for number, script in enumerate(sys.argv[4:], start=1):
        await host.runtime.launch(shell(folder, script, number=number))
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

    async def successor(self) -> Host:
        runtime = ProcessRuntime(
            self.folder / "state", self.folder / "scratch", now_ms=now_ms, enforcement=self.enforcement
        )  # type: ignore[arg-type]
        return await Host(runtime).open()


@pytest.fixture(params=["rlimit", "auto"])
def agents(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agents]:
    yield Agents(tmp_path, request.param)
    end_attempts(tmp_path / "state")


@pytest.fixture
async def heir(agents: Agents) -> AsyncIterator[Host]:
    """The successor."""
    host = await agents.successor()
    yield host
    await host.runtime.close()


async def test_a_running_attempt_goes_on_and_its_code_is_learnt(agents: Agents, heir: Host, tmp_path: Path) -> None:
    """Same process, right exit code, true start time; its limits' cgroup is found again."""
    spec = shell(tmp_path, "")
    with agents.former("echo $$; while [ ! -e go ]; do sleep 0.02; done; exit 7"):
        await until(lambda: log_of(spec))
    killed_at_ms = now_ms()
    assert await heir.runtime.launched() == [spec.attempt_id]
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN  # asked twice, told once
    pid = int(log_of(spec))
    assert lives(pid)
    go = tmp_path / "scratch" / supervisor.plain_name(spec.attempt_id) / "go"
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
    records = [tmp_path / "state" / "attempts" / supervisor.plain_name(spec.attempt_id) for spec in specs]
    await until(lambda: not any(map(supervisor.is_locked, records)))
    ended_by_ms = now_ms()
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
            await heir.runtime.launch(spec)
        end = await heir.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == number
        await heir.runtime.remove(spec.attempt_id)
    assert sorted(map(int, witness.read_text().split())) == list(range(1, 31))
    await heir.runtime.close()


async def test_what_was_never_launched_is_said_so(agents: Agents, heir: Host, tmp_path: Path) -> None:
    """Without a record; and with one whose supervisor never was."""
    spec = attempt(tmp_path, "true")
    assert await heir.runtime.adopt(spec) is Adoption.NOT_LAUNCHED
    await heir.done(spec)
    prepared = attempt(tmp_path, "true", number=2)
    record = tmp_path / "state" / "attempts" / supervisor.plain_name(prepared.attempt_id)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    os.close(supervisor.create_record(record, started_at_ms=1, boot_id=boot_id, cgroup=()))
    assert await heir.runtime.adopt(prepared) is Adoption.NOT_LAUNCHED
    assert isinstance(await heir.done(prepared), Exited)


@pytest.mark.parametrize("damage", ["pid x\n", None, '{"started_at_ms": 5}\npid 1\n', ""])
async def test_a_job_that_damages_its_record_is_ended_and_never_launched_again(
    agents: Agents, heir: Host, tmp_path: Path, damage: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one can that runs as the agent's own user: by its supervisor's open file, by name, or by removing it."""
    monkeypatch.setattr(process, "ADOPT_LIMIT_S", 0.1)
    spec = shell(tmp_path, "")
    record = tmp_path / "state" / "attempts" / supervisor.plain_name(spec.attempt_id)
    with agents.former(f"echo 'pid x' >>/proc/$PPID/fd/0; cat {record}; echo $$; sleep 600"):
        await until(lambda: log_of(spec).count("\n") == 4)
    if damage is None:
        record.unlink()
    elif damage != "pid x\n":
        record.write_text(damage)
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    if damage == "pid x\n":
        await heir.runtime.signal(spec.attempt_id, StopSignal.KILL)
        end = await heir.end(spec)
        assert isinstance(end, Exited)
        assert end.exit_code == 137
    else:
        assert await heir.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=process.DAMAGED_REASON)
    await until(lambda: not lives(int(log_of(spec).split()[-1])))
    await heir.runtime.remove(spec.attempt_id)


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """A file for the pids of what leaves no other trace; whatever it names is dead in the end."""
    path = tmp_path / "pids"
    path.touch()
    yield path
    for pid in map(int, path.read_text().split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


@pytest.mark.parametrize("instead", [None, "", '{"started_at_ms": 5, "boot_id": "this", "cgroup": []}\n'])
async def test_a_quiet_attempt_without_its_record_is_ended_and_not_launched_beside_itself(
    agents: Agents, heir: Host, tmp_path: Path, pids: Path, instead: str | None
) -> None:
    """It has said nothing, and its record was removed, or another put there: its supervisor lives all the same."""
    spec = shell(tmp_path, "")
    record = tmp_path / "state" / "attempts" / supervisor.plain_name(spec.attempt_id)
    with agents.former(f"echo $$ >{pids}; exec sleep 600"):
        await until(pids.read_text)
    record.unlink()
    if instead is not None:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record.write_text(instead.replace("this", boot_id))
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    assert await heir.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=process.DAMAGED_REASON)
    assert not lives(int(pids.read_text()))
    await heir.runtime.remove(spec.attempt_id)


@pytest.mark.parametrize("agents", [pytest.param("auto", marks=needs_cgroup)], indirect=True)
async def test_an_attempt_of_which_only_its_cgroup_is_left_is_ended(
    agents: Agents, heir: Host, tmp_path: Path, pids: Path
) -> None:
    """Its supervisor was killed and its record removed."""
    spec = shell(tmp_path, "")
    with agents.former(f"echo $$ $PPID >{pids}; exec sleep 600"):
        await until(pids.read_text)
    pid, keeper = map(int, pids.read_text().split())
    os.kill(keeper, 9)
    (tmp_path / "state" / "attempts" / supervisor.plain_name(spec.attempt_id)).unlink()
    await until(lambda: not lives(keeper))
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    assert await heir.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=process.DAMAGED_REASON)
    await until(lambda: not lives(pid))
    await heir.runtime.discard(spec.attempt_id)


@pytest.mark.parametrize(
    ("content", "boot_noted"),
    [(None, "an earlier boot"), ('{"started_at_ms": 5, "boot_id": "an earlier boot", "cgroup": []}\npid 1\n', None)],
)
async def test_after_a_reboot_nothing_is_launched_again(
    agents: Agents, tmp_path: Path, content: str | None, boot_noted: str | None
) -> None:
    """A record may be lost with the machine, so its absence proves nothing then."""
    state = tmp_path / "state"
    (state / "attempts").mkdir(parents=True)
    spec = attempt(tmp_path, "true")
    if content:
        (state / "attempts" / supervisor.plain_name(spec.attempt_id)).write_text(content)
    if boot_noted:
        (state / "boot").write_text(boot_noted)
    heir = await agents.successor()
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    reason = "the host was restarted while the attempt ran"
    assert await heir.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=reason, is_reboot=True)
    await heir.runtime.remove(spec.attempt_id)
    await heir.runtime.close()


async def test_an_end_before_the_reboot_is_still_told(agents: Agents, heir: Host, tmp_path: Path) -> None:
    """What is written whole counts."""
    spec = attempt(tmp_path, "true")
    record = tmp_path / "state" / "attempts" / supervisor.plain_name(spec.attempt_id)
    record.write_text('{"started_at_ms": 5, "boot_id": "an earlier boot", "cgroup": []}\npid 1\nexit 4\n')
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    end = await heir.end(spec)
    assert isinstance(end, Exited)
    assert end.exit_code == 4


def test_a_torn_last_line_does_not_count() -> None:
    """A supervisor killed while it writes has not said how the command ended."""
    header = b'{"started_at_ms": 5, "boot_id": "b", "cgroup": []}\n'
    cases: dict[bytes, tuple[int | None, int | None] | None] = {
        b"": None,
        header[:-1]: None,
        header: (None, None),
        header + b"pid 12": (None, None),
        header + b"pid 12\nexit 1": (12, None),
        header + b"pid 12\nexit 13\n": (12, 13),
        # Where the agent is not root, a job may write there too.
        header + b"pid 12\npid x\npid 1\nexit y\nexit 13\n": (12, 13),
        header + b"pid " + b"9" * 5000 + b"\nexit 99999\n\xff\xfe\n": (None, None),
        b'{"started_at_ms": "5", "boot_id": 1, "cgroup": [0]}\npid 12\n': None,
        b"[" * 50_000 + b"\n": None,
        b"\0" * 100 + b"\n": None,
    }
    for content, expected in cases.items():
        record = supervisor.parse_record(content, 9)
        assert (record and (record.pid, record.exit_code)) == expected, content


async def test_an_attempt_that_was_never_called_is_told_as_that(heir: Host, tmp_path: Path) -> None:
    """Also by the next agent."""
    spec = attempt(tmp_path, "true")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = tmp_path / "state" / "attempts" / supervisor.plain_name(spec.attempt_id)
    os.close(supervisor.create_record(record, started_at_ms=5, boot_id=boot_id, cgroup=()))
    with record.open("a") as file:
        file.write("pid 4000000\nfailed 125\nexit 125\n")
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    end = await heir.end(spec)
    assert isinstance(end, StartFailed)
    assert end.reason == "CannotStartContainerError: the kernel refused the attempt's limits"


@pytest.mark.parametrize("wiped", ["state", "nothing"])
async def test_what_no_journal_knows_is_found_and_killed(agents: Agents, tmp_path: Path, wiped: str) -> None:
    """After the state folder was wiped the kernel knows of attempts alone; with all that they have started."""
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
    await heir.runtime.close()
