"""Commands about sinks: ``sink create|list|disable|enable|delete``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from batchyard.cli import names, options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.sink_pb2 import Sink

STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")


@click.group()
def sink() -> None:
    """Sinks: to whom events are passed on, by `batchyard relay`."""


@sink.command()
@click.argument("name")
@click.option(
    "--url",
    required=True,
    help="https://HOST/PATH for a webhook, file:NAME and exec:NAME of the relay's own folders, sqs:QUEUE_URL, "
    "sns:TOPIC_ARN, events:BUS.",
)
@click.option("--endpoint-url", default="", help="Where one of AWS's services is. Default: AWS's own.")
@click.option("--region", default="", help="Of one of AWS's services. Default: as its address or ARN says.")
@click.option(
    "-q", "--queue", "queues", multiple=True, shell_complete=names.queues, help="Only jobs of this queue, or these."
)
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only moves to this state, or these.")
@click.option(
    "--children",
    type=click.Choice(["ends", "all", "none"]),
    default="ends",
    show_default=True,
    help="Which moves of the children of arrays, and of nodes.",
)
@click.option("--secret-stdin", is_flag=True, help="Read what a webhook is signed with. Default: one is made.")
@options.shared
@options.session
def create(
    session: options.Session,
    name: str,
    url: str,
    endpoint_url: str,
    region: str,
    queues: tuple[str, ...],
    states: tuple[str, ...],
    children: str,
    secret_stdin: bool,
) -> None:
    """
    Have events passed on from now on.

    Of a webhook what it is signed with is written; it is never shown again.
    """
    secret = sys.stdin.readline().strip() if secret_stdin else ""
    with session.client() as client:
        made = client.create_sink(
            name,
            url,
            endpoint_url=endpoint_url,
            region=region,
            queues=queues,
            states=states,
            children=children.upper(),
            secret=secret,
        )
    match session.output:
        case "json":
            out.write_json(out.to_plain(made))
        case "name":
            out.show_names([made.sink.name])
        case _:
            out.note(f"sink {made.sink.name} made; `batchyard relay` passes events on")
            if made.secret and not secret:
                click.echo(made.secret)


@sink.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List sinks: how many events each was given, how far it is behind, and why."""
    with session.client() as client:
        rows = client.list_sinks()
    now = now_ms()
    columns: list[out.Column[Sink]] = [
        out.Column(title="NAME", cell=lambda row: row.name),
        out.Column(title="STATE", cell=_state),
        out.Column(title="DELIVERED", cell=lambda row: str(row.delivered)),
        out.Column(title="BEHIND", cell=lambda row: f"{row.lag} ({spans.span(row.lag_ms)})" if row.lag else "0"),
        out.Column(title="URL", cell=lambda row: row.url, is_elastic=True),
        out.Column(
            title="LAST ERROR",
            cell=lambda row: f"{spans.age(row.error_at_ms, now)} ago: {row.error}" if row.error else "",
            is_elastic=True,
        ),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


def _state(row: Sink) -> str:
    if row.is_disabled:
        return "DISABLED"
    if row.has_lost:
        return "LOST EVENTS"
    return "ENABLED" if row.relay else "NO RELAY"


@sink.command()
@click.argument("name")
@options.shared
@options.session
def disable(session: options.Session, name: str) -> None:
    """Pass nothing on to a sink; what happens meanwhile waits for it, as far as it is kept."""
    with session.client() as client:
        client.switch_sink(name, is_disabled=True)
    out.note(f"sink {name} is off")


@sink.command()
@click.argument("name")
@options.shared
@options.session
def enable(session: options.Session, name: str) -> None:
    """Pass events on to a sink again, from where it was."""
    with session.client() as client:
        client.switch_sink(name, is_disabled=False)
    out.note(f"sink {name} is on")


@sink.command()
@click.argument("name")
@options.shared
@options.session
def delete(session: options.Session, name: str) -> None:
    """End a sink; what it was not told it is never told."""
    with session.client() as client:
        client.delete_sink(name)
    out.note(f"sink {name} deleted")
