"""Commands about quota shares: ``quota-share create|list|describe|update|delete``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from batchyard.cli import names as offered
from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.quota_share_pb2 import CapacityUse, QuotaShare

STRATEGIES = ["RESERVE", "LEND", "LEND_AND_BORROW"]
_STATES = ["ENABLED", "DISABLED"]
_LIMIT_HELP = "Its own capacity: VCPU, MEMORY_MIB, GPU, or a host type (jobs on such hosts). 1 to 5 of them."
_STRATEGY_HELP = "Whether others may use what is idle of its own, and whether it may use what is idle of theirs."
_BORROW_HELP = "With LEND_AND_BORROW: in per cent of its own; -1 for as much as is idle."
_PREEMPTION_HELP = "Stop jobs of it for others of it that have a higher priority."

_queue = click.argument("queue", shell_complete=offered.queues)


@click.group("quota-share")
def quota_share() -> None:
    """Quota shares: parts of a queue with capacity of their own, which may be lent and borrowed."""


@quota_share.command()
@_queue
@click.argument("name")
@click.option("--limit", "limits", type=options.quantity, multiple=True, metavar="UNIT=N", help=_LIMIT_HELP)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES, case_sensitive=False),
    default=STRATEGIES[0],
    show_default=True,
    help=_STRATEGY_HELP,
)
@click.option("--borrow-limit", type=int, metavar="PERCENT", help=_BORROW_HELP)
@click.option("--in-share-preemption/--no-in-share-preemption", "preempts", default=False, help=_PREEMPTION_HELP)
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), default="ENABLED")
@options.pairs("--tag", "tags", "Tag.")
@options.shared
@options.session
def create(
    session: options.Session,
    queue: str,
    name: str,
    limits: tuple[tuple[str, int], ...],
    strategy: str,
    borrow_limit: int | None,
    preempts: bool,
    state: str,
    tags: tuple[tuple[str, str], ...],
) -> None:
    """Create a quota share of a queue whose scheduling policy has them; jobs name it with --share."""
    with session.client() as client:
        made = client.create_quota_share(
            queue,
            name,
            capacity_limits=options.as_map(limits),
            sharing_strategy=strategy,
            borrow_limit=borrow_limit,
            in_share_preemption=preempts,
            state=state,
            tags=options.as_map(tags),
        )
    _show_one(session.output, made, "created")


@quota_share.command("list")
@_queue
@options.shared
@options.session
def list_(session: options.Session, queue: str) -> None:
    """List the quota shares of a queue, and how they stand."""
    with session.client() as client:
        rows = list(client.list_quota_shares(queue, page_size=1000))
    columns: list[out.Column[QuotaShare]] = [
        out.Column(title="NAME", cell=lambda row: row.name),
        out.Column(title="STATE", cell=_state),
        out.Column(title="STRATEGY", cell=_strategy),
        out.Column(title="USED", cell=lambda row: " ".join(map(used, row.use)), is_elastic=True),
        out.Column(title="BORROWED", cell=lambda row: _parts(row, "borrowed")),
        out.Column(title="LENT", cell=lambda row: _parts(row, "lent")),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


@quota_share.command()
@_queue
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@options.shared
@options.session
def describe(session: options.Session, queue: str, names: tuple[str, ...]) -> None:
    """Show all about quota shares of a queue. JSON is always a list."""
    with session.client() as client:
        found = {row.name: row for row in client.describe_quota_shares(queue, names)}
    out.show_described(session.output, "quota share", names, found, _fields)


@quota_share.command()
@_queue
@click.argument("name")
@click.option(
    "--limit", "limits", type=options.quantity, multiple=True, metavar="UNIT=N", help="In place of all there are."
)
@click.option("--strategy", type=click.Choice(STRATEGIES, case_sensitive=False), help=_STRATEGY_HELP)
@click.option("--borrow-limit", type=int, metavar="PERCENT", help=_BORROW_HELP)
@click.option("--in-share-preemption/--no-in-share-preemption", "preempts", default=None, help=_PREEMPTION_HELP)
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="DISABLED: it takes no new jobs.")
@options.shared
@options.session
def update(
    session: options.Session,
    queue: str,
    name: str,
    limits: tuple[tuple[str, int], ...],
    strategy: str | None,
    borrow_limit: int | None,
    preempts: bool | None,
    state: str | None,
) -> None:
    """Change what is given; the rest stays. What runs beyond lowered limits counts as borrowed."""
    with session.client() as client:
        changed = client.update_quota_share(
            queue,
            name,
            capacity_limits=options.as_map(limits),
            sharing_strategy=strategy,
            borrow_limit=borrow_limit,
            in_share_preemption=preempts,
            state=state,
        )
    _show_one(session.output, changed, "updated")


@quota_share.command()
@_queue
@click.argument("name")
@options.shared
@options.session
def delete(session: options.Session, queue: str, name: str) -> None:
    """Delete a DISABLED quota share; jobs left in it end FAILED."""
    with session.client() as client:
        client.delete_quota_share(queue, name)
    out.note(f"deleted quota share {name} of {queue}")


def _show_one(output: str, row: QuotaShare, done: str) -> None:
    match output:
        case "json":
            out.write_json(out.to_plain(row))
        case "name":
            out.show_names([row.name])
        case _:
            out.note(f"{done} quota share {row.name} of {row.job_queue} ({_limits(row)}, {_strategy(row)})")


def _fields(row: QuotaShare) -> Sequence[tuple[str, str]]:
    return [
        ("Name", row.name),
        ("Queue", row.job_queue),
        ("State", _state(row)),
        ("Limits", _limits(row)),
        ("Strategy", _strategy(row)),
        ("In-share preemption", "yes" if row.in_share_preemption else "no"),
        ("Used", " ".join(map(used, row.use))),
        ("Borrowed", _parts(row, "borrowed")),
        ("Lent", _parts(row, "lent")),
        ("Tags", " ".join(f"{k}={v}" for k, v in sorted(row.tags.items()))),
        ("Created", spans.moment(row.created_at_ms, now_ms())),
    ]


def _limits(row: QuotaShare) -> str:
    """Write limits as ``--limit`` takes them."""
    return " ".join(f"{limit.capacity_unit}={limit.max_capacity}" for limit in row.capacity_limits)


def used(use: CapacityUse) -> str:
    """Write what a share uses of its own capacity, in one unit of it."""
    return f"{use.capacity_unit}={use.used:g}/{use.max_capacity:g}"


def _parts(row: QuotaShare, part: str) -> str:
    return " ".join(f"{use.capacity_unit}={getattr(use, part):g}" for use in row.use if getattr(use, part))


def _state(row: QuotaShare) -> str:
    from batchyard.v1.compute_environment_pb2 import ResourceState
    from batchyard.wording import word

    return word(ResourceState, row.state)


def _strategy(row: QuotaShare) -> str:
    from batchyard.v1.quota_share_pb2 import SharingStrategy
    from batchyard.wording import word

    strategy = word(SharingStrategy, row.sharing_strategy)
    return f"{strategy} up to {row.borrow_limit} %" if row.borrow_limit >= 0 else strategy
