"""Commands ``context``: several yards by name."""

from __future__ import annotations

from pathlib import Path

import click

from batchyard import settings
from batchyard.cli import options
from batchyard.cli import output as out
from batchyard.contexts import NONE

TITLES = ("NAME", "ADDRESS", "QUEUE", "CREDENTIALS", "IN USE")


@click.group()
def context() -> None:
    """
    Contexts: several yards by name, each with where it is, who you are there, and its usual queue.

    The one in use counts for all commands and for Python, behind BATCHYARD_* and before the
    file of settings; --context NAME, or BATCHYARD_CONTEXT, means another. `default` is what
    settings say without one. `batchyard login` keeps its token in the context.
    """


@context.command()
@click.argument("name")
@click.option(
    "--credentials",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the yard gave you; copied, for you alone.",
)
@click.option("--at", "address", metavar="ADDRESS", help="host:port or unix:/path. Default: where the credentials say.")
@click.option("-q", "--queue", default="", help="Where jobs are submitted there.")
@click.option("--use", "is_used", is_flag=True, help="Use it from now on.")
@options.session
def add(
    _session: options.Session, name: str, credentials: Path | None, address: str | None, queue: str, is_used: bool
) -> None:
    """Keep a yard as NAME."""
    from batchyard.credentials import read_credentials, write_credentials

    known = read_credentials(credentials) if credentials is not None else None
    if address is None and known is None:
        raise click.UsageError("say where the yard is: --credentials FILE, or --at unix:/path for one of this machine")
    at = settings.parse_addresses(address or (known.address if known is not None else ""))
    if known is None and not at.startswith("unix:"):
        raise click.UsageError(f"{at} is a port: it needs --credentials FILE")
    contexts = settings.contexts()
    try:
        contexts.prepare(name)
        said = {"address": at, "queue": queue}
        if known is not None:
            said["credentials"] = str(contexts.credentials(name))
            write_credentials(contexts.credentials(name), known)
        contexts.write(name, said)
        if is_used:
            contexts.use(name)
    except OSError as err:
        raise click.UsageError(f"the context cannot be kept: {err}") from err
    out.note(f"{name} is {at}" + (", and in use" if is_used else f"; use it: batchyard context use {name}"))


@context.command()
@click.argument("name", shell_complete=options.contexts)
@options.session
def use(_session: options.Session, name: str) -> None:
    """Use the yard NAME from now on; `default`: what settings say without a context."""
    settings.contexts().use(name)
    out.note(f"{name} is in use")


@context.command("list")
@click.option("-o", "--output", type=click.Choice(out.FORMATS), default="table", help="What to write. Default table.")
def list_(output: str) -> None:
    """List the yards that have names here."""
    contexts = settings.contexts()
    current = contexts.current() or NONE
    rows = [{"name": name, **contexts.read(name), "is_used": name == current} for name in [*contexts.names(), NONE]]
    match output:
        case "json":
            out.write_json(rows)
        case "name":
            out.show_names(str(row["name"]) for row in rows)
        case _:
            keys = ("name", "address", "queue", "credentials")
            cells = [[*(str(row.get(key, "-")) for key in keys), "*" if row["is_used"] else ""] for row in rows]
            out.show_table(TITLES, cells, elastic=["CREDENTIALS"])


@context.command()
@click.argument("name", shell_complete=options.contexts)
@options.session
def remove(_session: options.Session, name: str) -> None:
    """Forget the yard NAME, and what you are there."""
    settings.contexts().remove(name)
    out.note(f"{name} is removed")
