"""What every store promises; one suite for the three."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from tests.contract.conftest import Home
from tests.ports import hold_address

from batchyard_controller.store.open import open_store
from batchyard_controller.store.packing import ATOM_BYTES_MAX, ATOM_CHANGES_MAX
from batchyard_controller.store.protocol import Atom, Delete, DeposedError, News, Put, Store, StoreUnavailableError

IS_WAITING_S = 1.0
"""How long a candidate must be seen to wait; longer than every store's poll."""


async def load_pages(store: Store, prefix: str = "") -> list[list[tuple[str, bytes]]]:
    return [page async for page in store.load(prefix)]


async def load(store: Store, prefix: str = "") -> list[tuple[str, bytes]]:
    return [pair for page in await load_pages(store, prefix) for pair in page]


async def test_what_is_committed_is_loaded(home: Home) -> None:
    """A committed pair is there, for this store and for the next one."""
    store = home.open()
    epoch = await store.campaign("one")
    await store.commit([(Put("b", b"2"), Put("a", b"1")), (Put("c", b"3"),)], epoch)
    wanted = [("a", b"1"), ("b", b"2"), ("c", b"3")]
    assert await load(store) == wanted
    await store.close()
    assert await load(home.open()) == wanted


async def test_empty_store_loads_no_page(home: Home) -> None:
    assert await load_pages(home.open()) == []


async def test_epochs_are_positive_and_rise(home: Home) -> None:
    """Every leadership is greater than all before it, the same candidate's too."""
    first, second = home.open(), home.open()
    epochs = [await first.campaign("first")]
    await first.resign()
    epochs.append(await second.campaign("second"))
    epochs.append(await second.campaign("second"))
    await second.close()
    epochs.append(await home.open().campaign("third"))
    assert epochs[0] > 0
    assert epochs == sorted(set(epochs))


async def test_load_reads_one_prefix_in_key_order(home: Home) -> None:
    store = home.open()
    epoch = await store.campaign("one")
    keys = ["job/2", "job/10", "job/1", "jobs/1", "host/1", "job", "job0", "leaders/1"]
    await store.commit([(Put(key, key.encode()),) for key in keys], epoch)
    assert await load(store, "job/") == [("job/1", b"job/1"), ("job/10", b"job/10"), ("job/2", b"job/2")]
    assert await load(store, "job/1") == [("job/1", b"job/1"), ("job/10", b"job/10")]
    assert await load(store, "none/") == []
    assert [key for key, _ in await load(store)] == sorted(keys)


async def test_unicode_keys_keep_their_order(home: Home) -> None:
    """Key order is that of Python's strings, beyond the first plane too."""
    store = home.open()
    epoch = await store.campaign("one")
    keys = ["é/1", "z/1", "ÿ/1", "名前/1", "\uffff/1", "\U0001f600/1", "\U0010ffff/1", "a b%/1", "\x7f", "\U0010ffff"]
    await store.commit([(Put(key, b""),) for key in keys], epoch)
    assert [key for key, _ in await load(store)] == sorted(keys)
    for key in keys:
        assert (key, b"") in await load(store, key)
    assert [key for key, _ in await load(store, "\U0010ffff")] == ["\U0010ffff", "\U0010ffff/1"]


@pytest.mark.parametrize("size", [0, 1, 200 << 10])
async def test_values_come_back_as_they_were(home: Home, size: int) -> None:
    store = home.open()
    epoch = await store.campaign("one")
    value = random.Random(size).randbytes(size)
    await store.commit([(Put(f"big/{number}", value),) for number in range(5)], epoch)
    assert await load(store) == [(f"big/{number}", value) for number in range(5)]


async def test_delete_removes_and_forgives(home: Home) -> None:
    """A deleted key is gone; deleting what is not there is no error."""
    store = home.open()
    epoch = await store.campaign("one")
    await store.commit([(Put("a", b"1"), Put("b", b"1"), Put("ab", b"1"))], epoch)
    await store.commit([(Delete("a"), Delete("never"))], epoch)
    assert await load(store) == [("ab", b"1"), ("b", b"1")]


async def test_last_change_of_a_key_wins(home: Home) -> None:
    """Changes take effect in order, inside an atom and from atom to atom."""
    store = home.open()
    epoch = await store.campaign("one")
    await store.commit(
        [
            (Put("a", b"1"), Put("a", b"2"), Delete("b")),
            (Delete("a"), Put("b", b"3")),
            (Put("c", b"4"), Delete("c")),
            (Delete("d"), Put("d", b"5")),
        ],
        epoch,
    )
    assert await load(store) == [("b", b"3"), ("d", b"5")]


async def test_store_is_a_map(home: Home) -> None:
    """Whatever is committed, in whatever groups, the store holds what a dict would."""
    dice = random.Random(20)
    store = home.open()
    epoch = await store.campaign("one")
    wanted: dict[str, bytes] = {}
    for _ in range(20):
        atoms: list[Atom] = []
        for _ in range(dice.randrange(30)):
            keys = [f"k/{dice.randrange(40)}" for _ in range(dice.randrange(12))]
            atoms.append(tuple(Put(key, dice.randbytes(4)) if dice.random() < 0.6 else Delete(key) for key in keys))
        await store.commit(atoms, epoch)
        for change in (change for atom in atoms for change in atom):
            if isinstance(change, Put):
                wanted[change.key] = change.value
            else:
                wanted.pop(change.key, None)
        assert dict(await load(store)) == wanted


async def test_largest_atom_is_written_whole(home: Home) -> None:
    store = home.open()
    epoch = await store.campaign("one")
    value = bytes(ATOM_BYTES_MAX // ATOM_CHANGES_MAX - 8)
    atom = tuple(Put(f"big/{number:03}", value) for number in range(ATOM_CHANGES_MAX))
    await store.commit([(Put("before", b""),), atom, (Put("zz", b""),)], epoch)
    assert len(await load(store)) == ATOM_CHANGES_MAX + 2


@pytest.mark.parametrize(
    "atom",
    [
        tuple(Put(f"k/{number}", b"") for number in range(ATOM_CHANGES_MAX + 1)),
        (Put("big", bytes(ATOM_BYTES_MAX)),),
        (Put("", b""),),
        (Delete("leader"),),
    ],
    ids=["too many", "too large", "no key", "the store's own key"],
)
async def test_atom_over_the_limits_is_refused_unwritten(home: Home, atom: Atom) -> None:
    """All stores refuse what the narrowest must refuse; nothing of that commit is written."""
    store = home.open()
    epoch = await store.campaign("one")
    with pytest.raises(AssertionError):
        await store.commit([(Put("a", b"1"),), atom], epoch)
    assert await load(store) == []
    await store.commit([(Put("a", b"1"),)], epoch)


async def test_deposed_writer_writes_nothing(home: Home) -> None:
    """A candidate that another has followed is refused, however often it tries."""
    old, new = home.open(), home.open()
    old_epoch = await old.campaign("old")
    await old.commit([(Put("a", b"old"),)], old_epoch)
    await old.resign()
    new_epoch = await new.campaign("new")
    await new.commit([(Put("b", b"new"),)], new_epoch)
    for _ in range(2):
        with pytest.raises(DeposedError):
            await old.commit([(Put("a", b"late"), Delete("b"))], old_epoch)
    await new.commit([(Put("c", b"new"),)], new_epoch)
    assert await load(new) == [("a", b"old"), ("b", b"new"), ("c", b"new")]


async def test_only_the_epoch_that_leads_commits(home: Home) -> None:
    """Not one from before, not one to come, not zero; and not without a campaign."""
    store, other = home.open(), home.open()
    with pytest.raises(DeposedError):
        await other.commit([(Put("a", b""),)], 0)
    first = await store.campaign("one")
    epoch = await store.campaign("one")
    for wrong in (0, -1, first, epoch + 1):
        with pytest.raises(DeposedError):
            await store.commit([(Put("a", b""),)], wrong)
    await store.resign()
    with pytest.raises(DeposedError):
        await store.commit([(Put("a", b""),)], epoch)
    assert await load(store) == []


async def test_commit_of_nothing_asks_who_leads(home: Home) -> None:
    store = home.open()
    epoch = await store.campaign("one")
    await store.commit([], epoch)
    await store.commit([()], epoch)
    await store.resign()
    with pytest.raises(DeposedError):
        await store.commit([], epoch)


async def test_second_candidate_waits_until_the_first_resigns(home: Home) -> None:
    first, second = home.open(), home.open()
    epoch = await first.campaign("first")
    waiting = asyncio.create_task(second.campaign("second"))
    done, _ = await asyncio.wait([waiting], timeout=IS_WAITING_S)
    assert not done
    await first.commit([(Put("a", b"1"),)], epoch)
    await first.resign()
    assert await waiting > epoch
    assert await load(second) == [("a", b"1")]


async def test_one_of_many_candidates_leads(home: Home) -> None:
    """Candidates that all try at once lead one after the other, and each can write while it leads."""
    leading: list[int] = []
    epochs: list[int] = []

    async def take_a_turn(number: int) -> None:
        store = home.open()
        epochs.append(await store.campaign(f"candidate {number}"))
        leading.append(number)
        await store.commit([(Put(f"k/{number}", b""),)], epochs[-1])
        assert leading == [number]
        leading.remove(number)
        await store.resign()

    async with asyncio.timeout(90):
        await asyncio.gather(*(take_a_turn(number) for number in range(5)))
    assert epochs == sorted(set(epochs))
    assert len(await load(home.open())) == 5


async def test_candidate_may_stop_waiting(home: Home) -> None:
    """A campaign that is given up leaves nothing behind that could lead."""
    first, second, third = home.open(), home.open(), home.open()
    await first.campaign("first")
    waiting = asyncio.create_task(second.campaign("second"))
    await asyncio.wait([waiting], timeout=0.3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await first.resign()
    assert await third.campaign("third") > 0


async def test_dead_leader_is_followed(home: Home) -> None:
    """A leader that was killed keeps nobody waiting for long."""
    epoch = await asyncio.to_thread(home.lose_leader)
    async with asyncio.timeout(60):
        assert await home.open().campaign("next") > epoch


async def test_deposed_returns_when_leadership_ends(home: Home) -> None:
    store = home.open()
    async with asyncio.timeout(60):
        await store.deposed()  # never led
    await store.campaign("one")
    watching = asyncio.create_task(store.deposed())
    done, _ = await asyncio.wait([watching], timeout=IS_WAITING_S)
    assert not done
    async with asyncio.timeout(60):
        await store.resign()
        await watching
        await store.deposed()


async def test_load_shows_one_moment(home: Home) -> None:
    """10,000 keys come in several pages, in order, and without what is written meanwhile."""
    store = home.open()
    epoch = await store.campaign("one")
    keys = [f"k/{number:05}" for number in range(10_000)]
    await store.commit([(Put(key, b"before"),) for key in keys], epoch)
    pages: list[list[tuple[str, bytes]]] = []
    async for page in store.load():
        if not pages:
            await store.commit([(Put("a", b"new"), Put(keys[-1], b"after"), Delete(keys[-2]), Put("z", b"new"))], epoch)
        pages.append(page)
    assert len(pages) > 1
    assert max(len(page) for page in pages) <= 5000
    assert [pair for page in pages for pair in page] == [(key, b"before") for key in keys]
    after = dict(await load(store))
    assert after["z"] == b"new"
    assert after[keys[-1]] == b"after"
    assert keys[-2] not in after


async def test_load_may_be_left_early(home: Home) -> None:
    """A reader that stops after one page hinders neither commits nor closing."""
    store = home.open()
    epoch = await store.campaign("one")
    await store.commit([(Put(f"k/{number:05}", b""),) for number in range(4500)], epoch)
    pages = store.load()
    assert len(await anext(pages)) >= 500
    await store.commit([(Put("more", b""),)], epoch)
    await store.close()


async def test_close_is_idempotent_and_resigns(home: Home) -> None:
    first, second = home.open(), home.open()
    epoch = await first.campaign("first")
    await first.close()
    await first.close()
    async with asyncio.timeout(2):
        assert await second.campaign("second") > epoch


async def test_store_can_be_closed_unused(home: Home) -> None:
    await home.open().close()


async def test_unreachable_store_says_so() -> None:
    """Where there is nothing to reach, the error is of the store's own tree."""
    for url in (f"etcd://{hold_address()}", "sqlite:///dev/null/store.db"):
        store = open_store(url)
        with pytest.raises(StoreUnavailableError):
            await store.campaign("one")
        with pytest.raises(StoreUnavailableError):
            await load(store)
        await store.close()


async def test_follower_is_told_what_is_there_and_what_becomes_of_it(home: Home) -> None:
    """Told in order, and who leads behind all that its predecessors committed; sqlite tells that there is none."""
    leader, waiting = home.open(), home.open()
    epoch = await leader.campaign("first at a:1")
    await leader.commit([(Put("a", b"1"), Put("b", b"1"))], epoch)
    following = waiting.follow()
    if home.kind == "sqlite":
        assert following is None
        return
    assert following is not None
    told = Told()
    await told.take(following, epoch)
    assert (told.pairs, told.leader) == ({"a": b"1", "b": b"1"}, "first at a:1")
    await leader.commit([(Put("a", b"2"), Delete("b"), Delete("never")), (Put("c", b"3"),)], epoch)
    await leader.resign()
    epoch = await waiting.campaign("second")
    await told.take(following, epoch)
    assert told.pairs == {"a": b"2", "c": b"3"} == dict(await load(waiting))
    assert told.leader == "second"


async def test_followers_world_is_the_stores(home: Home) -> None:
    """Whatever is committed, by whomever, a follower has it when it hears of the next leader."""
    if home.kind == "sqlite":
        return
    dice = random.Random(7)
    store, waiting = home.open(), home.open()
    told, following = Told(), waiting.follow()
    assert following is not None
    for term in range(4):
        epoch = await store.campaign(f"term {term}")
        for _ in range(8):
            keys = {f"k/{dice.randrange(60)}" for _ in range(dice.randrange(1, 40))}
            atom = tuple(Put(key, dice.randbytes(4)) if dice.random() < 0.6 else Delete(key) for key in keys)
            await store.commit([atom], epoch)
        await store.resign()
        epoch = await waiting.campaign("reader")
        await told.take(following, epoch)
        assert told.pairs == dict(await load(waiting))
        await waiting.resign()


async def test_only_who_leads_says_so(home: Home) -> None:
    first, second = home.open(), home.open()
    assert not first.leads(1)
    epoch = await first.campaign("first")
    assert first.leads(epoch)
    assert not first.leads(epoch + 1)
    await first.resign()
    assert not first.leads(epoch)
    later = await second.campaign("second")
    assert second.leads(later)
    assert not first.leads(later)


class Told:
    """What a follower knows."""

    def __init__(self) -> None:
        self.pairs: dict[str, bytes] = {}
        self.leader = ""

    async def take(self, following: AsyncIterator[News], epoch: int) -> None:
        """Listen until *epoch* is told of."""
        async with asyncio.timeout(10):
            async for news in following:
                if news.is_anew:
                    self.pairs.clear()
                for change in news.changes:
                    if isinstance(change, Put):
                        self.pairs[change.key] = change.value
                    else:
                        self.pairs.pop(change.key, None)
                if news.epoch:
                    self.leader = news.leader
                if news.epoch == epoch:
                    return
        raise AssertionError("the news ended")
