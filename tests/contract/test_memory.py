"""The faults that can be called up on the memory store."""

from __future__ import annotations

import pytest

from batchyard_controller.store.memory import MemoryData, MemoryStore
from batchyard_controller.store.protocol import DeposedError, Put, UnknownOutcomeError


@pytest.mark.parametrize(("atoms", "written"), [(0, []), (1, ["a"]), (2, ["a", "b"]), (9, ["a", "b"])])
async def test_cut_commit_leaves_a_prefix(atoms: int, written: list[str]) -> None:
    """As in the real stores: some of it is written, the term is over, and the next one goes on."""
    data = MemoryData()
    store = MemoryStore(data)
    epoch = await store.campaign("one")
    data.cut_next_commit(atoms)
    with pytest.raises(UnknownOutcomeError):
        await store.commit([(Put("a", b""),), (Put("b", b""),)], epoch)
    assert list(data.pairs) == written
    await store.deposed()
    with pytest.raises(DeposedError):
        await store.commit([(Put("c", b""),)], epoch)
    await store.commit([(Put("c", b""),)], await store.campaign("one"))
    assert list(data.pairs) == [*written, "c"]


async def test_deposed_leader_is_told_and_refused() -> None:
    data = MemoryData()
    old, new = MemoryStore(data), MemoryStore(data)
    epoch = await old.campaign("old")
    data.depose()
    await old.deposed()
    with pytest.raises(DeposedError):
        await old.commit([(Put("a", b""),)], epoch)
    assert await new.campaign("new") == epoch + 1
    await old.resign()  # is not the leader any more, so this ends nobody's term
    await new.commit([(Put("a", b""),)], epoch + 1)
