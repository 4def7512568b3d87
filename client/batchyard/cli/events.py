"""The command ``events``: what became of jobs and hosts, and why."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import clock, harmless, job_ids, names, options
from batchyard.cli import output as out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchyard.sync import Client
    from batchyard.v1.event_pb2 import Event

SINCE_S = 3600.0
"""How far back it goes where neither job nor host nor time is named."""


@click.command()
@click.argument("about", metavar="[JOB|HOST]", default="", shell_complete=names.jobs)
@click.option(
    "--since", "since_s", type=options.positive_span, metavar="TIME", help="What happened so lately: 10m, 2h."
)
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="The last N alone.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until interrupted.")
@options.shared
@options.session
def events(session: options.Session, about: str, since_s: float | None, last: int | None, follow: bool) -> None:
    """
    Show what became of a job (with all its children), of a host and what ran there, or of all.

    Oldest first, with the cause of each. Without a job, a host, --since or --last: of the last hour.
    What is kept is bounded by number and age (the controller's --keep-moves and --keep-moves-days).
    With --follow JSON is one object a line.
    """
    since_s = SINCE_S if since_s is None and not (about or last) else since_s
    since_ms = clock.now_ms() - int(since_s * 1000) if since_s else 0
    with session.client() as client:
        job_id, host = _meant(client, about)
        found = _found(client, last, follow, job_id=job_id, host=host, since_ms=since_ms)
        match session.output:
            case "json" if not follow:
                out.write_json([out.to_plain(event) for event in found])
            case "json":
                for event in found:
                    click.echo(harmless.json_text(out.to_plain(event)))
            case "name":
                for event in found:
                    out.show_names([event.cursor])
            case _:
                _show(found)


def _found(client: Client, last: int | None, follow: bool, **asked: Any) -> Iterator[Event]:
    """Yield events, oldest first: all, or the last ones and, if that is wanted, what follows."""
    if last is None:
        return client.list_events(**asked, follow=follow)
    latest = list(itertools.islice(client.list_events(**asked, latest_first=True), last))
    after = latest[0].cursor if latest else ""
    return itertools.chain(reversed(latest), client.list_events(**asked, after=after, follow=True) if follow else ())


def _meant(client: Client, about: str) -> tuple[str, str]:
    """Return which job, or else which host, is meant."""
    from batchyard.errors import NotFoundError
    from batchyard.ids import is_uuid, split_job_id

    if not about:
        return "", ""
    try:
        job_id = job_ids.full(client, about)
    except NotFoundError:
        return "", about
    if is_uuid(split_job_id(job_id)[0]):
        return job_id, ""
    return "", about


def _show(found: Iterator[Event]) -> None:
    """Write a line each, as it comes."""
    for event in found:
        at = datetime.fromtimestamp(event.at_ms / 1000, UTC)
        line = f"{at:%Y-%m-%d %H:%M:%S}.{event.at_ms % 1000:03}Z  {_who(event)}  {_what(event)}"
        click.echo(harmless.line(line))


def _who(event: Event) -> str:
    from batchyard.v1 import event_pb2 as pb

    if event.subject == pb.SUBJECT_JOB:
        return event.job_id + (f" and {event.children - 1} more" if event.children > 1 else "")
    return event.host_name or event.queue or "yard"


def _what(event: Event) -> str:
    from batchyard import wording
    from batchyard.v1 import event_pb2 as pb
    from batchyard.v1 import job_pb2

    if event.subject != pb.SUBJECT_JOB:
        return f"{event.what}: {event.text}"
    before, after = (wording.word(job_pb2.JobState, each) for each in (event.previous_state, event.state))
    return f"{before} -> {after}: {event.text}"
