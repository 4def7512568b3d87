"""
Calls: the contract's RPCs, each from its request message to its answer.

The only module of the client that holds generated stubs; an RPC with one answer takes
one row here. It knows no rule of the service. Its law: whoever speaks the contract's
messages comes through here, the client's own methods with plain arguments too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import cached_property
from typing import Generic, TypeVar

import grpc.aio

from batchyard.connection import Connection, Dialogue
from batchyard.v1 import job_pb2
from batchyard.v1.access_key_pb2_grpc import AccessKeyServiceStub
from batchyard.v1.access_pb2_grpc import AccessServiceStub
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

Q = TypeVar("Q")
R = TypeVar("R")


class Call(Generic[Q, R]):
    """One RPC with one answer."""

    def __init__(self, connection: Connection, method: grpc.aio.UnaryUnaryMultiCallable[Q, R]) -> None:
        self._connection = connection
        self._method = method

    async def __call__(self, request: Q, *, retry: bool = False) -> R:
        """
        Send *request* and return the answer.

        Args:
            request: The contract's message.
            retry: Repeat it for the client's ``retry_s`` while the controller is away.
                Only for requests that may be carried out twice without harm.

        Raises:
            BatchyardError: the class for the status, with its details.
        """
        return await self._connection.call(self._method, request, retry=retry)


class Calls:
    """All RPCs of the contract but the agents' own and those of hosts that join, by their names in lower case."""

    def __init__(self, connection: Connection) -> None:  # noqa: PLR0915  # a row an RPC
        channel = connection.channel
        self._connection = connection
        self._jobs = JobServiceStub(channel)
        self.submit_job = Call(connection, self._jobs.SubmitJob)
        self.describe_jobs = Call(connection, self._jobs.DescribeJobs)
        self.list_jobs = Call(connection, self._jobs.ListJobs)
        self.get_array_digest = Call(connection, self._jobs.GetArrayDigest)
        self.cancel_job = Call(connection, self._jobs.CancelJob)
        self.update_job = Call(connection, self._jobs.UpdateJob)
        self.terminate_job = Call(connection, self._jobs.TerminateJob)
        self.explain_job = Call(connection, self._jobs.ExplainJob)

        queues = JobQueueServiceStub(channel)
        self.create_job_queue = Call(connection, queues.CreateJobQueue)
        self.describe_job_queues = Call(connection, queues.DescribeJobQueues)
        self.get_job_queue_snapshot = Call(connection, queues.GetJobQueueSnapshot)
        self.list_job_queues = Call(connection, queues.ListJobQueues)
        self.update_job_queue = Call(connection, queues.UpdateJobQueue)
        self.delete_job_queue = Call(connection, queues.DeleteJobQueue)

        policies = SchedulingPolicyServiceStub(channel)
        self.create_scheduling_policy = Call(connection, policies.CreateSchedulingPolicy)
        self.describe_scheduling_policies = Call(connection, policies.DescribeSchedulingPolicies)
        self.list_scheduling_policies = Call(connection, policies.ListSchedulingPolicies)
        self.update_scheduling_policy = Call(connection, policies.UpdateSchedulingPolicy)
        self.delete_scheduling_policy = Call(connection, policies.DeleteSchedulingPolicy)

        quota_shares = QuotaShareServiceStub(channel)
        self.create_quota_share = Call(connection, quota_shares.CreateQuotaShare)
        self.describe_quota_shares = Call(connection, quota_shares.DescribeQuotaShares)
        self.list_quota_shares = Call(connection, quota_shares.ListQuotaShares)
        self.update_quota_share = Call(connection, quota_shares.UpdateQuotaShare)
        self.delete_quota_share = Call(connection, quota_shares.DeleteQuotaShare)

        consumables = ConsumableResourceServiceStub(channel)
        self.create_consumable_resource = Call(connection, consumables.CreateConsumableResource)
        self.describe_consumable_resources = Call(connection, consumables.DescribeConsumableResources)
        self.list_consumable_resources = Call(connection, consumables.ListConsumableResources)
        self.update_consumable_resource = Call(connection, consumables.UpdateConsumableResource)
        self.delete_consumable_resource = Call(connection, consumables.DeleteConsumableResource)

        environments = ComputeEnvironmentServiceStub(channel)
        self.create_compute_environment = Call(connection, environments.CreateComputeEnvironment)
        self.describe_compute_environments = Call(connection, environments.DescribeComputeEnvironments)
        self.list_compute_environments = Call(connection, environments.ListComputeEnvironments)
        self.list_environment_hosts = Call(connection, environments.ListEnvironmentHosts)
        self.update_compute_environment = Call(connection, environments.UpdateComputeEnvironment)
        self.delete_compute_environment = Call(connection, environments.DeleteComputeEnvironment)

        definitions = JobDefinitionServiceStub(channel)
        self.register_job_definition = Call(connection, definitions.RegisterJobDefinition)
        self.describe_job_definitions = Call(connection, definitions.DescribeJobDefinitions)
        self.list_job_definitions = Call(connection, definitions.ListJobDefinitions)
        self.deregister_job_definition = Call(connection, definitions.DeregisterJobDefinition)

        join_tokens = JoinTokenServiceStub(channel)
        self.create_join_token = Call(connection, join_tokens.CreateJoinToken)
        self.list_join_tokens = Call(connection, join_tokens.ListJoinTokens)
        self.revoke_join_token = Call(connection, join_tokens.RevokeJoinToken)

        hosts = HostServiceStub(channel)
        self.list_hosts = Call(connection, hosts.ListHosts)
        self.summarize_hosts = Call(connection, hosts.SummarizeHosts)
        self.describe_host = Call(connection, hosts.DescribeHost)
        self.cordon_host = Call(connection, hosts.CordonHost)
        self.drain_host = Call(connection, hosts.DrainHost)
        self.reclaim_host = Call(connection, hosts.ReclaimHost)
        self.approve_host = Call(connection, hosts.ApproveHost)
        self.remove_host = Call(connection, hosts.RemoveHost)
        self.release_brake = Call(connection, hosts.ReleaseBrake)
        self.describe_restore = Call(connection, hosts.DescribeRestore)
        self.stop_stray = Call(connection, hosts.StopStray)

        self.search = Call(connection, SearchServiceStub(channel).Search)

        self.sum_usage = Call(connection, UsageServiceStub(channel).SumUsage)

        self.list_events = Call(connection, EventServiceStub(channel).ListEvents)
        sinks = SinkServiceStub(channel)
        self.create_sink = Call(connection, sinks.CreateSink)
        self.list_sinks = Call(connection, sinks.ListSinks)
        self.update_sink = Call(connection, sinks.UpdateSink)
        self.delete_sink = Call(connection, sinks.DeleteSink)
        self.pull_events = Call(connection, sinks.PullEvents)

        tags = TagServiceStub(channel)
        self.tag_resource = Call(connection, tags.TagResource)
        self.untag_resource = Call(connection, tags.UntagResource)
        self.list_tags = Call(connection, tags.ListTags)

        secrets = SecretServiceStub(channel)
        self.put_secret = Call(connection, secrets.PutSecret)
        self.list_secrets = Call(connection, secrets.ListSecrets)
        self.delete_secret = Call(connection, secrets.DeleteSecret)
        self.rekey_secrets = Call(connection, secrets.RekeySecrets)

        access_keys = AccessKeyServiceStub(channel)
        self.create_access_key = Call(connection, access_keys.CreateAccessKey)
        self.list_access_keys = Call(connection, access_keys.ListAccessKeys)
        self.rotate_access_key = Call(connection, access_keys.RotateAccessKey)
        self.revoke_access_key = Call(connection, access_keys.RevokeAccessKey)
        self.derive_signing_key = Call(connection, access_keys.DeriveSigningKey)
        self.note_signature = Call(connection, access_keys.NoteSignature)

        access = AccessServiceStub(channel)
        self.get_login = Call(connection, access.GetLogin)
        self.who_am_i = Call(connection, access.WhoAmI)
        self.bind_role = Call(connection, access.BindRole)
        self.unbind_role = Call(connection, access.UnbindRole)
        self.list_bindings = Call(connection, access.ListBindings)
        self.create_token = Call(connection, access.CreateToken)
        self.list_tokens = Call(connection, access.ListTokens)
        self.revoke_token = Call(connection, access.RevokeToken)
        self.get_audit_head = Call(connection, access.GetAuditHead)

    def submit_jobs(
        self, requests: AsyncGenerator[job_pb2.SubmitJobsRequest, None]
    ) -> AsyncGenerator[job_pb2.SubmitJobsResponse, None]:
        """Yield one answer for each request, as :meth:`Connection.exchange` does."""
        return self._connection.exchange(self._jobs.SubmitJobs, requests)

    def watch_jobs(self, request: job_pb2.WatchJobsRequest) -> AsyncGenerator[job_pb2.WatchJobsResponse, None]:
        """Yield changes as :meth:`Connection.stream` does: whoever reads them moves *request*'s cursor on."""
        return self._connection.stream(self._jobs.WatchJobs, request)

    async def enter_job(
        self, request: job_pb2.EnterJobRequest
    ) -> tuple[Dialogue[job_pb2.EnterJobRequest, job_pb2.EnterJobResponse], job_pb2.EnterJobResponse]:
        """Open a stream both ways, as :meth:`Connection.dialogue` does."""
        return await self._connection.dialogue(self._jobs.EnterJob, request)

    def read_logs(
        self, request: job_pb2.ReadLogsRequest, *, resume: bool = True
    ) -> AsyncGenerator[job_pb2.ReadLogsResponse, None]:
        """
        Yield pieces of a log.

        Args:
            request: What to read. Whoever reads moves its offset on.
            resume: Go on after a break, as :meth:`Connection.stream` does; otherwise
                read once, within the client's ``timeout_s``.
        """
        read = self._connection.stream if resume else self._connection.messages
        return read(self._jobs.ReadLogs, request)


class Caller:
    """Whatever calls a controller over a connection of its own."""

    _connection: Connection

    @cached_property
    def calls(self) -> Calls:
        """The contract's own calls, for programs that translate to it, such as the gateway."""
        return Calls(self._connection)
