"""The driver with a real journal and the fake runtime, without a controller's end."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from tests.disks import fill

from batchyard.states import EndCause
from batchyard.tasks import Container
from batchyard_agent import clock
from batchyard_agent.core.attempts import Phase
from batchyard_agent.core.events import HeartbeatAcknowledged, Now, Recovered, StartRequested
from batchyard_agent.driver import Driver
from batchyard_agent.journal import Journal
from batchyard_agent.runtimes.fake import FakeRuntime

from .core.builders import EPOCH, SESSION, A, B, acknowledged, spec, stop, table


class Reports:
    """A session that keeps what it is told."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue = asyncio.Queue()
        self.running = asyncio.Event()

    def send_reports(self, attempts) -> None:
        for attempt in attempts:
            if attempt.phase is Phase.RUNNING:
                self.running.set()
            if attempt.is_over:
                self.ended.put_nowait(attempt)

    def ask_secrets(self, attempt_id) -> None:
        raise AssertionError(attempt_id)

    def leave(self, reason) -> None:
        raise AssertionError(reason)


class WatchedFake(FakeRuntime):
    """Says when it was signalled."""

    def __init__(self) -> None:
        super().__init__(now_ms=clock.read_wall_ms)
        self.signalled = asyncio.Event()

    async def signal(self, attempt_id, signal) -> None:
        await super().signal(attempt_id, signal)
        self.signalled.set()


class HoldingFake(FakeRuntime):
    """Holds what an earlier agent left, kills it when it may, and says what it did in which order."""

    def __init__(self) -> None:
        super().__init__(now_ms=clock.read_wall_ms)
        self.may_kill = asyncio.Event()
        self.did: list[tuple[str, str]] = []

    async def discard(self, attempt_id) -> None:
        await self.may_kill.wait()
        self.did.append(("killed", attempt_id))

    def launch(self, spec) -> None:
        self.did.append(("launched", spec.attempt_id))
        super().launch(spec)


@contextlib.asynccontextmanager
async def driving(folder, runtime):
    journal = Journal.open(folder, "host-1")
    driver = Driver(table=table(), journal=journal, read_now=lambda: Now(boot_ms=1, wall_ms=clock.read_wall_ms()))
    await runtime.open(driver.observe)
    driver.runtimes["fake"] = runtime
    running = asyncio.create_task(driver.run())
    try:
        yield driver
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runtime.close()
        journal.close()


def long_start():
    one = spec(A, runtime="fake")
    environment = {"BATCHYARD_FAKE_DURATION_S": "3600"}
    launch = replace(one.launch, container=Container(image="fake://", command=("work",)), environment=environment)
    return StartRequested(epoch=EPOCH, session=SESSION, spec=replace(one, launch=launch))


async def test_who_fills_the_disk_can_be_stopped(small_disk):
    """The signal goes out though nothing can be written; the end is told once it is."""
    reports, runtime = Reports(), WatchedFake()
    async with driving(small_disk, runtime) as driver:
        await driver.attach(reports)
        driver.observe(long_start())
        await reports.running.wait()
        (small_disk / "reserve").unlink()
        fill(small_disk)
        driver.observe(stop())
        await runtime.signalled.wait()
        settled = asyncio.create_task(driver.settle())
        driver.observe(HeartbeatAcknowledged(epoch=EPOCH + 1, sent_at_ms=1))
        assert reports.ended.empty()
        (small_disk / "filler").unlink()
        ended = await reports.ended.get()
        assert (ended.attempt_id, ended.cause) == (A, EndCause.STOPPED)
        await settled


class ClingingFake(FakeRuntime):
    """Cannot let go of one attempt at first."""

    def __init__(self) -> None:
        super().__init__(now_ms=clock.read_wall_ms)
        self.removed: asyncio.Queue[list[str]] = asyncio.Queue()

    async def remove(self, attempt_ids):
        self.removed.put_nowait([*attempt_ids])
        return {A: OSError("busy")} if B in attempt_ids else {}


async def test_of_those_removed_at_once_only_what_broke_is_removed_again(tmp_path, monkeypatch):
    """Acknowledged in one message, they go to their runtime in one call."""
    monkeypatch.setattr("batchyard_agent.core.observations.RETRY_MS", 0)
    reports, runtime = Reports(), ClingingFake()
    async with driving(tmp_path / "state", runtime) as driver:
        await driver.attach(reports)
        driver.observe(
            *(StartRequested(epoch=EPOCH, session=SESSION, spec=spec(each, runtime="fake")) for each in (A, B))
        )
        ended = [(await reports.ended.get()).attempt_id for _ in range(2)]
        driver.observe(*map(acknowledged, ended))
        assert sorted(await runtime.removed.get()) == [A, B]
        assert await runtime.removed.get() == [A]


async def test_what_an_earlier_agent_left_is_killed_before_anything_is_launched(tmp_path):
    """A start that comes meanwhile waits for that."""
    reports, runtime = Reports(), HoldingFake()
    async with driving(tmp_path / "state", runtime) as driver:
        driver.observe(Recovered(boot_id="boot-1", held=(("fake", B),)))
        await driver.attach(reports)
        driver.observe(long_start())
        await driver.settle()
        assert runtime.did == []
        runtime.may_kill.set()
        await reports.running.wait()
    assert runtime.did == [("killed", B), ("launched", A)]
