"""ComputeEnvironmentService: wire to admission and back."""

from __future__ import annotations

from typing import Any

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.v1 import compute_environment_pb2_grpc as rpc
from batchyard_controller.convert.settings import (
    compute_resources,
    environment_message,
    environment_type,
    resource_state,
)
from batchyard_controller.convert.values import check_describe, pairs
from batchyard_controller.core import admission, limits, model, reasons
from batchyard_controller.core.checks import Violations, check_range, check_text
from batchyard_controller.core.feasibility import belongs
from batchyard_controller.core.validation import (
    check_annotations,
    check_compute_resources,
    check_name,
    check_tags,
    refuse,
)
from batchyard_controller.core.world import World
from batchyard_controller.leadership import Office

from .paging import decode_token, encode_token, page_size

LISTED = "environments"


def view(world: World, environment: model.ComputeEnvironment) -> pb.ComputeEnvironment:
    """Describe an environment with its hosts."""
    hosts = [host_id for host_id, host in world.hosts.items() if belongs(host.record.facts, environment)]
    return environment_message(environment, reasons.ENVIRONMENT_HEALTHY, hosts)


class ComputeEnvironments(rpc.ComputeEnvironmentServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def CreateComputeEnvironment(
        self, request: pb.CreateComputeEnvironmentRequest, context: Any
    ) -> pb.CreateComputeEnvironmentResponse:
        record = model.ComputeEnvironment(
            name=request.name,
            type=environment_type(request.type),
            state=resource_state(request.state, model.ResourceState.ENABLED),
            compute_resources=compute_resources(request.compute_resources),
            unmanaged_vcpus=request.unmanaged_vcpus,
            service_role=request.service_role,
            tags=pairs(request.tags),
            annotations=pairs(request.annotations),
        )
        out: Violations = []
        check_name(out, "name", record.name)
        check_compute_resources(out, record.compute_resources)
        check_range(out, "unmanaged_vcpus", record.unmanaged_vcpus, 0, limits.MAX_VCPUS_MAX)
        check_text(out, "service_role", record.service_role, limits.ROLE_LENGTH_MAX)
        check_tags(out, record.tags)
        check_annotations(out, record.annotations)
        refuse(out)

        def decide(world: World, now: model.Instant) -> tuple[Any, model.ComputeEnvironment]:
            event = admission.create_environment(world, record, now)
            return event, event.environment

        created = await self._office.driver.request(decide)
        return pb.CreateComputeEnvironmentResponse(compute_environment=await self._view(created.name))

    async def DescribeComputeEnvironments(
        self, request: pb.DescribeComputeEnvironmentsRequest, context: Any
    ) -> pb.DescribeComputeEnvironmentsResponse:
        names = list(request.names)
        check_describe("names", names)

        def look(world: World) -> list[pb.ComputeEnvironment]:
            return [view(world, world.environments[name]) for name in names if name in world.environments]

        return pb.DescribeComputeEnvironmentsResponse(compute_environments=await self._office.driver.read(look))

    async def ListComputeEnvironments(
        self, request: pb.ListComputeEnvironmentsRequest, context: Any
    ) -> pb.ListComputeEnvironmentsResponse:
        size, after = page_size(request.page_size), decode_token(LISTED, request.page_token)

        def look(world: World) -> pb.ListComputeEnvironmentsResponse:
            names = sorted(name for name in world.environments if name > after)
            return pb.ListComputeEnvironmentsResponse(
                compute_environments=[view(world, world.environments[name]) for name in names[:size]],
                next_page_token=encode_token(LISTED, names[size - 1]) if len(names) > size else "",
            )

        return await self._office.driver.read(look)

    async def UpdateComputeEnvironment(
        self, request: pb.UpdateComputeEnvironmentRequest, context: Any
    ) -> pb.UpdateComputeEnvironmentResponse:
        selection = compute_resources(request.compute_resources) if request.HasField("compute_resources") else None
        state = resource_state(request.state, None) if request.state else None
        out: Violations = []
        if selection is not None:
            check_compute_resources(out, selection)
        check_range(out, "unmanaged_vcpus", request.unmanaged_vcpus, 0, limits.MAX_VCPUS_MAX)
        check_text(out, "service_role", request.service_role, limits.ROLE_LENGTH_MAX)
        refuse(out)

        def decide(world: World, now: model.Instant) -> tuple[Any, None]:
            unmanaged = request.unmanaged_vcpus if request.HasField("unmanaged_vcpus") else None
            role = request.service_role if request.HasField("service_role") else None
            return (
                admission.update_environment(
                    world, request.name, state, selection, unmanaged, role, pairs(request.annotations)
                ),
                None,
            )

        await self._office.driver.request(decide)
        return pb.UpdateComputeEnvironmentResponse(compute_environment=await self._view(request.name))

    async def DeleteComputeEnvironment(
        self, request: pb.DeleteComputeEnvironmentRequest, context: Any
    ) -> pb.DeleteComputeEnvironmentResponse:
        def decide(world: World, now: model.Instant) -> tuple[Any, None]:
            return admission.delete_environment(world, request.name), None

        await self._office.driver.request(decide)
        return pb.DeleteComputeEnvironmentResponse()

    async def _view(self, name: str) -> pb.ComputeEnvironment:
        return await self._office.driver.read(lambda world: view(world, admission.find_environment(world, name)))
