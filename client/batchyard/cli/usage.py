"""``usage``: what jobs took of hosts, and used of it, by user, queue, definition, day or job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from batchyard.cli import clock, flat_rows, names, options
from batchyard.cli import output as out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchyard.v1.job_pb2 import Attempt
    from batchyard.v1.usage_pb2 import UsageSum

KEYS = ("user", "queue", "definition", "day", "job")
HOUR_MS = 3_600_000
GIB_HOUR_MIB_S = 1024 * 3600
IDLE = 0.5
"""A share of what was asked for, below which a hint says so."""
ENOUGH_MS = 60_000
"""Sums of less are not worth a hint."""


def _date(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """Read a day, UTC, as its first millisecond."""
    if value is None:
        return 0
    try:
        return int(datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no day such as 2026-11-26") from None


@click.command()
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(KEYS),
    default=("user",),
    show_default=True,
    help="What is summed together; several: a row for each combination.",
)
@click.option(
    "-q", "--queue", "queues", multiple=True, shell_complete=names.queues, help="Only of this queue, or these."
)
@click.option("--user", "owner", default="", help="Only of this user's jobs.")
@click.option(
    "--definition",
    default="",
    metavar="NAME[:REVISION]",
    shell_complete=names.definitions,
    help="Only of its jobs; a trailing * stands for any rest.",
)
@click.option("--name", default="", help="Only of jobs of this name; * as in --definition.")
@click.option("--since", "since_s", type=options.positive_span, metavar="TIME", help="What ended so lately: 2h, 1d.")
@click.option("--from", "first", callback=_date, metavar="DAY", help="What ended on this day (UTC) or later.")
@click.option("--to", "last", callback=_date, metavar="DAY", help="What ended before this day.")
@options.shared
@options.session
def usage(
    session: options.Session,
    by: tuple[str, ...],
    queues: tuple[str, ...],
    owner: str,
    definition: str,
    name: str,
    since_s: float | None,
    first: int,
    last: int,
) -> None:
    """
    Sum what jobs took of hosts, and what they used of it.

    Tries that have ended count, with what they held for as long as they ran; what runs does not.
    Of jobs that are no longer kept whole days (UTC) count, and neither their names nor their ids
    are known. USED is what hosts measured, of what was asked for; PEAK the
    most memory that one try held at once.
    """
    after_ms = clock.now_ms() - int(since_s * 1000) if since_s else first
    with session.client() as client:
        sums = client.sum_usage(
            by,
            queue=queues,
            owner=owner,
            job_definition=definition,
            name=name,
            ended_after_ms=after_ms,
            ended_before_ms=last,
        )
    plain = [_plain(by, each) for each in sums]
    match session.output:
        case "csv":
            flat_rows.write(plain, [*by, *_figures()])
        case "json":
            out.write_json(plain)
        case "name":
            out.show_names(" ".join(each.keys) for each in sums)
        case _:
            _show(by, sums)


def _show(by: tuple[str, ...], sums: list[UsageSum]) -> None:
    figures = ["TRIES", "FAILED", "VCPU-HOURS", "USED", "GIB-HOURS", "USED", "PEAK", "GPU-HOURS"]
    rows = [
        [
            *(key or "-" for key in each.keys),
            str(each.attempts),
            str(each.failed),
            f"{each.cpu_asked_ms / HOUR_MS:.2f}",
            _share(each.cpu_used_ms, each.cpu_asked_ms),
            f"{each.memory_asked_mib_s / GIB_HOUR_MIB_S:.2f}",
            _share(each.memory_used_mib_s, each.memory_asked_mib_s),
            f"{-(-each.peak_memory_kib // 1024)}M",
            f"{each.gpu_asked_ms / HOUR_MS:.2f}",
        ]
        for each in sums
    ]
    out.show_table([*(key.upper() for key in by), *figures], rows, numbers=figures)
    for each in sums:
        for hint in hints(each):
            out.note(f"{' '.join(each.keys) or 'all'}: {hint}")


def hints(each: UsageSum) -> list[str]:
    """Say where much more was asked for than used."""
    if each.wall_ms < ENOUGH_MS:
        return []
    found = []
    if each.cpu_used_ms and each.cpu_used_ms < IDLE * each.cpu_asked_ms:
        asked, used = each.cpu_asked_ms / each.wall_ms, each.cpu_used_ms / each.wall_ms
        found.append(f"asked for {asked:.2g} vCPUs on average, used {used:.2g}")
    if each.peak_memory_kib and each.peak_memory_kib < IDLE * each.peak_asked_mib * 1024:
        asked_gib, used_gib = each.peak_asked_mib / 1024, each.peak_memory_kib / (1024 * 1024)
        found.append(f"asked for {asked_gib:.2g} GiB of memory, used {used_gib:.2g} at most")
    return found


def hints_of_job(attempts: Sequence[Attempt], cpu_millis: int, memory_mib: int) -> list[str]:
    """Say the same of one job that asks for so much, by those of its tries of which it is known what they used."""
    from batchyard.v1.usage_pb2 import UsageSum

    total = UsageSum(peak_asked_mib=memory_mib)
    for attempt in attempts:
        if attempt.HasField("usage") and attempt.started_at_ms:
            wall_ms, used = max(0, attempt.stopped_at_ms - attempt.started_at_ms), attempt.usage
            total.wall_ms += wall_ms
            total.cpu_asked_ms += cpu_millis * wall_ms // 1000
            total.cpu_used_ms += used.user_cpu_ms + used.system_cpu_ms
            total.peak_memory_kib = max(total.peak_memory_kib, used.peak_memory_kib)
    return hints(total)


def _share(used: int, asked: int) -> str:
    return f"{round(100 * used / asked)}%" if used and asked else "-"


def _figures() -> list[str]:
    from batchyard.v1.usage_pb2 import UsageSum

    return [field.name for field in UsageSum.DESCRIPTOR.fields if field.name != "keys"]


def _plain(by: tuple[str, ...], each: UsageSum) -> dict[str, object]:
    return {**dict(zip(by, each.keys, strict=True)), **{name: getattr(each, name) for name in _figures()}}
