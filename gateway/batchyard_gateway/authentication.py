"""
Who may call the gateway: signatures checked with keys that the controller derives.

It holds no secret: a signing key is good for one day, region and service, and is
kept for a minute, so that a revoked access key soon opens nothing. Law: nothing is
served without a signature; no body is read for an access key that nobody has; and
however many others fail, who signs with a known key is heard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

import structlog

from .errors import TooManyRequestsException
from .services import Principal
from .signature import Credential, SignatureError, mismatch, read_claim, read_credential, verify
from .throttle import TokenBucket
from .wire import Request

KEY_TTL_S = 60.0
"""How long a signing key is kept, and so how long a revoked access key may still work."""

KEYS_MAX = 1_000
REPLAY_AFTER_S = 10.0
"""
A signature comes again later than this only when somebody repeats what they overheard.

Earlier it may be another request of the same words: a signature's date has seconds,
and clients send twins within one. A client that tries again signs again.
"""

FAILURES_PER_SECOND = 20.0
"""Refusals that one source gets an answer of its own for; beyond it, only known keys are looked at."""

SOURCES_MAX = 10_000
MINUTE_S = 60.0

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


class Noted(Protocol):
    """The contract's ``NoteSignatureResponse``, as far as it is read here."""

    @property
    def age_ms(self) -> int:
        """How long ago the signature was first noted."""


class Keys(Protocol):
    """What of the SDK's client is needed."""

    async def derive_signing_key(self, access_key_id: str, *, date: str, region: str, service: str) -> SigningKey:
        """Ask for a signing key."""

    async def note_signature(self, signature: str) -> Noted:
        """Note a signature where all gateways of the yard do."""


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
        read_wall_s: The clock, in seconds since the epoch.
    """

    def __init__(self, keys: Keys, *, region: str, services: Collection[str], read_wall_s: Callable[[], float]) -> None:
        self._keys = keys
        self._region = region
        self._services = services
        self._read_wall_s = read_wall_s
        self._signing_keys: Memory[tuple[str, str, str, str], bytes] = Memory(ttl_s=KEY_TTL_S, entries_max=KEYS_MAX)
        # Apart from the keys that are, so that made-up ones push none of them out.
        self._nobodys: Memory[str, bool] = Memory(ttl_s=KEY_TTL_S, entries_max=KEYS_MAX)
        self._known: Memory[str, bool] = Memory(ttl_s=24 * 3600.0, entries_max=KEYS_MAX)
        self._failures: Memory[str, TokenBucket] = Memory(ttl_s=MINUTE_S, entries_max=SOURCES_MAX)
        self._has_warned = False

    async def admit_head(self, head: Request, source: str) -> None:
        """
        Refuse a request whose head shows that no body can make it right.

        Args:
            head: As it came over the wire, without a body.
            source: Whom failures are counted against.

        Raises:
            SignatureError: it is unsigned, unreadable, or signed with no key there is.
            TooManyRequestsException: its source has failed too often, and its key is not known.
            BatchyardError: the controller could not be asked.
        """
        now_s = self._read_wall_s()
        try:
            credential = read_credential(head, now_s=now_s, region=self._region, services=self._services)
        except SignatureError:
            self._count_failure(source, now_s)
            raise
        if not await self._signing_key(credential, source, now_s):
            self._count_failure(source, now_s)
            raise mismatch()

    async def admit(self, request: Request, is_change: bool) -> Principal:
        """
        Return who signed *request*, whose head was admitted.

        Args:
            request: As it came over the wire.
            is_change: It changes something, so that it must not be carried out again for another.

        Raises:
            SignatureError: it is refused.
            BatchyardError: the controller could not be asked.
        """
        now_s = self._read_wall_s()
        claim = read_claim(request, now_s=now_s, region=self._region, services=self._services)
        verify(claim, await self._signing_key(claim.credential, "", now_s))
        if is_change:
            await self._refuse_replay(claim.credential.signature)
        return Principal(access_key_id=claim.credential.access_key_id)

    async def _signing_key(self, credential: Credential, source: str, now_s: float) -> bytes:
        """Return the key to verify with; empty when nobody has the access key."""
        key_id = credential.access_key_id
        name = (key_id, credential.date, credential.region, credential.service)
        key = self._signing_keys.get(name, now_s)
        if key is not None:
            return key
        if self._nobodys.get(key_id, now_s):
            return b""
        if not self._known.get(key_id, now_s) and not self._may_fail(source, now_s):
            raise TooManyRequestsException
        answer = await self._keys.derive_signing_key(
            key_id, date=credential.date, region=credential.region, service=credential.service
        )
        if answer.signing_key:
            self._signing_keys.put(name, answer.signing_key, now_s)
            self._known.put(key_id, True, now_s)
        else:
            self._nobodys.put(key_id, True, now_s)
        if not (answer.any_keys or self._has_warned):
            self._has_warned = True
            log.warning("no access key is defined, so nobody is served; make one with `batchyard access-key create`")
        return answer.signing_key

    def _may_fail(self, source: str, now_s: float) -> bool:
        bucket = self._failures.get(source, now_s)
        return bucket is None or bucket.has(now_s)

    def _count_failure(self, source: str, now_s: float) -> None:
        """Take note; who failed too often is told to slow down."""
        bucket = self._failures.get(source, now_s) or TokenBucket(FAILURES_PER_SECOND)
        self._failures.put(source, bucket, now_s)
        if not bucket.take(now_s):
            raise TooManyRequestsException

    async def _refuse_replay(self, signature: str) -> None:
        noted = await self._keys.note_signature(signature)
        if noted.age_ms > REPLAY_AFTER_S * 1000:
            raise SignatureError(
                "SignatureDoesNotMatch", "Signature expired: this very request was carried out before."
            )
