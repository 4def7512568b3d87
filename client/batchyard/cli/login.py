"""Command ``login``: with the yard's OpenID provider, by a code that is entered in any browser."""

from __future__ import annotations

import time
from pathlib import Path

import click

from batchyard import oidc, settings
from batchyard.cli import harmless, options
from batchyard.cli import output as out
from batchyard.cli.clock import now_s
from batchyard.cli.token import known_yard
from batchyard.credentials import Credentials, write_credentials
from batchyard.errors import Reason, UnavailableError
from batchyard.sync import Client


@click.command()
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Credentials that say where the yard is and how it is known, with a token or without. Default: your own.",
)
@options.shared
@options.session
def login(session: options.Session, like: Path | None) -> None:
    """
    Log in with the yard's OpenID provider, and keep that in your credentials.

    Open the address that is written, on any machine, and enter the code. The login is prolonged by
    itself for as long as the provider lets it be.
    """
    known = known_yard(session, like)
    kept = like or session.credentials
    with Client(known.address, credentials=kept) as client:
        provider = client.get_login()
    if not provider.issuer:
        text = "this yard has no OpenID provider; its administrator can make you a token (batchyard token create)"
        raise click.UsageError(text)
    found = _log_in(provider.issuer, provider.client_id)
    target = kept if like is None and kept is not None else settings.own_credentials()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Credentials(
        address=known.address,
        yard=known.yard,
        ca=known.ca,
        token=found.id_token,
        issuer=provider.issuer,
        client_id=provider.client_id,
        refresh_token=found.refresh_token,
    )
    write_credentials(target, made)
    with Client(known.address, credentials=target) as client:
        user = client.who_am_i().user
    match session.output:
        case "json":
            out.write_json({"user": user, "credentials": str(target)})
        case "name":
            out.show_names([user])
        case _:
            out.note(f"you are {user}; credentials are in {target}")


def _log_in(issuer: str, client_id: str) -> oidc.Tokens:
    try:
        provider = oidc.discover(issuer)
        prompt = oidc.begin_login(provider, client_id)
        out.note(f"open {harmless.line(prompt.address)} and enter the code {harmless.line(prompt.user_code)}")
        return oidc.finish_login(provider, client_id, prompt, now_s, time.sleep)
    except (OSError, ValueError) as err:
        raise UnavailableError(
            f"the provider {issuer} does not answer as one: {err}", reason=Reason.PROVIDER_UNREACHABLE
        ) from err
