"""The contract's own calls: one for each RPC, by its name."""

from __future__ import annotations

import contextlib
import re
from collections import Counter

from tests.sdk.yard import AsyncYard
from tests.services.rpcs import RPCS

from batchyard import AsyncClient, RequestError

OF_AGENTS = {"Connect", "CarryEntry", "RenewCertificate", "GetTrust", "Join"}
FOR_CLIENTS = {name: rpc for name, rpc in RPCS.items() if name not in OF_AGENTS}


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


async def test_every_rpc_has_a_call_of_its_name() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        calls = {name for name in dir(client.calls) if not name.startswith("_")}
    assert calls == {snake(name) for name in FOR_CLIENTS}


async def test_each_call_reaches_the_rpc_of_its_name(async_yard: AsyncYard) -> None:
    before = async_yard.wire.calls.copy()
    unary = {name: rpc for name, rpc in FOR_CLIENTS.items() if not rpc.streams_out}
    for name, rpc in unary.items():
        with contextlib.suppress(RequestError):  # an empty request is mostly refused
            assert isinstance(await getattr(async_yard.client.calls, snake(name))(rpc.request()), rpc.response)
    assert async_yard.wire.calls - before == Counter(unary.keys())
