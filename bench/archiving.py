"""
Whether a store stays small at any history: jobs that end, with an archive and without, on a real etcd.

    bash scripts/with-services.sh python -m bench.archiving [--jobs N] [--kept N]

In one process, by the controller's driver, which submits jobs and cancels them, so that
nothing but the store, the world and the archive is measured. Told after each tenth: the
jobs that are kept and archived, what etcd's file holds and how large it is, and by how much
this process has grown. Etcd is kept in order by the controller's janitor, which forgets what
is older than its last look once 60 % of the quota are in use; the quota here is 128 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.contract.etcd_server import EtcdServer
from tests.services.controller import Controller, submission

from batchyard.errors import ResourceExhaustedError
from batchyard.ids import JobId
from batchyard_controller.app import new_job_id
from batchyard_controller.archivist import Archivist
from batchyard_controller.convert.jobs import submission as read_submission
from batchyard_controller.core.events import JobCancelled
from batchyard_controller.core.jobs import retention
from batchyard_controller.core.jobs.retention import DAY_MS, Retention
from batchyard_controller.core.requests.submissions import submit_job
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import tend
from batchyard_controller.store.archive import Archive
from batchyard_controller.store.open import open_store

from .yard import temporary_folder

QUOTA_MIB = 128
BATCH = 250
MIB = 1 << 20


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB


def _decides() -> Iterator[Any]:
    """Yield what submits a job, and what cancels it in the same turn."""
    wanted = read_submission(submission("ended", retry_strategy=None), "")
    for _ in range(BATCH):
        job_id = new_job_id()
        yield lambda world, now, job_id=job_id: submit_job(world, wanted, job_id, now)
        yield lambda world, _, job_id=job_id: (_cancelled(world, job_id), None)


def _cancelled(world: World, job_id: JobId) -> JobCancelled | None:
    return JobCancelled(job_id=job_id, index=None, reason="ended") if job_id in world.jobs else None


async def _run(folder: Path, endpoint: str, jobs: int, kept: int, *, has_archive: bool) -> None:
    store = open_store(f"etcd://{endpoint}/{'with' if has_archive else 'without'}")
    archivist = Archivist(Archive(folder), 365 * DAY_MS) if has_archive else None
    keeping = Retention(count=kept if has_archive else 10 * jobs, is_archived=has_archive)
    yard = Controller(store, archivist=archivist, retention=keeping)
    async with yard:
        await yard.until_leads()
        await yard.furnish()
        janitor = asyncio.create_task(tend(store, yard.leadership, yard.metrics))
        began_s, before_mib = time.monotonic(), _rss_mib()
        for done in range(BATCH, jobs + 1, BATCH):
            for outcome in await yard.leadership.driver.request_all(list(_decides())):
                if isinstance(outcome, ResourceExhaustedError):
                    print(f"  {done:8,} are too many: {outcome}")
                    janitor.cancel()
                    return
                if isinstance(outcome, Exception):
                    raise outcome
            if done % (jobs // 10) < BATCH:
                room = yard.leadership.driver.room
                here = await yard.leadership.driver.read(_kept)
                print(
                    f"  {done:8,} ended  {here:8,} kept  in use {room.used_bytes / MIB if room else 0:7.1f} MiB"
                    f"  file {room.size_bytes / MIB if room else 0:7.1f} MiB  grown by {_rss_mib() - before_mib:6.1f} MiB"
                    f"  {done / (time.monotonic() - began_s):7.0f} jobs/s",
                    flush=True,
                )
        janitor.cancel()


def _kept(world: World) -> int:
    return len(world.jobs)


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--kept", type=int, default=2_000)
    arguments = parser.parse_args()
    retention.SETTLE_MS = 1_000
    with temporary_folder() as folder:
        for has_archive in (True, False):
            print(
                f"{'with' if has_archive else 'without'} an archive, {arguments.kept:,} kept there at least", flush=True
            )
            server = EtcdServer(folder / f"etcd-{has_archive}", ["--quota-backend-bytes", str(QUOTA_MIB * MIB)])
            server.start()
            try:
                await _run(folder / "archive", server.endpoint, arguments.jobs, arguments.kept, has_archive=has_archive)
            finally:
                server.kill()
        files = list((folder / "archive").glob("*.db"))
        print(f"the archive: {sum(file.stat().st_size for file in files) / MIB:.1f} MiB in {len(files)} files")


if __name__ == "__main__":
    asyncio.run(_main())
