"""Commands about secrets: ``secret put|list|delete``. Law: a value never stands in an argument."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchyard.cli import names, options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.secret_pb2 import SecretInfo


@click.group()
def secret() -> None:
    """Secrets: values that jobs get as environment variables and nobody can read back."""


@secret.command()
@click.argument("name")
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    shell_complete=names.queues,
    help="Let all jobs of this queue, or these, use it. Default: jobs of its owner alone.",
)
@click.option("--from-file", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Its content.")
@options.shared
@options.session
def put(session: options.Session, name: str, queues: tuple[str, ...], file: Path | None) -> None:
    """
    Keep a value under NAME; it replaces the former one.

    The value is asked for, or read from stdin or a file; one line break at its end is dropped.
    """
    value = _read(file)
    with session.client() as client:
        made = client.put_secret(name, value, queues=queues)
    match session.output:
        case "json":
            out.write_json(out.to_plain(made))
        case "name":
            out.show_names([made.name])
        case _:
            out.note(f"secret {made.name} kept, encrypted with {made.key_id}")


def _read(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, confirmation_prompt=True))
    try:
        data = sys.stdin.buffer.read() if file is None else file.read_bytes()
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("the value is not valid UTF-8") from None
    except OSError as err:
        raise click.UsageError(f"cannot read {file}: {err.strerror}") from None


@secret.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List secrets, never their values."""
    with session.client() as client:
        rows = list(client.list_secrets(page_size=1000))
    now = now_ms()
    columns: list[out.Column[SecretInfo]] = [
        out.Column(title="NAME", cell=lambda row: row.name),
        out.Column(title="CREATED", cell=lambda row: spans.age(row.created_at_ms, now)),
        out.Column(title="CHANGED", cell=lambda row: spans.age(row.updated_at_ms, now)),
        out.Column(title="KEY", cell=lambda row: row.key_id),
        out.Column(title="OWNER", cell=lambda row: row.owner),
        out.Column(title="QUEUES", cell=lambda row: " ".join(row.queues), is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


@secret.command()
@click.argument("name")
@options.shared
@options.session
def delete(session: options.Session, name: str) -> None:
    """Forget a secret; jobs that wait with its name will fail to start."""
    with session.client() as client:
        client.delete_secret(name)
    out.note(f"secret {name} deleted")
