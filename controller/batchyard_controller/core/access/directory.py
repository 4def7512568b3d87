"""
Directory: who is bound to what, and who is known by what, at one moment; and who a caller is.

A plain value that is replaced whole, so that it may be read at any moment without waiting.
No clock: now is an argument. Law: what is not known, revoked or too old is nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from batchyard.errors import PermissionDeniedError, Reason, UnauthenticatedError
from batchyard_controller.core.model.identities import Binding, Role, Token
from batchyard_controller.core.model.secrets import AccessKey

from .roles import THE_ADMINISTRATOR, Grant, Kind, Principal, Thing, Verb, may

TOKEN_PREFIX = "by_pat_"  # noqa: S105  # what all begin with, so that scanners find them
_TOKEN = re.compile(r"by_pat_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_REFUSED = "the credentials are not known here, were revoked, or are too old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    What a call came with.

    Attributes:
        is_local: Over a listener that the kernel lets the administrator alone use.
        host_id: Of the certificate that it came with, of an agent.
        bearer: Its token; empty: none.
        access_key_id: The access key for whose owner it asks to act; empty: for nobody else.
        role: The role that it drops to, whatever it might do; empty: keeps all.
    """

    is_local: bool = False
    host_id: str = ""
    bearer: str = ""
    access_key_id: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """
    Who is who.

    Attributes:
        grants: Of each user.
        tokens: By id.
        owners: Of access keys, by id.
    """

    grants: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)


def make_directory(bindings: Iterable[Binding], tokens: Iterable[Token], access_keys: Iterable[AccessKey]) -> Directory:
    """Put together who is who."""
    grants: dict[str, tuple[Grant, ...]] = {}
    for binding in sorted(bindings, key=lambda each: each.name):
        grants[binding.user] = (*grants.get(binding.user, ()), Grant(role=binding.role, queue=binding.queue))
    return Directory(
        grants=grants,
        tokens={token.id: token for token in tokens},
        owners={access_key.id: access_key.owner for access_key in access_keys},
    )


def identify(
    directory: Directory, credentials: Credentials, now_ms: int, administrator: Token | None = None
) -> Principal:
    """
    Return who calls.

    Args:
        directory: Who is who.
        credentials: What the call came with.
        now_ms: The wall clock.
        administrator: The token that the yard was set up with, which is of no user; None: none.

    Raises:
        UnauthenticatedError: nobody is known by these credentials, or there are none.
        PermissionDeniedError: it asks to act for another, and may not.
    """
    caller = _caller(directory, credentials, now_ms, administrator)
    if credentials.role:
        caller = _dropped(caller, credentials.role)
    if credentials.access_key_id:
        return _acted_for(directory, caller, credentials.access_key_id)
    return caller


def _caller(directory: Directory, credentials: Credentials, now_ms: int, administrator: Token | None) -> Principal:
    if credentials.host_id:
        grants = (Grant(role=Role.AGENT),)
        return Principal(grants=grants, via=f"host {credentials.host_id}", host_id=credentials.host_id)
    if credentials.bearer:
        return _bearer(directory, credentials.bearer, now_ms, administrator)
    if credentials.is_local:
        return THE_ADMINISTRATOR
    text = "no token came with the call; give the client credentials of this yard (BATCHYARD_CREDENTIALS=FILE)"
    raise UnauthenticatedError(text, reason=Reason.NO_CREDENTIALS)


def _bearer(directory: Directory, bearer: str, now_ms: int, own: Token | None) -> Principal:
    match = _TOKEN.fullmatch(bearer)
    token_id, secret = (match[1], match[2]) if match is not None else ("", bearer)
    is_own = own is not None and own.id == token_id
    token = own if is_own else directory.tokens.get(token_id)
    # Hashed and compared even where there is no such token, so that the time it takes tells little.
    given = hashlib.sha256(secret.encode()).digest()
    is_right = hmac.compare_digest(given, token.sha256 if token is not None else bytes(len(given)))
    if token is None or not is_right or now_ms >= token.expires_at_ms:
        raise UnauthenticatedError(_REFUSED, reason=Reason.BAD_CREDENTIALS)
    via = f"token {token_id}"
    return replace(THE_ADMINISTRATOR, via=via) if is_own else _user(directory, token.user, via)


def _user(directory: Directory, user: str, via: str) -> Principal:
    """Return a user as they are bound now; what has no owner is the administrator's."""
    if not user:
        return replace(THE_ADMINISTRATOR, via=via)
    return Principal(user=user, grants=directory.grants.get(user, ()), via=via)


def _dropped(caller: Principal, role: str) -> Principal:
    """Return a caller with one of their roles left, in the whole yard, and no name of their own."""
    if role not in list(Role) or not (caller.is_administrator or caller.has(Role(role))):
        raise PermissionDeniedError(f"{caller.name} does not have that role", reason=Reason.PERMISSION_DENIED)
    return Principal(grants=(Grant(role=Role(role)),), via=f"{role} by {caller.via}")


def _acted_for(directory: Directory, caller: Principal, access_key_id: str) -> Principal:
    """Return the owner of an access key: who acts for another may do no more, and no less, than they."""
    if not may(caller, Verb.USE, Thing(Kind.SIGNING_KEY)):
        raise PermissionDeniedError(f"{caller.name} may not act for others", reason=Reason.PERMISSION_DENIED)
    owner = directory.owners.get(access_key_id)
    if owner is None:
        raise UnauthenticatedError(_REFUSED, reason=Reason.BAD_CREDENTIALS)
    return _user(directory, owner, f"access key {access_key_id}")
