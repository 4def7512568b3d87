"""The etcd store over TLS, and as an etcd user."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.etcd_server import EtcdServer

from batchyard_controller.store import etcd_client
from batchyard_controller.store.open import open_store
from batchyard_controller.store.protocol import Put, Store, StoreUnavailableError

SUBJECT = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1")
USES = ("-addext", "extendedKeyUsage=serverAuth,clientAuth")


async def write_and_load(store: Store) -> list[tuple[str, bytes]]:
    await store.commit([(Put("a", b"1"),)], await store.campaign("one"))
    pairs = [pair async for page in store.load() for pair in page]
    await store.close()
    return pairs


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate that vouches for itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    command = ["openssl", "req", *kind, "-keyout", str(key), "-out", str(cert), *SUBJECT, *USES]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return cert, key


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[EtcdServer]:
    cert, key = make_certificate(tmp_path, "good")
    make_certificate(tmp_path, "strange")
    flags = ["--cert-file", str(cert), "--key-file", str(key), "--client-cert-auth", "--trusted-ca-file", str(cert)]
    server = EtcdServer(tmp_path / "etcd", flags, scheme="https")
    server.start()
    yield server
    server.kill()


@pytest.mark.etcd
async def test_tls_with_certificates_on_both_sides(tls_server: EtcdServer, tmp_path: Path) -> None:
    good = f"{tmp_path}/good"
    store = open_store(f"{tls_server.url}?ca={good}.pem&cert={good}.pem&key={good}.key")
    assert await write_and_load(store) == [("a", b"1")]


@pytest.mark.etcd
@pytest.mark.parametrize(
    "options",
    [
        "",
        "?ca={0}/good.pem",
        "?ca={0}/strange.pem&cert={0}/good.pem&key={0}/good.key",
        "?ca={0}/good.pem&cert={0}/strange.pem&key={0}/strange.key",
        "?ca={0}/missing.pem",
    ],
    ids=["no TLS", "no certificate of ours", "server not trusted", "we are not trusted", "no such file"],
)
async def test_tls_lets_nothing_else_pass(tls_server: EtcdServer, tmp_path: Path, options: str) -> None:
    store = open_store(tls_server.url + options.format(tmp_path))
    with pytest.raises(StoreUnavailableError):
        await store.campaign("one")
    await store.close()


@pytest.fixture
def login_server(tmp_path: Path) -> Iterator[EtcdServer]:
    """An etcd whose tokens live for 4 s, and whose user ``batchyard`` may touch its own prefix only."""
    key, public = tmp_path / "token.key", tmp_path / "token.pub"
    for command in (["genrsa", "-out", str(key), "2048"], ["rsa", "-in", str(key), "-pubout", "-out", str(public)]):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=100)
    # Tokens of etcd's other kind live on for as long as they are used.
    tokens = f"jwt,pub-key={public},priv-key={key},sign-method=RS256,ttl=4s"
    server = EtcdServer(tmp_path / "etcd", ["--auth-token", tokens, "--bcrypt-cost", "4"])
    server.start()
    enable_login(server)
    yield server
    server.kill()


def enable_login(server: EtcdServer) -> None:
    # Base64, as JSON has no bytes: /batchyard/v1/ and the first key behind it.
    own = {"permType": "READWRITE", "key": "L2JhdGNoeWFyZC92MS8=", "range_end": "L2JhdGNoeWFyZC92MTA="}
    for path, body in (
        ("user/add", {"name": "root", "password": "x"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("role/add", {"name": "own"}),
        ("role/grant", {"name": "own", "perm": own}),
        ("user/add", {"name": "batchyard", "password": "p@ss/word"}),
        ("user/grant", {"user": "batchyard", "role": "own"}),
        ("enable", {}),
    ):
        server.post(f"/v3/auth/{path}", body)


def login_url(server: EtcdServer, user: str, rest: str = "") -> str:
    return server.url.replace("://", f"://{user}@") + rest


@pytest.mark.etcd
async def test_user_with_a_role_for_the_prefix(login_server: EtcdServer) -> None:
    """A role for the prefix alone is all that the store needs."""
    store = open_store(login_url(login_server, "batchyard:p%40ss%2Fword"))
    assert await write_and_load(store) == [("a", b"1")]


@pytest.mark.etcd
@pytest.mark.parametrize("user", ["", "batchyard:wrong@", "nobody:p@"])
async def test_wrong_user_is_refused(login_server: EtcdServer, user: str) -> None:
    store = open_store(login_server.url.replace("://", f"://{user}"))
    with pytest.raises(StoreUnavailableError, match=r"INVALID_ARGUMENT|PERMISSION_DENIED|UNAUTHENTICATED"):
        await store.campaign("one")
    await store.close()


@pytest.mark.etcd
async def test_prefix_of_others_is_refused(login_server: EtcdServer) -> None:
    store = open_store(login_url(login_server, "batchyard:p%40ss%2Fword", "/others"))
    with pytest.raises(StoreUnavailableError, match="PERMISSION_DENIED"):
        await store.campaign("one")
    await store.close()


@pytest.mark.etcd
async def test_nobody_notices_that_tokens_run_out(login_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader renews its token before it runs out, so that no commit finds it invalid; a reader asks for a new one."""
    monkeypatch.setattr(etcd_client, "_TOKEN_S", 0.5)
    url = login_url(login_server, "batchyard:p%40ss%2Fword", "?lease_ttl_s=3")
    leader, reader = open_store(url), open_store(url)
    epoch = await leader.campaign("one")
    assert [page async for page in reader.load()] == []
    clock = asyncio.get_running_loop().time
    deadline = clock() + 9
    while clock() < deadline:
        await leader.commit([(Put("a", b"1"),)], epoch)
    assert [page async for page in reader.load()] == [[("a", b"1")]]
    await leader.close()
    await reader.close()


@pytest.mark.etcd
async def test_server_that_forgot_the_token_is_asked_for_a_new_one(login_server: EtcdServer) -> None:
    """etcd forgets its tokens when it restarts."""
    store = open_store(login_url(login_server, "batchyard:p%40ss%2Fword", "?lease_ttl_s=3"))
    await store.commit([(Put("a", b"1"),)], await store.campaign("one"))
    login_server.kill()
    login_server.start()
    assert await write_and_load(store) == [("a", b"1")]
