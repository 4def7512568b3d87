"""Commands about consumable resources: ``consumable-resource create|list|describe|update|jobs|delete``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from batchyard.cli import names as offered
from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.cli.jobs import show_jobs

if TYPE_CHECKING:
    from batchyard.v1.consumable_resource_pb2 import ConsumableResource

TYPES = ["REPLENISHABLE", "NON_REPLENISHABLE"]


@click.group("consumable-resource")
def consumable_resource() -> None:
    """Consumable resources: what jobs hold or use up beside hosts, such as licences."""


@consumable_resource.command()
@click.argument("name")
@click.option("--total", type=int, default=0, show_default=True, help="How much there is.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(TYPES, case_sensitive=False),
    default=TYPES[0],
    show_default=True,
    help="NON_REPLENISHABLE: what a job held that ran is used up.",
)
@options.pairs("--tag", "tags", "Tag.")
@options.shared
@options.session
def create(session: options.Session, name: str, total: int, kind: str, tags: tuple[tuple[str, str], ...]) -> None:
    """Create a consumable resource."""
    with session.client() as client:
        made = client.create_consumable_resource(name, total=total, kind=kind, tags=options.as_map(tags))
    _show_one(session.output, made, "created")


@consumable_resource.command("list")
@click.option("--name", default="", help="Only those of this name; a * at its end matches any rest.")
@options.shared
@options.session
def list_(session: options.Session, name: str) -> None:
    """List consumable resources."""
    with session.client() as client:
        rows = list(client.list_consumable_resources(name=name, page_size=1000))
    columns: list[out.Column[ConsumableResource]] = [
        out.Column(title="NAME", cell=lambda row: row.name, is_elastic=True),
        out.Column(title="TYPE", cell=_type),
        out.Column(title="TOTAL", cell=lambda row: str(row.total), is_number=True),
        out.Column(title="IN USE", cell=lambda row: str(row.in_use), is_number=True),
        out.Column(title="AVAILABLE", cell=lambda row: str(row.available), is_number=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


@consumable_resource.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=offered.consumables)
@options.shared
@options.session
def describe(session: options.Session, names: tuple[str, ...]) -> None:
    """Show all about consumable resources. JSON is always a list."""
    with session.client() as client:
        found = {row.name: row for row in client.describe_consumable_resources(names)}
    out.show_described(session.output, "consumable resource", names, found, _fields)


@consumable_resource.command()
@click.argument("name", shell_complete=offered.consumables)
@click.option("--set", "set_", type=click.IntRange(min=0), metavar="N", help="Let there be so much.")
@click.option("--add", type=click.IntRange(min=0), metavar="N", help="Let there be so much more.")
@click.option("--remove", type=click.IntRange(min=0), metavar="N", help="Let there be so much less.")
@options.shared
@options.session
def update(session: options.Session, name: str, set_: int | None, add: int | None, remove: int | None) -> None:
    """
    Change how much there is; jobs that wait for it are asked again at once.

    Of a NON_REPLENISHABLE one --set says what is available. What is in use stays so.
    """
    given = [(word, n) for word, n in (("SET", set_), ("ADD", add), ("REMOVE", remove)) if n is not None]
    if len(given) != 1:
        raise click.UsageError("give one of --set, --add and --remove")
    ((operation, quantity),) = given
    with session.client() as client:
        changed = client.update_consumable_resource(name, operation, quantity)
    _show_one(session.output, changed, "updated")


@consumable_resource.command()
@click.argument("name", shell_complete=offered.consumables)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@options.shared
@options.session
def jobs(session: options.Session, name: str, limit: int) -> None:
    """List the jobs that ask for it, newest first."""
    with session.client() as client:
        rows = list(islice(client.list_jobs(consumable=name), limit))
    show_jobs(session.output, rows, now_ms())


@consumable_resource.command()
@click.argument("name", shell_complete=offered.consumables)
@options.shared
@options.session
def delete(session: options.Session, name: str) -> None:
    """Delete a consumable resource that no job asks for which has not ended."""
    with session.client() as client:
        client.delete_consumable_resource(name)
    out.note(f"deleted consumable resource {name}")


def _show_one(output: str, row: ConsumableResource, done: str) -> None:
    match output:
        case "json":
            out.write_json(out.to_plain(row))
        case "name":
            out.show_names([row.name])
        case _:
            out.note(f"{done} consumable resource {row.name} ({row.available} available of {row.total})")


def _fields(row: ConsumableResource) -> Sequence[tuple[str, str]]:
    return [
        ("Name", row.name),
        ("Type", _type(row)),
        ("Total", str(row.total)),
        ("In use", str(row.in_use)),
        ("Available", str(row.available)),
        ("Used up", str(row.consumed) if row.consumed else ""),
        ("Tags", " ".join(f"{k}={v}" for k, v in sorted(row.tags.items()))),
        ("Created", spans.moment(row.created_at_ms, now_ms())),
    ]


def _type(row: ConsumableResource) -> str:
    from batchyard.v1.consumable_resource_pb2 import ConsumableResourceType
    from batchyard.wording import word

    return word(ConsumableResourceType, row.type)
