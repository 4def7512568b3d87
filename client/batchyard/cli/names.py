"""
Names: what a shell offers where one of the yard's is wanted, by asking the controller.

Law: whoever presses Tab does not wait, and is told no error: what is not answered within two
seconds is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from batchyard.cli import job_ids, options

if TYPE_CHECKING:
    from batchyard.sync import Client

PATIENCE_S = 2.0
JOBS_MAX = 100
"""The newest so many are offered."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offering(find: Callable[[Client, str], Iterable[CompletionItem]]) -> Complete:
    """Make of what finds names what click asks for them."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        options.quiet_grpc()
        from batchyard.sync import Client

        session = ctx.find_object(options.Session) or options.Session()
        # All errors: what is wrong is told when the command is carried out.
        with suppress(Exception), Client(session.address, context=session.context, timeout_s=PATIENCE_S) as client:
            return [item for item in find(client, incomplete) if str(item.value).startswith(incomplete)]
        return []

    return complete


def _queues(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    return (CompletionItem(row.name) for row in client.list_job_queues(page_size=1000))


def _environments(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    return (CompletionItem(row.name) for row in client.list_compute_environments(page_size=1000))


def _policies(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    return (CompletionItem(row.name) for row in client.list_scheduling_policies(page_size=1000))


def _shares(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    for row in client.list_job_queues(page_size=1000):
        if row.scheduling_policy:
            shares = client.list_quota_shares(row.name, page_size=1000)
            yield from (CompletionItem(f"{row.name}/{share.name}") for share in shares)


def _consumables(client: Client, incomplete: str) -> Iterator[CompletionItem]:
    return (CompletionItem(row.name) for row in client.list_consumable_resources(name=f"{incomplete}*", page_size=1000))


def _definitions(client: Client, incomplete: str) -> Iterator[CompletionItem]:
    if ":" in incomplete:
        return _revisions(client, incomplete)
    rows = client.list_job_definitions(status="ACTIVE", page_size=1000)
    return map(CompletionItem, dict.fromkeys(row.name for row in rows))


def _revisions(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    rows = client.list_job_definitions(status="ACTIVE", page_size=1000)
    return (CompletionItem(f"{row.name}:{row.revision}") for row in rows)


def _hosts(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    names = (row.facts.name for row in client.list_hosts(page_size=1000))
    return map(CompletionItem, dict.fromkeys(names))


def _jobs(client: Client, _incomplete: str) -> Iterator[CompletionItem]:
    from batchyard.wording import job_state

    yield CompletionItem(job_ids.LAST, help="the last one submitted from here")
    with closing(client.list_jobs(page_size=JOBS_MAX)) as listed:
        for job in islice(listed, JOBS_MAX):
            yield CompletionItem(job.id, help=f"{job.name} {job_state(job)}")


queues, environments = _offering(_queues), _offering(_environments)
policies, consumables, shares = _offering(_policies), _offering(_consumables), _offering(_shares)
definitions, revisions = _offering(_definitions), _offering(_revisions)
hosts, jobs = _offering(_hosts), _offering(_jobs)


def tagged(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what the kind named before has."""
    kinds = {
        "job": jobs,
        "queue": queues,
        "job-definition": definitions,
        "compute-environment": environments,
        "scheduling-policy": policies,
        "consumable-resource": consumables,
        "quota-share": shares,
    }
    kind = ctx.params.get("kind")
    return kinds[kind](ctx, param, incomplete) if kind in kinds else []
