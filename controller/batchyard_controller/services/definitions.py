"""JobDefinitionService: wire to admission and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1 import job_definition_pb2_grpc as rpc
from batchyard_controller.convert.definitions import definition, definition_message, definition_status
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Verb, may
from batchyard_controller.core.access.things import definition_thing
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import Violations, refuse
from batchyard_controller.core.requests.job_rules import check_definition
from batchyard_controller.core.requests.names import (
    check_definition_key,
    check_lengths,
)
from batchyard_controller.core.requests.permission import find_definition, permit_registration
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .callers import caller
from .paging import as_number, decode_token, encode_token, page_size


def payload_bytes(request: pb.RegisterJobDefinitionRequest) -> int:
    """Return how long a registration is, without the annotations, which have a limit of their own."""
    payload = pb.RegisterJobDefinitionRequest()
    payload.CopyFrom(request)
    payload.ClearField("annotations")
    return payload.ByteSize()


class JobDefinitions(rpc.JobDefinitionServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership, now_ms: Callable[[], int]) -> None:
        self._leadership = leadership
        self._now_ms = now_ms

    async def RegisterJobDefinition(
        self, request: pb.RegisterJobDefinitionRequest, context: Any
    ) -> pb.RegisterJobDefinitionResponse:
        registrar = caller()
        record = definition(request, registrar.user, self._now_ms())
        refuse(check_definition(record, payload_bytes(request)))

        def decide(world: World, now: Instant) -> tuple[Any, JobDefinition]:
            permit_registration(world, registrar, record.name)
            event = settings.register_definition(world, record)
            return event, event.definition

        registered = await self._leadership.driver.request(decide)
        return pb.RegisterJobDefinitionResponse(job_definition=definition_message(registered))

    async def DescribeJobDefinitions(
        self, request: pb.DescribeJobDefinitionsRequest, context: Any
    ) -> pb.DescribeJobDefinitionsResponse:
        keys = list(request.job_definitions)
        check_describe("job_definitions", keys)
        refuse(check_lengths("job_definitions", keys, limits.DEFINITION_KEY_LENGTH_MAX))
        reader = caller()

        def look(world: World) -> list[pb.JobDefinition]:
            found: list[JobDefinition] = []
            for key in keys:
                if ":" in key:
                    one = world.find_definition(key)
                    found += [one] if one is not None else []
                else:
                    found += reversed(world.definitions.get(key, ()))
            return [definition_message(d) for d in found if may(reader, Verb.READ, definition_thing(d))]

        return pb.DescribeJobDefinitionsResponse(job_definitions=await self._leadership.driver.read(look))

    async def ListJobDefinitions(
        self, request: pb.ListJobDefinitionsRequest, context: Any
    ) -> pb.ListJobDefinitionsResponse:
        size = page_size(request.page_size)
        listed = f"definitions/{request.name}"
        name, _, revision = decode_token(listed, request.page_token).rpartition(":")
        after = (name, -as_number(revision) if revision else 0)
        status = definition_status(request.status)
        reader = caller()

        def look(world: World) -> pb.ListJobDefinitionsResponse:
            names = [request.name] if request.name else sorted(world.definitions)
            found = [
                d
                for n in names
                if n >= after[0]
                for d in reversed(world.definitions.get(n, ()))
                if (d.name, -d.revision) > after
                and status in (None, d.status)
                and may(reader, Verb.READ, definition_thing(d))
            ]
            return pb.ListJobDefinitionsResponse(
                job_definitions=[definition_message(d) for d in found[:size]],
                next_page_token=encode_token(listed, found[size - 1].key) if len(found) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def DeregisterJobDefinition(
        self, request: pb.DeregisterJobDefinitionRequest, context: Any
    ) -> pb.DeregisterJobDefinitionResponse:
        out: Violations = []
        check_definition_key(out, "job_definition", request.job_definition, needs_revision=True)
        refuse(out)
        changer = caller()

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            find_definition(world, changer, Verb.CHANGE, request.job_definition)
            return settings.deregister_definition(world, request.job_definition), None

        await self._leadership.driver.request(decide)
        return pb.DeregisterJobDefinitionResponse()
