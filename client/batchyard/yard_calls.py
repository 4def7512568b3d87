"""
Calls about the yard: compute environments, job queues, job definitions, hosts.

Thin: arguments are checked, one request is sent, its answer returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2 as host_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import security_pb2 as security_pb


class YardCalls(Caller):
    """The part of the client that is about everything but jobs."""

    async def create_compute_environment(
        self,
        name: str,
        *,
        kind: str = "MANAGED",
        state: str = "ENABLED",
        compute_resources: environment_pb.ComputeResources | None = None,
        unmanaged_vcpus: int = 0,
        service_role: str = "",
        tags: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        kubernetes: environment_pb.KubernetesCluster | None = None,
    ) -> environment_pb.ComputeEnvironment:
        """
        Create a compute environment.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            kind: ``MANAGED`` or ``UNMANAGED``.
            state: ``ENABLED`` or ``DISABLED``.
            compute_resources: Which hosts it selects, and its bounds in vCPUs.
            unmanaged_vcpus: vCPUs of an unmanaged one, for fair share.
            service_role: Kept for AWS's sake.
            tags: Its tags.
            annotations: Kept and given back, never interpreted.
            kubernetes: Cluster and namespace: its hosts are the nodes of that cluster.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        request = arguments.request(
            environment_pb.CreateComputeEnvironmentRequest,
            kubernetes=kubernetes,
            name=name,
            type=_environment_type("type", kind),
            state=_resource_state(state),
            compute_resources=compute_resources,
            unmanaged_vcpus=unmanaged_vcpus,
            service_role=service_role,
            tags=tags,
            annotations=annotations,
        )
        answer = await self.calls.create_compute_environment(request)
        return answer.compute_environment

    async def describe_compute_environments(self, names: Sequence[str]) -> list[environment_pb.ComputeEnvironment]:
        """Describe compute environments; unknown names are left out."""
        request = environment_pb.DescribeComputeEnvironmentsRequest(names=arguments.texts("names", names))
        answer = await self.calls.describe_compute_environments(request)
        return list(answer.compute_environments)

    async def list_compute_environments(
        self, *, page_size: int = 100
    ) -> AsyncGenerator[environment_pb.ComputeEnvironment, None]:
        """Iterate over compute environments in name order."""
        request = environment_pb.ListComputeEnvironmentsRequest(
            page_size=arguments.integer("page_size", page_size, bits=32)
        )
        while True:
            page = await self.calls.list_compute_environments(request)
            for environment in page.compute_environments:
                yield environment
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_compute_environment(
        self,
        name: str,
        *,
        state: str | None = None,
        compute_resources: environment_pb.ComputeResources | None = None,
        unmanaged_vcpus: int | None = None,
        service_role: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> environment_pb.ComputeEnvironment:
        """
        Change what is not None; *compute_resources* is replaced as a whole.

        *annotations* are merged by key; an empty value removes its key.
        """
        request = arguments.request(
            environment_pb.UpdateComputeEnvironmentRequest,
            name=name,
            state=_resource_state(state) if state else environment_pb.RESOURCE_STATE_UNSPECIFIED,
            compute_resources=compute_resources,
            unmanaged_vcpus=unmanaged_vcpus,
            service_role=service_role,
            annotations=annotations,
        )
        answer = await self.calls.update_compute_environment(request)
        return answer.compute_environment

    async def delete_compute_environment(self, name: str) -> None:
        """Delete a DISABLED compute environment that no queue uses."""
        request = environment_pb.DeleteComputeEnvironmentRequest(name=arguments.text("name", name))
        await self.calls.delete_compute_environment(request)

    async def create_job_queue(
        self,
        name: str,
        *,
        priority: int = 1,
        compute_environments: Sequence[str] = ("default",),
        state: str = "ENABLED",
        scheduling_policy: str = "",
        time_limits: Mapping[str, int] | None = None,
        max_running: int = 0,
        max_vcpus: int = 0,
        dispatch_order: str = "DUE_TIME",
        max_overtake_s: int = 0,
        preemption: str = "NEVER",
        preemptible: bool = False,
        security_level: str = "PRIVILEGED",
        fence_s: int = 0,
        tags: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> queue_pb.JobQueue:
        """
        Create a job queue.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            priority: Higher is served first.
            compute_environments: One to three, the first is tried first.
            state: ``ENABLED`` or ``DISABLED``.
            scheduling_policy: How its shares take turns; empty is first in, first out, for ever.
            time_limits: Seconds, 600 to 86400, after which a job that cannot be placed and
                stands first in line is cancelled, by reason, such as
                ``MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT``.
            max_running: Most jobs and children that run at once; 0 is no bound.
            max_vcpus: Most vCPUs that these have at once; 0 is no bound.
            dispatch_order: How equals go: ``DUE_TIME``, short ones sooner; ``SUBMISSION_TIME``;
                or ``STRICT``, where nobody passes one that cannot start yet.
            max_overtake_s: By due times: nobody submitted so many seconds later goes first; 0 is
                five times the timeout of a job, or seven days if it has none.
            preemption: Whom it has stopped when a job of it lacks room: ``NEVER`` anybody, or
                ``LOWER_PRIORITY``, jobs of preemptible queues of lower priority (and of its own share, if it
                is preemptible itself, jobs of lower scheduling priority).
            preemptible: Whether its own jobs may be stopped so; they run again.
            security_level: What its jobs are kept to on their hosts: ``PRIVILEGED``, what the host's operator
                allows; ``BASELINE``, no privileged containers, devices or host network, and a network of the
                queue's own; or ``RESTRICTED``, never root and no capabilities besides.
            fence_s: Seconds that a host may be out of touch before what it runs of this queue is ended there and
                tried elsewhere, unless the job says otherwise: 30 to 86,400; -1 is never, 0 the controller's.
            tags: Its tags.
            annotations: Kept and given back, never interpreted.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        request = arguments.request(
            queue_pb.CreateJobQueueRequest,
            name=name,
            priority=priority,
            compute_environment_order=_order(compute_environments),
            state=_resource_state(state),
            scheduling_policy=scheduling_policy,
            job_state_time_limit_actions=_time_limits({} if time_limits is None else time_limits),
            max_running=max_running,
            max_vcpus=max_vcpus,
            dispatch_order=_dispatch_order(dispatch_order),
            max_overtake_s=max_overtake_s,
            preemption=_preemption(preemption),
            preemptible=preemptible,
            security_level=_security_level(security_level),
            fence_s=fence_s,
            tags=tags,
            annotations=annotations,
        )
        return (await self.calls.create_job_queue(request)).job_queue

    async def describe_job_queues(self, names: Sequence[str]) -> list[queue_pb.JobQueue]:
        """Describe job queues; unknown names are left out."""
        request = queue_pb.DescribeJobQueuesRequest(names=arguments.texts("names", names))
        return list((await self.calls.describe_job_queues(request)).job_queues)

    async def get_job_queue_snapshot(self, name: str) -> queue_pb.GetJobQueueSnapshotResponse:
        """
        Tell who is served first in a queue, up to 100, and what its jobs and shares hold.

        Since when each has had its place is known from the first such call on; a queue that
        nobody asks about for ten minutes is forgotten.

        Raises:
            NotFoundError: there is no such queue.
        """
        request = queue_pb.GetJobQueueSnapshotRequest(name=arguments.text("name", name))
        return await self.calls.get_job_queue_snapshot(request)

    async def list_job_queues(self, *, page_size: int = 100) -> AsyncGenerator[queue_pb.JobQueue, None]:
        """Iterate over job queues in name order."""
        request = queue_pb.ListJobQueuesRequest(page_size=arguments.integer("page_size", page_size, bits=32))
        while True:
            page = await self.calls.list_job_queues(request)
            for queue in page.job_queues:
                yield queue
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_job_queue(
        self,
        name: str,
        *,
        state: str | None = None,
        priority: int | None = None,
        compute_environments: Sequence[str] = (),
        scheduling_policy: str | None = None,
        time_limits: Mapping[str, int] | None = None,
        max_running: int | None = None,
        max_vcpus: int | None = None,
        dispatch_order: str | None = None,
        max_overtake_s: int | None = None,
        preemption: str | None = None,
        preemptible: bool | None = None,
        security_level: str | None = None,
        fence_s: int | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> queue_pb.JobQueue:
        """
        Change what is not None; *compute_environments* is replaced as a whole when not empty.

        *time_limits* are replaced as a whole, too; an empty mapping removes them. A
        *scheduling_policy* can be put in the place of another only. Lowering *max_running* or
        *max_vcpus* stops nothing that runs. A *security_level* holds of all that starts from then
        on, of what waits too; so does *fence_s*, of which 0 is the controller's.

        *annotations* are merged by key; an empty value removes its key.
        """
        request = arguments.request(
            queue_pb.UpdateJobQueueRequest,
            name=name,
            state=_resource_state(state) if state else environment_pb.RESOURCE_STATE_UNSPECIFIED,
            priority=priority,
            compute_environment_order=_order(compute_environments),
            scheduling_policy=scheduling_policy,
            job_state_time_limit_actions=None
            if time_limits is None
            else queue_pb.JobStateTimeLimitActions(actions=_time_limits(time_limits)),
            max_running=max_running,
            max_vcpus=max_vcpus,
            dispatch_order=_dispatch_order(dispatch_order) if dispatch_order else queue_pb.DISPATCH_ORDER_UNSPECIFIED,
            max_overtake_s=max_overtake_s,
            preemption=_preemption(preemption) if preemption else queue_pb.PREEMPTION_UNSPECIFIED,
            preemptible=preemptible,
            security_level=_security_level(security_level)
            if security_level
            else security_pb.SECURITY_LEVEL_UNSPECIFIED,
            fence_s=fence_s,
            annotations=annotations,
        )
        return (await self.calls.update_job_queue(request)).job_queue

    async def delete_job_queue(self, name: str) -> None:
        """Delete a DISABLED job queue; jobs left in it end FAILED."""
        request = queue_pb.DeleteJobQueueRequest(name=arguments.text("name", name))
        await self.calls.delete_job_queue(request)

    async def register_job_definition(
        self,
        name: str,
        *,
        container: definition_pb.ContainerProperties | None = None,
        task: definition_pb.TaskProperties | None = None,
        nodes: definition_pb.NodeProperties | None = None,
        parameters: Mapping[str, str] | None = None,
        attempts: int | None = None,
        infrastructure_retries: int | None = None,
        spot_attempts: int | None = None,
        preemption_retries: int | None = None,
        evaluate_on_exit: Sequence[definition_pb.EvaluateOnExit] = (),
        timeout_s: int = 0,
        fence_s: int = 0,
        scheduling_priority: int | None = None,
        consumables: Mapping[str, int] | None = None,
        propagate_tags: bool = False,
        tags: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> definition_pb.JobDefinition:
        """
        Register the next revision of a job definition.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            container: What to run; see :func:`batchyard.container`.
            task: Several containers, or a pod (see :func:`batchyard.pod`), in its place.
            nodes: The nodes of multi-node jobs, in its place; see :func:`batchyard.nodes`.
            parameters: Defaults for ``Ref::name`` placeholders of the command.
            attempts: Tries, not retries. None is 1.
            infrastructure_retries: Tries that their host failed, and that do not count, at most; None is 5.
            spot_attempts: Tries that were reclaimed with their host, after which jobs go to on-demand hosts
                alone, if their queue has an environment of them; None is never.
            preemption_retries: How often jobs run again that were preempted, 0 to 50, which counts as no
                try; None, or -1, is always.
            evaluate_on_exit: Rules that say when to try again; they need *attempts*.
            timeout_s: Seconds an attempt may run; 0 is no limit.
            fence_s: Seconds that a host may be out of touch before attempts of jobs are ended there and tried
                elsewhere: 30 to 86,400; -1 is never, 0 the queue's.
            scheduling_priority: Order within a fair share.
            consumables: What each job or child holds of consumable resources, by name.
            propagate_tags: Whether its tags, with the job's, label the containers of its jobs.
            tags: Its tags.
            annotations: Kept and given back, never interpreted.
        """
        request = arguments.request(
            definition_pb.RegisterJobDefinitionRequest,
            name=name,
            type=definition_pb.JOB_DEFINITION_TYPE_CONTAINER
            if nodes is None
            else definition_pb.JOB_DEFINITION_TYPE_MULTINODE,
            container=container
            if task is not None or nodes is not None
            else arguments.message("container", container, definition_pb.ContainerProperties),
            task=task,
            nodes=nodes,
            parameters=parameters,
            retry_strategy=arguments.retry_strategy(
                attempts, evaluate_on_exit, infrastructure_retries, spot_attempts, preemption_retries
            ),
            timeout_s=timeout_s,
            fence_s=fence_s,
            scheduling_priority=scheduling_priority,
            consumables=consumables,
            propagate_tags=propagate_tags,
            tags=tags,
            annotations=annotations,
        )
        answer = await self.calls.register_job_definition(request)
        return answer.job_definition

    async def describe_job_definitions(self, job_definitions: Sequence[str]) -> list[definition_pb.JobDefinition]:
        """Describe definitions by ``name`` (all revisions) or ``name:revision``; unknown ones are left out."""
        request = definition_pb.DescribeJobDefinitionsRequest(
            job_definitions=arguments.texts("job_definitions", job_definitions)
        )
        answer = await self.calls.describe_job_definitions(request)
        return list(answer.job_definitions)

    async def list_job_definitions(
        self, *, name: str = "", status: str = "", page_size: int = 100
    ) -> AsyncGenerator[definition_pb.JobDefinition, None]:
        """Iterate over definitions in name order, newest revision first; *status* is ``ACTIVE`` or ``INACTIVE``."""
        request = definition_pb.ListJobDefinitionsRequest(
            name=arguments.text("name", name),
            status=_definition_status(status) if status else definition_pb.JOB_DEFINITION_STATUS_UNSPECIFIED,
            page_size=arguments.integer("page_size", page_size, bits=32),
        )
        while True:
            page = await self.calls.list_job_definitions(request)
            for definition in page.job_definitions:
                yield definition
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def deregister_job_definition(self, job_definition: str) -> None:
        """Make one revision (``name:revision``) INACTIVE; jobs submitted from it go on."""
        request = definition_pb.DeregisterJobDefinitionRequest(
            job_definition=arguments.text("job_definition", job_definition)
        )
        await self.calls.deregister_job_definition(request)

    async def list_hosts(self, *, page_size: int = 100) -> AsyncGenerator[host_pb.Host, None]:
        """Iterate over hosts in name order."""
        request = host_pb.ListHostsRequest(page_size=arguments.integer("page_size", page_size, bits=32))
        while True:
            page = await self.calls.list_hosts(request)
            for host in page.hosts:
                yield host
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def describe_host(self, host: str) -> host_pb.DescribeHostResponse:
        """
        Describe a host, by id, the beginning of one or name, and the attempts on it.

        Raises:
            NotFoundError: no such host.
        """
        request = host_pb.DescribeHostRequest(host=arguments.text("host", host))
        return await self.calls.describe_host(request)

    async def cordon_host(self, host: str) -> host_pb.Host:
        """Give a host no new work; what runs goes on."""
        request = host_pb.CordonHostRequest(host=arguments.text("host", host))
        return (await self.calls.cordon_host(request)).host

    async def uncordon_host(self, host: str) -> host_pb.Host:
        """Give a cordoned or drained host work again."""
        request = host_pb.CordonHostRequest(host=arguments.text("host", host), undo=True)
        return (await self.calls.cordon_host(request)).host

    async def drain_host(self, host: str) -> host_pb.Host:
        """Cordon a host; it counts as drained when its last attempt has ended."""
        request = host_pb.DrainHostRequest(host=arguments.text("host", host))
        return (await self.calls.drain_host(request)).host

    async def reclaim_host(self, host: str, *, delay_s: int = 0) -> host_pb.Host:
        """
        Announce that a host is taken away: no new work, and what still runs then ends and may be tried elsewhere.

        Args:
            host: Its id, the beginning of one, or its name.
            delay_s: Seconds until then, at most a day.

        Raises:
            NotFoundError: no such host.
        """
        request = host_pb.ReclaimHostRequest(
            host=arguments.text("host", host), delay_s=arguments.integer("delay_s", delay_s)
        )
        return (await self.calls.reclaim_host(request)).host

    async def keep_host(self, host: str) -> host_pb.Host:
        """Take back that a host is reclaimed; what the host itself announces stays."""
        request = host_pb.ReclaimHostRequest(host=arguments.text("host", host), undo=True)
        return (await self.calls.reclaim_host(request)).host

    async def approve_host(self, host: str) -> host_pb.ApproveHostResponse:
        """
        Let count what a host says of itself and has to be approved, if anything: other labels, another type, far more.

        Args:
            host: Its id, the beginning of one, or its name.

        Returns:
            ``approved`` says what that was.

        Raises:
            NotFoundError: no such host.
        """
        request = host_pb.ApproveHostRequest(host=arguments.text("host", host))
        return await self.calls.approve_host(request)

    async def release_brake(self) -> int:
        """
        Say that the hosts that fell silent together are gone: what they ran is given up by their fences.

        Returns:
            How many hosts are waited for no longer.

        Raises:
            FailedPreconditionError: none is waited for.
        """
        return (await self.calls.release_brake(host_pb.ReleaseBrakeRequest())).hosts

    async def remove_host(self, host: str, *, force: bool = False) -> None:
        """
        Forget a host; one that has joined is shut out at once, and needs a new join token to come back.

        Args:
            host: Its id, the beginning of one, or its name; of two of one name the one that is not connected is meant.
            force: Also one on which attempts count as running: they are lost at once,
                and may run elsewhere. Only for a host that is switched off.

        Raises:
            NotFoundError: no such host.
            InvalidArgumentError: several are meant.
            FailedPreconditionError: it is connected and has not joined, or attempts count as running on it.
        """
        request = host_pb.RemoveHostRequest(host=arguments.text("host", host), force=arguments.flag("force", force))
        await self.calls.remove_host(request)

    async def describe_restore(self) -> host_pb.DescribeRestoreResponse:
        """Tell what came of the last time that the store was put back from a backup."""
        return await self.calls.describe_restore(host_pb.DescribeRestoreRequest())

    async def stop_stray(self, attempt_id: str) -> None:
        """
        Stop an attempt that a host keeps and that the store does not know since it was put back from a backup.

        Raises:
            NotFoundError: there is no such attempt.
        """
        await self.calls.stop_stray(host_pb.StopStrayRequest(attempt_id=arguments.text("attempt_id", attempt_id)))


def _environment_type(field: str, text: str) -> environment_pb.ComputeEnvironmentType.ValueType:
    kind = environment_pb.ComputeEnvironmentType
    return kind.ValueType(wording.number(kind, field, text))


def _dispatch_order(text: str) -> queue_pb.DispatchOrder.ValueType:
    kind = queue_pb.DispatchOrder
    return kind.ValueType(wording.number(kind, "dispatch_order", text))


def _preemption(text: str) -> queue_pb.Preemption.ValueType:
    kind = queue_pb.Preemption
    return kind.ValueType(wording.number(kind, "preemption", text))


def _security_level(text: str) -> security_pb.SecurityLevel.ValueType:
    kind = security_pb.SecurityLevel
    return kind.ValueType(wording.number(kind, "security_level", text))


def _resource_state(text: str) -> environment_pb.ResourceState.ValueType:
    kind = environment_pb.ResourceState
    return kind.ValueType(wording.number(kind, "state", text))


def _definition_status(text: str) -> definition_pb.JobDefinitionStatus.ValueType:
    kind = definition_pb.JobDefinitionStatus
    return kind.ValueType(wording.number(kind, "status", text))


def _time_limits(limits: Mapping[str, int]) -> list[queue_pb.JobStateTimeLimitAction]:
    return [
        queue_pb.JobStateTimeLimitAction(reason=reason, state="RUNNABLE", max_time_s=max_time_s, action="CANCEL")
        for reason, max_time_s in arguments.integer_map("time_limits", limits, bits=32).items()
    ]


def _order(names: Sequence[str]) -> list[queue_pb.ComputeEnvironmentOrder]:
    return [
        queue_pb.ComputeEnvironmentOrder(order=i, compute_environment=name)
        for i, name in enumerate(arguments.texts("compute_environments", names), start=1)
    ]
