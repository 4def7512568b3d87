"""Who is admitted: nobody beyond loopback without a key, and nobody at all once there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway.test_signature import KEY_ID, REGION, SERVICES, date_of, key_for, signed

from batchyard_gateway.authentication import (
    KEY_TTL_S,
    OPEN_TTL_S,
    REPLAY_AFTER_S,
    Authenticator,
    Memory,
)
from batchyard_gateway.signature import Claim, SignatureError
from batchyard_gateway.wire import Request

UNSIGNED = Request(method="POST", path=b"/v1/listjobs", query=b"", headers=[(b"host", b"a")], body=b"{}")


@dataclass
class Answer:
    signing_key: bytes
    any_keys: bool


class AccessKeys:
    """The access keys of a controller: one or none."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.is_there = is_there
        self.asked: list[str] = []

    async def derive_signing_key(self, access_key_id: str, *, date: str, region: str, service: str) -> Answer:
        self.asked.append(access_key_id)
        claim = Claim(
            access_key_id=access_key_id, date=date, region=region, service=service, signature="", string_to_sign=b""
        )
        return Answer(key_for(claim) if self.is_there else b"", self.is_there)


class Desk:
    """An authenticator and its clock."""

    def __init__(self, keys: AccessKeys, *, is_loopback: bool = True) -> None:
        self.now_s = date_of(signed())
        self.authenticator = Authenticator(
            keys, region=REGION, services=SERVICES, is_loopback=is_loopback, read_wall_s=lambda: self.now_s
        )

    async def admit(self, request: Request, *, is_change: bool = False) -> str:
        return (await self.authenticator(request, is_change)).access_key_id

    async def refuses(self, request: Request, **arguments: Any) -> str:
        with pytest.raises(SignatureError) as caught:
            await self.admit(request, **arguments)
        return caught.value.code


async def test_loopback_is_open_while_there_is_no_key_and_says_so_once() -> None:
    desk = Desk(AccessKeys(is_there=False))
    with capture_logs() as logs:
        assert await desk.admit(UNSIGNED) == ""
        desk.now_s += OPEN_TTL_S
        assert await desk.admit(signed(secret="whatever")) == ""
    assert [line["log_level"] for line in logs] == ["warning"]


async def test_the_first_key_closes_loopback_within_seconds() -> None:
    keys = AccessKeys(is_there=False)
    desk = Desk(keys)
    await desk.admit(UNSIGNED)
    keys.is_there = True
    desk.now_s += OPEN_TTL_S
    assert await desk.refuses(UNSIGNED) == "MissingAuthenticationToken"
    assert await desk.refuses(signed(secret="another")) == "SignatureDoesNotMatch"
    assert await desk.admit(signed()) == KEY_ID


async def test_beyond_loopback_nobody_is_served_without_a_key() -> None:
    desk = Desk(AccessKeys(is_there=False), is_loopback=False)
    assert await desk.refuses(UNSIGNED) == "MissingAuthenticationToken"
    assert await desk.refuses(signed()) == "SignatureDoesNotMatch"
    assert await Desk(AccessKeys(), is_loopback=False).admit(signed()) == KEY_ID


async def test_a_signing_key_is_asked_for_once_and_dies_within_a_minute() -> None:
    keys = AccessKeys()
    desk = Desk(keys, is_loopback=False)
    for _ in range(3):
        await desk.admit(signed())
    assert keys.asked == [KEY_ID]
    keys.is_there = False
    await desk.admit(signed())
    desk.now_s += KEY_TTL_S
    assert await desk.refuses(signed()) == "SignatureDoesNotMatch"


async def test_a_change_that_was_overheard_is_not_carried_out_again() -> None:
    desk = Desk(AccessKeys())
    request = signed()
    desk.now_s = date_of(request)
    await desk.admit(request, is_change=True)
    # A twin of the same second, which was a little longer on its way.
    desk.now_s += REPLAY_AFTER_S
    await desk.admit(request, is_change=True)
    desk.now_s += 1
    assert await desk.refuses(request, is_change=True) == "SignatureDoesNotMatch"
    await desk.admit(request, is_change=False)
    await desk.admit(replace(signed(body=b"{}")), is_change=True)


def test_memory_forgets_the_old_and_the_surplus() -> None:
    memory: Memory[str, int] = Memory(ttl_s=10, entries_max=2)
    for number, name in enumerate("abc"):
        memory.put(name, number, number)
    assert [memory.get(name, 9) for name in "abc"] == [None, 1, 2]
    assert [memory.get(name, 11) for name in "abc"] == [None, None, 2]
    memory.put("d", 3, 12)
    assert [memory.get(name, 0) for name in "abcd"] == [None, None, None, 3]
