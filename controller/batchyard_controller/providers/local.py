"""
Provider ``local``: agents on this machine, each a host with a share of it.

For one's own workstation and for tests. A host is a folder below the provider's own, and
the process whose state lies there: found by its arguments, so that a controller that was
killed between starting an agent and noting it finds it again, and agents outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from batchyard.ids import LaunchId
from batchyard.resources import GPU_WHOLE
from batchyard.state_folder import make_private_folder
from batchyard_controller.core.model.launches import Launch

from .protocol import ProviderError, Wanted

AGENT = "batchyard_agent"
EARLY_S = 1.0
"""An agent that ends within it, as with a wrong option, was not launched."""
STOP_S = 20.0
LOOK_S = 0.1
_LOG_BYTES_READ = 4096


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
        self._started: dict[LaunchId, asyncio.subprocess.Process] = {}
        """By this process, which has to learn their ends."""

    async def launch(self, wanted: Wanted) -> None:
        """Start an agent, if it does not run."""
        launch_id = wanted.launch.id
        if await asyncio.to_thread(self._pids, launch_id):
            return
        home = self._folder / launch_id
        try:
            make_private_folder(self._folder)
            make_private_folder(home)
            with (home / "agent.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *self._arguments(wanted),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise ProviderError(f"no agent can be started in {home}: {error.strerror or error}") from None
        self._started[launch_id] = process
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EARLY_S):
                code = await process.wait()
                raise ProviderError(_last_words(home) or f"the agent ended with {code}")

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
        looks = int(STOP_S / LOOK_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            pids = await asyncio.to_thread(self._pids, launch.id)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            for _ in range(looks):
                if not await asyncio.to_thread(self._pids, launch.id):
                    break
                await asyncio.sleep(LOOK_S)
        if await asyncio.to_thread(self._pids, launch.id):
            raise ProviderError("its agent cannot be killed")
        self._started.pop(launch.id, None)
        for folder in (self._folder / launch.id, self._scratch / launch.id):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def existing(self) -> frozenset[LaunchId]:
        """Return the hosts whose agents run."""
        return frozenset(await asyncio.to_thread(self._running))

    def _running(self) -> list[LaunchId]:
        states = [arguments for _, arguments in _processes()]
        try:
            names = [LaunchId(path.name) for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ProviderError(f"{self._folder} cannot be read: {error.strerror or error}") from None
        return [name for name in names if any(_has(arguments, self._state(name)) for arguments in states)]

    def _pids(self, launch_id: LaunchId) -> list[int]:
        return [pid for pid, arguments in _processes() if _has(arguments, self._state(launch_id))]


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
