"""Signing in as it is decided, with clocks and answers of the tests' own."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from batchyard import signing
from batchyard.errors import UnavailableError
from batchyard_gateway.console.entry import Entry
from batchyard_gateway.console.sessions import FAILURES_MAX, FAILURES_S, IDLE_S, LIFETIME_S, NOTICES_MAX, Sessions
from batchyard_gateway.errors import ApiError

SECRET = "s" * 40
DAY_S = 1_700_000_000.0


@dataclass(slots=True)
class World:
    """
    A controller that knows one key, and clocks.

    Attributes:
        is_away: It does not answer.
    """

    now_s: float = 0.0
    is_away: bool = False

    async def derive_signing_key(
        self, access_key_id: str = "", *, date: str = "", region: str = "", service: str = ""
    ) -> Any:
        if self.is_away:
            raise UnavailableError("away")
        return SimpleNamespace(signing_key=signing.derive_signing_key(SECRET, date, region, service), any_keys=True)

    async def note_signature(self, signature: str) -> Any:
        """Answer as for one that comes within the millisecond of its first."""
        return SimpleNamespace(age_ms=0)

    def entry(self) -> Entry:
        tokens = (f"token {number}" for number in range(1000))
        return Entry(
            self, region="r", throw=lambda: next(tokens), read_wall_s=lambda: DAY_S + self.now_s,
            read_s=lambda: self.now_s,
        )  # fmt: skip


async def status(entry: Entry, secret: str, source: str = "a") -> int:
    try:
        await entry.with_secret("key", secret, source)
    except ApiError as err:
        return err.status
    return 200


async def test_a_link_opens_once_also_within_a_millisecond() -> None:
    world = World()
    entry, made = world.entry(), str(int(DAY_S * 1000))
    key = signing.derive_signing_key(SECRET, "20231114", "r", signing.CONSOLE)
    signature = signing.sign_link(key, "key", int(made))
    assert await entry.with_link("key", made, signature, "a")
    with pytest.raises(ApiError, match="opened before"):
        await entry.with_link("key", made, signature, "a")


async def test_failures_are_counted_by_source_and_forgotten_after_a_minute() -> None:
    world = World()
    entry = world.entry()
    assert [await status(entry, "wrong") for _ in range(FAILURES_MAX + 1)] == [403] * FAILURES_MAX + [429]
    assert await status(entry, SECRET) == 429
    assert await status(entry, SECRET, "b") == 200
    world.now_s = FAILURES_S
    assert await status(entry, SECRET) == 200


async def test_a_controller_that_is_away_is_nobodys_failure() -> None:
    world = World(is_away=True)
    entry = world.entry()
    for _ in range(FAILURES_MAX + 1):
        with pytest.raises(UnavailableError):
            await entry.with_secret("key", SECRET, "a")
    world.is_away = False
    assert await status(entry, SECRET) == 200


def test_a_session_ends_unused_and_of_age() -> None:
    tokens = iter("abcdef")
    sessions = Sessions(lambda: next(tokens))
    token, session = sessions.open("key", 0.0)
    assert sessions.find(token, IDLE_S - 1) is session
    assert sessions.find(token, 2 * IDLE_S - 2) is session
    assert sessions.find(token, 3 * IDLE_S) is None
    token, session = sessions.open("key", 0.0)
    for hour in range(1, int(LIFETIME_S // IDLE_S) * 2):
        assert sessions.find(token, hour * IDLE_S / 2) is session
    assert sessions.find(token, LIFETIME_S) is None


def test_a_page_by_itself_keeps_no_session_open() -> None:
    tokens = iter("ab")
    sessions = Sessions(lambda: next(tokens))
    token, _ = sessions.open("key", 0.0)
    assert sessions.find(token, IDLE_S - 1, is_use=False)
    assert sessions.find(token, IDLE_S) is None


def test_sentences_to_show_are_bounded_and_shown_once() -> None:
    tokens = iter("ab")
    _, session = Sessions(lambda: next(tokens)).open("key", 0.0)
    session.notices.extend(str(number) for number in range(NOTICES_MAX + 5))
    assert session.take_notices() == [str(number) for number in range(5, NOTICES_MAX + 5)]
    assert session.take_notices() == []
