"""One user, who asks again until there is an answer, as the SDK has it, and now and then looks how jobs are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from grpc.aio import AioRpcError

from batchyard.errors import (
    BatchyardError,
    DeadlineExceededError,
    FailedPreconditionError,
    NotFoundError,
    Reason,
    UnavailableError,
)
from batchyard.rpc_errors import error_from_rpc
from batchyard.v1 import job_definition_pb2, job_pb2, job_pb2_grpc, resources_pb2

from .calls import Channel
from .loop import Program

if TYPE_CHECKING:
    from .yard import Yard

TIMEOUT_S = 5.0
LOOK_S = 12.0
AGAIN = 0.3
"""How many of the looks are another submission."""


class User:
    """Whoever submits."""

    def __init__(self, yard: Yard, program: Program, channels: dict[str, Channel]) -> None:
        self.program = program
        self.waits_for: set[str] = set()
        self._yard = yard
        self._dice = Random(f"user {yard.dice.random()}")
        self._stubs = {
            address: job_pb2_grpc.JobServiceStub(channel)  # type: ignore[no-untyped-call]
            for address, channel in channels.items()
        }
        self._address = next(iter(channels))
        self.requests: dict[str, job_pb2.SubmitJobRequest] = {}
        program.start(self._look())

    def submit(self, label: str, **job: Any) -> None:
        self.waits_for.add(label)
        self.program.start(self._submit(label, job))

    def stop(self, label: str, how: str) -> None:
        self.waits_for.add(f"{how} {label}")
        self.program.start(self._stop(label, how))

    async def _submit(self, label: str, job: dict[str, Any]) -> None:
        request = self.requests[label] = request_of(label, job, self._yard.witness.acknowledged)
        asked_at = self._yard.loop.time()
        answer = await self._until_answered(f"submit {label}", "SubmitJob", request)
        if answer is not None:
            self._yard.witness.submitted(label, answer.job_id)
            self._yard.witness.shares.look_at_submission(label, asked_at)
        self.waits_for.discard(label)

    async def _stop(self, label: str, how: str) -> None:
        job_id = self._yard.witness.acknowledged.get(label)
        if job_id is not None:
            kind = {"CancelJob": job_pb2.CancelJobRequest, "TerminateJob": job_pb2.TerminateJobRequest}[how]
            request = kind(job_id=job_id, reason="no longer wanted")
            await self._until_answered(f"{how} {label}", how, request)
        self.waits_for.discard(f"{how} {label}")

    async def _ask(self, how: str, request: Any) -> Any:
        """
        Ask one controller; of one that does not answer, or does not lead, go on to that which it names, or the next.

        An answer on whose way a backup was put back counts for nothing: what it tells of may be gone.
        """
        address, was_restored = self._address, self._yard.was_restored
        try:
            answer = await getattr(self._stubs[address], how)(request, timeout=TIMEOUT_S)
        except AioRpcError as error:
            why = error_from_rpc(error, address)
        else:
            if self._yard.was_restored is was_restored:
                return answer
            why = UnavailableError("a backup was put back meanwhile")
        if isinstance(why, UnavailableError | DeadlineExceededError) and self._address == address:
            leader, others = why.metadata.get("leader", ""), [each for each in self._stubs if each != address]
            self._address = leader if leader in others else others[0]
        raise why

    async def _until_answered(self, what: str, how: str, request: Any) -> Any:
        while True:
            try:
                return await self._ask(how, request)
            except BatchyardError as error:
                why = error
            if not isinstance(why, UnavailableError | DeadlineExceededError) and why.reason != Reason.STORE_FULL:
                self._refused(what, why)
                return None
            await asyncio.sleep(self._dice.uniform(0.3, 3.0))

    def _refused(self, what: str, why: BatchyardError) -> None:
        self._yard.witness.told("user", f"{what} is refused: {why}")
        if self._yard.was_restored:
            return
        if what.startswith("submit") and isinstance(why, NotFoundError):
            self._yard.witness.violated("I10", f"{what}: {why}, though it was acknowledged")
        elif not isinstance(why, NotFoundError | FailedPreconditionError):
            self._yard.broken("user", why)

    async def _look(self) -> None:
        """Look at jobs one by one, whose submission was acknowledged before, or submit them once more."""
        while True:
            await asyncio.sleep(self._dice.uniform(0.2, 1.5) * LOOK_S)
            known = self._yard.witness.acknowledged
            if not known:
                continue
            label = self._dice.choice(sorted(known))
            if self._dice.random() < AGAIN:
                await self._submit_again(label)
                continue
            request = job_pb2.DescribeJobsRequest(job_ids=[known[label]])
            with contextlib.suppress(BatchyardError):
                answer = await self._ask("DescribeJobs", request)
                self._yard.witness.described(label, answer.jobs[0] if answer.jobs else None)

    async def _submit_again(self, label: str) -> None:
        """Submit by the same request what was acknowledged, as who lost the answer."""
        with contextlib.suppress(BatchyardError):
            answer = await self._ask("SubmitJob", self.requests[label])
            self._yard.witness.submitted(label, answer.job_id, is_again=True)


def request_of(label: str, job: dict[str, Any], known: Mapping[str, str]) -> job_pb2.SubmitJobRequest:
    """Write what a story's job asks, which waits for those alone whose submission is known to be acknowledged."""
    command = ["work", str(job["duration"]), str(job["exit"]), job["manners"], *map(str, job.get("fails", ()))]
    container = job_definition_pb2.ContainerProperties(
        command=command, resources=resources_pb2.Resources(cpu_millis=job["cpu"], memory_mib=100)
    )
    request = job_pb2.SubmitJobRequest(
        name=label,
        queue=job["queue"],
        request_id=f"request-{label}",
        timeout_s=job.get("timeout", 0),
        fence_s=job.get("fence", 0),
        retry_strategy=job_definition_pb2.RetryStrategy(attempts=job["attempts"]),
        depends_on=_dependencies(job, known),
        consumables=dict.fromkeys(job.get("takes", ()), 1),
        share_identifier=job.get("share", ""),
        scheduling_priority=job.get("priority"),
    )
    match job["shape"]:
        case "nodes":
            a_range = job_definition_pb2.NodeRange(target_nodes=":", container=container)
            nodes = job_definition_pb2.NodeProperties(num_nodes=job["size"], ranges=[a_range])
            request.nodes.CopyFrom(nodes)
        case "array":
            request.container.CopyFrom(container)
            request.array_size = job["size"]
            request.array_concurrency = job.get("bound", 0)
            if job.get("max_fails") is not None:
                request.array_max_fails = job["max_fails"]
        case _:
            request.container.CopyFrom(container)
    return request


def _dependencies(job: dict[str, Any], known: Mapping[str, str]) -> list[job_pb2.Dependency]:
    kind = job_pb2.DependencyType.Value(f"DEPENDENCY_TYPE_{job.get('kind') or 'UNSPECIFIED'}")
    found = [job_pb2.Dependency(job_id=known[other], type=kind) for other in job.get("after", ()) if other in known]
    if (counterpart := job.get("counterpart")) in known:
        found.append(job_pb2.Dependency(job_id=known[counterpart], type=job_pb2.DEPENDENCY_TYPE_N_TO_N))
    if job.get("is_sequential"):
        found.append(job_pb2.Dependency(type=job_pb2.DEPENDENCY_TYPE_SEQUENTIAL))
    return found
