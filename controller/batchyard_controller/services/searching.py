"""SearchService: wire to a view and back."""

from __future__ import annotations

from typing import Any

from batchyard.errors import Reason, Violation
from batchyard.ids import NAME_LENGTH_MAX, split_job_id
from batchyard.v1 import search_pb2 as pb
from batchyard.v1 import search_pb2_grpc as rpc
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Verb, may
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.views.search import PART_LENGTH_MIN, search
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from . import recalling
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
        reader, limit = caller(), request.limit or limits.SEARCH_DEFAULT

        def look(world: World) -> pb.SearchResponse:
            found = search(world, request.text, limit, reader)
            kept = {unit.job.id for unit in found.units}
            former = [
                Unit(job) for job in archived if job.id not in kept and may(reader, Verb.READ, job_thing(job.spec))
            ]
            return pb.SearchResponse(
                jobs=[summary_message(world, unit) for unit in (*found.units, *former)[:limit]],
                queues=found.queues,
                compute_environments=found.environments,
                job_definitions=found.definitions,
                hosts=[pb.FoundHost(id=record.id, name=record.facts.name) for record in found.hosts],
                is_partial=found.is_partial,
            )

        archived = await self._archived(request.text.strip().casefold(), limit)
        return await recalling.read(self._leadership, [request.text.strip()], look)

    async def _archived(self, beginning: str, limit: int) -> list[Job]:
        """Return archived jobs whose ids begin so; their names are not searched."""
        archive = self._leadership.archive
        if archive is None or len(beginning) < PART_LENGTH_MIN or split_job_id(beginning)[1] is not None:
            return []
        return await archive.begun_with(beginning, limit)
