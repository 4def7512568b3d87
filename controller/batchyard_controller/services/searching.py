"""SearchService: wire to a view and back."""

from __future__ import annotations

from typing import Any

from batchyard.errors import Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX
from batchyard.v1 import search_pb2 as pb
from batchyard.v1 import search_pb2_grpc as rpc
from batchyard_controller.core import limits
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.views.search import search
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .callers import caller
from .job_view import summary_message


class Searching(rpc.SearchServiceServicer):
    """Thin: checks fields, shows what is found."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        out: Violations = []
        if not request.text.strip():
            out.append(Violation("text", "a text to look for is required", Reason.REQUIRED))
        check_text(out, "text", request.text, NAME_LENGTH_MAX)
        check_range(out, "limit", request.limit, 0, limits.SEARCH_MAX)
        refuse(out)
        reader = caller()

        def look(world: World) -> pb.SearchResponse:
            found = search(world, request.text, request.limit or limits.SEARCH_DEFAULT, reader)
            return pb.SearchResponse(
                jobs=[summary_message(world, unit) for unit in found.units],
                queues=found.queues,
                compute_environments=found.environments,
                job_definitions=found.definitions,
                hosts=[pb.FoundHost(id=record.id, name=record.facts.name) for record in found.hosts],
                is_partial=found.is_partial,
            )

        return await self._leadership.driver.read(look)
