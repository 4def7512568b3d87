"""Commands about roles of users: ``role bind|unbind|list``, and ``whoami``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import names, options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchyard.v1.access_pb2 import RoleBinding

ROLES = ("viewer", "submitter", "queue-admin", "operator", "security-admin", "gateway", "metrics", "relay")
"""In the order of how much they may."""

_queue = click.option(
    "-q", "--queue", default="", shell_complete=names.queues, help="Where it counts. Default: in the whole yard."
)


@click.group()
def role() -> None:
    """Roles: what users may do. Who has none may do nothing."""


def _of_role(function: Callable[..., None]) -> Callable[..., None]:
    for decorate in (
        options.session,
        options.shared,
        _queue,
        click.argument("kind", metavar="ROLE", type=click.Choice(ROLES)),
        click.argument("user"),
    ):
        function = decorate(function)
    return function


@role.command()
@_of_role
def bind(session: options.Session, user: str, kind: str, queue: str) -> None:
    """Give USER the ROLE."""
    with session.client() as client:
        made = client.bind_role(user, kind, queue=queue)
    match session.output:
        case "json":
            out.write_json(out.to_plain(made))
        case "name":
            out.show_names([made.user])
        case _:
            out.note(f"{user} is {kind} {_where(made)}")


@role.command()
@_of_role
def unbind(session: options.Session, user: str, kind: str, queue: str) -> None:
    """Take the ROLE from USER."""
    with session.client() as client:
        client.unbind_role(user, kind, queue=queue)
    out.note(f"{user} is no longer {kind} {f'in queue {queue}' if queue else 'in the whole yard'}")


@role.command("list")
@click.option("--user", default="", help="Only roles of this user.")
@options.shared
@options.session
def list_(session: options.Session, user: str) -> None:
    """List who has which role where, as far as you may see it."""
    with session.client() as client:
        rows = list(client.list_bindings(user=user, page_size=1000))
    now = now_ms()
    columns: list[out.Column[RoleBinding]] = [
        out.Column(title="USER", cell=lambda row: row.user),
        out.Column(title="ROLE", cell=lambda row: row.role),
        out.Column(title="QUEUE", cell=lambda row: row.queue or "(all)"),
        out.Column(title="SINCE", cell=lambda row: spans.age(row.created_at_ms, now)),
        out.Column(title="BY", cell=lambda row: row.created_by),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.user)


@click.command()
@options.shared
@options.session
def whoami(session: options.Session) -> None:
    """Say who you are to the controller, and what you may be."""
    with session.client() as client:
        known = client.who_am_i()
    if session.output == "json":
        out.write_json(out.to_plain(known))
        return
    name = "administrator" if known.is_administrator else known.user
    if session.output == "name":
        out.show_names([name])
        return
    roles = ", ".join(f"{each.role} {_where(each)}" for each in known.bindings)
    out.show_fields(
        [("User", name), ("By", known.via), ("Roles", roles or ("all" if known.is_administrator else "none"))]
    )


def _where(binding: RoleBinding) -> str:
    return f"in queue {binding.queue}" if binding.queue else "in the whole yard"
