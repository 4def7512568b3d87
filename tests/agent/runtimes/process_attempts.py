"""What the tests of the process runtime share: attempts, a runtime that remembers what it told, witnesses."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from batchyard.resources import Resources
from batchyard.tasks import Condition, Container, ContainerDependency
from batchyard_agent.keeper_link import KeeperLink
from batchyard_agent.runtimes.job_user import JobUser, Owners
from batchyard_agent.runtimes.process import ProcessRuntime
from batchyard_agent.runtimes.protocol import (
    ContainersChanged,
    Device,
    Exited,
    LaunchSpec,
    Mount,
    Observation,
    Started,
    StartFailed,
    StopSignal,
    Vanished,
)
from batchyard_agent.runtimes.secret_files import SecretFiles

DEADLINE_S = 45.0

Ending = Exited | StartFailed | Vanished


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def job_id(folder: Path) -> str:
    """Return the job of a test's folder: cgroups are named after attempts, so no two tests may have the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(folder)))


def attempt(
    folder: Path,
    *command: str,
    number: int = 1,
    environment: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    memory_mib: int = 256,
    disk_mib: int = 0,
    cpu_millis: int = 1000,
    log_bytes_max: int = 1 << 20,
    mounts: tuple[Mount, ...] = (),
    devices: tuple[Device, ...] = (),
    gpu_uuids: tuple[str, ...] = (),
    **others: Any,
) -> LaunchSpec:
    """Build a spec; *others* are its container's."""
    resources = Resources(cpu_millis=cpu_millis, memory_mib=memory_mib, disk_mib=disk_mib)
    return LaunchSpec(
        attempt_id=f"{job_id(folder)}:5#{number}",
        job_id=f"{job_id(folder)}:5",
        container=Container(command=command, resources=resources, **others),
        environment=environment or {},
        secrets=secrets or {},
        log_path=folder / "logs" / f"{number}.log",
        log_bytes_max=log_bytes_max,
        mounts=mounts,
        devices=devices,
        gpu_uuids=gpu_uuids,
    )


def shell(folder: Path, script: str, **settings: object) -> LaunchSpec:
    return attempt(folder, "sh", "-c", script, **settings)  # type: ignore[arg-type]  # passed on as they are


def part(folder: Path, name: str, script: str, *, after: str = "", number: int = 1, **settings: Any) -> LaunchSpec:
    """Build one of several processes of an attempt, which waits *after* others: ``NAME:CONDITION ...``."""
    depends_on = tuple(
        ContainerDependency(container=other, condition=Condition(condition))
        for other, _, condition in (text.partition(":") for text in after.split())
    )
    spec = shell(folder, script, number=number, name=name, depends_on=depends_on, **settings)
    return replace(spec, part=name, log_path=folder / "logs" / f"{number}.{name}.log")


def several(*parts: LaunchSpec) -> LaunchSpec:
    """Build the spec of an attempt of several processes."""
    first = parts[0]
    return LaunchSpec(
        attempt_id=first.attempt_id,
        job_id=first.job_id,
        container=Container(),
        environment={},
        log_path=first.log_path.with_name("none"),
        log_bytes_max=first.log_bytes_max,
        parts=parts,
    )


def runtime(
    folder: Path,
    *,
    enforcement: Literal["auto", "rlimit"] = "auto",
    user: JobUser | None = None,
    owners: Owners | None = None,
    scratch: str = "scratch",
    secret_files: SecretFiles | None = None,
) -> ProcessRuntime:
    """Return a runtime with all that is its own below a folder, its keeper's too."""
    link = KeeperLink(folder / "keeper")
    return ProcessRuntime(
        folder / "state",
        folder / scratch,
        now_ms=now_ms,
        link=link,
        enforcement=enforcement,
        user=user,
        owners=owners,
        secret_files=secret_files,
    )


class Host:
    """A process runtime and all that it has told."""

    def __init__(self, runtime: ProcessRuntime) -> None:
        self.runtime = runtime
        self.told: list[Observation] = []
        self._heard = asyncio.Event()

    async def open(self) -> Host:
        await self.runtime.open(self._observe)
        return self

    def _observe(self, observation: Observation) -> None:
        if isinstance(observation, ContainersChanged):
            return  # beside starts and ends
        self.told.append(observation)
        self._heard.set()

    def of(self, spec: LaunchSpec) -> list[Observation]:
        return [observation for observation in self.told if observation.attempt_id == spec.attempt_id]

    async def end(self, spec: LaunchSpec) -> Ending:
        """Wait for the attempt's end."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for observation in self.of(spec):
                    if not isinstance(observation, Started):
                        return observation
                self._heard.clear()
                await self._heard.wait()

    def keeper_pid(self) -> int:
        connection = self.runtime._link._connection
        return connection.pid if connection else 0

    async def close(self) -> None:
        """Let go of runtime and keeper; attempts go on."""
        await self.runtime.close()
        await self.runtime._link.close()

    async def clear(self) -> None:
        """Kill all attempts and let go of everything."""
        for attempt_id in await self.runtime.launched():
            await self.runtime.signal(attempt_id, StopSignal.KILL)
        await until(lambda: not self.runtime._live and not self.runtime._tasks._found)
        for attempt_id in await self.runtime.launched():
            assert not await self.runtime.remove([attempt_id])
        await self.close()

    async def done(self, spec: LaunchSpec) -> Ending:
        """Launch, and wait for the end."""
        self.runtime.launch(spec)
        return await self.end(spec)


async def until(condition: Callable[[], object]) -> None:
    """Wait for the world outside: there is nothing to be told by."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def log_of(spec: LaunchSpec) -> str:
    return spec.log_path.read_text() if spec.log_path.exists() else ""


def lives(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def zombie_children() -> list[int]:
    found: list[int] = []
    for pid in (path.name for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
        if state == "Z" and int(parent) == os.getpid():
            found.append(int(pid))
    return found
