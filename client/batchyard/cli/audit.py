"""Commands about the audit log: ``audit verify``."""

from __future__ import annotations

from pathlib import Path

import click

from batchyard import audit_log
from batchyard.cli import exits, options
from batchyard.cli import output as out


@click.group()
def audit() -> None:
    """The audit log: who changed what, and who was turned away."""


@audit.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Of a copy, or of a controller that does not run: what was cut off at the end is not seen then. "
    "Default: the controller's own, up to where it says that the log has come to.",
)
@options.shared
@options.session
def verify(session: options.Session, folder: Path | None) -> int:
    """Check that nobody has changed, left out, put in or cut off a line; exit with 3 if somebody has."""
    head = None
    if folder is None:
        with session.client() as client:
            told = client.get_audit_head()
        if not told.folder:
            raise click.ClickException("this controller keeps no audit log")
        folder, head = Path(told.folder), audit_log.Link(told.seq, told.sha256)
    try:
        first, last = audit_log.verify(folder, head)
    except audit_log.BrokenChainError as error:
        out.note(f"the audit log in {folder} was tampered with: {error}")
        return exits.REFUSED
    except OSError as error:
        raise click.ClickException(f"cannot read {folder}: {error.strerror}") from error
    click.echo(f"lines {first} to {last.seq} are as they were written" if last.seq else "there is no line yet")
    return 0
