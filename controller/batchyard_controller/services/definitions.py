"""JobDefinitionService: wire to admission and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchyard.errors import Reason, Violation
from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1 import job_definition_pb2_grpc as rpc
from batchyard_controller.convert.definitions import definition, definition_message, definition_status
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core import limits
from batchyard_controller.core.model.jobs import DefinitionType, JobDefinition
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import Violations, check_range, quote
from batchyard_controller.core.requests.job_rules import check_retry, check_task, check_timeout, refuse
from batchyard_controller.core.requests.names import (
    check_annotations,
    check_definition_key,
    check_lengths,
    check_name,
    check_tags,
)
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import as_number, decode_token, encode_token, page_size

PLATFORM_CAPABILITIES = ("EC2", "FARGATE")
"""AWS: platformCapabilities."""


def check_definition(definition: JobDefinition, size_bytes: int) -> Violations:
    """Return everything that is wrong with a registration."""
    out: Violations = []
    check_name(out, "name", definition.name)
    if definition.type is not DefinitionType.CONTAINER:
        text = f"{definition.type.name} is not supported yet, only CONTAINER is"
        out.append(Violation("type", text, Reason.NOT_SUPPORTED))
    if size_bytes > limits.DEFINITION_BYTES_MAX:
        text = f"the payload has {size_bytes} bytes; at most {limits.DEFINITION_BYTES_MAX} are allowed"
        out.append(Violation("job_definition", text, Reason.TOO_LONG))
    check_task(out, "container", definition.task, complete=False)
    if definition.retry is not None:
        check_retry(out, "retry_strategy", definition.retry)
    check_timeout(out, "timeout_s", definition.timeout_s)
    if definition.scheduling_priority is not None:
        check_range(out, "scheduling_priority", definition.scheduling_priority, 0, limits.SCHEDULING_PRIORITY_MAX)
    check_tags(out, definition.tags)
    for i, capability in enumerate(definition.platform_capabilities):
        if capability not in PLATFORM_CAPABILITIES:
            text = f"{quote(capability)} is not one of {', '.join(PLATFORM_CAPABILITIES)}"
            out.append(Violation(f"platform_capabilities[{i}]", text, Reason.UNKNOWN_VALUE))
            break
    check_annotations(out, definition.annotations)
    return out


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
        record = definition(request, self._now_ms())
        refuse(check_definition(record, payload_bytes(request)))

        def decide(world: World, now: Instant) -> tuple[Any, JobDefinition]:
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

        def look(world: World) -> list[pb.JobDefinition]:
            found: list[JobDefinition] = []
            for key in keys:
                if ":" in key:
                    one = world.find_definition(key)
                    found += [one] if one is not None else []
                else:
                    found += reversed(world.definitions.get(key, ()))
            return [definition_message(d) for d in found]

        return pb.DescribeJobDefinitionsResponse(job_definitions=await self._leadership.driver.read(look))

    async def ListJobDefinitions(
        self, request: pb.ListJobDefinitionsRequest, context: Any
    ) -> pb.ListJobDefinitionsResponse:
        size = page_size(request.page_size)
        listed = f"definitions/{request.name}"
        name, _, revision = decode_token(listed, request.page_token).rpartition(":")
        after = (name, -as_number(revision) if revision else 0)
        status = definition_status(request.status)

        def look(world: World) -> pb.ListJobDefinitionsResponse:
            names = [request.name] if request.name else sorted(world.definitions)
            found = [
                d
                for n in names
                if n >= after[0]
                for d in reversed(world.definitions.get(n, ()))
                if (d.name, -d.revision) > after and status in (None, d.status)
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

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.deregister_definition(world, request.job_definition), None

        await self._leadership.driver.request(decide)
        return pb.DeregisterJobDefinitionResponse()
