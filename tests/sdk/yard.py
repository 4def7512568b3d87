"""
A small controller in memory, over a real gRPC server, for tests of the SDK and the CLI.

It keeps the contract as far as the client can see it; tests move its jobs by hand.
It schedules nothing. It serves with threads, so that the client under test has the
process's only event loop. Everything happens under one lock: tests use ``Yard.do``.
"""

# ruff: noqa: N802  # methods are named by the contract

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import code_pb2, error_details_pb2, status_pb2

from batchyard import ids
from batchyard.v1 import access_key_pb2 as key_pb
from batchyard.v1 import access_key_pb2_grpc as key_grpc
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import compute_environment_pb2_grpc as environment_grpc
from batchyard.v1 import host_pb2 as host_pb
from batchyard.v1 import host_pb2_grpc as host_grpc
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_definition_pb2_grpc as definition_grpc
from batchyard.v1 import job_pb2 as pb
from batchyard.v1 import job_pb2_grpc as job_grpc
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import job_queue_pb2_grpc as queue_grpc
from batchyard.v1 import secret_pb2 as secret_pb
from batchyard.v1 import secret_pb2_grpc as secret_grpc
from batchyard.v1 import tag_pb2 as tag_pb
from batchyard.v1 import tag_pb2_grpc as tag_grpc
from batchyard.v1.resources_pb2 import Resources

Context = grpc.ServicerContext

FINAL = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED)


def refuse(context: Context, code: grpc.StatusCode, message: str, **violations: str) -> NoReturn:
    """End a call as the controller does, each violation in a detail of google.rpc."""
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in violations.items()
        ]
    )
    info = error_details_pb2.ErrorInfo(reason=code.name, domain="batchyard", metadata={"limit": "128"})
    details = []
    for detail in [bad, info] if violations else [info]:
        packed = Packed()
        packed.Pack(detail)
        details.append(packed)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message, details=details)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


class World:
    """What the yard holds; touched in its own thread only."""

    def __init__(self) -> None:
        self.jobs: dict[str, pb.Job] = {}
        self.requests: dict[str, str] = {}
        self.submits: list[pb.SubmitJobRequest] = []
        self.events: list[pb.JobEvent] = []
        self.changed = threading.Condition()
        self.logs: dict[tuple[str, int], bytes] = {}
        self.queues: dict[str, queue_pb.JobQueue] = {}
        self.environments: dict[str, environment_pb.ComputeEnvironment] = {}
        self.definitions: list[definition_pb.JobDefinition] = []
        self.hosts: dict[str, host_pb.Host] = {}
        self.secrets: dict[str, str] = {}
        self.access_keys: dict[str, key_pb.AccessKey] = {}
        self.tags: dict[tuple[str, str], dict[str, str]] = {}
        """By kind and name of the resource."""
        self.failures: dict[str, list[grpc.StatusCode]] = {}
        """Codes with which the next calls of a method end; a submit is carried out first."""
        self.watches: list[pb.WatchJobsRequest] = []
        self.log_reads: list[pb.ReadLogsRequest] = []
        self.stopped: list[tuple[str, str, str]] = []
        self.break_after_events = 0
        """Watch streams break with UNAVAILABLE after so many further changes, once."""
        self.break_after_bytes = 0
        """Log streams break with UNAVAILABLE after so many bytes, once."""
        self.delay_s = 0.0
        self.released = threading.Event()
        """Set at the end, for calls that are delayed."""

    def fail(self, method: str, context: Context) -> None:
        """End the call if a failure is planned for this method."""
        self.released.wait(self.delay_s)
        if self.failures.get(method):
            refuse(context, self.failures[method].pop(0), f"{method} fails as planned")

    def wait(self, context: Context) -> bool:
        """Wait for a change, or a little; say whether the client of the stream is still there."""
        self.changed.wait(0.05)
        return bool(context.is_active())

    def add_queue(self, name: str = "default", **fields: Any) -> None:
        filled: dict[str, Any] = {
            "state": environment_pb.RESOURCE_STATE_ENABLED,
            "status": environment_pb.RESOURCE_STATUS_VALID,
        } | fields
        self.queues[name] = queue_pb.JobQueue(name=name, **filled)

    def add_host(self, name: str, **fields: Any) -> None:
        facts = host_pb.HostFacts(
            name=name,
            capacity=Resources(cpu_millis=4000, memory_mib=8192, disk_mib=102400),
            runtimes=["docker", "process"],
            host_type="workstation",
            purchase_option="on-demand",
        )
        filled: dict[str, Any] = {"state": host_pb.HOST_STATE_READY, "last_heard_at_ms": now_ms() - 100} | fields
        self.hosts[name] = host_pb.Host(id=f"id-of-{name}", facts=facts, **filled)

    def add_job(self, **fields: Any) -> str:
        job_id = ids.uuid7(1_700_000_000_000 + len(self.jobs), bytes(10))
        filled: dict[str, Any] = {
            "queue": "default",
            "name": "hello",
            "created_at_ms": now_ms(),
            "state": pb.JOB_STATE_RUNNABLE,
        } | fields
        self.jobs[job_id] = pb.Job(id=job_id, **filled)
        size = self.jobs[job_id].array.size
        if size:
            self.jobs[job_id].array.status_summary["RUNNABLE"] = size
            for index in range(size):
                child = ids.child_id(job_id, index)
                self.jobs[child] = pb.Job(id=child, **filled)
                self.jobs[child].array.Clear()
                self.jobs[child].array.index = index
        return job_id

    def move(
        self, job_id: str, state: str, *, host: str = "alpha", exit_code: int | None = None, reason: str = ""
    ) -> None:
        """Move a job to a state, with the attempts that go with it."""
        job = self.jobs[job_id]
        before, job.state = job.state, pb.JobState.Value(f"JOB_STATE_{state}")
        job.status_reason = reason
        if state == "STARTING":
            job.attempts.add(id=f"{job_id}#{len(job.attempts) + 1}", number=len(job.attempts) + 1, host_name=host)
        if state == "RUNNING":
            job.started_at_ms = job.attempts[-1].started_at_ms = now_ms()
        if state in {"SUCCEEDED", "FAILED", "RUNNABLE"} and job.attempts:
            job.stopped_at_ms = job.attempts[-1].stopped_at_ms = now_ms()
            if exit_code is not None:
                job.exit_code = job.attempts[-1].exit_code = exit_code
        if job.attempts:
            job.attempts[-1].state = job.state
        parent, index = ids.split_job_id(job_id)
        if index is not None:
            summary = self.jobs[parent].array.status_summary
            summary[pb.JobState.Name(before).removeprefix("JOB_STATE_")] -= 1
            summary[state] += 1
        self.events.append(pb.JobEvent(job=summarise(job), previous_state=before, at_ms=now_ms()))
        self.changed.notify_all()

    def run(self, job_id: str, exit_code: int = 0, log: bytes = b"") -> None:
        """Take a job through a whole attempt."""
        for state in ("STARTING", "RUNNING"):
            self.move(job_id, state)
        self.logs[job_id, len(self.jobs[job_id].attempts)] = log
        self.move(job_id, "SUCCEEDED" if exit_code == 0 else "FAILED", exit_code=exit_code)


def summarise(job: pb.Job) -> pb.JobSummary:
    return pb.JobSummary(
        id=job.id,
        name=job.name,
        queue=job.queue,
        state=job.state,
        status_reason=job.status_reason,
        created_at_ms=job.created_at_ms,
        started_at_ms=job.started_at_ms,
        stopped_at_ms=job.stopped_at_ms,
        exit_code=job.exit_code if job.HasField("exit_code") else None,
        array=job.array,
        attempts=len(job.attempts),
        host_name=job.attempts[-1].host_name if job.attempts else "",
    )


class Jobs(job_grpc.JobServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def SubmitJob(self, request: pb.SubmitJobRequest, context: Context) -> pb.SubmitJobResponse:
        world = self.world
        world.submits.append(request)
        if not ids.is_job_name(request.name):
            wrong = {"name": f"must be up to 128 letters, not {request.name!r}"}
            if not request.container.command:
                wrong["container.command"] = "must not be empty"
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "; ".join(map(": ".join, wrong.items())), **wrong)
        if request.queue not in world.queues:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no such queue: {request.queue}")
        if world.queues[request.queue].state == environment_pb.RESOURCE_STATE_DISABLED:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, f"queue {request.queue} is DISABLED")
        with world.changed:
            if request.request_id not in world.requests:
                fields: dict[str, Any] = {"name": request.name, "queue": request.queue, "container": request.container}
                if request.array_size:
                    fields["array"] = pb.ArrayProperties(size=request.array_size)
                world.requests[request.request_id] = world.add_job(**fields)
        world.fail("SubmitJob", context)
        return pb.SubmitJobResponse(job_id=world.requests[request.request_id], name=request.name)

    def SubmitJobs(self, requests: Iterator[pb.SubmitJobsRequest], context: Context) -> Iterator[pb.SubmitJobsResponse]:
        for request in requests:
            results = [self.result(job, context) for job in request.jobs]
            self.world.fail("SubmitJobs", context)
            yield pb.SubmitJobsResponse(results=results)

    def result(self, job: pb.SubmitJobRequest, context: Context) -> pb.SubmitResult:
        if job.queue in self.world.queues:
            return pb.SubmitResult(request_id=job.request_id, job=self.SubmitJob(job, context))
        refusal = pb.SubmitRefusal(code="NotFound", message=f"no such queue: {job.queue}")
        return pb.SubmitResult(request_id=job.request_id, refusal=refusal)

    def DescribeJobs(self, request: pb.DescribeJobsRequest, context: Context) -> pb.DescribeJobsResponse:
        self.world.fail("DescribeJobs", context)
        found = [self.world.jobs[i] for i in reversed(request.job_ids) if i in self.world.jobs]
        return pb.DescribeJobsResponse(jobs=found)

    def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        self.world.fail("ListJobs", context)
        rows = [
            summarise(job)
            for job in reversed(self.world.jobs.values())
            if (job.id.startswith(f"{request.array_job_id}:") if request.array_job_id else ":" not in job.id)
            and request.queue in {"", job.queue}
            and request.name in {"", job.name}
            and request.job_definition in {"", job.job_definition}
            and request.share_identifier in {"", job.share_identifier}
            and request.created_after_ms < job.created_at_ms
            and (not request.created_before_ms or job.created_at_ms < request.created_before_ms)
            and (not request.states or job.state in request.states)
        ]
        start, size = int(request.page_token or 0), request.page_size or 100
        more = str(start + size) if len(rows) > start + size else ""
        return pb.ListJobsResponse(jobs=rows[start : start + size], next_page_token=more)

    def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        self.known(request.job_id, context)
        self.world.stopped.append(("cancel", request.job_id, request.reason))
        return pb.CancelJobResponse()

    def TerminateJob(self, request: pb.TerminateJobRequest, context: Context) -> pb.TerminateJobResponse:
        self.known(request.job_id, context)
        self.world.stopped.append(("terminate", request.job_id, request.reason))
        return pb.TerminateJobResponse()

    def WatchJobs(self, request: pb.WatchJobsRequest, context: Context) -> Iterator[pb.WatchJobsResponse]:
        world = self.world
        world.watches.append(request)
        world.fail("WatchJobs", context)
        seen = int(request.cursor) if request.cursor else len(world.events)
        if not request.cursor:
            present = [pb.JobEvent(job=summarise(world.jobs[i])) for i in request.job_ids if i in world.jobs]
            yield pb.WatchJobsResponse(events=present, cursor=str(seen), snapshot=True)
        while True:
            with world.changed:
                while len(world.events) <= seen:
                    if not world.wait(context):
                        return
            event = world.events[seen]
            seen += 1
            if not request.job_ids or {event.job.id, ids.split_job_id(event.job.id)[0]} & set(request.job_ids):
                yield pb.WatchJobsResponse(events=[event], cursor=str(seen))
            if world.break_after_events:
                world.break_after_events -= 1
                if not world.break_after_events:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "broken as planned")

    def ReadLogs(self, request: pb.ReadLogsRequest, context: Context) -> Iterator[pb.ReadLogsResponse]:
        world = self.world
        world.log_reads.append(request)
        job = world.jobs[self.known(request.job_id, context)]
        number = request.attempt or len(job.attempts)
        if (job.id, number) not in world.logs:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"{job.id} has no log of attempt {number}")
        offset = min(request.offset, len(world.logs[job.id, number]))
        if request.HasField("tail_lines"):
            lines = world.logs[job.id, number].splitlines(keepends=True)
            offset = sum(map(len, lines[: len(lines) - request.tail_lines]))
        while True:
            data = world.logs[job.id, number][offset : offset + 8]
            offset += len(data)
            if data or not request.follow:
                yield pb.ReadLogsResponse(data=data, next_offset=offset)
            if world.break_after_bytes and offset >= world.break_after_bytes:
                world.break_after_bytes = 0
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken as planned")
            if not data:
                if not request.follow or job.attempts[number - 1].stopped_at_ms:
                    return
                with world.changed:
                    if not world.wait(context):
                        return

    def ExplainJob(self, request: pb.ExplainJobRequest, context: Context) -> pb.ExplainJobResponse:
        job = self.world.jobs[self.known(request.job_id, context)]
        refusal = pb.Refusal(
            kind="memory_mib", asked=65536, free=6144, largest_free=4096, largest_capacity=8192, message="asks too much"
        )
        return pb.ExplainJobResponse(
            job_id=job.id, state=job.state, summary="No host is large enough.", refusals=[refusal], position=3
        )

    def known(self, job_id: str, context: Context) -> str:
        if job_id not in self.world.jobs:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no such job: {job_id}")
        return job_id


class Queues(queue_grpc.JobQueueServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def CreateJobQueue(self, request: Any, context: Context) -> queue_pb.CreateJobQueueResponse:
        if request.name in self.world.queues:
            refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"queue {request.name} exists")
        self.world.add_queue(
            request.name,
            priority=request.priority,
            state=request.state,
            compute_environment_order=request.compute_environment_order,
            job_state_time_limit_actions=request.job_state_time_limit_actions,
            tags=request.tags,
        )
        return queue_pb.CreateJobQueueResponse(job_queue=self.world.queues[request.name])

    def DescribeJobQueues(self, request: Any, context: Context) -> queue_pb.DescribeJobQueuesResponse:
        found = [self.world.queues[name] for name in request.names if name in self.world.queues]
        return queue_pb.DescribeJobQueuesResponse(job_queues=found)

    def ListJobQueues(self, request: Any, context: Context) -> queue_pb.ListJobQueuesResponse:
        return queue_pb.ListJobQueuesResponse(job_queues=self.world.queues.values())

    def UpdateJobQueue(self, request: Any, context: Context) -> queue_pb.UpdateJobQueueResponse:
        if request.name not in self.world.queues:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no such queue: {request.name}")
        queue = self.world.queues[request.name]
        queue.state = request.state or queue.state
        queue.priority = request.priority if request.HasField("priority") else queue.priority
        if request.HasField("job_state_time_limit_actions"):
            del queue.job_state_time_limit_actions[:]
            queue.job_state_time_limit_actions.extend(request.job_state_time_limit_actions.actions)
        return queue_pb.UpdateJobQueueResponse(job_queue=queue)

    def DeleteJobQueue(self, request: Any, context: Context) -> queue_pb.DeleteJobQueueResponse:
        if self.world.queues[request.name].state != environment_pb.RESOURCE_STATE_DISABLED:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, f"queue {request.name} is ENABLED")
        del self.world.queues[request.name]
        return queue_pb.DeleteJobQueueResponse()


class Environments(environment_grpc.ComputeEnvironmentServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def CreateComputeEnvironment(self, request: Any, context: Context) -> Any:
        if request.name in self.world.environments:
            refuse(context, grpc.StatusCode.ALREADY_EXISTS, f"compute environment {request.name} exists")
        made = environment_pb.ComputeEnvironment(
            name=request.name,
            type=request.type,
            state=request.state,
            status=environment_pb.RESOURCE_STATUS_VALID,
            compute_resources=request.compute_resources,
            tags=request.tags,
            host_ids=["id-of-alpha"],
        )
        self.world.environments[request.name] = made
        return environment_pb.CreateComputeEnvironmentResponse(compute_environment=made)

    def DescribeComputeEnvironments(self, request: Any, context: Context) -> Any:
        found = [self.world.environments[name] for name in request.names if name in self.world.environments]
        return environment_pb.DescribeComputeEnvironmentsResponse(compute_environments=found)

    def ListComputeEnvironments(self, request: Any, context: Context) -> Any:
        return environment_pb.ListComputeEnvironmentsResponse(compute_environments=self.world.environments.values())

    def UpdateComputeEnvironment(self, request: Any, context: Context) -> Any:
        changed = self.world.environments[request.name]
        changed.state = request.state or changed.state
        if request.HasField("compute_resources"):
            changed.compute_resources.CopyFrom(request.compute_resources)
        return environment_pb.UpdateComputeEnvironmentResponse(compute_environment=changed)

    def DeleteComputeEnvironment(self, request: Any, context: Context) -> Any:
        del self.world.environments[request.name]
        return environment_pb.DeleteComputeEnvironmentResponse()


class Definitions(definition_grpc.JobDefinitionServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def RegisterJobDefinition(self, request: Any, context: Context) -> Any:
        made = definition_pb.JobDefinition(
            name=request.name,
            revision=1 + sum(row.name == request.name for row in self.world.definitions),
            status=definition_pb.JOB_DEFINITION_STATUS_ACTIVE,
            container=request.container,
            parameters=request.parameters,
            retry_strategy=request.retry_strategy,
            timeout_s=request.timeout_s,
            created_at_ms=now_ms(),
        )
        self.world.definitions.insert(0, made)
        return definition_pb.RegisterJobDefinitionResponse(job_definition=made)

    def DescribeJobDefinitions(self, request: Any, context: Context) -> Any:
        wanted = set(request.job_definitions)
        found = [row for row in self.world.definitions if {row.name, f"{row.name}:{row.revision}"} & wanted]
        return definition_pb.DescribeJobDefinitionsResponse(job_definitions=found)

    def ListJobDefinitions(self, request: Any, context: Context) -> Any:
        rows = [
            row
            for row in self.world.definitions
            if request.name in {"", row.name} and request.status in {0, row.status}
        ]
        return definition_pb.ListJobDefinitionsResponse(job_definitions=rows)

    def DeregisterJobDefinition(self, request: Any, context: Context) -> Any:
        for row in self.world.definitions:
            if f"{row.name}:{row.revision}" == request.job_definition:
                row.status = definition_pb.JOB_DEFINITION_STATUS_INACTIVE
                return definition_pb.DeregisterJobDefinitionResponse()
        refuse(context, grpc.StatusCode.NOT_FOUND, f"no such job definition: {request.job_definition}")


class Hosts(host_grpc.HostServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def ListHosts(self, request: Any, context: Context) -> host_pb.ListHostsResponse:
        self.world.fail("ListHosts", context)
        return host_pb.ListHostsResponse(hosts=self.world.hosts.values())

    def DescribeHost(self, request: Any, context: Context) -> host_pb.DescribeHostResponse:
        host = self.known(request.host, context)
        running = [(a.id, job.id) for job in self.world.jobs.values() for a in job.attempts if not a.stopped_at_ms]
        return host_pb.DescribeHostResponse(
            host=host, attempt_ids=[a for a, _ in running], job_ids=[j for _, j in running]
        )

    def CordonHost(self, request: Any, context: Context) -> host_pb.CordonHostResponse:
        host = self.known(request.host, context)
        host.state = host_pb.HOST_STATE_READY if request.undo else host_pb.HOST_STATE_CORDONED
        return host_pb.CordonHostResponse(host=host)

    def DrainHost(self, request: Any, context: Context) -> host_pb.DrainHostResponse:
        host = self.known(request.host, context)
        host.state = host_pb.HOST_STATE_DRAINING
        return host_pb.DrainHostResponse(host=host)

    def known(self, name: str, context: Context) -> host_pb.Host:
        if name not in self.world.hosts:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"no such host: {name}")
        return self.world.hosts[name]


class Tags(tag_grpc.TagServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def TagResource(self, request: tag_pb.TagResourceRequest, context: Context) -> tag_pb.TagResourceResponse:
        self.of(request).update(request.tags)
        self.world.fail("TagResource", context)
        return tag_pb.TagResourceResponse()

    def UntagResource(self, request: tag_pb.UntagResourceRequest, context: Context) -> tag_pb.UntagResourceResponse:
        for key in request.keys:
            self.of(request).pop(key, None)
        return tag_pb.UntagResourceResponse()

    def ListTags(self, request: tag_pb.ListTagsRequest, context: Context) -> tag_pb.ListTagsResponse:
        return tag_pb.ListTagsResponse(tags=self.of(request))

    def of(
        self, request: tag_pb.TagResourceRequest | tag_pb.UntagResourceRequest | tag_pb.ListTagsRequest
    ) -> dict[str, str]:
        return self.world.tags.setdefault((tag_pb.ResourceKind.Name(request.kind), request.name), {})


class Secrets(secret_grpc.SecretServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def PutSecret(self, request: secret_pb.PutSecretRequest, context: Context) -> secret_pb.PutSecretResponse:
        self.world.secrets[request.name] = request.value
        self.world.fail("PutSecret", context)
        return secret_pb.PutSecretResponse(secret=self.told(request.name))

    def ListSecrets(self, request: secret_pb.ListSecretsRequest, context: Context) -> secret_pb.ListSecretsResponse:
        names = [name for name in sorted(self.world.secrets) if name > request.page_token]
        token = names[request.page_size - 1] if len(names) > request.page_size else ""
        return secret_pb.ListSecretsResponse(secrets=map(self.told, names[: request.page_size]), next_page_token=token)

    def DeleteSecret(self, request: secret_pb.DeleteSecretRequest, context: Context) -> secret_pb.DeleteSecretResponse:
        if self.world.secrets.pop(request.name, None) is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"secret {request.name!r} not found")
        return secret_pb.DeleteSecretResponse()

    def told(self, name: str) -> secret_pb.SecretInfo:
        return secret_pb.SecretInfo(name=name, key_id="k1", created_at_ms=now_ms(), updated_at_ms=now_ms())


class AccessKeys(key_grpc.AccessKeyServiceServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def CreateAccessKey(
        self, request: key_pb.CreateAccessKeyRequest, context: Context
    ) -> key_pb.CreateAccessKeyResponse:
        made = key_pb.AccessKey(id=f"BYAK{len(self.world.access_keys):016}", description=request.description)
        self.world.access_keys[made.id] = made
        return key_pb.CreateAccessKeyResponse(access_key=made, secret="s" * 40)

    def ListAccessKeys(self, request: key_pb.ListAccessKeysRequest, context: Context) -> key_pb.ListAccessKeysResponse:
        ids = [key_id for key_id in sorted(self.world.access_keys) if key_id > request.page_token]
        token = ids[request.page_size - 1] if len(ids) > request.page_size else ""
        found = [self.world.access_keys[key_id] for key_id in ids[: request.page_size]]
        return key_pb.ListAccessKeysResponse(access_keys=found, next_page_token=token)

    def RevokeAccessKey(
        self, request: key_pb.RevokeAccessKeyRequest, context: Context
    ) -> key_pb.RevokeAccessKeyResponse:
        if self.world.access_keys.pop(request.id, None) is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"access key {request.id!r} not found")
        return key_pb.RevokeAccessKeyResponse()

    def DeriveSigningKey(
        self, request: key_pb.DeriveSigningKeyRequest, context: Context
    ) -> key_pb.DeriveSigningKeyResponse:
        known = request.access_key_id in self.world.access_keys
        return key_pb.DeriveSigningKeyResponse(
            signing_key=request.date.encode() if known else b"", any_keys=bool(self.world.access_keys)
        )


class Yard:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.port = 0
        self.server: grpc.Server | None = None
        self.world = World()
        self.world.add_queue()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.world.released.set()
        self.stop()

    def do(self, action: Callable[[World], Any]) -> Any:
        """Carry out *action* on the world."""
        with self.world.changed:
            return action(self.world)

    def run_job(self, job_id: str, exit_code: int = 0, log: bytes = b"") -> None:
        """Take a job through a whole attempt."""
        self.do(lambda world: world.run(job_id, exit_code=exit_code, log=log))

    def until(self, check: Callable[[World], Any]) -> Any:
        """Wait until *check* returns something true, and return that."""
        give_up_at = time.monotonic() + 20
        while time.monotonic() < give_up_at:
            found = self.do(check)
            if found:
                return found
            threading.Event().wait(0.01)
        raise AssertionError("it did not happen within 20 s")

    def start(self) -> None:
        """Start to serve, on the port of before if there was one."""
        server = grpc.server(ThreadPoolExecutor(32))
        job_grpc.add_JobServiceServicer_to_server(Jobs(self.world), server)
        queue_grpc.add_JobQueueServiceServicer_to_server(Queues(self.world), server)
        environment_grpc.add_ComputeEnvironmentServiceServicer_to_server(Environments(self.world), server)
        definition_grpc.add_JobDefinitionServiceServicer_to_server(Definitions(self.world), server)
        host_grpc.add_HostServiceServicer_to_server(Hosts(self.world), server)
        secret_grpc.add_SecretServiceServicer_to_server(Secrets(self.world), server)
        key_grpc.add_AccessKeyServiceServicer_to_server(AccessKeys(self.world), server)
        tag_grpc.add_TagServiceServicer_to_server(Tags(self.world), server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self.server = server

    def stop(self) -> None:
        """Stop as a controller that is killed: connections break."""
        if self.server is not None:
            self.server.stop(None).wait(20)
            self.server = None


def now_ms() -> int:
    return time.time_ns() // 1_000_000
