"""Secrets and access keys through the SDK: kept, listed page by page, forgotten; a value is never repeated."""

from __future__ import annotations

import grpc
import pytest
from tests.sdk.yard import Yard

from batchyard import AsyncClient, Client, InvalidArgumentError, NotFoundError


async def test_secrets_are_put_listed_and_deleted(yard: Yard) -> None:
    async with AsyncClient(yard.address) as client:
        for name in ("b", "a", "c"):
            assert (await client.put_secret(name, f"value of {name}")).name == name
        assert yard.do(lambda world: world.secrets["a"]) == "value of a"
        assert [secret.name async for secret in client.list_secrets(page_size=2)] == ["a", "b", "c"]
        await client.delete_secret("b")
        with pytest.raises(NotFoundError):
            await client.delete_secret("b")


def test_putting_is_safe_to_repeat_and_is_repeated(yard: Yard) -> None:
    yard.do(lambda world: world.failures.update(PutSecret=[grpc.StatusCode.UNAVAILABLE]))
    with Client(yard.address, retry_s=20) as client:
        assert client.put_secret("db", "x").name == "db"


@pytest.mark.parametrize("value", ["canary\ud800", b"canary", 7])
def test_value_that_cannot_be_sent_is_not_repeated(value: str) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidArgumentError, match=r"^value: ") as caught:
        client.put_secret("db", value)
    assert "canary" not in str(caught.value)


def test_access_keys_are_made_listed_asked_and_revoked(yard: Yard) -> None:
    with Client(yard.address) as client:
        assert client.derive_signing_key().any_keys is False
        made = client.create_access_key(description="ci")
        client.create_access_key()
        assert (made.access_key.description, made.secret) == ("ci", "s" * 40)
        assert next(iter(client.list_access_keys(page_size=1))) == made.access_key
        assert len(list(client.list_access_keys(page_size=1))) == 2
        derived = client.derive_signing_key(made.access_key.id, date="20261124", region="eu", service="batch")
        assert (derived.signing_key, derived.any_keys) == (b"20261124", True)
        client.revoke_access_key(made.access_key.id)
        assert client.derive_signing_key(made.access_key.id).signing_key == b""
