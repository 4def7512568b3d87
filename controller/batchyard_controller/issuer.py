"""
Issuer: the yard's OpenID provider, whose signed tokens say who somebody is.

Its keys are fetched once and kept; a token that names another is worth fetching them again, once
a minute at most. Laws: which algorithms count is said here, never by a token; nothing is
asked of any URL that a token names; and a provider that is away shuts out nobody whose key is known.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from batchyard.errors import Reason, UnauthenticatedError
from batchyard.oidc import discover, fetch

from .core.access.login import Login, LoginRules, login_of

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""By public keys alone (RFC 8725, 3.1)."""
LEEWAY_S = 60
"""By how much clocks may differ."""
REFETCH_S = 60.0
KEYS_TTL_S = 3600.0
"""A key that the provider has withdrawn counts no longer than this."""
KNOWN_MAX = 1_000
KNOWN_S = 300
"""How long a token that was checked is not checked again."""
_PREFIX = "eyJ"
"""Of all JSON Web Tokens: an object in base64."""
_REFUSED = "the login is not known here, or too old; log in again (batchyard login)"


def is_web_token(bearer: str) -> bool:
    """Say whether a bearer's token is of a provider, rather than the yard's own."""
    return bearer.startswith(_PREFIX) and bearer.count(".") == 2


class Issuer:
    """
    The provider, as far as it is known.

    Args:
        rules: Whose word counts.
        read_wall_s: The clock that tokens are compared with.
        read_s: A clock that never jumps.
    """

    def __init__(self, rules: LoginRules, read_wall_s: Callable[[], float], read_s: Callable[[], float]) -> None:
        self.rules = rules
        self._read_wall_s = read_wall_s
        self._read_s = read_s
        self._keys = KeySet([])
        self._key_ids: frozenset[str] = frozenset()
        self._fetched_s = -KEYS_TTL_S
        self._tried_s = -REFETCH_S
        self._fetching = asyncio.Lock()
        self._known: OrderedDict[str, tuple[float, Login]] = OrderedDict()

    async def learn(self, bearer: str) -> None:
        """Fetch the provider's keys if that of a token is not known, or they are old; what fails is logged."""
        if not self._lacks(bearer):
            return
        async with self._fetching:
            if not self._lacks(bearer):
                return
            self._tried_s = self._read_s()
            try:
                found = await asyncio.to_thread(_fetch_keys, self.rules.issuer)
                keys = KeySet.import_key_set({"keys": found})
            except (OSError, ValueError, JoseError) as err:
                structlog.get_logger().warning("the provider's keys cannot be fetched", reason=str(err))
                return
            self._keys, self._fetched_s = keys, self._read_s()
            self._key_ids = frozenset(key.kid for key in keys.keys if key.kid)
            self._known.clear()

    def _lacks(self, bearer: str) -> bool:
        now_s = self._read_s()
        if now_s - self._tried_s < REFETCH_S:
            return False
        return now_s - self._fetched_s >= KEYS_TTL_S or _key_id(bearer) not in self._key_ids

    def login(self, bearer: str) -> Login:
        """
        Return whom a token is about.

        Raises:
            UnauthenticatedError: it was not signed by the provider, is for another, not valid now, or
                names nobody.
        """
        now_s = self._read_wall_s()
        known = self._known.get(bearer)
        if known is not None and now_s < known[0]:
            return known[1]
        claims = self._verify(bearer, now_s)
        found = login_of(self.rules, claims)
        self._known[bearer] = (min(float(claims["exp"]), now_s + KNOWN_S), found)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    def _verify(self, bearer: str, now_s: float) -> Mapping[str, Any]:
        registry = jwt.JWTClaimsRegistry(
            now=int(now_s),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self.rules.issuer},
            aud={"essential": True, "value": self.rules.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            if _key_id(bearer) not in self._key_ids:
                raise UnauthenticatedError(_REFUSED, reason=Reason.BAD_CREDENTIALS)
            token = jwt.decode(bearer, self._keys, algorithms=ALGORITHMS)
            registry.validate(token.claims)
        except (JoseError, ValueError, TypeError) as err:
            raise UnauthenticatedError(_REFUSED, reason=Reason.BAD_CREDENTIALS) from err
        return token.claims


def _key_id(bearer: str) -> str:
    """Return which key a token says that it was signed with; empty: none."""
    try:
        return str(jws.extract_compact(bearer.encode()).protected.get("kid", ""))
    except (JoseError, ValueError):
        return ""


def _fetch_keys(issuer: str) -> list[dict[str, Any]]:
    """
    Return the provider's public keys that sign, of kinds that are known here.

    Raises:
        OSError: it does not answer.
        ValueError: what it answers is none.
    """
    found = fetch(discover(issuer).jwks_uri).get("keys")
    if not isinstance(found, list):
        raise ValueError(f"{issuer} has no keys")  # noqa: TRY004  # of the answer, not of an argument
    kinds = ("RSA", "EC", "OKP")
    return [
        key
        for key in found
        if isinstance(key, dict) and key.get("kty") in kinds and key.get("use", "sig") == "sig" and key.get("kid")
    ]
