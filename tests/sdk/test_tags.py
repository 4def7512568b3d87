"""Tags through the SDK: words of the contract, repeated while the controller is away, gone by key."""

from __future__ import annotations

import pytest
from tests.sdk.yard import AsyncYard

from batchyard import AsyncClient, Client, InvalidArgumentError, container


async def test_tags_are_added_listed_and_removed(async_yard: AsyncYard) -> None:
    client = async_yard.client
    await client.register_job_definition("train", container=container(["true"]))
    await client.tag_resource("JOB_QUEUE", "default", {"a": "1", "b": "2"})
    await client.untag_resource("job-queue", "default", ["a"])
    assert await client.list_tags("JOB_QUEUE", "default") == {"b": "2"}
    assert await client.list_tags("JOB_DEFINITION", "train:1") == {}


async def test_tagging_is_safe_to_repeat_and_is_repeated(async_yard: AsyncYard) -> None:
    async_yard.wire.lose("TagResource")
    async with AsyncClient(async_yard.address, retry_s=20) as client:
        await client.tag_resource("JOB_QUEUE", "default", {"a": "1"})
        assert await client.list_tags("JOB_QUEUE", "default") == {"a": "1"}


def test_an_unknown_kind_is_refused_before_any_call() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidArgumentError) as caught:
        client.tag_resource("HOST", "alpha", {"a": "1"})
    words = "JOB, JOB_QUEUE, JOB_DEFINITION, COMPUTE_ENVIRONMENT, SCHEDULING_POLICY, CONSUMABLE_RESOURCE, QUOTA_SHARE"
    assert str(caught.value) == f"kind: must be one of {words}, not 'HOST'"
