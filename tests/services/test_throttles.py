"""Floods: who calls too often waits, and nobody else does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from batchyard.errors import ResourceExhaustedError
from batchyard.v1 import access_pb2 as access_pb
from batchyard_controller.audit import Audit
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR, Principal
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.throttles import FAILURES_PER_MINUTE, Throttles

from .controller import MemoryController
from .test_access import bearer
from .test_audit import told


def test_each_user_has_calls_of_their_own() -> None:
    throttles = Throttles(calls_per_second=3)
    ann, bob = Principal(user="ann"), Principal(user="bob")

    def hurry() -> None:
        for _ in range(50):
            throttles.take(ann)

    with pytest.raises(ResourceExhaustedError, match="ann calls more than 3 times a second"):
        hurry()
    throttles.take(bob)
    for _ in range(50):
        throttles.take(THE_ADMINISTRATOR)


def test_failures_are_told_why_a_few_times() -> None:
    throttles = Throttles()
    told = [throttles.fail("10.0.0.7") for _ in range(2 * FAILURES_PER_MINUTE + 1)]
    assert told[:FAILURES_PER_MINUTE] == [True] * FAILURES_PER_MINUTE
    assert False in told, "even if a minute has ended meanwhile"
    assert throttles.fail("10.0.0.8")


@pytest.mark.timeout(120)
async def test_a_flood_without_credentials_holds_up_nobody_who_has_some(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit", lambda: 0)
    async with MemoryController(audit=audit, other=Door(PeerKind.TLS), throttles=Throttles()) as controller:
        await controller.until_leads()
        token = (await controller.access.CreateToken(access_pb.CreateTokenRequest(user="ann"))).token
        async with grpc.aio.insecure_channel(controller.other_address) as channel:
            ask = channel.unary_unary(
                "/batchyard.v1.AccessService/WhoAmI",
                request_serializer=access_pb.WhoAmIRequest.SerializeToString,
                response_deserializer=access_pb.WhoAmIResponse.FromString,
            )

            async def flood() -> Counter[str]:
                codes = Counter[str]()
                for _ in range(300):
                    try:
                        await ask(access_pb.WhoAmIRequest(), metadata=bearer("by_pat_0123456789abcdef_" + "A" * 43))
                    except grpc.aio.AioRpcError as error:
                        codes[error.code().name] += 1
                return codes

            floods = [asyncio.create_task(flood()) for _ in range(10)]
            slowest = 0.0
            while not all(task.done() for task in floods):
                began = time.monotonic()
                assert (await ask(access_pb.WhoAmIRequest(), metadata=bearer(token))).user == "ann"
                slowest = max(slowest, time.monotonic() - began)
                await asyncio.sleep(0.05)
            codes = sum((task.result() for task in floods), Counter[str]())
        assert codes.total() == 3000
        assert codes["UNAUTHENTICATED"] <= 2 * FAILURES_PER_MINUTE, "a minute may have ended meanwhile"
        assert slowest < 1
    assert len(told(audit)) <= 1 + 2 * FAILURES_PER_MINUTE, "a flood does not fill the disk"
