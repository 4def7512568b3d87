"""
Provider ``local``: agents on this machine, each a host with a share of it.

For one's own workstation and for tests. A host is a folder below the provider's own; its
agent is the process whose state lies there, found by its arguments, so that a controller
that was killed between starting an agent and noting it finds it again. An agent that has
died is started again, and so are those that ended with the controller: what ran on them
went on, and is taken up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from batchyard.ids import LaunchId
from batchyard.resources import GPU_WHOLE
from batchyard.state_folder import make_private_folder
from batchyard_controller.core.model.launches import Launch

from .protocol import ProviderError, Wanted

AGENT = "batchyard_agent"
EARLY_S = 3.0
"""An agent that ends within it, as with a wrong option, was not launched."""
STOP_S = 8.0
LOOK_S = 0.1
_LOG_BYTES_READ = 4096
_ARGUMENTS = "arguments.json"
"""In a host's folder: how its agent is started."""


class LocalProvider:
    """
    Starts agents.

    Args:
        folder: Of its own: state and log of each host, until it is stopped.
        scratch: Where processes of its hosts work, below folders that all may enter.
        controller: Address that agents are told.
    """

    def __init__(self, folder: Path, scratch: Path, controller: str) -> None:
        self._folder = folder
        self._scratch = scratch
        self._controller = controller
        self._started: dict[LaunchId, subprocess.Popen[bytes]] = {}
        """By this process, which has to learn their ends."""
        self._starting = asyncio.Lock()

    async def launch(self, wanted: Wanted) -> None:
        """Start an agent, if it does not run."""
        launch_id = wanted.launch.id
        home = self._folder / launch_id
        try:
            make_private_folder(self._folder)
            make_private_folder(home)
            fresh = home / f"{_ARGUMENTS}.new"
            fresh.write_text(json.dumps(self._arguments(wanted)), encoding="utf-8")
            fresh.replace(home / _ARGUMENTS)
            await self._start(launch_id)
        except OSError as error:
            raise ProviderError(f"no agent can be started in {home}: {error.strerror or error}") from None
        for _ in range(int(EARLY_S / LOOK_S)):
            process = self._started.get(launch_id)
            if process is not None and process.poll() is not None:
                raise ProviderError(_last_words(home) or f"the agent ended with {process.returncode}")
            await asyncio.sleep(LOOK_S)

    async def _start(self, launch_id: LaunchId) -> None:
        """Start the agent of a host, if it does not run."""
        async with self._starting:
            if (former := self._started.get(launch_id)) is not None:
                former.poll()  # buried, if it is dead
            if not await asyncio.to_thread(self._pids, launch_id):
                self._started[launch_id] = await asyncio.to_thread(_start_agent, self._folder / launch_id)

    def _arguments(self, wanted: Wanted) -> list[str]:
        launch_id, facts = wanted.launch.id, wanted.type.facts
        arguments = [sys.executable, "-m", AGENT, "--controller", self._controller, *self._state(launch_id)]
        arguments += ["--scratch-dir", str(self._scratch / launch_id), *wanted.agent_options()]
        arguments += ["--cpus", f"{facts.capacity.cpu_millis / 1000:.10g}", "--memory", f"{facts.capacity.memory_mib}M"]
        return [*arguments, "--gpus", str(facts.capacity.gpu_millis // GPU_WHOLE)]

    def _state(self, launch_id: LaunchId) -> list[str]:
        """Return the arguments by which an agent is known again."""
        return ["--state-dir", str(self._folder / launch_id / "agent")]

    async def stop(self, launch: Launch) -> None:
        """End an agent and remove what is left of it."""
        home = self._folder / launch.id
        (home / _ARGUMENTS).unlink(missing_ok=True)  # nobody starts it again
        if not await self._end([launch.id], signal.SIGTERM) and not await self._end([launch.id], signal.SIGKILL):
            raise ProviderError("its agent cannot be killed")
        await self._bury([launch.id])
        for folder in (home, self._scratch / launch.id):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def close(self) -> None:
        """End all agents; what runs there goes on."""
        await self._end(await asyncio.to_thread(self._hosts), signal.SIGTERM)
        await self._bury(list(self._started))

    async def _bury(self, launch_ids: list[LaunchId]) -> None:
        """Learn the ends of agents that this process started, if they have ended."""
        for launch_id in launch_ids:
            if (process := self._started.pop(launch_id, None)) is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, STOP_S)

    async def _end(self, launch_ids: list[LaunchId], number: signal.Signals) -> bool:
        """Send agents a signal; return whether they have ended in time."""
        for launch_id in launch_ids:
            for pid in await asyncio.to_thread(self._pids, launch_id):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        for _ in range(int(STOP_S / LOOK_S)):
            if not await asyncio.to_thread(self._are_there, launch_ids):
                return True
            await asyncio.sleep(LOOK_S)
        return False

    def _are_there(self, launch_ids: list[LaunchId]) -> bool:
        return any(self._pids(launch_id) for launch_id in launch_ids)

    async def existing(self) -> frozenset[LaunchId]:
        """Return the hosts, whose agents run from now on if they did not."""
        try:
            hosts = await asyncio.to_thread(self._hosts)
            for launch_id in hosts:
                with contextlib.suppress(FileNotFoundError):  # it is being stopped
                    await self._start(launch_id)
        except OSError as error:
            raise ProviderError(f"{error.filename or self._folder}: {error.strerror or error}") from None
        return frozenset(hosts)

    def _hosts(self) -> list[LaunchId]:
        return [LaunchId(path.parent.name) for path in self._folder.glob(f"*/{_ARGUMENTS}")]

    def _pids(self, launch_id: LaunchId) -> list[int]:
        return [pid for pid, arguments in _processes() if _has(arguments, self._state(launch_id))]


def _start_agent(home: Path) -> subprocess.Popen[bytes]:
    """Start the agent of a host in a session of its own, so that it outlives this process."""
    arguments = json.loads((home / _ARGUMENTS).read_bytes())
    with (home / "agent.log").open("ab") as log:
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Yield the agents that run on this machine; those that are dead and not yet buried have no arguments."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has just ended, or is none of our business
            if AGENT in arguments:
                yield int(entry.name), arguments


def _has(arguments: list[str], pair: list[str]) -> bool:
    return any(arguments[i : i + 2] == pair for i in range(len(arguments)))


def _last_words(home: Path) -> str:
    with (home / "agent.log").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES_READ))
        lines = log.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
