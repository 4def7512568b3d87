"""
What ``up`` hands to its user, and ``env`` shows: where the gateway is, and a key to sign with.

It is kept in the state folder, in a file for this user alone. Law: the file is whole or
not there, and never open to others.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchyard import settings
from batchyard.arns import REGION_DEFAULT
from batchyard.cli import options

if TYPE_CHECKING:
    from batchyard.sync import Client

FILE_NAME = "gateway.json"
AWS_SERVICES = ("BATCH", "CLOUDWATCH_LOGS", "ECS", "EC2", "STS")
"""All that the gateway speaks for; other services stay with AWS."""

FOR_STATE_DIR = click.Path(file_okay=False, path_type=Path)


def hand_over(client: Client, state_dir: Path, http: str) -> None:
    """Write where the gateway will be, with the key of the last time if it is still good, else with a new one."""
    path = state_dir / FILE_NAME
    kept = read(path)
    if kept.get("AWS_ACCESS_KEY_ID") not in {key.id for key in client.list_access_keys(page_size=1000)}:
        made = client.create_access_key(description="batchyard up")
        kept = {"AWS_ACCESS_KEY_ID": made.access_key.id, "AWS_SECRET_ACCESS_KEY": made.secret}
    endpoints = {f"AWS_ENDPOINT_URL_{service}": f"http://{http}" for service in AWS_SERVICES}
    keys = {name: kept[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    _write(path, json.dumps({**keys, "AWS_DEFAULT_REGION": REGION_DEFAULT, **endpoints}, indent=2) + "\n")


def read(path: Path) -> dict[str, str]:
    """Return what was handed over; nothing where nothing was."""
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}


def make_key_file(path: Path) -> None:
    """Make the controller's key file for a store that it makes none for; one that is there stays."""
    if not path.exists():
        _write(path, f"up:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")


@click.command()
@click.option("--state-dir", type=FOR_STATE_DIR, help="The one that `batchyard up` was given.")
@options.session
def env(_session: options.Session, /, state_dir: Path | None) -> None:
    """Write what tells this user's yard, and a key for AWS's tools, to a shell: eval "$(batchyard env)"."""
    folder = (state_dir or settings.state_dir()).absolute()
    socket = folder / settings.SOCKET_NAME
    if not socket.exists():
        raise click.ClickException(f"no yard listens at {socket}; start one with `batchyard up`, or give --state-dir")
    for name, value in {"BATCHYARD_ADDRESS": f"unix:{socket}", **read(folder / FILE_NAME)}.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _write(path: Path, text: str) -> None:
    """Write a file of this user's alone in one step."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
