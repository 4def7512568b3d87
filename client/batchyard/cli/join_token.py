"""Commands about join tokens: ``join-token create|list|revoke``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.join_token_pb2 import JoinToken


@click.group()
def join_token() -> None:
    """Join tokens: with what hosts join the yard."""


@join_token.command()
@click.option(
    "--ttl", default="1h", show_default=True, type=options.whole_span, help="How long it is good, as 30m, 1d."
)
@click.option("--uses", type=int, default=1, show_default=True, help="How many hosts may join with it.")
@click.option("--host-name", default="", help="What they must be called; kube-* for all that begin so. Default: any.")
@click.option(
    "networks", "--network", multiple=True, metavar="CIDR", help="From where, as 10.0.0.0/24; repeatable. Default: any."
)
@click.option(
    "--speaks-for",
    default="",
    metavar="NAME",
    help="For an agent of many hosts, as of a cluster's nodes: those that are called so, kube-* for all that begin so.",
)
@options.shared
@options.session
def create(
    session: options.Session, ttl: int, uses: int, host_name: str, networks: tuple[str, ...], speaks_for: str
) -> None:
    """
    Make a join token and write it; it is never shown again.

    Put it into a file of root's on the host, and name that to its agent by --join-token-file.
    """
    with session.client() as client:
        made = client.create_join_token(
            ttl_s=ttl, uses=uses, host_name=host_name, networks=networks, speaks_for=speaks_for
        )
    match session.output:
        case "json":
            out.write_json(out.to_plain(made))
        case "name":
            out.show_names([made.join_token.id])
        case _:
            click.echo(made.token)


@join_token.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List join tokens that are still good for something, never what is secret of them."""
    with session.client() as client:
        rows = list(client.list_join_tokens(page_size=1000))
    now = now_ms()
    columns: list[out.Column[JoinToken]] = [
        out.Column(title="ID", cell=lambda row: row.id),
        out.Column(title="CREATED", cell=lambda row: spans.age(row.created_at_ms, now)),
        out.Column(title="LEFT", cell=lambda row: spans.age(now, row.expires_at_ms)),
        out.Column(title="USES", cell=lambda row: str(row.uses)),
        out.Column(title="HOST NAME", cell=lambda row: row.host_name),
        out.Column(title="SPEAKS FOR", cell=lambda row: row.speaks_for),
        out.Column(title="NETWORKS", cell=lambda row: ", ".join(row.networks), is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.id)


@join_token.command()
@click.argument("token_id", metavar="ID")
@options.shared
@options.session
def revoke(session: options.Session, token_id: str) -> None:
    """Let nobody join with a token any more; hosts that have joined stay."""
    with session.client() as client:
        client.revoke_join_token(token_id)
    out.note(f"join token {token_id} revoked")
