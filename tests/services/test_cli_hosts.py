"""The command line before a real controller: broken and gone hosts, and jobs that can no longer be cancelled."""

from __future__ import annotations

import asyncio
import re

import pytest

from batchyard.cli import main
from batchyard.v1 import attempt_pb2, host_pb2
from batchyard_controller.app import clock
from batchyard_controller.core.limits import CLOCK_OFF_HEARTBEATS

from .controller import MemoryController
from .hand_agent import HandAgent, ended, running

REFUSED = 3


class Shell:
    """Runs command lines, each in a thread beside the controller."""

    def __init__(self, yard: MemoryController, capsys: pytest.CaptureFixture[str]) -> None:
        self._yard = yard
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = await asyncio.to_thread(main, ["--address", self._yard.address, *arguments])
        return code, *self._capsys.readouterr()


@pytest.fixture
def shell(yard: MemoryController, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(yard, capsys)


async def test_host_that_is_suspected_is_named_with_its_reason(yard: MemoryController, shell: Shell) -> None:
    agent = HandAgent(yard)
    await agent.join()
    for _ in range(3):
        await yard.submit()
    for spec in await agent.hear_starts(3):
        why = "CannotStartContainerError: no space left on device"
        await agent.report(
            ended(spec.attempt_id, None, cause=attempt_pb2.END_CAUSE_HOST_ERROR, started_at_ms=0, reason=why)
        )
        await agent.hear("ack")
    code, told, notes = await shell("hosts")
    assert (code, "SUSPECTED" in told) == (0, True)
    assert "alpha is suspected for 4m 5" in notes
    assert "more: starts failed on it: CannotStartContainerError: no space left on device" in notes
    _, told, _ = await shell("hosts", "alpha")
    assert "no space left on device (uncordon, if it is mended)" in told
    await shell("uncordon", "alpha")
    assert "SUSPECTED" not in (await shell("hosts"))[1]


async def test_host_whose_clock_is_off_is_cordoned_and_says_so(yard: MemoryController, shell: Shell) -> None:
    agent = HandAgent(yard)
    await agent.join()

    async def beat(ahead_s: int) -> None:
        await agent.beat(usage=host_pb2.HostUsage(wall_ms=clock().wall_ms + ahead_s * 1000))
        await agent.hear("heartbeat_ack")

    for _ in range(CLOCK_OFF_HEARTBEATS):
        await beat(7201)
    _, told, notes = await shell("hosts")
    assert "CORDONED" in told
    assert re.search(r"alpha: its clock is 720[01] s ahead of the controller's", notes)
    told = (await shell("hosts", "alpha"))[1]
    assert re.search(r"Clock +720[01] s ahead of the controller's", told)
    assert re.search(r"Faults +its clock is 720[01] s ahead of the controller's", told)
    await beat(0)
    assert "READY" in (await shell("hosts"))[1]


async def test_host_that_is_gone_is_removed(yard: MemoryController, shell: Shell) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit()
    await agent.hear_starts()
    code, _, notes = await shell("host", "remove", "alpha")
    assert (code, notes) == (
        REFUSED,
        "batchyard: host alpha is connected and would be back at once; stop its agent first\n",
    )
    await agent.leave()
    assert (await shell("host", "remove", "alpha"))[0] == REFUSED
    assert (await shell("host", "remove", "alpha", "--force"))[0] == 0
    assert "alpha" not in (await shell("hosts"))[1]


async def test_cancel_of_what_runs_or_has_ended_says_so(yard: MemoryController, shell: Shell) -> None:
    """It has no effect, so it is no success; whoever wants the job stopped is told how."""
    agent = HandAgent(yard)
    await agent.join()
    runs, done = await yard.submit(), await yard.submit()
    for spec in await agent.hear_starts(2):
        await agent.report(running(spec.attempt_id))
    await agent.report(ended(f"{done}#1"))
    await agent.hear("ack")
    assert await shell("cancel", runs) == (
        REFUSED,
        "",
        f"batchyard: {runs} is RUNNING and goes on; `batchyard terminate {runs}` stops it\n",
    )
    assert await shell("cancel", done) == (
        REFUSED,
        "",
        f"batchyard: {done} has ended (SUCCEEDED): there is nothing to cancel\n",
    )
    waits = await yard.submit(container={"resources": {"cpu_millis": 4000, "memory_mib": 64}, "command": ["true"]})
    assert await shell("cancel", waits) == (0, "", f"batchyard: {waits} is cancelled\n")


async def test_cancel_of_an_array_says_what_goes_on(yard: MemoryController, shell: Shell) -> None:
    agent = HandAgent(yard)
    await agent.join()
    array = await yard.submit(array_size=10)
    await agent.hear_starts(3)
    assert await shell("cancel", array) == (
        REFUSED,
        "",
        f"batchyard: {array}: what waited is cancelled; 3 children go on (`batchyard terminate {array}` stops them)\n",
    )
