"""Commands about scheduling policies: ``scheduling-policy create|list|describe|update|delete``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from batchyard.cli import names as offered
from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, SchedulingPolicy, ShareWeight

Share = tuple[str, float, int, int]
"""Identifier, weight, most that run at once, most vCPUs."""

_SHARE = re.compile(r"([^=]+)=(\d+(?:\.\d+)?)(?:,max-running=(\d{1,10}))?(?:,max-vcpus=(\d{1,10}))?", re.ASCII)


def share(value: str) -> Share:
    """Read ``ID[*]=WEIGHT[,max-running=N][,max-vcpus=N]``."""
    found = _SHARE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not ID=WEIGHT[,max-running=N][,max-vcpus=N]")
    return found[1], float(found[2]), int(found[3] or 0), int(found[4] or 0)


@click.group("scheduling-policy")
def scheduling_policy() -> None:
    """Scheduling policies: how the shares of a queue take turns."""


def _fairshare_flags(function: options.F) -> options.F:
    for flag in (
        click.option(
            "--reservation",
            type=int,
            metavar="PERCENT",
            help="Kept free for shares that are not active: of the most there is, to the power of the active ones.",
        ),
        click.option("--decay", type=options.whole_span, metavar="TIME", help="Over how long what was used counts."),
        click.option(
            "--share",
            "shares",
            type=share,
            multiple=True,
            metavar="ID=WEIGHT[,max-running=N][,max-vcpus=N]",
            help="The lower the weight, the more; ID may end in * for all that begin so. Others have weight 1.",
        ),
    ):
        function = flag(function)
    return function


@scheduling_policy.command()
@click.argument("name")
@click.option("--quota-shares", is_flag=True, help="Shares have capacity of their own: see quota-share.")
@_fairshare_flags
@options.pairs("--tag", "tags", "Tag.")
@options.shared
@options.session
def create(
    session: options.Session,
    name: str,
    quota_shares: bool,
    shares: tuple[Share, ...],
    decay: int | None,
    reservation: int | None,
    tags: tuple[tuple[str, str], ...],
) -> None:
    """Create a scheduling policy; queues may then be created with it."""
    from batchyard.v1.scheduling_policy_pb2 import QuotaSharePolicy

    if quota_shares and (shares or decay is not None or reservation is not None):
        raise click.UsageError("--quota-shares does not go with --share, --decay and --reservation")
    with session.client() as client:
        made = client.create_scheduling_policy(
            name,
            fairshare=None if quota_shares else _fairshare(shares, decay or 0, reservation or 0),
            quota_share=QuotaSharePolicy() if quota_shares else None,
            tags=options.as_map(tags),
        )
    _show_one(session.output, made, "created")


@scheduling_policy.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List scheduling policies."""
    with session.client() as client:
        rows = list(client.list_scheduling_policies(page_size=1000))
    columns: list[out.Column[SchedulingPolicy]] = [
        out.Column(title="NAME", cell=lambda row: row.name),
        out.Column(title="KIND", cell=_kind),
        out.Column(title="DECAY", cell=lambda row: spans.whole(row.fairshare.share_decay_s)),
        out.Column(title="RESERVATION", cell=lambda row: str(row.fairshare.compute_reservation), is_number=True),
        out.Column(title="SHARES", cell=_shares, is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


@scheduling_policy.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=offered.policies)
@options.shared
@options.session
def describe(session: options.Session, names: tuple[str, ...]) -> None:
    """Show all about scheduling policies. JSON is always a list."""
    with session.client() as client:
        found = {row.name: row for row in client.describe_scheduling_policies(names)}
    out.show_described(session.output, "scheduling policy", names, found, _fields)


@scheduling_policy.command()
@click.argument("name", shell_complete=offered.policies)
@_fairshare_flags
@click.option("--no-shares", is_flag=True, help="Let all shares have the weight 1.")
@options.shared
@options.session
def update(
    session: options.Session,
    name: str,
    shares: tuple[Share, ...],
    decay: int | None,
    reservation: int | None,
    no_shares: bool,
) -> None:
    """Change what is given; the rest stays. --share replaces all there are. Jobs that wait follow at once."""
    if shares and no_shares:
        raise click.UsageError("--no-shares does not go with --share")
    with session.client() as client:
        fairshare = None
        for row in client.describe_scheduling_policies([name]):
            if row.HasField("quota_share"):
                raise click.UsageError(f"{name} has quota shares: change these")
            fairshare = row.fairshare
            if decay is not None:
                fairshare.share_decay_s = decay
            if reservation is not None:
                fairshare.compute_reservation = reservation
            if shares or no_shares:
                del fairshare.share_distribution[:]
                fairshare.share_distribution.extend(map(_weight, shares))
        changed = client.update_scheduling_policy(name, fairshare=fairshare)
    _show_one(session.output, changed, "updated")


@scheduling_policy.command()
@click.argument("name", shell_complete=offered.policies)
@options.shared
@options.session
def delete(session: options.Session, name: str) -> None:
    """Delete a scheduling policy that no queue uses."""
    with session.client() as client:
        client.delete_scheduling_policy(name)
    out.note(f"deleted scheduling policy {name}")


def _fairshare(shares: Sequence[Share], decay_s: int, reservation: int) -> FairsharePolicy:
    from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy

    return FairsharePolicy(
        share_decay_s=decay_s, compute_reservation=reservation, share_distribution=map(_weight, shares)
    )


def _weight(given: Share) -> ShareWeight:
    from batchyard.v1.scheduling_policy_pb2 import ShareWeight

    identifier, weight, max_running, max_vcpus = given
    return ShareWeight(share_identifier=identifier, weight_factor=weight, max_running=max_running, max_vcpus=max_vcpus)


def _show_one(output: str, row: SchedulingPolicy, done: str) -> None:
    match output:
        case "json":
            out.write_json(out.to_plain(row))
        case "name":
            out.show_names([row.name])
        case _:
            shares = len(row.fairshare.share_distribution)
            what = "quota shares" if row.HasField("quota_share") else f"{shares} shares with a weight of their own"
            out.note(f"{done} scheduling policy {row.name} ({what})")


def _fields(row: SchedulingPolicy) -> Sequence[tuple[str, str]]:
    return [
        ("Name", row.name),
        ("Kind", _kind(row)),
        ("Decay", spans.whole(row.fairshare.share_decay_s)),
        ("Reservation", f"{row.fairshare.compute_reservation} %"),
        ("Shares", _shares(row)),
        ("Tags", " ".join(f"{k}={v}" for k, v in sorted(row.tags.items()))),
        ("Created", spans.moment(row.created_at_ms, now_ms())),
    ]


def _kind(row: SchedulingPolicy) -> str:
    return "quota shares" if row.HasField("quota_share") else "fair share"


def _shares(row: SchedulingPolicy) -> str:
    """Write weights and caps as ``--share`` takes them."""
    return " ".join(map(_share, row.fairshare.share_distribution))


def _share(weight: ShareWeight) -> str:
    caps: list[tuple[str, Callable[[ShareWeight], int]]] = [
        ("max-running", lambda w: w.max_running),
        ("max-vcpus", lambda w: w.max_vcpus),
    ]
    given = [f"{weight.share_identifier}={weight.weight_factor:g}"]
    return ",".join(given + [f"{name}={cap(weight)}" for name, cap in caps if cap(weight)])
