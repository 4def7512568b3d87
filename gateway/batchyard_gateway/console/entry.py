"""
Entry: who may see the console: those who prove that they hold an access key.

A secret is compared once and dropped; a link is good once and for five minutes. It must never
know pages. Law: without a session nothing of the yard is told, and a session lives no longer
than its access key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from batchyard import signing
from batchyard.errors import RequestError
from batchyard_gateway.authentication import Memory, Noted, SigningKey
from batchyard_gateway.errors import ApiError

from .sessions import CHECK_S, Failures, Session, Sessions

REFUSED = "The access key is not known here, its secret is another one, or it was revoked."

_DIGITS_MAX = 15
"""Of a moment in milliseconds, for the next 30,000 years."""

LINKS_MAX = 10_000
"""Opened links that are remembered here; beyond, the controller's own memory is enough."""


class Keys(Protocol):
    """What of the SDK's client is needed."""

    async def derive_signing_key(
        self, access_key_id: str = "", *, date: str = "", region: str = "", service: str = ""
    ) -> SigningKey:
        """Ask for a signing key; without an access key only whether there are any."""

    async def note_signature(self, signature: str) -> Noted:
        """Note a signature where all gateways of the yard do."""


class Entry:
    """
    Lets people in.

    Args:
        keys: Where signing keys come from.
        region: What keys are derived for.
        throw: Makes a new secret text of at least 256 random bits.
        read_wall_s: The clock, in seconds since the epoch.
        read_s: The clock that no hand sets.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        region: str,
        throw: Callable[[], str],
        read_wall_s: Callable[[], float],
        read_s: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._region = region
        self._read_wall_s = read_wall_s
        self._read_s = read_s
        self._sessions = Sessions(throw)
        self._failures = Failures()
        # A link may be dated from five minutes ago to five minutes from now.
        self._opened: Memory[str, bool] = Memory(ttl_s=2 * signing.LINK_S, entries_max=LINKS_MAX)

    async def find(self, token: str, *, is_use: bool = True) -> Session | None:
        """
        Return the session of a token, if its key is still good.

        Args:
            token: As it was handed out.
            is_use: Somebody uses it, and no page by itself.

        Raises:
            BatchyardError: the controller could not be asked.
        """
        now_s = self._read_s()
        session = self._sessions.find(token, now_s, is_use=is_use)
        if session is not None and now_s - session.checked_s >= CHECK_S:
            if not await self._signing_key(session.access_key_id, self._read_wall_s()):
                self._sessions.close(token)
                return None
            session.checked_s = now_s
        return session

    def leave(self, token: str) -> None:
        """End a session, if there is one."""
        self._sessions.close(token)

    async def has_keys(self) -> bool:
        """Say whether anybody could sign in at all."""
        return (await self._keys.derive_signing_key()).any_keys

    async def with_secret(self, access_key_id: str, secret: str, source: str) -> str:
        """
        Return the token of a new session for who gives an access key and its secret.

        Args:
            access_key_id: As it was typed.
            secret: As it was typed.
            source: Whom failures are counted against.

        Raises:
            ApiError: 403 for a wrong key, 429 after five failures a minute.
            BatchyardError: the controller could not be asked.
        """
        with self._trying(source):
            now_s = self._read_wall_s()
            given = signing.derive_signing_key(secret, signing.day_of(now_s), self._region, signing.CONSOLE)
            known = await self._signing_key(access_key_id, now_s)
            # Compared even where there is no such key, so that the time it takes tells little.
            if not (hmac.compare_digest(given, known or bytes(len(given))) and known):
                raise _failed()
            return self._sessions.open(access_key_id, self._read_s())[0]

    async def with_link(self, access_key_id: str, made: str, signature: str, source: str) -> str:
        """
        Return the token of a new session for who opens a link that a secret signed (``batchyard console``).

        Args:
            access_key_id: As whom.
            made: When it was made, in milliseconds since the epoch, as text.
            signature: See ``batchyard.signing.sign_link``.
            source: Whom failures are counted against.

        Raises:
            ApiError: 403 for one that is wrong, too old or opened before; 429 after five failures a minute.
            BatchyardError: the controller could not be asked.
        """
        with self._trying(source):
            now_s = self._read_wall_s()
            is_number = made.isascii() and made.isdigit() and len(made) <= _DIGITS_MAX
            if not (is_number and abs(now_s - int(made) / 1000) <= signing.LINK_S):
                raise _failed("The link is too old: `batchyard console` makes a new one.")
            key = await self._signing_key(access_key_id, int(made) / 1000)
            expected = signing.sign_link(key or bytes(32), access_key_id, int(made))
            if not (hmac.compare_digest(expected.encode(), signature.encode()) and key):
                raise _failed()
            noted = await self._keys.note_signature(signature)
            # What was opened here counts too: the controller cannot tell two of one millisecond apart.
            if noted.age_ms > 0 or not self._is_first(signature):
                raise _failed("The link was opened before: `batchyard console` makes a new one.")
            return self._sessions.open(access_key_id, self._read_s())[0]

    async def _signing_key(self, access_key_id: str, at_s: float) -> bytes:
        """Return a key's own signing key; empty when nobody has the access key."""
        if not access_key_id:
            return b""
        try:
            answer = await self._keys.derive_signing_key(
                access_key_id, date=signing.day_of(at_s), region=self._region, service=signing.CONSOLE
            )
        except RequestError:  # no access key has such an id
            return b""
        return answer.signing_key

    def _is_first(self, signature: str) -> bool:
        """Say whether a link that is still good was not opened here before, and note it."""
        now_s = self._read_s()
        is_first = self._opened.get(signature, now_s) is None
        self._opened.put(signature, True, now_s)
        return is_first

    @contextmanager
    def _trying(self, source: str) -> Iterator[None]:
        """
        Count a try as a failure from its beginning, or many at once would pass; drop it again when it was none.

        Raises:
            ApiError: 429; there were too many.
        """
        at_s = self._read_s()
        if self._failures.are_many(source, at_s):
            raise ApiError("TooManyRequestsException", "Too many failures: wait a minute, then try again.", 429)
        self._failures.count(source, at_s)
        try:
            yield
        except ApiError:
            raise
        except BaseException:
            self._failures.forgive(source, at_s)
            raise
        self._failures.forgive(source, at_s)


def _failed(why: str = REFUSED) -> ApiError:
    return ApiError("AccessDeniedException", why, 403)
