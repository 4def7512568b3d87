"""``search``: what a text may mean, among all that a yard has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import options
from batchyard.cli import output as out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchyard.v1.search_pb2 import SearchResponse


@click.command()
@click.argument("text")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 50), default=10, show_default=True, help="At most so many of a kind."
)
@options.shared
@options.session
def search(session: options.Session, text: str, limit: int) -> None:
    """
    Find jobs, queues, environments, definitions and hosts.

    TEXT is the beginning of a name, or of an id, or the end of a job's. JSON is one object.
    """
    with session.client() as client:
        found = client.search(text, limit=limit)
    rows = list(_rows(found))
    match session.output:
        case "json":
            out.write_json(out.to_plain(found))
        case "name":
            out.show_names(name for _, name, _ in rows)
        case _:
            out.show_table(["KIND", "NAME", "WHAT"], [list(row) for row in rows], elastic=["WHAT"])
    if found.is_partial:
        out.note("there may be more: --limit N, or a longer text")


def _rows(found: SearchResponse) -> Iterator[tuple[str, str, str]]:
    """Yield of each its kind, how commands name it, and what it is."""
    from batchyard.wording import job_state

    for job in found.jobs:
        yield "job", job.id, f"{job.name} {job_state(job).value}"
    for kind, names in (
        ("queue", found.queues),
        ("compute environment", found.compute_environments),
        ("job definition", found.job_definitions),
    ):
        yield from ((kind, name, "") for name in names)
    yield from (("host", host.name, host.id) for host in found.hosts)
