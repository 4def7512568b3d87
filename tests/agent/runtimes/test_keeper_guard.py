"""The guard: what a host runs ends at the fence's deadline, whoever of agent and keeper is dead or stands still then."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.processes import running

from batchyard.state_folder import make_private_folder
from batchyard_agent.config import keeper_dir
from batchyard_agent.keeper import marks
from batchyard_agent.keeper.guard import Guard
from batchyard_agent.keeper.record import FENCE_OF_HOST
from batchyard_agent.keeper_link import KeeperLink
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.protocol import Adoption, Exited, Observation, StartFailed, StopSignal, Vanished

from .engine import ENGINE_ADDRESS, container_spec, ensure_image, named, remove_all
from .process_attempts import Host, attempt, lives, log_of, runtime, shell, until
from .process_records import end_attempts, keeper, kept, signal_keeper

STUBBORN = "trap '' TERM; (setsid sleep 600 &) ; echo $$; while :; do sleep 0.1; done"

FENCED_AGENT = """
import asyncio, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from process_attempts import Host, runtime, shell

async def main():
    folder = Path(sys.argv[2])
    host = await Host(runtime(folder, enforcement=sys.argv[3])).open()
    host.runtime.launch(shell(folder, sys.argv[4]))
    now_ms = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)
    host.runtime._link.guard(since_ms=now_ms, fence_ms=int(sys.argv[5]), containers=(), engine="", query="")
    print("launched", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def boot_ms() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)


@pytest.fixture(params=["rlimit", "auto"])
def enforcement(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield request.param
    end_attempts(tmp_path / "keeper")


@pytest.fixture
async def host(enforcement: str, tmp_path: Path) -> AsyncIterator[Host]:
    opened = await Host(runtime(tmp_path, enforcement=enforcement)).open()  # type: ignore[arg-type]
    yield opened
    await opened.clear()


@contextlib.contextmanager
def fenced_agent(folder: Path, enforcement: str, fence_ms: int) -> Iterator[subprocess.Popen[str]]:
    """Run an agent in a process of its own with one attempt, which the keeper is to end in *fence_ms*."""
    arguments = [str(Path(__file__).parent), str(folder), enforcement, STUBBORN, str(fence_ms)]
    with running([sys.executable, "-c", FENCED_AGENT, *arguments], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert any(line == "launched\n" for line in agent.stdout)
        yield agent


async def test_at_the_deadline_all_ends_and_nothing_starts_before_a_later_one(host: Host, tmp_path: Path) -> None:
    spec = shell(tmp_path, STUBBORN)
    host.runtime.launch(spec)
    await until(lambda: log_of(spec))
    (mark,) = {each.mark for each in kept(tmp_path / "keeper").values()}
    host.runtime._link.guard(since_ms=boot_ms(), fence_ms=200, containers=(), engine="", query="")
    end = await host.end(spec)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.is_fenced) == (137, True)
    assert not marks.marked(mark)
    refused = await host.done(attempt(tmp_path, "true", number=2))
    assert isinstance(refused, StartFailed)
    assert (refused.host_failed, "out of touch" in refused.reason) == (True, True)
    host.runtime._link.guard(since_ms=boot_ms(), fence_ms=60_000, containers=(), engine="", query="")
    assert isinstance(await host.done(attempt(tmp_path, "true", number=3)), Exited)


async def test_a_keeper_that_starts_goes_by_the_last_contact(host: Host, tmp_path: Path) -> None:
    """Its predecessor stood still, and did not hear of it: what runs is not ended by what that had heard."""
    spec = shell(tmp_path, STUBBORN)
    host.runtime.launch(spec)
    await until(lambda: log_of(spec))
    host.runtime._link.guard(since_ms=boot_ms(), fence_ms=2_000, containers=(), engine="", query="")
    contact = tmp_path / "keeper" / "contact"
    await until(lambda: contact.exists() and b"\n2000\n" in contact.read_bytes())
    before = signal_keeper(tmp_path / "keeper", signal.SIGSTOP)
    assert before
    passed_ms = boot_ms() + 2_000
    host.runtime._link.guard(since_ms=boot_ms(), fence_ms=600_000, containers=(), engine="", query="")
    await until(lambda: boot_ms() > passed_ms)
    assert b"\n2000\n" in contact.read_bytes()
    os.kill(before, signal.SIGKILL)
    await until(lambda: keeper(tmp_path / "keeper") not in {0, before} and host.runtime._link.is_open)
    await host.runtime.signal(spec.attempt_id, StopSignal.KILL)
    end = await host.end(spec)
    assert not (isinstance(end, Exited) and end.is_fenced)


async def test_each_process_ends_at_its_own_fence_also_under_the_next_keeper(host: Host, tmp_path: Path) -> None:
    short, never = (replace(shell(tmp_path, STUBBORN, number=n), fence_ms=ms) for n, ms in ((1, 200), (2, 0)))
    for spec in (short, never):
        host.runtime.launch(spec)
        await until(lambda spec=spec: log_of(spec))
    assert signal_keeper(tmp_path / "keeper")
    await until(lambda: host.runtime._link.is_open and len(host.runtime._link.kept) == 2)
    host.runtime._link.guard(since_ms=boot_ms(), fence_ms=100, containers=(), engine="", query="")
    end = await host.end(short)
    assert isinstance(end, Exited)
    assert end.is_fenced
    assert lives(int(log_of(never)))


@pytest.mark.parametrize("who", ["agent stopped", "agent killed", "keeper killed", "keeper stopped", "both killed"])
async def test_whoever_is_gone_at_the_deadline(tmp_path: Path, enforcement: str, who: str) -> None:
    """Another agent, which comes after it as a unit starts one, finds nothing alive."""
    spec, folder = shell(tmp_path, ""), tmp_path / "keeper"
    with fenced_agent(tmp_path, enforcement, 1500) as agent:
        await until(lambda: log_of(spec))
        (mark,) = {each.mark for each in kept(folder).values()}
        if who.startswith("keeper") or who == "both killed":
            assert signal_keeper(folder, signal.SIGSTOP if who == "keeper stopped" else signal.SIGKILL)
        if who == "agent stopped":
            os.kill(agent.pid, signal.SIGSTOP)
        if who in {"agent killed", "both killed"}:
            agent.kill()
        if who != "both killed":
            # A keeper that stands still is found out within 10 s, and its successor is late.
            await until(lambda: not marks.marked(mark))
        else:
            _, since_ms, fence_ms, *_ = (folder / "contact").read_text().split("\n")
            while boot_ms() < int(since_ms) + int(fence_ms):
                assert lives(int(log_of(spec)))
    heir = Host(runtime(tmp_path, enforcement=enforcement))  # type: ignore[arg-type]
    await heir.open()
    assert await heir.runtime.adopt(spec) is Adoption.KNOWN
    end = await heir.end(spec)
    assert isinstance(end, Exited | Vanished)
    assert not isinstance(end, Exited) or end.is_fenced
    assert not marks.marked(mark)
    await heir.clear()


LATE_AGENT = """
import runpy, sys, time
class Late:
    def find_spec(self, name, *_):
        if name == "batchyard_agent.app":
            time.sleep(600)
sys.meta_path.insert(0, Late())
sys.argv = ["agent", "--controller", "127.0.0.1:1", "--state-dir", sys.argv[1]]
runpy.run_module("batchyard_agent", run_name="__main__")
"""


async def test_what_both_left_ends_before_the_next_agent_is_up(tmp_path: Path, enforcement: str) -> None:
    """A machine may be so busy that an agent takes half a minute to load what it is made of; its keeper is small."""
    state = tmp_path / "agent"
    make_private_folder(keeper_dir(state))
    (tmp_path / "keeper").symlink_to(keeper_dir(state))
    with fenced_agent(tmp_path, enforcement, 1500) as agent:
        await until((tmp_path / "keeper" / "contact").exists)  # it is told after the start
        (mark,) = {each.mark for each in kept(tmp_path / "keeper").values()}
        assert signal_keeper(tmp_path / "keeper")
        agent.kill()
    with running([sys.executable, "-c", LATE_AGENT, str(state)]):
        await until(lambda: not marks.marked(mark))
    end_attempts(keeper_dir(state))


def test_what_was_told_is_kept_for_this_boot_alone(tmp_path: Path) -> None:
    Guard(str(tmp_path), "this boot").tell(1_000, 4_000, "0,2000", "/engine", "/query")
    for boot_id, is_this in (("this boot", True), ("the next", False)):
        guard = Guard(str(tmp_path), boot_id)
        guard.load()
        assert guard.since_ms == (1_000 if is_this else 0)
        assert guard.has_passed(FENCE_OF_HOST, 6.0) is is_this
        assert not guard.has_passed(FENCE_OF_HOST, 4.0)
    (tmp_path / "contact").write_bytes(b"this boot\nx\n\xff\n")
    damaged = Guard(str(tmp_path), "this boot")
    damaged.load()
    assert damaged.since_ms == 0


def test_each_fence_has_its_time(tmp_path: Path) -> None:
    """Containers are ended when one of theirs has passed, again every 5 s, and at once when another passes."""
    guard = Guard(str(tmp_path), "this boot")
    assert not guard.has_passed(2_000, 10**6)  # nobody has said since when
    guard.tell(1_000, 4_000, "0,2000,8000", "/engine", "/query")
    passed = [[guard.has_passed(fence_ms, at_s) for fence_ms in (FENCE_OF_HOST, 0, 2_000, 8_000)] for at_s in (2, 3, 5)]
    assert passed == [[False] * 4, [False, False, True, False], [True, False, True, False]]
    assert guard.is_needed()
    rounds = [at_s for at_s in range(1, 20) if guard.begins_round(at_s)]
    assert rounds == [3, 8, 9, 14, 19]
    guard.tell(1_000, 4_000, "0", "/engine", "/query")
    assert not guard.is_needed()
    assert not guard.begins_round(10**6)


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers as an engine with three containers, two of which have fences of their own."""

    asked: list[str]

    def address_string(self) -> str:
        return "keeper"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path}")
        self._answer(
            b'[{"Id": "c1", "Labels": {}}, {"Id": "never", "Labels": {"batchyard.fence": "0"}},'
            b' {"Id": "c2", "Labels": {"batchyard.fence": "1"}}]'
        )

    def do_POST(self) -> None:
        self.asked.append(f"POST {self.path}")
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


async def test_containers_are_killed_through_the_engines_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the keeper, which knows nothing of Docker but that."""
    asked: list[str] = []
    handler = type("Listed", (Engine,), {"asked": asked})
    monkeypatch.chdir(tmp_path)  # a socket's path has 107 bytes at most
    with socketserver.UnixStreamServer("engine", handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            link = KeeperLink(tmp_path / "keeper")
            await link.open()
            link.guard(
                since_ms=boot_ms() - 2,
                fence_ms=1,
                containers=[0, 1],
                engine=str(tmp_path / "engine"),
                query="/all?of=us",
            )
            await until(lambda: len(asked) >= 3)
        finally:
            server.shutdown()
            thread.join()
    assert asked[:3] == ["GET /all?of=us", "POST /containers/c1/kill", "POST /containers/c2/kill"]
    link.guard(since_ms=0, fence_ms=0, containers=(), engine="", query="")
    await link.close()


def test_a_contact_counts_that_came_while_the_engine_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine may take long to answer: what started meanwhile is not ended."""

    def answer_late(self: Engine) -> None:
        Guard(str(tmp_path), "this boot").tell(boot_ms() + 60_000, 1, "0,1", str(tmp_path / "engine"), "/all")
        Engine.do_GET(self)

    asked: list[str] = []
    handler = type("Slow", (Engine,), {"asked": asked, "do_GET": answer_late})
    monkeypatch.chdir(tmp_path)
    with socketserver.UnixStreamServer("engine", handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            guard = Guard(str(tmp_path), "this boot")
            guard.tell(boot_ms() - 2, 1, "0,1", str(tmp_path / "engine"), "/all")
            guard.kill_containers()
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["GET /all"]


@pytest.mark.docker
async def test_a_container_ends_at_the_deadline(tmp_path: Path) -> None:
    """With a real engine; beside it one without a fence, and another agent's, which go on."""
    ensure_image()
    scopes, told = [f"guard-{os.getpid()}-{number}" for number in range(2)], list[Observation]()
    runtimes = [DockerRuntime(scope, home=scope, address=ENGINE_ADDRESS) for scope in scopes]
    link = KeeperLink(tmp_path / "keeper")
    await link.open()
    try:
        for number, each in enumerate(runtimes):
            await each.open(told.append)
            each.launch(container_spec(tmp_path, named(f"guard-{number}#1"), "sleep", "600"))
        never = container_spec(tmp_path, named("guard-0#2"), "sleep", "600")
        runtimes[0].launch(replace(never, fence_ms=0))
        await until(lambda: len(told) == 3)
        engine, query = runtimes[0].guarded()
        link.guard(since_ms=boot_ms(), fence_ms=100, containers=[0, 100], engine=engine, query=query)
        await until(lambda: len(told) == 4)
        assert isinstance(told[3], Exited)
        assert (told[3].exit_code, told[3].attempt_id) == (137, named("guard-0#1"))
        assert named("guard-0#2") in await runtimes[0].launched()
        assert await runtimes[1].launched() == [named("guard-1#1")]
    finally:
        for scope, each in zip(scopes, runtimes, strict=True):
            await each.close()
            remove_all(scope)
        link.guard(since_ms=0, fence_ms=0, containers=(), engine="", query="")
        await link.close()
