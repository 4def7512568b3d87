"""
A real controller in this process: the services, the driver and a store, on a free port of loopback.

Nothing of ours is replaced. What it keeps lies in a ``MemoryData`` (or a file), so a
test can compare all of it before and after, or start a second controller over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tests.house import reasons

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2, job_pb2, resources_pb2
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1.access_key_pb2_grpc import AccessKeyServiceStub
from batchyard.v1.access_pb2_grpc import AccessServiceStub
from batchyard.v1.agent_pb2_grpc import AgentServiceStub
from batchyard.v1.compute_environment_pb2_grpc import ComputeEnvironmentServiceStub
from batchyard.v1.consumable_resource_pb2_grpc import ConsumableResourceServiceStub
from batchyard.v1.event_pb2_grpc import EventServiceStub
from batchyard.v1.host_pb2_grpc import HostServiceStub
from batchyard.v1.job_definition_pb2_grpc import JobDefinitionServiceStub
from batchyard.v1.job_pb2_grpc import JobServiceStub
from batchyard.v1.job_queue_pb2_grpc import JobQueueServiceStub
from batchyard.v1.join_token_pb2_grpc import JoinTokenServiceStub
from batchyard.v1.quota_share_pb2_grpc import QuotaShareServiceStub
from batchyard.v1.scheduling_policy_pb2_grpc import SchedulingPolicyServiceStub
from batchyard.v1.search_pb2_grpc import SearchServiceStub
from batchyard.v1.secret_pb2_grpc import SecretServiceStub
from batchyard.v1.sink_pb2_grpc import SinkServiceStub
from batchyard.v1.tag_pb2_grpc import TagServiceStub
from batchyard.v1.usage_pb2_grpc import UsageServiceStub
from batchyard_controller.app import NOBODY, Trust, build_server, clock
from batchyard_controller.audit import Audit
from batchyard_controller.core import limits
from batchyard_controller.core.events import SealedChanged
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.secrets import AccessKey, Sealed
from batchyard_controller.core.model.values import Instant
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.leadership import Leadership, lead, name_candidate
from batchyard_controller.metrics import Metrics
from batchyard_controller.providers.launcher import Launcher, Offer
from batchyard_controller.sessions import Sessions
from batchyard_controller.store.memory import MemoryData, MemoryStore
from batchyard_controller.store.protocol import Store
from batchyard_controller.throttles import Throttles
from batchyard_controller.vault import Vault, make_keys

from .hand_provider import HandProvider

PATIENCE_S = 50.0
"""For what must happen soon; a test that waits for so long has failed."""


class Controller:
    """
    One controller over *store*; an asynchronous context manager.

    Args:
        store: What it keeps things in.
        vault: Default: one with a key of its own.
        address: Where it listens. Default: a free port of loopback.
        clock: Of the driver.
        interceptors: Put before the server's own.
        door: What it serves, and for whom. Default: all, as on the socket.
        trust: By what strangers are known. Default: by nothing.
        other: Another listener beside the first, at ``other_address``; default: none.
        audit: Default: none is kept.
        throttles: Default: those of a controller.
        offers: Providers. Default: one that is played by hand, as ``provider``.
    """

    def __init__(
        self,
        store: Store,
        vault: Vault | None = None,
        *,
        address: str = "127.0.0.1:0",
        clock: Callable[[], Instant] = clock,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        door: Door | None = None,
        trust: Trust = NOBODY,
        other: Door | None = None,
        audit: Audit | None = None,
        throttles: Throttles | None = None,
        offers: Sequence[Offer] | None = None,
        fence_ms: int = limits.FENCE_MS,
    ) -> None:
        self._store = store
        self._fence_ms = fence_ms
        self.provider = HandProvider()
        self._launcher = Launcher([self.provider.offer()] if offers is None else offers)
        self._clock = clock
        self.metrics = Metrics()
        self.leadership = Leadership()
        self.vault = vault = vault or Vault(make_keys())
        self.sessions = Sessions(self.leadership, vault, fence_ms)
        shared: dict[str, Any] = {"audit": audit, "throttles": throttles or Throttles()}
        first = door or Door(PeerKind.LOCAL)
        self._server = build_server(self.leadership, self.sessions, vault, first, trust, interceptors, **shared)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        self._other: grpc.aio.Server | None = None
        if other is not None:
            self._other = build_server(self.leadership, self.sessions, vault, other, trust, **shared)
            self.other_address = f"127.0.0.1:{self._other.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> Self:
        self._terms = asyncio.create_task(
            lead(
                self._store,
                name_candidate("test", self.address),
                self.leadership,
                self.sessions.open_term,
                self._clock,
                self.metrics,
                Retention(),
                self._launcher,
                self._fence_ms,
            )
        )
        await self._server.start()
        if self._other is not None:
            await self._other.start()
        self.channel = grpc.aio.insecure_channel(self.address)
        self.jobs: Any = JobServiceStub(self.channel)
        self.queues: Any = JobQueueServiceStub(self.channel)
        self.environments: Any = ComputeEnvironmentServiceStub(self.channel)
        self.policies: Any = SchedulingPolicyServiceStub(self.channel)
        self.quota_shares: Any = QuotaShareServiceStub(self.channel)
        self.consumables: Any = ConsumableResourceServiceStub(self.channel)
        self.definitions: Any = JobDefinitionServiceStub(self.channel)
        self.hosts: Any = HostServiceStub(self.channel)
        self.searching: Any = SearchServiceStub(self.channel)
        self.usage: Any = UsageServiceStub(self.channel)
        self.events: Any = EventServiceStub(self.channel)
        self.sinks: Any = SinkServiceStub(self.channel)
        self.tags: Any = TagServiceStub(self.channel)
        self.secrets: Any = SecretServiceStub(self.channel)
        self.access_keys: Any = AccessKeyServiceStub(self.channel)
        self.access: Any = AccessServiceStub(self.channel)
        self.join_tokens: Any = JoinTokenServiceStub(self.channel)
        self.agents: Any = AgentServiceStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self._server.stop(None)
        if self._other is not None:
            await self._other.stop(None)
        has_died = self._terms.done()
        self._terms.cancel()
        await asyncio.wait({self._terms})
        await self._store.close()
        if has_died:
            self._terms.result()
            raise AssertionError("a controller leads for ever")

    async def stop_serving(self) -> None:
        """Be away for all who call, as one that was killed."""
        await self._server.stop(None)

    async def until_leads(self, epoch: int = 1) -> None:
        """Wait for a term, that one or a later one; a controller that has died says why."""
        await self._until(lambda: self.leadership.leads and self.leadership.driver.epoch >= epoch, "does not lead")

    async def until_deposed(self) -> None:
        await self._until(lambda: not self.leadership.leads, "leads")

    async def _until(self, is_so: Callable[[], bool], complaint: str) -> None:
        async def change() -> None:
            while not is_so():
                await self.leadership.change.wait()

        changing = asyncio.create_task(change())
        await asyncio.wait({changing, self._terms}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        if self._terms.done():
            self._terms.result()
        assert changing.done(), f"after {PATIENCE_S} s it still {complaint}"

    async def know_access_key(self, key_id: str) -> None:
        """Keep an access key of the administrator's by an id of the test's, for a gateway that asks nobody for it."""
        key = AccessKey(id=key_id, sealed=Sealed(key_id="none", nonce=b"", ciphertext=b""))
        await self.leadership.driver.request(lambda _, __: (SealedChanged(kept=(key,)), None))

    async def furnish(self) -> None:
        """Make a compute environment and a queue, both of the name ``default``."""
        await self.environments.CreateComputeEnvironment(environment("default"))
        await self.queues.CreateJobQueue(queue("default"))

    async def submit(self, name: str = "hello", **fields: Any) -> str:
        """Submit a job that runs ``true`` and return its id."""
        return str((await self.jobs.SubmitJob(submission(name, **fields))).job_id)

    async def describe(self, job_id: str) -> job_pb2.Job:
        answer = await self.jobs.DescribeJobs(job_pb2.DescribeJobsRequest(job_ids=[job_id]))
        (job,) = answer.jobs
        assert isinstance(job, job_pb2.Job)
        return job

    async def describe_host(self, host: str = "alpha") -> host_pb2.DescribeHostResponse:
        answer = await self.hosts.DescribeHost(host_pb2.DescribeHostRequest(host=host))
        assert isinstance(answer, host_pb2.DescribeHostResponse)
        return answer

    async def state(self, job_id: str) -> str:
        return job_pb2.JobState.Name((await self.describe(job_id)).state).removeprefix("JOB_STATE_")


class MemoryController(Controller):
    """A controller over *data*, all of which a test may look at."""

    def __init__(self, data: MemoryData | None = None, vault: Vault | None = None, **more: Any) -> None:
        self.data = MemoryData() if data is None else data
        super().__init__(MemoryStore(self.data), vault, **more)

    def stored(self) -> dict[str, bytes]:
        """Return all that is stored now."""
        return dict(self.data.pairs)


# Requests that are right ------------------------------------------------------


def environment(name: str, **fields: Any) -> environment_pb.CreateComputeEnvironmentRequest:
    filled: dict[str, Any] = {"type": environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED} | fields
    return environment_pb.CreateComputeEnvironmentRequest(name=name, **filled)


def order(*names: str) -> list[queue_pb.ComputeEnvironmentOrder]:
    return [queue_pb.ComputeEnvironmentOrder(order=i, compute_environment=n) for i, n in enumerate(names)]


def queue(name: str, *environments: str, **fields: Any) -> queue_pb.CreateJobQueueRequest:
    steps = order(*(environments or ("default",)))
    return queue_pb.CreateJobQueueRequest(name=name, compute_environment_order=steps, **fields)


def amounts(cpu_millis: int = 1000, memory_mib: int = 128, **more: int) -> resources_pb2.Resources:
    return resources_pb2.Resources(cpu_millis=cpu_millis, memory_mib=memory_mib, **more)


def container(*command: str, **fields: Any) -> definition_pb.ContainerProperties:
    filled: dict[str, Any] = {"resources": amounts()} | fields
    return definition_pb.ContainerProperties(command=command or ("true",), **filled)


def definition(name: str, **fields: Any) -> definition_pb.RegisterJobDefinitionRequest:
    filled: dict[str, Any] = {"container": container()} | fields
    return definition_pb.RegisterJobDefinitionRequest(name=name, **filled)


def submission(name: str = "hello", **fields: Any) -> job_pb2.SubmitJobRequest:
    filled: dict[str, Any] = {"queue": "default"} | fields
    if not filled.get("job_definition"):
        filled.setdefault("container", container())
    return job_pb2.SubmitJobRequest(name=name, **filled)


# Requests that are refused ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call was refused: status, text, and the google.rpc details; reasons of violations in their order."""

    code: str
    text: str
    reason: str
    metadata: dict[str, str]
    violations: tuple[tuple[str, str], ...]
    violation_reasons: tuple[str, ...]


def refusal_of(err: grpc.aio.AioRpcError) -> Refusal:
    """Read the details of a refusal; those that are no ``google.rpc`` ones fail the test."""
    told, violations, of_violations = error_details_pb2.ErrorInfo(), [], []
    for key, value in err.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        assert status.message == err.details()
        assert status.code == err.code().value[0]
        for packed in status.details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if packed.Unpack(info):
                told = info
                assert info.domain == "batchyard"
                assert info.reason in reasons.METADATA or info.reason in reasons.DEFAULTS.values()
                assert info.metadata.keys() == reasons.METADATA.get(info.reason, set()), "as docs/errors.md tells"
            else:
                assert packed.Unpack(bad), packed.type_url
                violations += [(v.field, v.description) for v in bad.field_violations]
                of_violations += [v.reason for v in bad.field_violations]
    return Refusal(
        code=err.code().name,
        text=err.details() or "",
        reason=told.reason,
        metadata=dict(told.metadata),
        violations=tuple(violations),
        violation_reasons=tuple(of_violations),
    )


def code_of(end: BaseException) -> str:
    """Return the status of a call that failed, one of several that were waited for together."""
    assert isinstance(end, grpc.aio.AioRpcError), end
    return end.code().name


async def refusal(call: Awaitable[Message]) -> Refusal:
    """Wait for a call that must be refused."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as err:
        return refusal_of(err)
    raise AssertionError(f"it was not refused: {answer}")
