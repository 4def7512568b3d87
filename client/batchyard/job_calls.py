"""
Calls about jobs: submit, read, stop, watch, wait, logs.

Thin: arguments are checked, one request is sent, its answer returned. Only
:meth:`JobCalls.wait_all` puts calls together.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

from batchyard import arguments, wording
from batchyard.calls import Caller
from batchyard.errors import DeadlineExceededError, NotFoundError, Reason
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.job_definition_pb2 import ContainerProperties, EvaluateOnExit, NodeProperties, TaskProperties

DESCRIBE_MAX = 1000
"""Jobs described by one call (the contract's limit)."""

SLICE_BYTES = 1 << 20
"""Bytes of a log read at once, when nothing else is said."""


class JobCalls(Caller):
    """The part of the client that is about jobs."""

    async def submit_job(
        self,
        *,
        name: str,
        queue: str = "default",
        job_definition: str = "",
        container: ContainerProperties | None = None,
        task: TaskProperties | None = None,
        nodes: NodeProperties | None = None,
        overrides: pb.ContainerOverrides | None = None,
        container_overrides: Sequence[pb.ContainerOverrides] = (),
        node_overrides: pb.NodeOverrides | None = None,
        pod_overrides: pb.PodOverrides | None = None,
        parameters: Mapping[str, str] | None = None,
        array_size: int = 0,
        array_concurrency: int = 0,
        array_values: pb.ArrayValues | None = None,
        array_max_fails: int | None = None,
        depends_on: Sequence[str | pb.Dependency] = (),
        attempts: int | None = None,
        infrastructure_retries: int | None = None,
        spot_attempts: int | None = None,
        preemption_retries: int | None = None,
        evaluate_on_exit: Sequence[EvaluateOnExit] = (),
        timeout_s: int = 0,
        fence_s: int = 0,
        share_identifier: str = "",
        scheduling_priority: int | None = None,
        consumables: Mapping[str, int] | None = None,
        propagate_tags: bool | None = None,
        tags: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        request_id: str | None = None,
        submitted_by: str = "",
    ) -> pb.SubmitJobResponse:
        """
        Submit one job or array job; it is stored when this returns.

        Every submit carries a request id, so it is safe to repeat and is repeated
        for ``retry_s`` while the controller is away.

        Args:
            name: Up to 128 letters, digits, ``-`` and ``_``.
            queue: Where it waits.
            job_definition: ``name`` (latest active revision) or ``name:revision``.
            container: What to run, without a definition; see :func:`batchyard.container`.
            task: Several containers, or a pod (see :func:`batchyard.pod`), in its place.
            nodes: The nodes of a multi-node job, in its place; see :func:`batchyard.nodes`.
            overrides: What to replace of a definition's container.
            container_overrides: The same of several, each by its ``name``.
            node_overrides: What to replace of a definition's nodes: their number, and ranges by their text.
            pod_overrides: Labels and annotations to add to a definition's pod.
            parameters: Values for the definition's ``Ref::name`` placeholders.
            array_size: Children of an array job, at least 2; 0 is a single job.
            array_concurrency: Most children at once; 0 is no bound.
            array_values: Numbers and items of the children; *array_size* says how many these are.
            array_max_fails: Once more children than these have FAILED the rest is stopped; None: never.
            depends_on: Ids of jobs to wait for, or ``Dependency`` messages.
            attempts: Tries, not retries: 3 means at most 3. None: the definition's, else 1.
            infrastructure_retries: Tries that their host failed, and that do not count,
                at most; None is 5. With
                *attempts* or *evaluate_on_exit* it replaces the definition's strategy.
            spot_attempts: Tries that were reclaimed with their host, after which it goes to
                on-demand hosts alone, if its queue has an environment of them; None is never.
            preemption_retries: How often it runs again after it was preempted, 0 to 50, which
                counts as no try; None, or -1, is always.
            evaluate_on_exit: Rules that say when to try again; they need *attempts*.
            timeout_s: Seconds an attempt may run; 0 is the definition's.
            fence_s: Seconds that its host may be out of touch before an attempt is ended there and tried elsewhere:
                30 to 86,400; -1 is never, 0 the definition's, else its queue's.
            share_identifier: Fair share it counts towards; required in a queue with a scheduling policy.
            scheduling_priority: Order within its share.
            consumables: What it, or each child, holds of consumable resources, by name; replaces the
                definition's.
            propagate_tags: Whether its tags, with the definition's, label its containers.
            tags: Tags of the job.
            annotations: Kept with the job and given back, never interpreted; added to
                the definition's.
            request_id: A repeated submit with the same id returns the first job.
                None makes a new one.
            submitted_by: Who submits, as is told of the job; at most 128 characters.

        Raises:
            InvalidArgumentError: a field breaks a rule; see ``violations``.
            NotFoundError: no such queue or definition.
            FailedPreconditionError: the queue takes no jobs.
        """
        request = arguments.request(
            pb.SubmitJobRequest,
            name=name,
            queue=queue,
            job_definition=job_definition,
            container=container,
            task=task,
            nodes=nodes,
            overrides=overrides,
            container_overrides=container_overrides,
            node_overrides=node_overrides,
            pod_overrides=pod_overrides,
            parameters=parameters,
            array_size=array_size,
            depends_on=arguments.dependencies(depends_on),
            array_concurrency=array_concurrency,
            array_values=array_values,
            array_max_fails=array_max_fails,
            retry_strategy=arguments.retry_strategy(
                attempts, evaluate_on_exit, infrastructure_retries, spot_attempts, preemption_retries
            ),
            timeout_s=timeout_s,
            fence_s=fence_s,
            share_identifier=share_identifier,
            scheduling_priority=scheduling_priority,
            consumables=consumables,
            propagate_tags=propagate_tags,
            tags=tags,
            annotations=annotations,
            request_id=new_request_id() if request_id is None else request_id,
            submitted_by=submitted_by,
        )
        return await self.calls.submit_job(request, retry=True)

    async def describe_jobs(self, job_ids: Sequence[str]) -> list[pb.Job]:
        """Describe jobs, array children (``<id>:<index>``) and nodes (``<id>#<index>``), in no order; unknown ids are left out."""
        return await self._describe(arguments.texts("job_ids", job_ids), retry=False)

    async def describe_job(self, job_id: str) -> pb.Job:
        """
        Describe one job or array child.

        Raises:
            NotFoundError: no such job.
        """
        return (await self._describe_all([arguments.text("job_id", job_id)], retry=False))[0]

    async def cancel_job(self, job_id: str, reason: str) -> None:
        """
        Cancel a job that has not started; a started one goes on.

        Raises:
            NotFoundError: no such job.
        """
        request = pb.CancelJobRequest(job_id=arguments.text("job_id", job_id), reason=arguments.text("reason", reason))
        await self.calls.cancel_job(request)

    async def update_job(self, job_id: str, *, scheduling_priority: int) -> None:
        """
        Change the scheduling priority of a job that has not ended; if it waits, it takes its new place in line.

        Args:
            job_id: A job, or an array, of which all children change.
            scheduling_priority: 0 to 9999; higher goes first within its share.

        Raises:
            NotFoundError: no such job.
            InvalidArgumentError: its queue has no scheduling policy.
            FailedPreconditionError: it has ended.
        """
        request = arguments.request(pb.UpdateJobRequest, job_id=job_id, scheduling_priority=scheduling_priority)
        await self.calls.update_job(request)

    async def terminate_job(self, job_id: str, reason: str) -> None:
        """
        Stop a job in whatever state it is; it ends FAILED and is not retried.

        Raises:
            NotFoundError: no such job.
        """
        request = pb.TerminateJobRequest(
            job_id=arguments.text("job_id", job_id), reason=arguments.text("reason", reason)
        )
        await self.calls.terminate_job(request)

    async def explain_job(self, job_id: str) -> pb.ExplainJobResponse:
        """
        Say why a job is where it is, and which jobs wait for it (``dependent_ids``, the first 20 of ``dependents``).

        Raises:
            NotFoundError: no such job.
        """
        request = pb.ExplainJobRequest(job_id=arguments.text("job_id", job_id))
        return await self.calls.explain_job(request)

    async def watch_jobs(
        self, job_ids: Sequence[str] = (), *, queue: str = "", cursor: str = "", changes_only: bool = False
    ) -> AsyncGenerator[pb.JobEvent, None]:
        """
        Iterate over state changes, for ever.

        First come the present states of the watched jobs, then changes. It goes on
        over a controller's restart and misses no end; after one, present states
        come again, also of what may have ended meanwhile.

        Args:
            job_ids: Jobs, arrays (their children included) or children; empty is all.
            queue: Only jobs of this queue.
            cursor: Where to resume.
            changes_only: Begin without present states.

        Raises:
            UnavailableError: the controller was away for five minutes.
        """
        is_short = arguments.flag("changes_only", changes_only)
        content = pb.WATCH_CONTENT_CHANGES if is_short else pb.WATCH_CONTENT_UNSPECIFIED
        async with aclosing(self._watch(job_ids, queue, cursor, content)) as responses:
            async for response in responses:
                for event in response.events:
                    yield event

    async def watch_changes(
        self, job_ids: Sequence[str] = (), *, queue: str = "", cursor: str = ""
    ) -> AsyncGenerator[pb.WatchJobsResponse, None]:
        """
        Iterate over whose states changed, for ever, at most five times a second: a word to look again.

        The first message comes at once and names nobody; what changes from then on is told.

        Args:
            job_ids: As in :meth:`watch_jobs`. A child's change is told as its array's unless
                the child is among these.
            queue: Only jobs of this queue.
            cursor: Where to resume.

        Yields:
            ``changed_ids``, each once; ``missed``, that changes were lost, as over a
            controller's restart, so that all is to be looked at again; and the ``cursor``.

        Raises:
            UnavailableError: the controller was away for five minutes.
        """
        async with aclosing(self._watch(job_ids, queue, cursor, pb.WATCH_CONTENT_CHANGED_IDS)) as responses:
            async for response in responses:
                yield response

    async def _watch(
        self, job_ids: Sequence[str], queue: str, cursor: str, content: pb.WatchContent.ValueType
    ) -> AsyncGenerator[pb.WatchJobsResponse, None]:
        request = pb.WatchJobsRequest(
            job_ids=arguments.texts("job_ids", job_ids),
            queue=arguments.text("queue", queue),
            cursor=arguments.text("cursor", cursor),
            content=content,
        )
        while True:
            async with aclosing(self.calls.watch_jobs(request)) as responses:
                async for response in responses:
                    request.cursor = response.cursor
                    yield response
            # A controller that shuts down may end the stream in good order: the jobs go on.
            await asyncio.sleep(1)

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> pb.Job:
        """
        Wait until a job has ended, over controller restarts too, and return it.

        Raises:
            NotFoundError: no such job.
            DeadlineExceededError: it has not ended within *timeout_s* (None: no limit).
        """
        return (await self.wait_all([job_id], timeout_s=timeout_s))[0]

    async def wait_all(
        self,
        job_ids: Sequence[str],
        *,
        timeout_s: float | None = None,
        on_event: Callable[[pb.JobEvent], None] = lambda _: None,
    ) -> list[pb.Job]:
        """
        Wait until all jobs have ended and return them in the order asked.

        Args:
            job_ids: Jobs, arrays or children.
            timeout_s: Most seconds to wait; None is no limit.
            on_event: Called with every change meanwhile; with the sync client, in
                another thread.

        Raises:
            NotFoundError: one of them does not exist.
            DeadlineExceededError: not all have ended within *timeout_s*.
        """
        ids = arguments.texts("job_ids", job_ids)
        limit_s = None if timeout_s is None else arguments.seconds("timeout_s", timeout_s)
        jobs = await self._describe_all(ids, retry=True)
        waiting = {job.id for job in jobs if not wording.job_state(job).is_final}
        if not waiting:
            return jobs
        try:
            async with asyncio.timeout(limit_s):
                await self._until_final(ids, waiting, on_event)
        except TimeoutError:
            raise DeadlineExceededError(f"{len(waiting)} of {len(ids)} jobs not ended in {limit_s:g} s") from None
        return await self._describe_all(ids, retry=True)

    async def read_logs(
        self,
        job_id: str,
        *,
        attempt: int = 0,
        container: str = "",
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """
        Iterate over the bytes of an attempt's log, output and errors together.

        It goes on where it was over a controller's restart.

        Args:
            job_id: A job, an array child or a node; of a multi-node job it is the main node's.
            attempt: Its number, from 1; 0 is the latest.
            container: Which of several containers.
            offset: First byte.
            tail_lines: Start so many lines before the end instead.
            follow: Go on until the attempt has ended.

        Raises:
            NotFoundError: no such job or attempt.
            UnavailableError: its host has been away for ten seconds, or the controller for five minutes.
        """
        request = arguments.request(
            pb.ReadLogsRequest,
            job_id=job_id,
            attempt=attempt,
            container=container,
            offset=offset,
            tail_lines=tail_lines,
            follow=follow,
        )

        async with aclosing(self.calls.read_logs(request)) as responses:
            async for response in responses:
                request.offset = response.next_offset
                request.ClearField("tail_lines")
                if response.data:
                    yield response.data

    async def read_log_slice(
        self, job_id: str, *, attempt: int = 0, container: str = "", offset: int = 0, limit_bytes: int = SLICE_BYTES
    ) -> pb.ReadLogsResponse:
        """
        Read part of an attempt's log as it is now, once.

        Args:
            job_id: A job, an array child or a node; of a multi-node job it is the main node's.
            attempt: Its number, from 1; 0 is the latest.
            container: Which of several containers.
            offset: First byte; beyond the end means the end.
            limit_bytes: At most so many.

        Returns:
            The bytes, none at the end, and the offset behind them. They are in one piece: it
            begins behind *offset* if what stood there was dropped, and ends where more was.

        Raises:
            NotFoundError: no such job or attempt, or its host keeps its log no longer.
            UnavailableError: its host is not connected.
        """
        request = arguments.request(
            pb.ReadLogsRequest, job_id=job_id, attempt=attempt, container=container, offset=offset
        )
        limit = arguments.integer("limit_bytes", limit_bytes)
        data, end = b"", offset
        async with aclosing(self.calls.read_logs(request, resume=False)) as responses:
            async for response in responses:
                if data and response.data and response.next_offset - len(response.data) != end:
                    break
                data, end = data + response.data, response.next_offset
                if len(data) >= limit:
                    break
        surplus = max(0, len(data) - limit)
        return pb.ReadLogsResponse(data=data[: len(data) - surplus], next_offset=end - surplus)

    async def _describe(self, ids: list[str], *, retry: bool) -> list[pb.Job]:
        jobs: list[pb.Job] = []
        for start in range(0, len(ids), DESCRIBE_MAX):
            request = pb.DescribeJobsRequest(job_ids=ids[start : start + DESCRIBE_MAX])
            jobs += (await self.calls.describe_jobs(request, retry=retry)).jobs
        return jobs

    async def _describe_all(self, ids: list[str], *, retry: bool) -> list[pb.Job]:
        jobs = {job.id: job for job in await self._describe(ids, retry=retry)}
        missing = [job_id for job_id in ids if job_id not in jobs]
        if missing:
            text = f"no such job: {', '.join(missing)}"
            raise NotFoundError(text, reason=Reason.JOB_NOT_FOUND, metadata={"job_id": missing[0]})
        return [jobs[job_id] for job_id in ids]

    async def _until_final(self, ids: list[str], waiting: set[str], on_event: Callable[[pb.JobEvent], None]) -> None:
        async with aclosing(self.watch_jobs(ids)) as events:
            async for event in events:
                on_event(event)
                if wording.job_state(event.job).is_final:
                    waiting.discard(event.job.id)
                if not waiting:
                    return


def new_request_id() -> str:
    """Make an id that no other submit has."""
    return str(uuid.uuid4())  # noqa: TID251  # the caller's dice: no decision hangs on it
