"""The contract's own calls: one for each RPC, by its name."""

from __future__ import annotations

import re

from tests.services.rpcs import RPCS

from batchyard import AsyncClient

AGENTS_OWN = {"Connect"}


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


async def test_every_rpc_has_a_call_of_its_name() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        calls = {name for name in dir(client.calls) if not name.startswith("_")}
    assert calls == {snake(name) for name in RPCS if name not in AGENTS_OWN}
