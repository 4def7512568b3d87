"""
Who may call the gateway: signatures checked with keys that the controller derives.

It holds no secret: a signing key is good for one day, region and service, and is
kept for a minute, so that a revoked access key soon opens nothing. Law: without a
signature only loopback is served, and only while no access key is defined.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

import structlog

from .services import Principal
from .signature import SignatureError, read_claim, verify
from .wire import Request

KEY_TTL_S = 60.0
"""How long a signing key is kept, and so how long a revoked access key may still work."""

OPEN_TTL_S = 5.0
"""How long loopback stays open after the first access key was made."""

KEYS_MAX = 1_000
REPLAY_AFTER_S = 10.0
"""
A signature comes again later than this only when somebody repeats what they overheard.

Earlier it may be another request of the same words: a signature's date has seconds,
and clients send twins within one. A client that tries again signs again.
"""

REPLAYS_MAX = 100_000
"""Signatures remembered; at a higher rate than 160 changes a second, for less than the clock window."""

K = TypeVar("K")
V = TypeVar("V")

log = structlog.get_logger()


class SigningKey(Protocol):
    """The contract's ``DeriveSigningKeyResponse``, as far as it is read here."""

    @property
    def signing_key(self) -> bytes:
        """Empty when there is no such access key."""

    @property
    def any_keys(self) -> bool:
        """Whether any access key is defined."""


class Keys(Protocol):
    """What of the SDK's client is needed."""

    async def derive_signing_key(self, access_key_id: str, *, date: str, region: str, service: str) -> SigningKey:
        """Ask for a signing key; with an empty id, whether there are keys at all."""


class Memory(Generic[K, V]):
    """Bounded memory of what was learnt when; the oldest is forgotten first."""

    def __init__(self, *, ttl_s: float, entries_max: int) -> None:
        self._ttl_s = ttl_s
        self._entries_max = entries_max
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K, now_s: float) -> V | None:
        """Return what was put under *key* within the last *ttl_s* seconds."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and now_s - entry[0] < self._ttl_s else None

    def put(self, key: K, value: V, now_s: float) -> None:
        """Remember *value* from now on."""
        self._entries[key] = (now_s, value)
        self._entries.move_to_end(key)
        while self._entries and (
            len(self._entries) > self._entries_max or now_s - next(iter(self._entries.values()))[0] >= self._ttl_s
        ):
            self._entries.popitem(last=False)


class Authenticator:
    """
    Admits requests, or says why not.

    Args:
        keys: Where signing keys come from.
        region: The gateway's own; requests must be signed for it.
        services: Those that it answers for.
        is_loopback: Whether only this machine can reach it.
        read_wall_s: The clock, in seconds since the epoch.
    """

    def __init__(
        self, keys: Keys, *, region: str, services: Collection[str], is_loopback: bool, read_wall_s: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._region = region
        self._services = services
        self._is_loopback = is_loopback
        self._read_wall_s = read_wall_s
        self._signing_keys: Memory[tuple[str, str, str], bytes] = Memory(ttl_s=KEY_TTL_S, entries_max=KEYS_MAX)
        self._open: Memory[str, bool] = Memory(ttl_s=OPEN_TTL_S, entries_max=1)
        self._seen: Memory[str, float] = Memory(ttl_s=600.0, entries_max=REPLAYS_MAX)
        self._has_warned = False

    async def __call__(self, request: Request, is_change: bool) -> Principal:
        """
        Return who signed *request*.

        Args:
            request: As it came over the wire.
            is_change: It changes something, so that it must not be carried out again for another.

        Raises:
            SignatureError: it is refused.
            BatchyardError: the controller could not be asked.
        """
        now_s = self._read_wall_s()
        if self._is_loopback and await self._is_open(now_s):
            return Principal()
        claim = read_claim(request, now_s=now_s, region=self._region, services=self._services)
        verify(claim, await self._signing_key(claim.access_key_id, claim.date, claim.service, now_s))
        if is_change:
            self._refuse_replay(claim.signature, now_s)
        return Principal(access_key_id=claim.access_key_id)

    async def _is_open(self, now_s: float) -> bool:
        """Say whether no access key is defined; warn the first time."""
        is_open = self._open.get("", now_s)
        if is_open is None:
            answer = await self._keys.derive_signing_key("", date="", region="", service="")
            is_open = not answer.any_keys
            self._open.put("", is_open, now_s)
        if is_open and not self._has_warned:
            self._has_warned = True
            log.warning(
                "no access key is defined: every user of this machine may call the gateway; "
                "make one with `batchyard access-key create`"
            )
        return is_open

    async def _signing_key(self, access_key_id: str, date: str, service: str, now_s: float) -> bytes:
        name = (access_key_id, date, service)
        key = self._signing_keys.get(name, now_s)
        if key is None:
            answer = await self._keys.derive_signing_key(access_key_id, date=date, region=self._region, service=service)
            key = answer.signing_key
            if not (answer.any_keys or self._has_warned):
                self._has_warned = True
                log.warning(
                    "no access key is defined, so nobody is served; make one with `batchyard access-key create`"
                )
            self._signing_keys.put(name, key, now_s)
        return key

    def _refuse_replay(self, signature: str, now_s: float) -> None:
        first_s = self._seen.get(signature, now_s)
        if first_s is None:
            self._seen.put(signature, now_s, now_s)
        elif now_s - first_s > REPLAY_AFTER_S:
            raise SignatureError(
                "SignatureDoesNotMatch", "Signature expired: this very request was carried out before."
            )
