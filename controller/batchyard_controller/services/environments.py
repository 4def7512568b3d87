"""ComputeEnvironmentService: wire to admission and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.v1 import compute_environment_pb2_grpc as rpc
from batchyard_controller.convert.settings import environment, environment_changes, environment_message
from batchyard_controller.convert.values import check_describe
from batchyard_controller.core import limits
from batchyard_controller.core.model.settings import ComputeEnvironment
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.feasibility import belongs
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, refuse
from batchyard_controller.core.requests.names import check_annotations, check_name, check_tags
from batchyard_controller.core.requests.settings_rules import check_compute_resources, check_kubernetes
from batchyard_controller.core.scaling.outlook import standing
from batchyard_controller.core.views import words
from batchyard_controller.core.views.membership import Membership, cluster_fault, memberships
from batchyard_controller.core.world.world import World
from batchyard_controller.leadership import Leadership

from .paging import decode_token, encode_token, page_size

LISTED = "environments"
LISTED_HOSTS = "environment hosts"


def view(world: World, record: ComputeEnvironment) -> pb.ComputeEnvironment:
    """Describe an environment with its hosts."""
    hosts = [host_id for host_id, host in world.hosts.items() if belongs(host.record.facts, record)]
    if record.kubernetes is not None:
        reason = cluster_fault(world, record.kubernetes)
        return environment_message(record, reason or words.ENVIRONMENT_HEALTHY, hosts, is_valid=not reason)
    if not record.has_provider:
        return environment_message(record, words.ENVIRONMENT_HEALTHY, hosts)
    scaling = standing(record, world.launches.values(), world.scaling)
    resources = replace(record.compute_resources, desired_vcpus=scaling.desired_vcpus(record))
    is_valid = resources.provider in world.scaling.catalogues
    reason = words.ENVIRONMENT_HEALTHY if is_valid else words.no_provider(resources.provider)
    shown = replace(record, compute_resources=resources)
    return environment_message(shown, reason, hosts, scaling, is_valid=is_valid)


def _supposed(request: pb.ListEnvironmentHostsRequest) -> ComputeEnvironment:
    """
    Return the environment that there would be.

    Raises:
        InvalidArgumentError: a field breaks a rule.
    """
    record = environment(
        pb.CreateComputeEnvironmentRequest(
            name=request.name,
            type=pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED,
            compute_resources=request.compute_resources,
            kubernetes=request.kubernetes if request.HasField("kubernetes") else None,
        )
    )
    out: Violations = []
    if record.name:
        check_name(out, "name", record.name)
    check_compute_resources(out, record.compute_resources)
    check_kubernetes(out, record)
    refuse(out)
    return record


def _host_message(each: Membership) -> pb.EnvironmentHost:
    return pb.EnvironmentHost(
        host_id=each.host.id,
        host_name=each.host.facts.name,
        host_type=each.host.facts.host_type,
        is_selected=each.exclusion is None,
        rule=each.exclusion.rule if each.exclusion is not None else "",
        reason=each.exclusion.text if each.exclusion is not None else "",
        away=each.away,
    )


class ComputeEnvironments(rpc.ComputeEnvironmentServiceServicer):
    """Thin: checks fields, lets admission decide."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def CreateComputeEnvironment(
        self, request: pb.CreateComputeEnvironmentRequest, context: Any
    ) -> pb.CreateComputeEnvironmentResponse:
        record = environment(request)
        out: Violations = []
        check_name(out, "name", record.name)
        check_compute_resources(out, record.compute_resources)
        check_kubernetes(out, record)
        check_range(out, "unmanaged_vcpus", record.unmanaged_vcpus, 0, limits.MAX_VCPUS_MAX)
        check_text(out, "service_role", record.service_role, limits.ROLE_LENGTH_MAX)
        check_tags(out, record.tags)
        check_annotations(out, record.annotations)
        refuse(out)

        def decide(world: World, now: Instant) -> tuple[Any, ComputeEnvironment]:
            event = settings.create_environment(world, record, now)
            return event, event.environment

        created = await self._leadership.driver.request(decide)
        return pb.CreateComputeEnvironmentResponse(compute_environment=await self._view(created.name))

    async def DescribeComputeEnvironments(
        self, request: pb.DescribeComputeEnvironmentsRequest, context: Any
    ) -> pb.DescribeComputeEnvironmentsResponse:
        names = list(request.names)
        check_describe("names", names)

        def look(world: World) -> list[pb.ComputeEnvironment]:
            return [view(world, world.environments[name]) for name in names if name in world.environments]

        return pb.DescribeComputeEnvironmentsResponse(compute_environments=await self._leadership.driver.read(look))

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

        return await self._leadership.driver.read(look)

    async def ListEnvironmentHosts(
        self, request: pb.ListEnvironmentHostsRequest, context: Any
    ) -> pb.ListEnvironmentHostsResponse:
        size, after = page_size(request.page_size), decode_token(LISTED_HOSTS, request.page_token)
        supposed: ComputeEnvironment | None = None
        if request.HasField("compute_resources"):
            supposed = _supposed(request)

        def look(world: World) -> pb.ListEnvironmentHostsResponse:
            record = supposed or settings.find_environment(world, request.name)
            rest = [each for each in memberships(world, record) if each.place > after]
            return pb.ListEnvironmentHostsResponse(
                hosts=[_host_message(each) for each in rest[:size]],
                next_page_token=encode_token(LISTED_HOSTS, rest[size - 1].place) if len(rest) > size else "",
            )

        return await self._leadership.driver.read(look)

    async def UpdateComputeEnvironment(
        self, request: pb.UpdateComputeEnvironmentRequest, context: Any
    ) -> pb.UpdateComputeEnvironmentResponse:
        changes = environment_changes(request)
        out: Violations = []
        if "compute_resources" in changes:
            check_compute_resources(out, changes["compute_resources"])
        check_range(out, "unmanaged_vcpus", request.unmanaged_vcpus, 0, limits.MAX_VCPUS_MAX)
        check_text(out, "service_role", request.service_role, limits.ROLE_LENGTH_MAX)
        refuse(out)

        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.update_environment(world, request.name, changes), None

        await self._leadership.driver.request(decide)
        return pb.UpdateComputeEnvironmentResponse(compute_environment=await self._view(request.name))

    async def DeleteComputeEnvironment(
        self, request: pb.DeleteComputeEnvironmentRequest, context: Any
    ) -> pb.DeleteComputeEnvironmentResponse:
        def decide(world: World, now: Instant) -> tuple[Any, None]:
            return settings.delete_environment(world, request.name), None

        await self._leadership.driver.request(decide)
        return pb.DeleteComputeEnvironmentResponse()

    async def _view(self, name: str) -> pb.ComputeEnvironment:
        return await self._leadership.driver.read(lambda world: view(world, settings.find_environment(world, name)))
