"""Who is admitted: nobody without a key, and who has one whatever others do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway.test_signature import KEY_ID, REGION, SERVICES, date_of, signed, signing_key

from batchyard_controller.services.access_keys import Signatures
from batchyard_gateway.authentication import (
    FAILURES_PER_SECOND,
    KEY_TTL_S,
    REPLAY_AFTER_S,
    Authenticator,
    Memory,
)
from batchyard_gateway.errors import ApiError
from batchyard_gateway.signature import SignatureError
from batchyard_gateway.wire import Request

UNSIGNED = Request(method="POST", path=b"/v1/listjobs", query=b"", headers=[(b"host", b"a")], body=b"{}")


@dataclass
class Answer:
    signing_key: bytes
    any_keys: bool


@dataclass
class Noted:
    age_ms: int


class AccessKeys:
    """The access keys of a controller: one or none; and the signatures that it was told of."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.is_there = is_there
        self.asked: list[str] = []
        self.now_ms = 0
        self._signatures = Signatures()

    async def note_signature(self, signature: str) -> Noted:
        return Noted(self._signatures.note(signature, self.now_ms))

    async def derive_signing_key(self, access_key_id: str, *, date: str, region: str, service: str) -> Answer:
        self.asked.append(access_key_id)
        return Answer(signing_key(date, region, service) if self.is_there else b"", self.is_there)


class Desk:
    """An authenticator and its clock."""

    def __init__(self, keys: AccessKeys) -> None:
        self.now_s = date_of(signed())
        self.authenticator = Authenticator(keys, region=REGION, services=SERVICES, read_wall_s=lambda: self.now_s)

    async def admit(self, request: Request, *, is_change: bool = False, source: str = "a") -> str:
        await self.authenticator.admit_head(request, source)
        return (await self.authenticator.admit(request, is_change)).access_key_id

    async def refuses(self, request: Request, **arguments: Any) -> str:
        with pytest.raises(SignatureError) as caught:
            await self.admit(request, **arguments)
        return caught.value.code


async def test_nobody_is_served_without_a_key() -> None:
    desk = Desk(AccessKeys(is_there=False))
    with capture_logs() as logs:
        assert await desk.refuses(UNSIGNED) == "MissingAuthenticationToken"
        assert await desk.refuses(signed()) == "SignatureDoesNotMatch"
        assert await desk.refuses(signed(key_id="ANOTHER")) == "SignatureDoesNotMatch"
    assert [line["log_level"] for line in logs] == ["warning"], "it says once that there is no key"
    assert await Desk(AccessKeys()).admit(signed()) == KEY_ID


async def test_a_head_without_a_known_key_is_refused_whatever_its_body() -> None:
    keys = AccessKeys()
    desk = Desk(keys)
    head = replace(signed(), body=b"")
    await desk.authenticator.admit_head(head, "a")
    keys.is_there = False
    with pytest.raises(SignatureError):
        await Desk(keys).authenticator.admit_head(head, "a")


async def test_made_up_keys_cost_the_controller_little_and_others_nothing() -> None:
    """However many keys one source makes up, few are asked for, and who signs with a known one is heard."""
    keys = AccessKeys()
    desk = Desk(keys)
    assert await desk.admit(signed()) == KEY_ID
    keys.is_there = False
    told = set()
    for number in range(1000):
        with pytest.raises(ApiError) as caught:
            await desk.authenticator.admit_head(signed(key_id=f"MADEUP{number}"), "a")
        told.add(caught.value.status)
    assert told == {403, 429}
    assert len(keys.asked) <= 1 + FAILURES_PER_SECOND + 1
    keys.is_there = True
    desk.now_s += KEY_TTL_S
    assert await desk.admit(signed(), source="a") == KEY_ID, "a key that was good is asked for again"
    assert await desk.admit(signed(key_id="ANOTHER"), source="b") == "ANOTHER", "other sources are not counted"


async def test_a_signing_key_is_asked_for_once_and_dies_within_a_minute() -> None:
    keys = AccessKeys()
    desk = Desk(keys)
    for _ in range(3):
        await desk.admit(signed())
    assert keys.asked == [KEY_ID]
    keys.is_there = False
    await desk.admit(signed())
    desk.now_s += KEY_TTL_S
    assert await desk.refuses(signed()) == "SignatureDoesNotMatch"


async def test_a_change_that_was_overheard_is_not_carried_out_again_by_any_gateway() -> None:
    keys = AccessKeys()
    desk, other = Desk(keys), Desk(keys)
    request = signed()
    await desk.admit(request, is_change=True)
    # A twin of the same second, which was a little longer on its way.
    keys.now_ms = int(REPLAY_AFTER_S * 1000)
    await other.admit(request, is_change=True)
    keys.now_ms += 1
    for each in (desk, other):
        assert await each.refuses(request, is_change=True) == "SignatureDoesNotMatch"
        await each.admit(request, is_change=False)
    await desk.admit(replace(signed(body=b"{}")), is_change=True)


def test_memory_forgets_the_old_and_the_surplus() -> None:
    memory: Memory[str, int] = Memory(ttl_s=10, entries_max=2)
    for number, name in enumerate("abc"):
        memory.put(name, number, number)
    assert [memory.get(name, 9) for name in "abc"] == [None, 1, 2]
    assert [memory.get(name, 11) for name in "abc"] == [None, None, 2]
    memory.put("d", 3, 12)
    assert [memory.get(name, 0) for name in "abcd"] == [None, None, None, 3]
