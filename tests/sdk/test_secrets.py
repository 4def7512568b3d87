"""Secrets and access keys through the SDK: kept, listed page by page, forgotten; a value is never repeated."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

import pytest
from tests.sdk.yard import AsyncYard, Yard

from batchyard import AsyncClient, Client, InvalidArgumentError, NotFoundError


async def test_secrets_are_put_listed_and_deleted(async_yard: AsyncYard) -> None:
    client = async_yard.client
    for name in ("b", "a", "c"):
        assert (await client.put_secret(name, f"value of {name}")).name == name
    assert await async_yard.value_of("a") == "value of a"
    assert [secret.name async for secret in client.list_secrets(page_size=2)] == ["a", "b", "c"]
    await client.delete_secret("b")
    with pytest.raises(NotFoundError):
        await client.delete_secret("b")


async def test_putting_is_safe_to_repeat_and_is_repeated(async_yard: AsyncYard) -> None:
    async_yard.wire.lose("PutSecret")
    async with AsyncClient(async_yard.address, retry_s=20) as client:
        assert (await client.put_secret("db", "x")).name == "db"
    assert async_yard.wire.calls["PutSecret"] == 2


@pytest.mark.parametrize("value", ["canary\ud800", b"canary", 7])
def test_value_that_cannot_be_sent_is_not_repeated(value: str) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidArgumentError, match=r"^value: ") as caught:
        client.put_secret("db", value)
    assert "canary" not in str(caught.value)


def test_access_keys_are_made_listed_asked_and_revoked(yard: Yard) -> None:
    client = yard.client
    assert client.derive_signing_key().any_keys is False
    made = client.create_access_key(description="ci")
    client.create_access_key()
    assert (made.access_key.description, len(made.secret)) == ("ci", 40)
    assert made.access_key in list(client.list_access_keys(page_size=1))
    assert len(list(client.list_access_keys(page_size=1))) == 2
    scope = {"date": f"{datetime.now(UTC):%Y%m%d}", "region": "eu", "service": "batch"}
    derived = client.derive_signing_key(made.access_key.id, **scope)
    key = b"AWS4" + made.secret.encode()
    for part in (*scope.values(), "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert (derived.signing_key, derived.any_keys) == (key, True)
    client.revoke_access_key(made.access_key.id)
    assert client.derive_signing_key(made.access_key.id, **scope).signing_key == b""
