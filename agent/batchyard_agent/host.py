"""
This host as the controller sees it: facts and usage, as messages.

It joins what the probes read with what the configuration says. It knows no
attempts. Law: a probe that hangs or breaks holds up nobody; the last reading stands in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

import batchyard_agent
from batchyard.features import (
    CONTAINER_OUTPUT,
    ENTRIES,
    FEATURES,
    SECURED_CONTAINERS,
    SECURED_PROCESSES,
    SHARED_PROCESSES,
)
from batchyard.resources import GPU_WHOLE
from batchyard.runtimes import DOCKER, PROCESS
from batchyard.v1 import host_pb2, resources_pb2
from batchyard_agent import clock
from batchyard_agent.config import Config
from batchyard_agent.core.events import HostChanged
from batchyard_agent.probe import cpu_memory, nvml
from batchyard_agent.probe.address import read_address
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.docker_spec import Isolation
from batchyard_agent.runtimes.process import ProcessRuntime
from batchyard_agent.runtimes.protocol import Runtime

PROBE_TIMEOUT_S = 2.0
MEMORY_RESERVE_SHARE = 20
"""One part in so many of the memory is kept for the system and the agent, ..."""
MEMORY_RESERVE_MIB_MIN = 128
MEMORY_RESERVE_MIB_MAX = 1024
"""... within these bounds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """
    What the probes read at one moment.

    Attributes:
        free_mib: Of the fullest disk that the agent and processes write to.
        address: Where other hosts reach this one.
    """

    usage: cpu_memory.HostUsage
    free_mib: int
    gpus: Sequence[nvml.Gpu]
    address: str


class LocalHost:
    """
    The machine that the agent runs on.

    Args:
        runtimes: Those that are open, by name; more may come.
        on_change: Told when runtimes or GPUs are others than before.
    """

    def __init__(
        self, config: Config, runtimes: Mapping[str, Runtime], on_change: Callable[[HostChanged], None]
    ) -> None:
        self._config = config
        self._runtimes = runtimes
        self._on_change = on_change
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="probe")
        self._is_short = False
        self._reclaimed_at_ms = 0
        self._reading: asyncio.Future[Reading] | None = None
        self._fixed = cpu_memory.read_facts(self._disk())
        self._last = self._read()
        self._facts = self._make_facts()
        if self._facts.faults:
            _tell_faults(self._facts)
        self._tell()

    @property
    def boot_id(self) -> str:
        """The machine's present boot."""
        return self._fixed.boot_id

    def facts(self) -> host_pb2.HostFacts:
        """Return what the host is; the same object until it has changed."""
        return self._facts

    async def read_usage(self) -> host_pb2.HostUsage:
        """Measure what the host is doing; after two seconds, or where that breaks, take what was measured before."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        await asyncio.wait([self._reading], timeout=PROBE_TIMEOUT_S)
        if self._reading.done():
            done, self._reading = self._reading, None
            if isinstance(error := done.exception(), OSError):
                log.warning("the host cannot be measured", error=str(error))  # as without descriptors; jobs go on
            else:
                self._take(done.result())
        usage = self._last.usage
        return host_pb2.HostUsage(
            cpu_percent=usage.cpu_percent,
            memory_used_mib=usage.memory_used_mib,
            disk_free_mib=usage.disk_free_mib,
            wall_ms=clock.read_wall_ms(),
            gpus=map(_gpu, self._last.gpus),
        )

    def announce(self, reclaimed_at_ms: int) -> None:
        """Say from now on when the machine is taken away (wall clock); 0: that it is not."""
        self._reclaimed_at_ms = reclaimed_at_ms
        self._facts = self._make_facts()

    def close(self) -> None:
        """Let go of the probes' thread; one that hangs is left behind."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self, reading: Reading) -> None:
        before, self._last = self._last, reading
        if [_identity(gpu) for gpu in before.gpus] != [_identity(gpu) for gpu in reading.gpus]:
            log.warning("the GPUs have changed", gpus=[_identity(gpu) for gpu in reading.gpus])
        if (facts := self._make_facts()) != self._facts:
            if facts.faults != self._facts.faults:
                _tell_faults(facts)
            self._facts = facts
            self._tell()

    def _read(self) -> Reading:
        gpus = nvml.read_gpus()
        limit = self._config.gpus
        usage = cpu_memory.read_usage(self._disk())
        free_mib = min(usage.disk_free_mib, cpu_memory.read_disk_free_mib(self._config.state_dir))
        address = self._config.node_address or read_address(self._config.controller.split(",")[0])
        gpus = gpus if limit is None else gpus[:limit]
        return Reading(usage=usage, free_mib=free_mib, gpus=gpus, address=address)

    def _disk(self) -> Path:
        """Return a folder on the disk that is offered: where processes work, if they may."""
        config = self._config
        return config.scratch if PROCESS in self._runtimes and config.scratch.exists() else config.state_dir

    def _shortage(self) -> str:
        """Say which disk has too little room for more work; it takes a quarter more than that to be well again."""
        floor_mib = self._config.keep_free_mib
        self._is_short = self._last.free_mib < (floor_mib * 5 // 4 if self._is_short else floor_mib)
        return f"less than {floor_mib} MiB are free on a disk of the agent's" if self._is_short else ""

    def _tell(self) -> None:
        gpus = self._last.gpus
        self._on_change(
            HostChanged(
                runtimes=frozenset(self._runtimes),
                gpu_uuids=frozenset(gpu.uuid for gpu in gpus),
                gpu_faults={gpu.uuid: gpu.fault for gpu in gpus if gpu.fault},
            )
        )

    def _make_facts(self) -> host_pb2.HostFacts:
        config, fixed, gpus = self._config, self._fixed, self._last.gpus
        shortage, docker = self._shortage(), self._runtimes.get(DOCKER)
        isolation = docker.isolation if isinstance(docker, DockerRuntime) else Isolation()
        capacity = resources_pb2.Resources(
            cpu_millis=config.cpu_millis or fixed.cpu_millis,
            memory_mib=config.memory_mib or fixed.memory_mib - memory_reserve_mib(fixed.memory_mib),
            gpu_millis=GPU_WHOLE * sum(not gpu.fault for gpu in gpus),
            disk_mib=fixed.disk_mib,
        )
        return host_pb2.HostFacts(
            name=config.name,
            boot_id=fixed.boot_id,
            agent_version=batchyard_agent.__version__,
            capacity=capacity,
            gpus=map(_gpu, gpus),
            runtimes=[name for name, runtime in sorted(self._runtimes.items()) if not (shortage or runtime.fault)],
            faults=[shortage] if shortage else [r.fault for _, r in sorted(self._runtimes.items()) if r.fault],
            host_type=config.host_type,
            purchase_option=config.purchase_option,
            zone=config.zone,
            price_per_hour=config.price_per_hour,
            labels=config.labels,
            operating_system=fixed.operating_system,
            cpu_model=fixed.cpu_model,
            allows_privileged=config.allowed.privileged and not config.security_level.is_secured,
            volume_paths=config.allowed.volume_paths,
            device_paths=() if config.security_level.is_secured else config.allowed.device_paths,
            reclaimed_at_ms=self._reclaimed_at_ms,
            platforms=config.platforms,
            cpu_architecture=fixed.cpu_architecture,
            sandbox=isolation.sandbox,
            enforces_disk=isolation.bounds_disk,
            processes=_isolation(self._runtimes.get(PROCESS)),
            address=self._last.address,
            features=_features(self._runtimes.get(PROCESS), isolation),
        )


def _isolation(runtime: Runtime | None) -> host_pb2.ProcessIsolation | None:
    if not isinstance(runtime, ProcessRuntime):
        return None
    return host_pb2.ProcessIsolation(
        enforcement=runtime.enforcement,
        user=runtime.user,
        no_new_privileges=runtime.is_other_user,
        hides_processes=runtime.is_isolated,
        hides_gpus=runtime.is_isolated,
    )


def keeps_levels(runtime: Runtime) -> bool:
    """Say whether a runtime can keep jobs to a security level on this machine; right after it was opened."""
    if isinstance(runtime, ProcessRuntime):
        return runtime.is_isolated
    return isinstance(runtime, DockerRuntime) and runtime.isolation.is_fenced


def _features(runtime: Runtime | None, containers: Isolation) -> tuple[str, ...]:
    features = [*FEATURES, ENTRIES]
    if isinstance(runtime, ProcessRuntime):
        features.append(SECURED_PROCESSES if runtime.is_isolated else SHARED_PROCESSES)
        features.append(CONTAINER_OUTPUT)
    if containers.is_fenced:
        features.append(SECURED_CONTAINERS)
    return tuple(features)


def _tell_faults(facts: host_pb2.HostFacts) -> None:
    log.warning("the host takes other work than before", offers=list(facts.runtimes), faults=list(facts.faults))


def memory_reserve_mib(total_mib: int) -> int:
    """Return how much of the memory is not offered to jobs."""
    share = min(MEMORY_RESERVE_MIB_MAX, max(MEMORY_RESERVE_MIB_MIN, total_mib // MEMORY_RESERVE_SHARE))
    return min(share, total_mib // 2)


def _gpu(gpu: nvml.Gpu) -> host_pb2.Gpu:
    return host_pb2.Gpu(
        uuid=gpu.uuid,
        model=gpu.model,
        memory_mib=gpu.memory_mib,
        memory_used_mib=gpu.memory_used_mib,
        utilization_percent=gpu.utilization_percent,
        fault=gpu.fault,
    )


def _identity(gpu: nvml.Gpu) -> tuple[str, str]:
    return gpu.uuid, gpu.fault
