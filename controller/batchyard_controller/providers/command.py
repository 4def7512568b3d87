"""
Provider ``command``: a program of the operator's, told on its standard input what to do.

It is started once for each thing to do, with one JSON object on its standard input:

- ``{"operation": "launch", "launch": ID, "environment": NAME, "type": NAME, "purchase_option":
  "on-demand" or "spot", "vcpus": N, "memory_mib": N, "gpus": N, "labels": {...},
  "controller": ADDRESS, "agent_options": [...]}``: launch a host whose agent is started with
  these options. It may end before the host has booted.
- ``{"operation": "stop", "launch": ID, "environment": ..., "type": ..., "purchase_option": ...}``.
- ``{"operation": "list"}``: write ``{"launches": [ID, ...]}`` to the standard output.

Exit code 0 is yes; with any other the last line of its standard error is the reason. After
the timeout it is killed with all its children.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from batchyard.ids import LaunchId
from batchyard_controller.core.model.launches import Launch

from .protocol import ProviderError, Wanted

TIMEOUT_S = 60.0
OUTPUT_BYTES_MAX = 1 << 20
"""More than this of what a program writes is not read."""


class CommandProvider:
    """
    Asks a program.

    Args:
        command: Its argument vector; no shell sees it.
        environment: Its environment.
        controller: Address that agents of its hosts are to be told.
        timeout_s: How long it may take.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], controller: str, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._controller = controller
        self._timeout_s = timeout_s

    async def launch(self, wanted: Wanted) -> None:
        """Ask for a host."""
        capacity = wanted.type.facts.capacity
        await self._ask(
            **_named("launch", wanted.launch),
            vcpus=capacity.cpu_millis / 1000,
            memory_mib=capacity.memory_mib,
            gpus=len(wanted.type.facts.gpus),
            labels=dict(wanted.launch.labels),
            controller=self._controller,
            agent_options=wanted.agent_options(),
        )

    async def stop(self, launch: Launch) -> None:
        """Ask for the end of a host."""
        await self._ask(**_named("stop", launch))

    async def existing(self) -> frozenset[LaunchId]:
        """Ask which hosts there are."""
        text = await self._ask(operation="list")
        try:
            answer = json.loads(text)
        except ValueError as err:
            raise ProviderError(f"list: what it wrote is no JSON: {err}") from None
        ids = answer.get("launches") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise ProviderError('list: what it wrote is not {"launches": [ID, ...]}')
        return frozenset(map(LaunchId, ids))

    async def close(self) -> None:
        """Leave all as it is."""

    async def _ask(self, **request: Any) -> str:
        """Run the program and return what it wrote."""
        # Files, not pipes: who is left running by it, such as an agent, would hold a pipe open.
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            said.write(json.dumps(request).encode())
            said.seek(0)
            code = await self._run(said, out, err)
            if code != 0:
                how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
                raise ProviderError(_last_line(_read(err)) or f"{Path(self._command[0]).name}: {how}")
            return _read(out)

    async def _run(self, said: IO[bytes], out: IO[bytes], err: IO[bytes]) -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=said, stdout=out, stderr=err, env=self._environment, start_new_session=True
            )
        except OSError as error:
            raise ProviderError(f"{self._command[0]} cannot be started: {error.strerror or error}") from None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await process.wait()
        except TimeoutError:
            raise ProviderError(f"{Path(self._command[0]).name} did not end within {self._timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def _named(operation: str, launch: Launch) -> dict[str, Any]:
    return {
        "operation": operation,
        "launch": launch.id,
        "environment": launch.environment,
        "type": launch.host_type,
        "purchase_option": launch.purchase_option,
    }


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT_BYTES_MAX).decode(errors="replace")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
