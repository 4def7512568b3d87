"""Attempts of several plain processes: who starts, what each leaves, how it ends; over deaths of agent and keeper."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.processes import running

from batchyard.tasks import Secret
from batchyard_agent.keeper import record
from batchyard_agent.runtimes import disk_watch, process, scratch
from batchyard_agent.runtimes.plain_names import attempt_id_of, part_name, plain_name, whole_name
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Exited,
    LaunchSpec,
    Mount,
    Observation,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)
from batchyard_agent.runtimes.task_course import NO_SECRETS_REASON

from .cgroups import needs_cgroup
from .process_attempts import Host, lives, log_of, part, runtime, several, until
from .process_records import end_attempts, kept, signal_keeper

FOREVER = "while :; do sleep 0.05; done"
GATE = "while [ ! -e {} ]; do sleep 0.02; done"
# More than it may have, and less than is refused at once: it runs until it is seen and killed.
HOG = f"exec {sys.executable} -c 'import time; held = bytes([1]) * (160 << 20); time.sleep(600)'"


@pytest.fixture(params=["rlimit", pytest.param("auto", marks=needs_cgroup)])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    """A runtime in each way of keeping limits that this machine has."""
    opened = await Host(runtime(tmp_path, enforcement=request.param)).open()
    yield opened
    await opened.clear()


def codes(end: Observation) -> dict[str, int | None]:
    assert isinstance(end, Exited | StartFailed), end
    return {each.name: each.exit_code for each in end.containers}


def three(folder: Path, init: str = "echo init; echo made >file", main: str = "cat file; exit 7") -> LaunchSpec:
    """An init that must succeed, a sidecar that never ends, and what it is all about."""
    return several(
        part(folder, "init", init, essential=False),
        part(folder, "side", f"echo side; {FOREVER}", essential=False, after="init:SUCCESS", stop_timeout_s=2),
        part(folder, "main", main, after="init:SUCCESS side:START"),
    )


def logs(spec: LaunchSpec) -> list[str]:
    return [log_of(each) for each in spec.parts]


def test_names_lead_back_to_the_attempt() -> None:
    name = plain_name("a-b:5#2")
    assert name == "a-b_3a5_232"
    assert part_name(name, 3) == "a-b_3a5_232.3"
    assert whole_name(part_name(name, 3)) == whole_name(name) == name
    assert attempt_id_of(part_name(name, 3)) == attempt_id_of(name) == "a-b:5#2"


async def test_init_sidecar_and_main(host: Host, tmp_path: Path) -> None:
    """In one working folder, each with a log and an end of its own."""
    spec = three(tmp_path)
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, codes(end)) == (7, {"init": 0, "side": 143, "main": 7})
    assert logs(spec) == ["init\n", "side\n", "made\n"]
    assert all(0 < each.started_at_ms <= each.stopped_at_ms for each in end.containers)
    assert [type(each) for each in host.of(spec)] == [Started, Exited]
    assert await host.runtime.launched() == [spec.attempt_id]
    assert (tmp_path / "scratch" / plain_name(spec.attempt_id) / "file").exists()
    assert not await host.runtime.remove([spec.attempt_id])
    assert await host.runtime.launched() == []
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_each_has_its_own_words(host: Host, tmp_path: Path) -> None:
    """Environment, secrets, working folder."""
    (tmp_path / "elsewhere").mkdir()
    look = 'echo "$WHO $SECRET"; pwd; echo $HOME'
    spec = several(
        part(tmp_path, "a", look, environment={"WHO": "a"}, secrets={"SECRET": "one"}, essential=False),
        part(
            tmp_path, "b", look, environment={"WHO": "b"}, after="a:SUCCESS",
            working_directory=str(tmp_path / "elsewhere"),
        ),
    )  # fmt: skip
    assert isinstance(await host.done(spec), Exited)
    folder = tmp_path / "scratch" / plain_name(spec.attempt_id)
    assert log_of(spec.parts[0]) == f"a one\n{folder}\n{folder}\n"
    assert log_of(spec.parts[1]) == f"b \n{tmp_path}/elsewhere\n{tmp_path}/elsewhere\n"


async def test_they_reach_each_other_on_localhost(host: Host, tmp_path: Path) -> None:
    server = (
        "import http.server as h, pathlib\n"
        "s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n"
        "pathlib.Path('port.new').write_text(str(s.server_port)); pathlib.Path('port.new').rename('port')\n"
        "s.serve_forever()"
    )
    client = (
        "import urllib.request, pathlib\n"
        "pathlib.Path('hello').write_text('hello')\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{pathlib.Path(\"port\").read_text()}/hello').read().decode())"
    )
    spec = several(
        part(tmp_path, "server", f'exec {sys.executable} -c "$S"', environment={"S": server}, essential=False),
        part(
            tmp_path, "client", f'{GATE.format("port")}; exec {sys.executable} -c "$S"', environment={"S": client},
            after="server:START",
        ),
    )  # fmt: skip
    end = await host.done(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, log_of(spec.parts[1])) == (0, "hello\n")


async def test_a_failed_init_is_a_failed_start(host: Host, tmp_path: Path) -> None:
    spec = three(tmp_path, init="exit 3")
    end = await host.done(spec)
    assert isinstance(end, StartFailed)
    assert end.reason == "Container side was not started: init, which it waits for, exited with 3"
    assert codes(end) == {"init": 3, "side": None, "main": None}
    assert host.of(spec) == [end]
    assert not spec.parts[2].log_path.exists()


async def test_a_command_that_is_missing_fails_the_start_and_ends_the_others(host: Host, tmp_path: Path) -> None:
    """What others have in the folder stays theirs until they have ended."""
    main = part(tmp_path, "main", "", after="wait:SUCCESS")
    spec = several(
        part(tmp_path, "side", f"trap 'ls; exit 4' TERM; touch here; {FOREVER}", essential=False),
        part(tmp_path, "wait", GATE.format("here"), essential=False),
        replace(main, container=replace(main.container, command=("./missing",))),
    )
    end = await host.done(spec)
    assert isinstance(end, StartFailed)
    assert end.reason == 'CannotStartContainerError: exec: "./missing": no such file or directory'
    assert (end.exit_code, codes(end)) == (127, {"side": 4, "wait": 0, "main": 127})
    assert log_of(spec.parts[0]) == "here\n"


async def test_what_needs_a_container_fails_the_start(host: Host, tmp_path: Path) -> None:
    mount = part(tmp_path, "main", "true", mounts=(Mount(container_path="/x"),))
    end = await host.done(several(part(tmp_path, "side", FOREVER, essential=False, stop_timeout_s=2), mount))
    assert isinstance(end, StartFailed)
    assert "need a container" in end.reason
    assert codes(end) == {"side": 143, "main": None}


async def test_a_signal_reaches_all_and_each_is_killed_in_its_own_time(host: Host, tmp_path: Path) -> None:
    deaf = f"trap '' TERM; echo up; {FOREVER}"
    spec = several(
        part(tmp_path, "polite", f"trap 'exit 9' TERM; echo up; {FOREVER}"),
        part(tmp_path, "deaf", deaf, essential=False, stop_timeout_s=2),
        part(tmp_path, "deafer", deaf, essential=False, stop_timeout_s=60),
    )
    host.runtime.launch(spec)
    await until(lambda: logs(spec) == ["up\n"] * 3)
    await host.runtime.signal(spec.attempt_id, StopSignal.TERM)
    await until(lambda: [each.ended is None for each in ends_of(tmp_path, spec)] == [False, False, True])
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, codes(end)) == (9, {"polite": 9, "deaf": 137, "deafer": 137})


def ends_of(folder: Path, spec: LaunchSpec) -> list[record.Kept]:
    """Return what the keeper has of each process."""
    found = kept(folder / "keeper")
    return [found[part_name(plain_name(spec.attempt_id), i)] for i in range(len(spec.parts))]


async def test_what_one_leaves_is_ended_with_it_and_with_nobody_else(host: Host, tmp_path: Path) -> None:
    spec = several(
        part(tmp_path, "init", "(setsid sleep 600 & echo $!); exit 0", essential=False),
        part(tmp_path, "side", f"sleep 600 & echo $!; {FOREVER}", essential=False, stop_timeout_s=2),
        part(tmp_path, "main", f"{GATE.format('go')}", after="init:SUCCESS side:START"),
    )
    host.runtime.launch(spec)
    await until(lambda: host.of(spec))
    left, beside = (int(log_of(each)) for each in spec.parts[:2])
    assert (lives(left), lives(beside)) == (False, True)
    (tmp_path / "scratch" / plain_name(spec.attempt_id) / "go").touch()
    assert isinstance(await host.end(spec), Exited)
    assert not lives(beside)


async def test_memory_is_bounded_for_each_by_itself(host: Host, tmp_path: Path) -> None:
    spec = several(
        part(tmp_path, "small", HOG, essential=False, memory_mib=32),
        part(tmp_path, "main", GATE.format(tmp_path / "go")),
    )
    host.runtime.launch(spec)
    await until(lambda: any(each.ended for each in kept(tmp_path / "keeper").values()))
    (tmp_path / "go").touch()
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.out_of_memory, codes(end)["small"]) == (0, False, 137)
    assert end.containers[0].reason.startswith("OutOfMemoryError")


async def test_the_folder_is_held_to_what_all_ask_together(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "used_mib", lambda _: 31)
    monkeypatch.setattr(disk_watch, "INTERVAL_S", 0.1)
    roomy = several(part(tmp_path, "a", "sleep 0.5", disk_mib=20), part(tmp_path, "b", "sleep 0.5", disk_mib=11))
    end = await host.done(roomy)
    assert isinstance(end, Exited)
    assert end.exit_code == 0
    tight = several(
        part(tmp_path, "a", FOREVER, disk_mib=20, number=2), part(tmp_path, "b", FOREVER, disk_mib=10, number=2)
    )
    end = await host.done(tight)
    assert isinstance(end, Exited)
    assert end.reason == "Killed as its working folder took more than the 30 MiB that it asked for"
    assert codes(end) == {"a": 137, "b": 137}


async def test_none_is_launched_twice(host: Host, tmp_path: Path) -> None:
    spec = three(tmp_path)
    await host.done(spec)
    with pytest.raises(FileExistsError):
        host.runtime.launch(spec)


# Another agent ------------------------------------------------------------------

FORMER_AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from process_attempts import Host, part, runtime, several

async def main():
    folder = Path(sys.argv[2])
    host = await Host(runtime(folder, enforcement=sys.argv[3])).open()
    for attempt in eval(sys.argv[4]):
        host.runtime.launch(several(*(part(folder, *words, **named) for words, named in attempt)))
    print("launched", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

Words = list[tuple[tuple[str, str], dict[str, object]]]
"""Of processes: names and scripts, and what ``part`` takes besides."""


class Agents:
    """A former agent in a process of its own, and its successor here."""

    def __init__(self, folder: Path, enforcement: str) -> None:
        self.folder = folder
        self.enforcement = enforcement

    @contextlib.contextmanager
    def former(self, *attempts: Words, all_launched: bool = True) -> Iterator[subprocess.Popen[str]]:
        """Run an agent that launches these; it is killed in the end."""
        arguments = [str(Path(__file__).parent), str(self.folder), self.enforcement, repr(list(attempts))]
        with running([sys.executable, "-c", FORMER_AGENT, *arguments], stdout=subprocess.PIPE) as agent:
            assert agent.stdout is not None
            if all_launched:
                assert any(line == "launched\n" for line in agent.stdout)
            yield agent

    def spec(self, words: Words) -> LaunchSpec:
        return several(*(part(self.folder, *given, **named) for given, named in words))  # type: ignore[arg-type]

    async def successor(self) -> Host:
        return await Host(runtime(self.folder, enforcement=self.enforcement)).open()  # type: ignore[arg-type]

    def kill_keeper(self) -> None:
        assert signal_keeper(self.folder / "keeper")

    def witness(self) -> list[str]:
        """Return who has begun, once for each time."""
        path = self.folder / "witness"
        return sorted(path.read_text().split()) if path.exists() else []

    def words(self, *, number: int = 1, gates: bool = True) -> Words:
        """Say three processes that tell when they begin; init and main end when they are let."""
        begin = f"echo ${{NAME}}{number} >>{self.folder}/witness; echo $$"
        gate = {name: GATE.format(self.folder / f"{name}{number}.go") if gates else "true" for name in ("init", "main")}
        return [
            ((name, f"NAME={name}; {begin}; {script}"), {"number": number, **named})
            for name, script, named in (
                ("init", f"{gate['init']}; exit 0", {"essential": False}),
                ("side", FOREVER, {"essential": False, "after": "init:SUCCESS", "stop_timeout_s": 5}),
                ("main", f"{gate['main']}; exit {number}", {"after": "init:SUCCESS side:START"}),
            )
        ]

    def let(self, name: str, number: int = 1) -> None:
        (self.folder / f"{name}{number}.go").touch()


@pytest.fixture(params=["rlimit", pytest.param("auto", marks=needs_cgroup)])
def agents(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agents]:
    yield Agents(tmp_path, request.param)
    end_attempts(tmp_path / "keeper")


@pytest.mark.parametrize("killed", ["agent", "agent and keeper"])
async def test_an_init_goes_on_under_another_agent_and_the_rest_follows(agents: Agents, killed: str) -> None:
    """Each is started once; what was not started yet is, as its condition is met."""
    words = agents.words()
    spec = agents.spec(words)
    with agents.former(words):
        await until(lambda: log_of(spec.parts[0]))
        if killed != "agent":
            agents.kill_keeper()
    host = await agents.successor()
    assert await host.runtime.launched() == [spec.attempt_id]
    assert await host.runtime.adopt(spec) is Adoption.KNOWN
    assert await host.runtime.adopt(spec) is Adoption.KNOWN  # asked twice, told once
    assert not host.of(spec)
    agents.let("init")
    if killed == "agent":
        await until(lambda: len(agents.witness()) == 3)
        agents.let("main")
        end = await host.end(spec)
        assert isinstance(end, Exited)
        assert codes(end) == {"init": 0, "side": 143, "main": 1}
        assert agents.witness() == ["init1", "main1", "side1"]
    else:  # on kernels before 6.15 the init's code is lost with those who could have learnt it
        await until(lambda: len(agents.witness()) == 3 or host.of(spec))
        agents.let("main")
        assert codes_or_lost(await host.end(spec)) in ({"init": 0, "side": 143, "main": 1}, None)
    await host.clear()


def codes_or_lost(end: Observation) -> dict[str, int | None] | None:
    if isinstance(end, StartFailed) and end.host_failed:
        return None
    return codes(end)


async def test_all_go_on_under_another_agent(agents: Agents) -> None:
    """Same processes, right codes, true times; nothing is started anew, and all are stopped in the end."""
    words = agents.words()
    spec = agents.spec(words)
    agents.let("init")
    with agents.former(words):
        await until(lambda: all(logs(spec)))
    host = await agents.successor()
    assert await host.runtime.adopt(spec) is Adoption.KNOWN
    await until(lambda: host.of(spec))
    pids = [int(log) for log in logs(spec)]
    assert list(map(lives, pids)) == [False, True, True]
    agents.let("main")
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, codes(end)) == (1, {"init": 0, "side": 143, "main": 1})
    assert agents.witness() == ["init1", "main1", "side1"]
    assert not any(map(lives, pids))
    await host.clear()


async def test_an_attempt_that_ended_meanwhile_is_learnt(agents: Agents) -> None:
    """Main has ended and nobody was there to stop the sidecar: that is done first."""
    words = agents.words()
    spec = agents.spec(words)
    agents.let("init")
    with agents.former(words):
        await until(lambda: all(logs(spec)))
    agents.let("main")
    await until(lambda: ends_of(agents.folder, spec)[2].ended)
    host = await agents.successor()
    assert await host.runtime.adopt(spec) is Adoption.KNOWN
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, codes(end)) == (1, {"init": 0, "side": 143, "main": 1})
    assert [type(each) for each in host.of(spec)] == [Started, Exited]
    await host.clear()


async def test_a_part_that_could_not_start_is_not_tried_by_another_agent(agents: Agents) -> None:
    words: Words = [
        (("main", f"trap '' TERM; {FOREVER}"), {"stop_timeout_s": 60}),
        (
            ("other", "true"),
            {"essential": False, "after": "main:START", "working_directory": str(agents.folder / "no")},
        ),
    ]
    spec = agents.spec(words)
    with agents.former(words):
        await until(lambda: "1" in {k.name[-1] for k in kept(agents.folder / "keeper").values() if k.ended})
    (agents.folder / "no").mkdir()
    host = await agents.successor()
    assert await host.runtime.adopt(spec) is Adoption.KNOWN
    await until(lambda: host.of(spec) or host.runtime._live)
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert codes(end) == {"main": 137, "other": None}
    assert len(kept(agents.folder / "keeper")) == 2
    await host.clear()


async def test_what_needs_secrets_that_the_next_agent_has_not_fails_the_start(agents: Agents) -> None:
    """It is never begun without; the init, which has begun, is let end."""
    words = agents.words()
    spec = agents.spec(words)
    with agents.former(words):
        await until(lambda: log_of(spec.parts[0]))
    secret = Secret(name="DB", value_from="db")
    main = replace(spec.parts[2], container=replace(spec.parts[2].container, secrets=(secret,)))
    host = await agents.successor()
    assert await host.runtime.adopt(several(*spec.parts[:2], main)) is Adoption.KNOWN
    agents.let("init")
    end = await host.end(spec)
    assert isinstance(end, StartFailed)
    assert (end.host_failed, end.reason) == (True, NO_SECRETS_REASON)
    assert codes(end) == {"init": 0, "side": 143, "main": None}
    # The sidecar began, and may have been stopped before it could say so.
    assert "main1" not in agents.witness()
    await host.clear()


@pytest.mark.parametrize("turn", range(3))
async def test_an_agent_killed_while_it_launches_starts_nothing_twice(agents: Agents, turn: int) -> None:
    """Killed at whatever moment: adopting, and launching what was not, each process begins exactly once."""
    attempts = [agents.words(number=number, gates=False) for number in range(1, 13)]
    with agents.former(*attempts, all_launched=False):
        await until(lambda: len(agents.witness()) > 5 * turn)
    host = await agents.successor()
    specs = [agents.spec(words) for words in attempts]
    for spec in specs:
        if await host.runtime.adopt(spec) is Adoption.NOT_LAUNCHED:
            host.runtime.launch(spec)
    for number, spec in enumerate(specs, start=1):
        end = await host.end(spec)
        assert isinstance(end, Exited)
        assert (end.exit_code, codes(end)["init"]) == (number, 0)
        assert not await host.runtime.remove([spec.attempt_id])
    assert agents.witness() == sorted(f"{name}{n}" for n in range(1, 13) for name in ("init", "side", "main"))
    await host.clear()


@pytest.mark.parametrize("turn", range(3))
async def test_a_keeper_killed_between_processes_starts_nothing_twice(agents: Agents, turn: int) -> None:
    """Killed again and again: each begins once at most, and codes are the right ones or said to be lost."""
    host = await agents.successor()
    attempts = [agents.words(number=number, gates=False) for number in range(1, 13)]
    specs = [agents.spec(words) for words in attempts]
    for number, spec in enumerate(specs):
        if number % 4 == turn:
            await until(lambda: signal_keeper(agents.folder / "keeper"))
        host.runtime.launch(spec)
        await asyncio.sleep(0.01 * turn)
    whole = 0
    for number, spec in enumerate(specs, start=1):
        end = await host.end(spec)
        if isinstance(end, Exited) and end.exit_code == number:
            whole += 1
        else:  # a code was lost between two keepers
            assert isinstance(end, Vanished) or (isinstance(end, StartFailed) and end.host_failed), end
    begun = agents.witness()
    assert len(begun) == len(set(begun))
    assert whole
    await host.clear()


@pytest.mark.parametrize("damage", ["journal", "all"])
async def test_of_a_damaged_attempt_nobody_is_started_any_more(agents: Agents, damage: str) -> None:
    """The keeper and what it knew are gone: what ran is ended, and who never did does not begin."""
    words = agents.words()
    spec = agents.spec(words)
    with agents.former(words):
        await until(lambda: log_of(spec.parts[0]))
        agents.kill_keeper()
    if damage == "journal":
        (agents.folder / "keeper" / "journal").unlink()
    else:
        shutil.rmtree(agents.folder / "keeper")
    host = await agents.successor()
    assert await host.runtime.adopt(spec) is Adoption.KNOWN
    end = await host.end(spec)
    assert isinstance(end, Vanished)
    assert end.reason == process.DAMAGED_REASON
    assert agents.witness() == ["init1"]
    assert not lives(int(log_of(spec.parts[0])))
    await host.clear()


async def test_after_a_reboot_nothing_is_launched_again(agents: Agents) -> None:
    spec = agents.spec(agents.words())
    (agents.folder / "state").mkdir()
    (agents.folder / "state" / "boot").write_text("an earlier boot")
    host = await agents.successor()
    assert await host.runtime.adopt(spec) is Adoption.KNOWN
    assert await host.end(spec) == Vanished(attempt_id=spec.attempt_id, reason=process.REBOOT_REASON, is_reboot=True)
    assert agents.witness() == []
    await host.clear()


@pytest.mark.parametrize("wiped", ["state", "nothing"])
async def test_what_no_agents_journal_knows_is_found_and_killed(agents: Agents, wiped: str) -> None:
    words = agents.words()
    spec = agents.spec(words)
    agents.let("init")
    with agents.former(words):
        await until(lambda: all(logs(spec)))
    if wiped == "state":
        shutil.rmtree(agents.folder / "state")
    host = await agents.successor()
    assert await host.runtime.launched() == [spec.attempt_id]
    await host.runtime.discard(spec.attempt_id)
    assert not any(lives(int(log)) for log in logs(spec))
    assert await host.runtime.launched() == []
    await host.clear()
