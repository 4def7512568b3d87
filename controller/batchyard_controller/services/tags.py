"""TagService: wire to tagging and back."""

from __future__ import annotations

from typing import Any

from batchyard.errors import Reason, Violation
from batchyard.pairs import pairs
from batchyard.rows import Words
from batchyard.v1 import tag_pb2 as pb
from batchyard.v1 import tag_pb2_grpc as rpc
from batchyard_controller.core.access.roles import Verb
from batchyard_controller.core.model.values import Instant, ResourceKind
from batchyard_controller.core.requests import tagging
from batchyard_controller.core.requests.checks import Violations, refuse
from batchyard_controller.core.requests.names import check_resource_name, check_tag_keys, check_tags
from batchyard_controller.core.requests.permission import permit_tagging
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from . import recalling
from .callers import caller

_KINDS = Words(ResourceKind, pb.ResourceKind.DESCRIPTOR)


class Tags(rpc.TagServiceServicer):
    """Thin: checks fields, lets the core decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def TagResource(self, request: pb.TagResourceRequest, context: Any) -> pb.TagResourceResponse:
        kind, out = _resource(request)
        tags = pairs(request.tags)
        if not tags:
            out.append(Violation("tags", "at least one tag is required", Reason.REQUIRED))
        check_tags(out, tags)
        refuse(out)
        changer = caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            permit_tagging(world, changer, Verb.CHANGE, kind, request.name)
            return tagging.tag_resource(world, kind, request.name, tags), None

        await self._leadership.driver.request(decide)
        return pb.TagResourceResponse()

    async def UntagResource(self, request: pb.UntagResourceRequest, context: Any) -> pb.UntagResourceResponse:
        kind, out = _resource(request)
        check_tag_keys(out, request.keys)
        refuse(out)
        keys, changer = frozenset(request.keys), caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            permit_tagging(world, changer, Verb.CHANGE, kind, request.name)
            return tagging.untag_resource(world, kind, request.name, keys), None

        await self._leadership.driver.request(decide)
        return pb.UntagResourceResponse()

    async def ListTags(self, request: pb.ListTagsRequest, context: Any) -> pb.ListTagsResponse:
        kind, out = _resource(request)
        refuse(out)
        reader = caller()

        def look(world: World) -> pb.ListTagsResponse:
            permit_tagging(world, reader, Verb.READ, kind, request.name)
            found = tagging.find_tagged(world, kind, request.name)
            return pb.ListTagsResponse(tags=dict(tagging.tags_of(found)))

        ids = [request.name] if kind is ResourceKind.JOB else []
        return await recalling.read(self._leadership, ids, look)


def _resource(
    request: pb.TagResourceRequest | pb.UntagResourceRequest | pb.ListTagsRequest,
) -> tuple[ResourceKind, Violations]:
    """Return the kind that a request is about, and what is wrong with the name."""
    kind = _KINDS.read(request.kind, "kind")
    out: Violations = []
    check_resource_name(out, kind, request.name)
    return kind, out
