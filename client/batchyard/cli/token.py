"""Commands about tokens: ``token create|list|revoke``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.credentials import Credentials, read_credentials, write_credentials

if TYPE_CHECKING:
    from batchyard.v1.access_pb2 import TokenInfo

DAY_S = 24 * 3600


@click.group()
def token() -> None:
    """Tokens: by which users are known to the controller. They end by themselves, after 90 days at the latest."""


@token.command()
@click.argument("user")
@click.option("--days", type=click.FloatRange(min=0, min_open=True, max=90), default=30.0, show_default=True)
@click.option("--description", default="", help="Where it is kept, or for what.")
@click.option(
    "--credentials",
    "kept",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it there, with where the yard is and how it is known, for another machine.",
)
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Credentials that say where the yard is. Default: your own.",
)
@options.shared
@options.session
def create(
    session: options.Session, user: str, days: float, description: str, kept: Path | None, like: Path | None
) -> None:
    """Make a token of USER and write it; it is never shown again."""
    known = known_yard(session, like) if kept is not None else None
    with session.client() as client:
        made = client.create_token(user, description=description, ttl_s=max(1, round(days * DAY_S)))
    if kept is not None and known is not None:
        write_credentials(kept, replace(known, token=made.token))
        out.note(f"credentials of {user} are in {kept}, good until {spans.moment(made.info.expires_at_ms, now_ms())}")
        return
    match session.output:
        case "json":
            out.write_json(out.to_plain(made))
        case "name":
            out.show_names([made.token])
        case _:
            ends = spans.moment(made.info.expires_at_ms, now_ms())
            out.show_fields([("Id", made.info.id), ("User", made.info.user), ("Ends", ends), ("Token", made.token)])
            out.note("keep the token now: it cannot be shown again")


def known_yard(session: options.Session, like: Path | None) -> Credentials:
    """Return credentials that tell where the yard is, and how it is known."""
    path = like or session.credentials
    if path is None:
        raise click.UsageError(
            "you have no credentials of your own: give --like administrator.toml, from beside the CA"
        )
    return read_credentials(path)


@token.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List tokens that you may see: your own, or all."""
    with session.client() as client:
        rows = list(client.list_tokens(page_size=1000))
    now = now_ms()
    columns: list[out.Column[TokenInfo]] = [
        out.Column(title="ID", cell=lambda row: row.id),
        out.Column(title="USER", cell=lambda row: row.user),
        out.Column(title="CREATED", cell=lambda row: spans.age(row.created_at_ms, now)),
        out.Column(title="ENDS", cell=lambda row: spans.moment(row.expires_at_ms, now)),
        out.Column(title="DESCRIPTION", cell=lambda row: row.description, is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.id)


@token.command()
@click.argument("token_id", metavar="ID")
@options.shared
@options.session
def revoke(session: options.Session, token_id: str) -> None:
    """Revoke a token for ever."""
    with session.client() as client:
        client.revoke_token(token_id)
    out.note(f"token {token_id} revoked")
