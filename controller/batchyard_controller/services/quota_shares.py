"""QuotaShareService: wire to admission and back."""

from __future__ import annotations

from typing import Any

from batchyard.v1 import quota_share_pb2 as pb
from batchyard.v1 import quota_share_pb2_grpc as rpc
from batchyard_controller.convert.quota_shares import quota_share, quota_share_changes, quota_share_message
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core.model.quota_shares import QuotaShare, share_id
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import quota_shares
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.quota_shares import check_quota_share
from batchyard_controller.core.requests.settings import find_queue
from batchyard_controller.core.views.utilization import accounts
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import decode_token, encode_token, page_size

LISTED = "quota_shares"


def view(world: World, record: QuotaShare) -> pb.QuotaShare:
    """Describe a quota share, and how it stands."""
    return quota_share_message(record, accounts(world, record))


class QuotaShares(rpc.QuotaShareServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def CreateQuotaShare(self, request: pb.CreateQuotaShareRequest, context: Any) -> pb.CreateQuotaShareResponse:
        record = quota_share(request)
        refuse(check_quota_share(record))

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return quota_shares.create_quota_share(world, record, now), None

        await self._leadership.driver.request(decide)
        return pb.CreateQuotaShareResponse(quota_share=await self._view(record.job_queue, record.name))

    async def DescribeQuotaShares(
        self, request: pb.DescribeQuotaSharesRequest, context: Any
    ) -> pb.DescribeQuotaSharesResponse:
        names = list(request.names)
        check_describe("names", names)

        def look(world: World) -> list[pb.QuotaShare]:
            find_queue(world, request.job_queue)
            ids = (share_id(request.job_queue, name) for name in names)
            return [view(world, world.quota_shares[each]) for each in ids if each in world.quota_shares]

        return pb.DescribeQuotaSharesResponse(quota_shares=await self._leadership.driver.read(look))

    async def ListQuotaShares(self, request: pb.ListQuotaSharesRequest, context: Any) -> pb.ListQuotaSharesResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)

        def look(world: World) -> pb.ListQuotaSharesResponse:
            queue = find_queue(world, request.job_queue)
            shares = [share for share in world.shares_of(queue.name) if share.name > after]
            return pb.ListQuotaSharesResponse(
                quota_shares=[view(world, share) for share in shares[:size]],
                next_page_token=encode_token(LISTED, shares[size - 1].name) if len(shares) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def UpdateQuotaShare(self, request: pb.UpdateQuotaShareRequest, context: Any) -> pb.UpdateQuotaShareResponse:
        changes = {k: v for k, v in quota_share_changes(request).items() if k not in ("job_queue", "name")}

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return quota_shares.update_quota_share(world, request.job_queue, request.name, changes), None

        await self._leadership.driver.request(decide)
        return pb.UpdateQuotaShareResponse(quota_share=await self._view(request.job_queue, request.name))

    async def DeleteQuotaShare(self, request: pb.DeleteQuotaShareRequest, context: Any) -> pb.DeleteQuotaShareResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return quota_shares.delete_quota_share(world, request.job_queue, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteQuotaShareResponse()

    async def _view(self, job_queue: str, name: str) -> pb.QuotaShare:
        return await self._leadership.driver.read(
            lambda world: view(world, quota_shares.find_quota_share(world, job_queue, name))
        )
