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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchyard import settings, signing
from batchyard.arns import REGION_DEFAULT
from batchyard.cli import options
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.state_folder import write_private

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
    write_private(path, json.dumps({**keys, "AWS_DEFAULT_REGION": REGION_DEFAULT, **endpoints}, indent=2) + "\n")


def read(path: Path) -> dict[str, str]:
    """Return what was handed over; nothing where nothing was."""
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}


def make_key_file(path: Path) -> None:
    """Make the controller's key file for a store that it makes none for; one that is there stays."""
    if not path.exists():
        write_private(path, f"up:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")


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


@click.command()
@click.option("--state-dir", type=FOR_STATE_DIR, help="The one that `batchyard up` was given.")
@click.option("--open", "is_to_open", is_flag=True, help="Open it in this desktop's browser, too.")
@options.session
def console(_session: options.Session, /, state_dir: Path | None, is_to_open: bool) -> None:
    """
    Write a link that signs you in to the console: once, and for five minutes.

    The gateway and the key are those that the environment names (AWS_ENDPOINT_URL_BATCH,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION), else those of `batchyard up`.
    """
    folder = (state_dir or settings.state_dir()).absolute()
    access = _of_environment() if state_dir is None else {}
    access = access or read(folder / FILE_NAME)
    if not access:
        raise click.ClickException(
            f"no gateway is known: {folder / FILE_NAME} is not there, as `batchyard up` writes it, "
            "and AWS_ENDPOINT_URL_BATCH, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not all set"
        )
    link = console_link(access, now_ms())
    click.echo(link)
    if is_to_open and click.launch(link) != 0:
        out.note("no browser could be started here: open the link yourself")


def console_link(access: Mapping[str, str], made_ms: int) -> str:
    """Return a link that signs in to the console of a gateway with its key."""
    key_id, region = access["AWS_ACCESS_KEY_ID"], access.get("AWS_DEFAULT_REGION", REGION_DEFAULT)
    day = signing.day_of(made_ms / 1000)
    key = signing.derive_signing_key(access["AWS_SECRET_ACCESS_KEY"], day, region, signing.CONSOLE)
    query = f"key={key_id}&made={made_ms}&signature={signing.sign_link(key, key_id, made_ms)}"
    return f"{access['AWS_ENDPOINT_URL_BATCH'].rstrip('/')}/console/sign-in?{query}"


def _of_environment() -> dict[str, str]:
    """Return the gateway and the key that the environment names; nothing where one of them is missing."""
    needed = ("AWS_ENDPOINT_URL_BATCH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    found = {name: os.environ.get(name, "") for name in (*needed, "AWS_DEFAULT_REGION")}  # noqa: TID251  # AWS's own
    return {name: value for name, value in found.items() if value} if all(found[name] for name in needed) else {}
