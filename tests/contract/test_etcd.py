"""What only the etcd store can suffer: lost leases, servers that die, hang or are too old."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from pathlib import Path
from typing import Self

import pytest
from tests.contract.conftest import LEASE_TTL_S, writing
from tests.contract.etcd_server import EtcdServer
from tests.ports import hold_address

from batchyard_controller.store.etcd import EtcdStore, after_prefix
from batchyard_controller.store.etcd_client import EtcdClient, check_version
from batchyard_controller.store.etcd_wire.v3 import etcd_pb2 as wire
from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import (
    DeposedError,
    Put,
    Store,
    StoreUnavailableError,
    UnknownOutcomeError,
    UnsupportedServerError,
)


async def load(store: Store) -> dict[str, bytes]:
    return dict([pair async for page in store.load() for pair in page])


async def read_leader(client: EtcdClient, prefix: Path) -> wire.KeyValue:
    (leader,) = (await client.range(wire.RangeRequest(key=f"{prefix}/leader".encode()))).kvs
    return leader


@pytest.mark.etcd
async def test_epoch_is_the_leader_keys_create_revision(etcd_server: EtcdServer, etcd_url: str, tmp_path: Path) -> None:
    """The key names the candidate and hangs on a lease; load does not show it."""
    store, client = open_store(etcd_url), EtcdClient([etcd_server.endpoint])
    epoch = await store.campaign("the candidate")
    leader = await read_leader(client, tmp_path)
    assert (leader.value, leader.create_revision) == (b"the candidate", epoch)
    assert leader.lease != 0
    assert await load(store) == {}
    await store.close()
    assert not (await client.range(wire.RangeRequest(key=f"{tmp_path}/leader".encode()))).kvs
    await client.close()


@pytest.mark.etcd
async def test_two_prefixes_do_not_see_each_other(etcd_server: EtcdServer) -> None:
    stores = [EtcdStore([etcd_server.endpoint], prefix=prefix) for prefix in ("/twins/1/", "/twins/10/")]
    for store in stores:
        await store.commit([(Put("a", b"1"),)], await store.campaign("one"))
        assert await load(store) == {"a": b"1"}
    for store in stores:
        await store.close()


@pytest.mark.etcd
async def test_leadership_outlives_many_leases(etcd_url: str) -> None:
    """A leader that renews leads on, long after its first lease would have run out."""
    store = open_store(etcd_url)
    epoch = await store.campaign("one")
    watching = asyncio.create_task(store.deposed())
    done, _ = await asyncio.wait([watching], timeout=2.5 * LEASE_TTL_S)
    assert not done
    await store.commit([(Put("a", b"1"),)], epoch)
    await store.close()
    await watching


@pytest.mark.etcd
async def test_lost_lease_deposes(etcd_server: EtcdServer, etcd_url: str, tmp_path: Path) -> None:
    """Once the lease is gone, commits are refused at once and the leader hears of it soon."""
    store, other, client = open_store(etcd_url), open_store(etcd_url), EtcdClient([etcd_server.endpoint])
    epoch = await store.campaign("one")
    await store.commit([(Put("a", b"1"),)], epoch)
    await client.revoke((await read_leader(client, tmp_path)).lease)
    async with asyncio.timeout(LEASE_TTL_S):
        await store.deposed()
    with pytest.raises(DeposedError):
        await store.commit([(Put("a", b"late"),)], epoch)
    assert await other.campaign("other") > epoch
    assert await load(other) == {"a": b"1"}
    for closing in (store, other, client):
        await closing.close()


@pytest.mark.etcd
async def test_server_refuses_a_leader_that_has_not_heard(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """The compare, not the leader's own belief, keeps an overtaken leader from writing; not one key of 250 passes."""
    # A lease so long that no renewal tells the leader before the commit does.
    store, client = open_store(f"{etcd_server.url}{tmp_path}?lease_ttl_s=60"), EtcdClient([etcd_server.endpoint])
    epoch = await store.campaign("one")
    watching = asyncio.create_task(store.deposed())
    await client.revoke((await read_leader(client, tmp_path)).lease)
    assert not watching.done()
    with pytest.raises(DeposedError, match=str(epoch)):
        await store.commit([(Put(f"k/{number}", b""),) for number in range(250)], epoch)
    async with asyncio.timeout(LEASE_TTL_S):
        await watching
    assert await load(store) == {}
    await store.close()
    await client.close()


@pytest.mark.etcd
async def test_250_changes_are_split(etcd_url: str) -> None:
    """More atoms than a transaction holds are written all the same, in order."""
    store = open_store(etcd_url)
    epoch = await store.campaign("one")
    await store.commit([(Put(f"k/{n}", b"1"), Put("last", str(n).encode())) for n in range(250)], epoch)
    pairs = await load(store)
    assert len(pairs) == 251
    assert pairs["last"] == b"249"
    await store.close()


@pytest.mark.etcd
async def test_load_copes_with_pages_larger_than_an_answer_may_be(etcd_url: str) -> None:
    """500 pairs of 200 KiB are more than one gRPC message; the load asks for less at a time."""
    store = open_store(etcd_url)
    epoch = await store.campaign("one")
    value = bytes(200 << 10)
    for start in range(0, 400, 5):
        await store.commit([tuple(Put(f"big/{n:03}", value) for n in range(start, start + 5))], epoch)
    assert await load(store) == {f"big/{n:03}": value for n in range(400)}
    await store.close()


@pytest.mark.etcd
async def test_load_of_a_forgotten_moment_fails(own_etcd_server: EtcdServer) -> None:
    """A load never mixes two moments: when etcd has compacted the first, it is an error."""
    store = open_store(own_etcd_server.url)
    epoch = await store.campaign("one")
    await store.commit([(Put(f"k/{n:04}", b""),) for n in range(1100)], epoch)
    pages = store.load()
    await anext(pages)
    await store.commit([(Put("more", b""),)], epoch)
    newest = own_etcd_server.post("/v3/kv/range", {"key": "YQ=="})["header"]["revision"]
    own_etcd_server.post("/v3/kv/compaction", {"revision": newest})
    with pytest.raises(StoreUnavailableError, match="compacted"):
        await anext(pages)
    await store.close()


@pytest.mark.etcd
async def test_killed_server_loses_nothing_acknowledged(own_etcd_server: EtcdServer) -> None:
    """A server that is killed mid-term costs the term, not a committed write; then all goes on."""
    store = open_store(f"{own_etcd_server.url}?lease_ttl_s={LEASE_TTL_S}")
    epoch = await store.campaign("one")
    acknowledged: list[str] = []

    async def write_until_it_fails() -> None:
        while True:
            key = f"k/{len(acknowledged):06}"
            await store.commit([(Put(key, b"1"), Put(key + "+", b"2"))], epoch)
            acknowledged.append(key)
            if len(acknowledged) == 100:
                own_etcd_server.kill()

    with pytest.raises(UnknownOutcomeError):
        await write_until_it_fails()
    assert len(acknowledged) >= 100
    with pytest.raises(DeposedError):
        await store.commit([(Put("late", b""),)], epoch)
    with pytest.raises(StoreUnavailableError):
        await store.campaign("one")
    with pytest.raises(StoreUnavailableError):
        await load(store)
    own_etcd_server.start()
    async with asyncio.timeout(3 * LEASE_TTL_S):
        next_epoch = await store.campaign("one")
    assert next_epoch > epoch
    pairs = await load(store)
    assert [key for key in acknowledged if key not in pairs or key + "+" not in pairs] == []
    assert len(pairs) % 2 == 0
    await store.commit([(Put("on", b"1"),)], next_epoch)
    await store.close()


@pytest.mark.etcd
async def test_hanging_server_deposes_in_time(own_etcd_server: EtcdServer) -> None:
    """A leader that cannot renew steps down by itself before its lease runs out."""
    store = open_store(f"{own_etcd_server.url}?lease_ttl_s=6")
    await store.campaign("one")
    own_etcd_server.pause()
    try:
        async with asyncio.timeout(6):
            await store.deposed()
        async with asyncio.timeout(10):
            await store.resign()  # a store that cannot be reached does not keep one from leaving
    finally:
        own_etcd_server.go_on()
    await store.close()


@pytest.mark.etcd
async def test_commit_to_a_hanging_server_is_an_unknown_outcome(own_etcd_server: EtcdServer) -> None:
    """The write arrives after all, and shuts itself out if another leads by then."""
    store = open_store(own_etcd_server.url)
    epoch = await store.campaign("one")
    own_etcd_server.pause()
    try:
        async with asyncio.timeout(10):
            with pytest.raises(UnknownOutcomeError, match="DEADLINE_EXCEEDED"):
                await store.commit([(Put("a", b"1"),)], epoch)
    finally:
        own_etcd_server.go_on()
    async with asyncio.timeout(15):
        next_epoch = await store.campaign("one")
    assert next_epoch > epoch
    assert await load(store) in ({}, {"a": b"1"})
    await store.close()


@pytest.mark.etcd
async def test_own_dead_predecessor_is_outwaited(own_etcd_server: EtcdServer) -> None:
    """A controller killed and started again leads after one lease at most."""
    url = f"{own_etcd_server.url}?lease_ttl_s={LEASE_TTL_S}"
    with writing(url) as writer:
        assert writer.stdout is not None
        epoch = int(writer.stdout.readline().split()[1])
        writer.send_signal(signal.SIGKILL)
    store = open_store(url)
    async with asyncio.timeout(LEASE_TTL_S + 2):
        assert await store.campaign("writer") > epoch
    await store.close()


@pytest.mark.etcd
async def test_next_endpoint_is_used_when_one_is_dead(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """A dead member costs a campaign nothing but a try, whatever its place in the list."""
    dead = [hold_address() for _ in range(2)]
    store = EtcdStore([dead[0], etcd_server.endpoint, dead[1]], prefix=f"{tmp_path}/", lease_ttl_s=LEASE_TTL_S)
    epoch = await store.campaign("one")
    await store.commit([(Put("a", b"1"),)], epoch)
    assert await load(store) == {"a": b"1"}
    await store.close()


@pytest.mark.etcd
@pytest.mark.parametrize("fault", ["closes", "hangs"])
async def test_term_outlives_the_member_it_spoke_to(etcd_server: EtcdServer, tmp_path: Path, fault: str) -> None:
    """When the member in use goes away or silent, renewals go on at the next one and the epoch stays."""
    async with Relay(etcd_server.endpoint) as relay:
        store = EtcdStore([relay.endpoint, etcd_server.endpoint], prefix=f"{tmp_path}/", lease_ttl_s=6)
        epoch = await store.campaign("one")
        if fault == "closes":
            await relay.close()
        else:
            relay.may_flow.clear()
        watching = asyncio.create_task(store.deposed())
        done, _ = await asyncio.wait([watching], timeout=5)
        assert not done
        await store.commit([(Put("a", b"1"),)], epoch)
        await store.close()
        await watching


class Relay:
    """A member that is another one, until it is closed or hangs."""

    def __init__(self, target: str) -> None:
        self._target = target.split(":")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.may_flow = asyncio.Event()
        self.may_flow.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._server.close()
        self.may_flow.set()
        for writer in self._writers:
            writer.close()
        if self._pumps:
            await asyncio.wait(self._pumps)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._writers += [writer, back]
        self._pumps |= {asyncio.create_task(self._pump(*ends)) for ends in ((reader, back), (there, writer))}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                await self.may_flow.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass  # cut off, which is what a relay is here for
        finally:
            sink.close()


@pytest.mark.etcd
async def test_writes_of_a_killed_controller_are_whole(etcd_url: str) -> None:
    """kill -9 of the controller: all that it told of is there, and no atom is half there."""
    with writing(etcd_url) as writer:
        assert writer.stdout is not None
        words = [writer.stdout.readline() for _ in range(100)]
        writer.kill()
        words += writer.stdout.readlines()
    told = [int(word) for word in words[1:] if re.fullmatch(r"\d+\n", word)]
    store = open_store(etcd_url)
    async with asyncio.timeout(15):
        await store.campaign("next")
    pairs = await load(store)
    assert len(told) >= 99
    for number in told:
        assert pairs[f"first/{number:06}"] == b"1"
    assert {key.partition("/")[2] for key in pairs if key.startswith("first/")} == {
        key.partition("/")[2] for key in pairs if key.startswith("second/")
    }
    await store.close()


@pytest.mark.parametrize("version", ["3.4.21", "3.4.23", "3.4.45", "3.5.5", "3.5.21", "3.6.0-rc.1", "3.10.0", "4.0.0"])
def test_versions_that_keep_their_word_are_used(version: str) -> None:
    check_version(version, "host:2379")


@pytest.mark.parametrize("version", ["2.3.8", "3.3.27", "3.4.0", "3.4.20", "3.5.0", "3.5.1", "3.5.0-rc.0", "3.5.4"])
def test_versions_that_lose_writes_are_refused(version: str) -> None:
    with pytest.raises(UnsupportedServerError, match=rf"etcd {version} at host:2379 can lose acknowledged writes"):
        check_version(version, "host:2379")


@pytest.mark.parametrize("version", ["", "3.5", "latest"])
def test_server_without_a_version_is_refused(version: str) -> None:
    with pytest.raises(UnsupportedServerError, match="not etcd's"):
        check_version(version, "host:2379")


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"/x/", b"/x0"), ("é".encode(), "ê".encode()), (b"\xf4\x8f\xbf\xbf", b"\xf4\x8f\xbf\xc0")],
)
def test_first_key_behind_a_prefix(prefix: bytes, end: bytes) -> None:
    assert after_prefix(prefix) == end
