"""Command ``controller restore``: says that a store was put back from a backup, before a controller leads from it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from batchyard import settings
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.restores import LAST_RESTORE, Restore, generation_at
from batchyard_controller.core.model.values import utc
from batchyard_controller.core.reactor.recovery import Records, StoredState
from batchyard_controller.core.world.world import World

from .clock import read_wall_s
from .config import default_store, without_login
from .store.codec import CorruptRecordError, encode_record, load_records
from .store.keys import key_of
from .store.open import open_store
from .store.protocol import Put, Store, StoreError
from .store.sqlite import is_led

_LED = "{}: a controller leads; stop all controllers of this store first"
LEADER_WAIT_S = 30.0
"""A leader that the backup of an etcd remembers leads until its lease has run out, once."""


@click.command()
@click.option(
    "--store", default=default_store, envvar=settings.variable("store", "controller"), help="As of the controller."
)
@click.option(
    "--whole-fence",
    is_flag=True,
    help="Let jobs of the backup wait for a whole fence, whatever hosts have said by then: for hosts that joined "
    "after the backup and cannot be reached now. Default: no.",
)
@click.option("--dry-run", is_flag=True, help="Say what the store holds, and change nothing.")
def restore(store: str, whole_fence: bool, dry_run: bool) -> None:
    """
    Say that the store was put back from a backup; all controllers of it are stopped.

    To be called after the backup was put back by SQLite's or etcd's own tools, and before a controller starts.
    From then on hosts obey this store although it is older than what they know; no id of an attempt is
    handed out twice; and the controller that leads learns from the hosts what the backup does not know
    before it places a job of it. `batchyard restored` tells what came of it.
    """
    try:
        _check_file(store)
        records, record = asyncio.run(_restore(store, whole_fence=whole_fence, is_dry=dry_run))
    except (OSError, ValueError, StoreError, CorruptRecordError) as err:
        raise click.ClickException(str(err)) from err
    for line in _told(store, records, record):
        click.echo(line)
    click.echo("nothing was changed" if dry_run else "next: start the controllers, then see `batchyard restored`")


def _check_file(url: str) -> None:
    """
    Refuse a file that is not there or in use, or beside which the log of another one lies, before it is opened.

    Raises:
        ValueError: the store's file cannot be that of a backup.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        return
    log = Path(f"{rest}-wal")
    if not Path(rest).is_file():
        raise ValueError(f"there is no store {rest}: put the backup there first")
    if is_led(Path(rest)):
        raise ValueError(_LED.format(without_login(url)))
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size:
            raise ValueError(
                f"{log} lies beside {rest}: if that is a backup that was put in place of the store, delete {log} "
                f"and {rest}-shm, which belong to what was there before; if both are of one moment, let "
                f"`sqlite3 {rest} 'PRAGMA wal_checkpoint(TRUNCATE)'` bring them together"
            )


async def _restore(url: str, *, whole_fence: bool, is_dry: bool) -> tuple[Records, Restore]:
    """
    Begin a new generation of a store.

    Raises:
        ValueError: a controller leads, the store holds no yard, or this machine's clock is wrong.
        StoreError: it cannot be reached.
        CorruptRecordError: a record cannot be read.
    """
    store = open_store(url)
    try:
        try:
            async with asyncio.timeout(LEADER_WAIT_S):
                epoch = await store.campaign("batchyard controller restore")
        except TimeoutError:
            raise ValueError(_LED.format(without_login(url))) from None
        records = await load_records(store)
        record = begin_generation(records, int(read_wall_s() * 1000), waits_whole_fence=whole_fence)
        if not is_dry:
            await _keep(store, epoch, record)
    finally:
        await store.close()
    return records, record


async def _keep(store: Store, epoch: int, record: Restore) -> None:
    world = World(Retention())
    world.restores[LAST_RESTORE] = record
    value = encode_record(world, "restore", LAST_RESTORE)
    assert value is not None, "it is there"
    await store.commit([(Put(key_of("restore", LAST_RESTORE), value),)], epoch)
    while generation_at(int(read_wall_s() * 1000)) <= record.generation:  # noqa: ASYNC110  # a clock sets no event
        await asyncio.sleep(0.05)  # the same backup may be put back again at once, and must not get the same


def begin_generation(records: Records, wall_ms: int, *, waits_whole_fence: bool = False) -> Restore:
    """
    Return what is to be kept of a restore at that moment.

    Raises:
        ValueError: the store holds nothing, or the clock shows a time before the last restore.
    """
    dates = [max(job.created_at_ms, state_of(records, job.id).ended_at_ms) for job in records.jobs.values()]
    dates += [host.heard_at_ms for host in records.hosts.values()]
    if not (records.environments or records.queues or dates):
        raise ValueError("the store holds nothing of a yard: neither environments nor queues, jobs or hosts")
    former, generation = records.restores.get(LAST_RESTORE), generation_at(wall_ms)
    if generation <= (former.generation if former is not None else 0):
        since = f"the last restore of this store, at {utc(former.at_ms)}" if former is not None else "2026"
        raise ValueError(f"this machine's clock says {utc(wall_ms)}, which is before {since}: set it right")
    return Restore(
        generation=generation,
        at_ms=wall_ms,
        newest_ms=max(dates, default=0),
        last_seq=max((job.seq for job in records.jobs.values()), default=0),
        waits_whole_fence=waits_whole_fence,
    )


def state_of(records: Records, job_id: str) -> StoredState:
    """Return what is stored of a job beyond its submission."""
    return records.states.get(job_id, StoredState())


def _told(url: str, records: Records, record: Restore) -> list[str]:
    """Say what a backup holds."""
    live = sum(state_of(records, job_id).ending is None for job_id in records.jobs)
    hosts = sum(not host.gone_at_ms for host in records.hosts.values())
    newest = f"; its newest date is {utc(record.newest_ms)}" if record.newest_ms else ""
    held = f"{len(records.jobs)} jobs ({live} not ended), {len(records.attempts)} live attempts and {hosts} hosts"
    lines = [
        f"{without_login(url)}: a backup of {held}{newest}",
        f"generation {record.generation} begins",
    ]
    former = records.restores.get(LAST_RESTORE)
    if former is not None:
        lines.insert(1, f"it was restored before, at {utc(former.at_ms)}: generation {former.generation}")
    return lines
