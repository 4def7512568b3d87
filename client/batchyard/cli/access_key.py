"""Commands about access keys of the AWS gateway: ``access-key create|list|revoke``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.access_key_pb2 import AccessKey


@click.group()
def access_key() -> None:
    """Access keys: by which users call the AWS Batch gateway."""


@access_key.command()
@click.option("--user", "owner", default="", help="Who it is to stand for. Default: yourself.")
@click.option("--description", default="", help="Whose it is, or for what.")
@options.shared
@options.session
def create(session: options.Session, owner: str, description: str) -> None:
    """Make an access key and write its id and its secret, which is never shown again."""
    with session.client() as client:
        made = client.create_access_key(description=description, owner=owner)
    if session.output == "json":
        out.write_json(out.to_plain(made))
        return
    out.show_fields([("Access key id", made.access_key.id), ("Secret access key", made.secret)])
    out.note("keep the secret now: it cannot be shown again")


@access_key.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List access keys, never their secrets."""
    with session.client() as client:
        rows = list(client.list_access_keys(page_size=1000))
    now = now_ms()
    columns: list[out.Column[AccessKey]] = [
        out.Column(title="ID", cell=lambda row: row.id),
        out.Column(title="CREATED", cell=lambda row: spans.age(row.created_at_ms, now)),
        out.Column(title="USER", cell=lambda row: row.owner),
        out.Column(title="DESCRIPTION", cell=lambda row: row.description, is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.id)


@access_key.command()
@click.argument("key_id", metavar="ID")
@options.shared
@options.session
def revoke(session: options.Session, key_id: str) -> None:
    """Revoke an access key for ever."""
    with session.client() as client:
        client.revoke_access_key(key_id)
    out.note(f"access key {key_id} revoked")
