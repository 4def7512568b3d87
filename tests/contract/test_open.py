"""From a URL to a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchyard_controller.store.etcd import EtcdStore
from batchyard_controller.store.etcd_client import Login, Tls
from batchyard_controller.store.memory import MemoryStore
from batchyard_controller.store.open import open_store
from batchyard_controller.store.sqlite import SqliteStore


def open_etcd(url: str) -> EtcdStore:
    store = open_store(url)
    assert isinstance(store, EtcdStore)
    return store


def test_memory() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    "path", ["/var/lib/batchyard/store.db", "relative/store.db", "store.db", "/with space/%41?.db"]
)
def test_sqlite_path_is_taken_as_it_stands(path: str) -> None:
    store = open_store(f"sqlite://{path}")
    assert isinstance(store, SqliteStore)
    assert store._path == Path(path)


def test_etcd_defaults() -> None:
    store = open_etcd("etcd://localhost:2379")
    assert (store._prefix, store._lease_ttl_s) == ("/batchyard/v1/", 6)
    assert (store._client._endpoints, store._client._tls, store._client._login) == (("localhost:2379",), None, None)


def test_etcd_with_everything() -> None:
    store = open_etcd(
        "etcd://me:p%40ss@a.example:2379,10.0.0.1:1,[::1]:2/my/yard/?ca=/c&cert=d&key=/k%20y&lease_ttl_s=9"
    )
    assert (store._prefix, store._lease_ttl_s) == ("/my/yard/", 9)
    assert store._client._endpoints == ("a.example:2379", "10.0.0.1:1", "[::1]:2")
    assert store._client._tls == Tls(ca=Path("/c"), cert=Path("d"), key=Path("/k y"))
    assert store._client._login == Login(user="me", password="p@ss")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must start with"),
        ("/var/lib/store.db", "must start with"),
        ("postgres://localhost", "must start with"),
        ("memory:", "must start with"),
        ("memory://here", "takes nothing"),
        ("sqlite://", "path of a file"),
        ("sqlite:///var/lib/", "path of a file"),
        ("etcd://", "host:port"),
        ("etcd://localhost", "host:port"),
        ("etcd://localhost:2379,", "host:port"),
        ("etcd://localhost:http", "host:port"),
        ("etcd://localhost:2379?ttl=3", "no option 'ttl'"),
        ("etcd://localhost:2379?lease_ttl_s=1", "lease_ttl_s is '1'"),
        ("etcd://localhost:2379?lease_ttl_s=soon", "lease_ttl_s is 'soon'"),
        ("etcd://localhost:2379?cert=/c", "cert and key"),
        ("etcd://localhost:2379?ca", "bad query"),
    ],
)
def test_bad_url_names_itself_and_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        open_store(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("url", ["etcd://me:secret@localhost", "etcd://me:se/cret@x:1?ttl=3", "etcd://me:sec@ret@x"])
def test_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        open_store(url)
    assert "ret" not in str(caught.value)
    assert "etcd://me:***@" in str(caught.value)
