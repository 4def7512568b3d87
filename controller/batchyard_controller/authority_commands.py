"""Commands about the yard's keys: ``controller init|rotate-ca|certificate|rotate-key``. They need no controller that runs."""

from __future__ import annotations

import secrets
import socket
from datetime import timedelta
from pathlib import Path

import click

from batchyard import settings
from batchyard.credentials import Credentials, write_credentials
from batchyard.errors import InvalidArgumentError
from batchyard.ids import uuid7
from batchyard.state_folder import make_private_folder, write_private

from . import administrator
from .administrator import Administrator, split_token, write_administrator, write_token
from .authority import FILE_NAME, Authority, drop_former_ca, make_authority, replace_ca
from .clock import read_date, read_wall_s
from .config import default_store
from .vault import add_key, drop_keys, key_file_of

CERTIFICATE_DAYS_MAX = 397
"""CA/Browser Forum: browsers trust no longer ones."""

CA_OPTION = click.option(
    "--ca",
    type=click.Path(dir_okay=False, path_type=Path),
    default=lambda: settings.state_dir() / FILE_NAME,
    envvar=settings.variable("ca", "controller"),
    help="File of the yard's CA, as `batchyard controller init` makes it.",
)


@click.command()
@CA_OPTION
@click.option(
    "--address",
    metavar="HOST:PORT",
    envvar=settings.variable("listen", "controller"),
    help="Where users of other machines reach the controller: it stands in the administrator's credentials. "
    "Default: where the controller is to listen, if that is set, by this machine's name.",
)
@click.option("--if-missing", is_flag=True, help="Do nothing where there is a CA.")
def init(ca: Path, address: str | None, if_missing: bool) -> None:
    """
    Make a yard's CA, and credentials for its first administrator.

    Both lie in one folder, for its owner alone. Whoever has the CA's file can be any host and any
    controller of the yard; keep a copy where you keep what must not be lost.
    """
    if if_missing and ca.exists():
        return
    try:
        reached = _reached_at(settings.parse_address(address or socket.gethostname()))
        make_authority(ca, uuid7(int(read_wall_s() * 1000), secrets.token_bytes(10)), read_date())
        authority = Authority(ca, read_wall_s)
        credentials = ca.with_name(administrator.CREDENTIALS_NAME)
        _make_administrator(authority, ca.parent, reached)
    except (OSError, InvalidArgumentError) as err:
        raise click.ClickException(str(err)) from err
    click.echo(f"yard {authority.yard}")
    click.echo(f"CA: {ca}")
    click.echo(f"administrator's credentials: {credentials} (for a user of another machine: ~/.config/batchyard/)")


def _reached_at(address: str) -> str:
    """Return where others reach who listens at an address: for all of a machine's, its name stands."""
    host, port = settings.split_address(address)
    return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "::") else address


def _make_administrator(authority: Authority, folder: Path, address: str) -> None:
    """Make the first administrator, good for 90 days."""
    token, now_ms = write_token(secrets.token_hex(8), secrets.token_urlsafe(32)), int(read_wall_s() * 1000)
    token_id, secret_hash = split_token(token)
    known = Administrator(
        token_id=token_id,
        token_sha256=secret_hash,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + administrator.LIFE_MS,
    )
    write_administrator(folder / administrator.FILE_NAME, known)
    write_credentials(
        folder / administrator.CREDENTIALS_NAME,
        Credentials(address=address, yard=authority.yard, token=token, ca=authority.bundle),
    )


@click.command("rotate-ca")
@CA_OPTION
@click.option("--finish", is_flag=True, help="Trust the former CA no more.")
def rotate_ca(ca: Path, finish: bool) -> None:
    """
    Let a new CA issue certificates; the former one stays trusted until --finish.

    A controller that runs takes it over by itself, and hosts as they renew their certificates, within a
    day. Then give users their credentials anew, and finish. Give the file to all controllers of a store.
    """
    try:
        if finish:
            drop_former_ca(ca)
        else:
            replace_ca(ca, read_date())
    except OSError as err:
        raise click.ClickException(str(err)) from err
    if finish:
        click.echo("the former CA is trusted no more, and join tokens made before have ended with it")
    else:
        click.echo("a new CA issues; in a day, end this with --finish")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@CA_OPTION
@click.option("--name", "names", multiple=True, required=True, metavar="NAME", help="DNS name or address; repeatable.")
@click.option("--days", type=click.IntRange(1, CERTIFICATE_DAYS_MAX), default=90, show_default=True, help="Good for.")
def certificate(folder: Path, ca: Path, names: tuple[str, ...], days: int) -> None:
    """Issue a certificate by the yard's CA for a gateway: tls.crt and tls.key in FOLDER, and ca.crt for its clients."""
    try:
        authority = Authority(ca, read_wall_s)
        leaf = authority.issue_server(names, timedelta(days=days))
        make_private_folder(folder)
        for name, text in (("tls.key", leaf.key), ("tls.crt", leaf.chain), ("ca.crt", authority.bundle.encode())):
            write_private(folder / name, text.decode())
    except (OSError, ValueError) as err:
        raise click.ClickException(str(err)) from err
    click.echo(f"{folder}/tls.crt and tls.key, good for {days} days; clients trust {folder}/ca.crt")


@click.command("rotate-key")
@click.option(
    "--secrets-key",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=settings.variable("secrets_key", "controller"),
    help="The key file. Default: that beside the file of the store.",
)
@click.option(
    "--store", default=default_store, envvar=settings.variable("store", "controller"), help="As of the controller."
)
@click.option("--keep-only", metavar="ID", help="Drop all keys but this, which `batchyard secret rekey` named.")
def rotate_key(secrets_key: Path | None, store: str, keep_only: str | None) -> None:
    """
    Put a new key of secrets and access keys first in the key file; the others stay, to decrypt.

    A controller that runs takes it over by itself. Give all controllers of a store the same file, then
    encrypt anew what is stored with `batchyard secret rekey`, then drop the others with --keep-only.
    """
    scheme, _, rest = store.partition("://")
    if secrets_key is None and scheme != "sqlite":
        raise click.UsageError("--secrets-key FILE is needed: only a sqlite store has its key file beside it")
    path = secrets_key or key_file_of(rest)
    try:
        if keep_only is None:
            click.echo(f"key {add_key(path)} encrypts from now on; next: batchyard secret rekey")
        else:
            click.echo(f"dropped {', '.join(drop_keys(path, keep_only)) or 'none'}; {path} holds {keep_only}")
    except (OSError, ValueError) as err:
        raise click.ClickException(str(err)) from err


COMMANDS: list[click.Command] = [init, rotate_ca, certificate, rotate_key]
"""Those about keys."""
