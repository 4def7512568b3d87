"""
OIDC: how a person logs in with the yard's OpenID provider, from a terminal (RFC 8628), and stays so.

It asks a provider and knows no yard. Laws: nothing is sent but over TLS, or to loopback in
tests; no answer is read beyond a bound; and no token stands in an exception.
"""

from __future__ import annotations

import base64
import binascii
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from batchyard.errors import Reason, UnauthenticatedError
from batchyard.settings import is_loopback

SCOPE = "openid profile email groups offline_access"
"""What a login asks for; a provider leaves out what it does not know (OpenID Connect Core 3.1.2.1)."""
TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1 << 20
INTERVAL_S = 5.0
"""RFC 8628, 3.2: between two questions where the provider says nothing."""
SLOWER_S = 5.0
"""RFC 8628, 3.5: by so much it is to be more when the provider says slow_down."""
EARLY_S = 30.0
"""So long before a token ends another is fetched."""
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where a provider answers what; empty: it does not."""

    jwks_uri: str
    token_endpoint: str = ""
    device_authorization_endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a person is to do elsewhere: open the address and enter the code."""

    address: str
    user_code: str
    device_code: str = field(repr=False)
    interval_s: float
    expires_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a login is worth; ``refresh_token`` is empty where it cannot be prolonged."""

    id_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> NoReturn:
        raise OSError("the provider sends elsewhere, which is not followed")


_OPENER = urllib.request.build_opener(_NoRedirect)


def fetch(address: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
    """
    Ask a provider, and return its answer, an error's too.

    Args:
        address: ``https://``; ``http://`` of loopback alone.
        form: What is sent. Default: nothing, it is only read.

    Raises:
        OSError: it does not answer.
        ValueError: that is no address to ask, or no answer.
    """
    require_safe(address)
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(address, data, {"Accept": "application/json"})  # noqa: S310  # looked at above
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            body = answer.read(ANSWER_BYTES_MAX + 1)
    except urllib.error.HTTPError as err:
        with err:
            if form is None or err.code not in (400, 401, 403):
                raise OSError(f"{address} answers {err.code}") from None
            body = err.read(ANSWER_BYTES_MAX + 1)
    if len(body) > ANSWER_BYTES_MAX:
        raise ValueError(f"{address} answers more than {ANSWER_BYTES_MAX} bytes")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError(f"{address} answers no object")  # noqa: TRY004  # of the answer, not of an argument
    return found


def require_safe(address: str) -> None:
    """
    Refuse an address of a provider that others could listen to.

    Raises:
        ValueError: it is neither ``https://`` nor of loopback.
    """
    parts = urllib.parse.urlsplit(address)
    is_local = parts.scheme == "http" and is_loopback(f"{parts.hostname}:{parts.port or 80}")
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ValueError(f"{address!r} is no https:// address")


def discover(issuer: str) -> Provider:
    """
    Return where a provider answers what (OpenID Connect Discovery 1.0).

    Raises:
        OSError: it does not answer.
        ValueError: what it answers is no provider's, or another's.
    """
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    found = fetch(address)
    if found.get("issuer") != issuer:
        raise ValueError(f"{address} is of the issuer {found.get('issuer')!r}, not {issuer!r}")
    names = ("jwks_uri", "token_endpoint", "device_authorization_endpoint")
    endpoints = {name: str(found[name]) for name in names if found.get(name)}
    for endpoint in endpoints.values():
        require_safe(endpoint)
    if "jwks_uri" not in endpoints:
        raise ValueError(f"{address} names no jwks_uri")
    return Provider(**endpoints)


def begin_login(provider: Provider, client_id: str) -> Prompt:
    """
    Ask for a code that a person enters elsewhere.

    Raises:
        UnauthenticatedError: the provider does not let people log in so.
        OSError, ValueError: as for `fetch`.
    """
    if not (provider.device_authorization_endpoint and provider.token_endpoint):
        raise _failed("the provider knows no login by device (RFC 8628)")
    answer = fetch(provider.device_authorization_endpoint, {"client_id": client_id, "scope": SCOPE})
    if "error" in answer:
        raise _refused(answer)
    return Prompt(
        address=_text(answer, "verification_uri"),
        user_code=_text(answer, "user_code"),
        device_code=_text(answer, "device_code"),
        interval_s=float(answer.get("interval", INTERVAL_S)),
        expires_in_s=float(answer.get("expires_in", 0)),
    )


def finish_login(
    provider: Provider, client_id: str, prompt: Prompt, read_s: Callable[[], float], sleep: Callable[[float], None]
) -> Tokens:
    """
    Wait until a person has entered the code, and return what the login is worth.

    Args:
        provider: Which.
        client_id: As which the yard is known to it.
        prompt: What the person was told.
        read_s: A clock that never jumps.
        sleep: What waits.

    Raises:
        UnauthenticatedError: they said no, or the code has expired.
        ValueError: as for `fetch`.
    """
    form = {"grant_type": _DEVICE_GRANT, "device_code": prompt.device_code, "client_id": client_id}
    interval_s, ends_s = prompt.interval_s, read_s() + prompt.expires_in_s
    while read_s() < ends_s:
        sleep(interval_s)
        try:
            answer = fetch(provider.token_endpoint, form)
        except OSError:  # RFC 8628, 3.5: slower, and on
            interval_s += SLOWER_S
            continue
        match answer.get("error"):
            case None:
                return _tokens(answer, "")
            case "authorization_pending":
                continue
            case "slow_down":
                interval_s += SLOWER_S
            case _:
                raise _refused(answer)
    raise _failed("the code has expired")


def refresh(issuer: str, client_id: str, refresh_token: str) -> Tokens:
    """
    Prolong a login.

    Raises:
        UnauthenticatedError: it is over.
        OSError, ValueError: as for `fetch`.
    """
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": client_id}
    answer = fetch(discover(issuer).token_endpoint, form)
    if "error" in answer:
        raise _refused(answer)
    return _tokens(answer, refresh_token)


def is_ending(token: str, now_s: float) -> bool:
    """Say whether a token of a login ends soon, by its own word; one that cannot be read does."""
    try:
        part = token.split(".")[1]
        ends_s = float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return True
    return now_s >= ends_s - EARLY_S


def _tokens(answer: Mapping[str, Any], refresh_token: str) -> Tokens:
    return Tokens(
        id_token=_text(answer, "id_token"),
        refresh_token=str(answer.get("refresh_token") or refresh_token),
    )


def _text(answer: Mapping[str, Any], name: str) -> str:
    found = answer.get(name)
    if not isinstance(found, str) or not found:
        raise ValueError(f"the provider's answer has no {name}")
    return found


def _refused(answer: Mapping[str, Any]) -> UnauthenticatedError:
    return _failed(f"the provider says: {answer.get('error_description') or answer['error']}")


def _failed(text: str) -> UnauthenticatedError:
    return UnauthenticatedError(text, reason=Reason.BAD_CREDENTIALS)
