"""UsageService: wire to a view and back."""

from __future__ import annotations

from typing import Any

from batchyard.errors import Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX
from batchyard.v1 import usage_pb2 as pb
from batchyard.v1 import usage_pb2_grpc as rpc
from batchyard_controller.convert.usage import sum_message, usage_keys
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Principal, Verb
from batchyard_controller.core.access.things import queue_thing
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.requests.permission import permit
from batchyard_controller.core.views.listing import JobFilter
from batchyard_controller.core.views.usage import UsageKey, UsageQuery, sum_usage
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .callers import caller
from .paging import as_number, decode_token, encode_token

LISTED = "usage"


class UsageSums(rpc.UsageServiceServicer):
    """Thin: checks fields, shows sums."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def SumUsage(self, request: pb.SumUsageRequest, context: Any) -> pb.SumUsageResponse:
        refuse(_check(request))
        keys = usage_keys(list(request.by))
        place = decode_token(LISTED, request.page_token)
        seq, _, index = place.partition(".")
        beyond = (as_number(seq), as_number(index)) if place else None
        reader = caller()

        def look(world: World) -> pb.SumUsageResponse:
            found = sum_usage(world, _query(world, request, keys, reader), beyond)
            after = found.next_beyond
            return pb.SumUsageResponse(
                sums=[sum_message(values, each) for values, each in found.sums.items()],
                next_page_token="" if after is None else encode_token(LISTED, f"{after[0]}.{after[1]}"),
            )

        return await self._leadership.driver.read(look)


def _query(world: World, request: pb.SumUsageRequest, keys: tuple[UsageKey, ...], reader: Principal) -> UsageQuery:
    for name in request.queues:
        permit(reader, Verb.READ, queue_thing(name))
    return UsageQuery(
        keys=keys,
        jobs=JobFilter(
            queues=frozenset(settings.find_queue(world, name).name for name in request.queues),
            owner=request.owner,
            definition=request.job_definition,
            name=request.name,
            reader=reader,
        ),
        ended_after_ms=request.ended_after_ms,
        ended_before_ms=request.ended_before_ms,
    )


def _check(request: pb.SumUsageRequest) -> Violations:
    out: Violations = []
    if len(set(request.by)) < len(request.by):
        out.append(Violation("by", "each key at most once", Reason.CONFLICT))
    check_range(out, "queues", len(request.queues), 0, limits.LIST_FILTERS_MAX, "queues")
    check_text(out, "owner", request.owner, limits.USER_LENGTH_MAX)
    check_text(out, "job_definition", request.job_definition, limits.DEFINITION_KEY_LENGTH_MAX + 1)
    check_text(out, "name", request.name, NAME_LENGTH_MAX + 1)
    for name in ("ended_after_ms", "ended_before_ms"):
        check_range(out, name, getattr(request, name), 0, limits.WALL_MS_MAX)
    return out
