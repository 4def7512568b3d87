"""
What a container of a pod writes, brought into the attempt's log file.

The API reads a container's output from its beginning, as far as its node has kept it: the
kubelet begins a new file at 10 MiB by default, and the API reads the present one alone. So
output is followed from the start, and where a beginning is missing the file says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import structlog

from batchyard_agent.kubernetes.cluster import Cluster, ClusterError, RefusedError
from batchyard_agent.runtimes.log_file import LogFile

FOLLOW_AFTER_S = 0.5
"""A container that ends sooner is not worth a connection: its output is read at its end."""
MEND_EVERY_S = 15.0
FINISH_S = 5.0
GONE = b"unable to retrieve container logs for "
"""What the kubelet answers in place of the output of a container that it has removed, as those of pods that are deleted."""
READS = 3
READ_AGAIN_S = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One container of one pod, and where its output goes."""

    namespace: str
    pod: str
    container: str
    path: Path
    bytes_max: int


class PodOutput:
    """The output of one container. It is followed from its making on, in a task of its own."""

    def __init__(self, cluster: Cluster, source: Source, *, follow: bool) -> None:
        self._cluster = cluster
        self._source = source
        self._is_whole = False
        self._is_connected = False
        self._task = asyncio.get_running_loop().create_task(self._follow()) if follow else None

    async def stop(self) -> None:
        """Stop following; the container goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def finish(self) -> None:
        """Bring all output of a container that has ended into its file; say in it what could not be."""
        if self._task is not None:
            if self._is_connected:
                await asyncio.wait([self._task], timeout=FINISH_S)
            await self.stop()
        error = ""
        for attempt in range(READS):
            if self._is_whole:
                return
            if attempt:
                await asyncio.sleep(READ_AGAIN_S)
            try:
                await self._pour(follow=False)
            except RefusedError as err:
                error = str(err)
                break
            except (ClusterError, OSError) as err:
                error = str(err)
        if not self._is_whole:
            source = self._source
            log.warning("a log is not whole", pod=source.pod, container=source.container, error=error)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_note, source, error)

    async def _follow(self) -> None:
        await asyncio.sleep(FOLLOW_AFTER_S)
        while not self._is_whole:
            try:
                await self._pour(follow=True)
            except (ClusterError, OSError) as error:
                log.debug("following a log broke off", pod=self._source.pod, error=str(error))
                await asyncio.sleep(MEND_EVERY_S)

    async def _pour(self, *, follow: bool) -> None:
        source = self._source
        file = await asyncio.to_thread(LogFile, source.path, source.bytes_max)
        try:
            output = self._cluster.output(source.namespace, source.pod, source.container, follow=follow)
            async with output as chunks:
                self._is_connected = True
                async for chunk in chunks:
                    if chunk.startswith(GONE):
                        raise RefusedError(chunk.decode(errors="replace").strip())
                    await asyncio.to_thread(file.take, chunk)
        finally:
            self._is_connected = False
            await asyncio.to_thread(file.close)
        self._is_whole = True


def _note(source: Source, error: str) -> None:
    with source.path.open("ab") as file:
        file.write(f"\n[batchyard: the output could not be read to its end: {error}]\n".encode())
