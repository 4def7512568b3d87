"""
Follower: submits the calls of one executor, and tells each future what became of its job.

Its thread lives while a future is pending, so that a program ends when its calls have,
as the standard library promises. What is asked of the controller runs in the loop that
all clients of a process share; callbacks of futures run in the thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import aclosing
from functools import partial
from queue import SimpleQueue
from typing import Any

from batchyard import wording
from batchyard.functions.calls import Carrier, Outcome
from batchyard.functions.future import JobError, JobFuture
from batchyard.submit_calls import submit_error
from batchyard.sync import Client
from batchyard.v1 import job_pb2 as pb

AnyFuture = JobFuture[Any]
DEPENDENCIES_MAX = 1000
"""So many a job may have; a call with more waits here until fewer are left."""
BATCH_MAX = 500
"""Calls that are sent before anybody else's word is heard."""
CANCELS_AT_ONCE = 50
CANCEL_REASON = "cancelled through its future"
DEPENDENCY_FAILED = "Dependent Job failed"
"""The status reason of a job that never started for that; AWS's words."""
OUTCOME_LOOK_S = 0.5
"""Between looks for the outcome of a job that succeeded."""


class Follower:
    """
    Looks after the futures of one executor.

    Args:
        client: Of the controller; shared with whoever else uses it.
        queue: In which all jobs are.
        carrier: Brings calls to jobs, and outcomes back.
    """

    def __init__(self, client: Client, queue: str, carrier: Carrier) -> None:
        self.client = client
        self.queue = queue
        self._carrier = carrier
        self._changed = threading.Condition()
        self._waiting: dict[str, AnyFuture] = {}  # by request id
        self._sending: dict[str, AnyFuture] = {}
        self._sent: dict[str, AnyFuture] = {}  # by job id; what is refused by request id, until it is told
        self._late: dict[str, pb.Job] = {}
        """Jobs that failed for another's end that is not known yet: news of jobs come in any order."""
        self._life: _Life | None = None
        self._broken = ""

    def add(self, future: AnyFuture) -> None:
        """
        Look after a future from now on.

        Raises:
            BrokenExecutor: the controller was away for too long.
        """
        with self._changed:
            if self._broken:
                raise BrokenExecutor(self._broken)
            self._waiting[future.request.request_id] = future
            if self._life is None:
                self._life = _Life(self._follow)
            life = self._life
        self.client.loop.call_soon_threadsafe(life.wake.set)

    def pending(self) -> list[AnyFuture]:
        """Return the futures that have not ended."""
        with self._changed:
            return [*self._waiting.values(), *self._sending.values(), *self._sent.values()]

    def join(self) -> None:
        """Wait until no future is pending. In a callback of a future: return at once."""
        with self._changed:
            life = self._life
        if life is not None and life.thread is not threading.current_thread():
            life.thread.join()

    # Cancelling -----------------------------------------------------------------------

    def cancel(self, futures: Iterable[AnyFuture]) -> None:
        """
        Cancel those of the futures whose jobs have no host yet.

        Raises:
            WorldError: the controller cannot be asked.
        """
        submitted = []
        for future in futures:
            if self._withdraw(future):
                future.be_cancelled()
            elif future.job_id and future.is_pending:
                submitted.append(future)
        with self._changed:
            if self._life is not None:
                self._life.news.put(lambda: None)
        for future, job in zip(submitted, self.client.run(self._cancel_jobs(submitted)), strict=True):
            if job is not None and job.is_cancelled and not wording.job_state(job).is_active:
                future.be_cancelled()

    def _withdraw(self, future: AnyFuture) -> bool:
        """Say whether a future has not been submitted, and now never is; one that is on its way arrives first."""
        with self._changed:
            request_id = future.request.request_id
            self._changed.wait_for(lambda: request_id not in self._sending)
            return self._waiting.pop(request_id, None) is not None

    async def _cancel_jobs(self, futures: Sequence[AnyFuture]) -> list[pb.Job | None]:
        few = asyncio.Semaphore(CANCELS_AT_ONCE)

        async def cancel(future: AnyFuture) -> None:
            async with few:
                await self.client.client.cancel_job(future.job_id, CANCEL_REASON)

        await asyncio.gather(*map(cancel, futures))
        jobs = {job.id: job for job in await self.client.client.describe_jobs([each.job_id for each in futures])}
        return [jobs.get(future.job_id) for future in futures]

    # In the loop ----------------------------------------------------------------------

    async def _serve(self, life: _Life) -> None:
        try:
            is_watching = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(life, is_watching))
                await is_watching.wait()
                while True:
                    await life.wake.wait()
                    life.wake.clear()
                    while batch := self._take(life):
                        await self._send(life, batch)
        except* Exception as errors:  # noqa: BLE001  # whoever waits for a future is told, whatever it is
            life.news.put(partial(self._break, errors.exceptions[0]))

    async def _watch(self, life: _Life, is_watching: asyncio.Event) -> None:
        async with aclosing(self.client.client.watch_changes(queue=self.queue)) as changes:
            async for change in changes:
                is_watching.set()
                await self._look(life, list(self._sent) if change.missed else change.changed_ids)

    async def _look(self, life: _Life, job_ids: Iterable[str]) -> None:
        with self._changed:
            ids = [job_id for job_id in job_ids if job_id in self._sent]
        if ids:
            jobs = {job.id: job for job in await self.client.client.describe_jobs(ids)}
            life.news.put(partial(self._tell, [jobs.get(job_id, pb.Job(id=job_id)) for job_id in ids]))

    def _take(self, life: _Life) -> list[AnyFuture]:
        """Take calls that can be sent; whoever waits for one that is held here is held, too."""
        with self._changed:
            if life is not self._life:
                return []
            for request_id, future in list(self._waiting.items()):
                left = [each for each in future.dependencies if not each.done()]
                if (left and self._carrier.is_held) or len(left) > DEPENDENCIES_MAX:
                    continue
                if any(each.request.request_id in self._waiting for each in left):
                    continue
                if _failed_dependency(future) is not None:
                    self._sent[request_id] = self._waiting.pop(request_id)
                    life.news.put(partial(self._end, request_id, None))
                    continue
                if (error := self._sealed(future)) is not None:
                    self._sent[request_id] = self._waiting.pop(request_id)
                    life.news.put(partial(self._end, request_id, Outcome(error=error)))
                    continue
                future.request.ClearField("depends_on")
                future.request.depends_on.extend(pb.Dependency(job_id=_reference(each)) for each in left)
                self._sending[request_id] = self._waiting.pop(request_id)
                if len(self._sending) == BATCH_MAX:
                    break
            return list(self._sending.values())

    def _sealed(self, future: AnyFuture) -> Exception | None:
        """Have a call be ready to be sent; return why that cannot be."""
        outcomes = {each.request.request_id: each.result() for each in future.dependencies if self._carrier.is_held}
        try:
            self._carrier.seal(future.request, outcomes)
        except Exception as error:  # noqa: BLE001  # as of what cannot be pickled, it is the future's
            return error
        return None

    async def _send(self, life: _Life, batch: list[AnyFuture]) -> None:
        ids = []
        requests = [each.request for each in batch]
        async with aclosing(self.client.client.submit_jobs(requests)) as results:
            async for result in results:
                error = submit_error(result)
                with self._changed:
                    future = self._sending.pop(result.request_id)
                    future.job_id = result.job.job_id
                    self._sent[result.request_id if error else future.job_id] = future
                    self._changed.notify_all()
                if error:
                    life.news.put(partial(self._end, result.request_id, Outcome(error=error)))
                else:
                    ids.append(future.job_id)
        # What happened before an id was known was told of nobody's.
        await self._look(life, ids)

    # In the thread --------------------------------------------------------------------

    def _follow(self, life: _Life) -> None:
        work = asyncio.run_coroutine_threadsafe(self._serve(life), self.client.loop)
        try:
            while not self._is_over():
                try:
                    life.news.get()()
                    self._tell_late()
                except Exception as error:  # noqa: BLE001  # as when the folder is gone: whoever waits is told
                    self._break(error)
                self.client.loop.call_soon_threadsafe(life.wake.set)  # some may have been held for others
        finally:
            work.cancel()

    def _is_over(self) -> bool:
        with self._changed:
            if self._waiting or self._sending or self._sent:
                return False
            self._life = None
            return True

    def _tell(self, jobs: Sequence[pb.Job]) -> None:
        """Tell futures how their jobs are; one that is not kept any more has no state."""
        for job in jobs:
            future = self._sent.get(job.id)
            if future is None:
                continue
            if job.attempts:
                future.begin()
            if job.state == pb.JOB_STATE_UNSPECIFIED or wording.job_state(job).is_final:
                if job.status_reason == DEPENDENCY_FAILED and _failed_dependency(future) is None:
                    self._late[job.id] = job
                else:
                    self._end(job.id, self._outcome(future, job))

    def _tell_late(self) -> None:
        """Tell those whose dependency's end was not known yet, for as long as one more is."""
        while ready := [job for job_id, job in self._late.items() if self._is_told_of(job_id)]:
            for job in ready:
                del self._late[job.id]
            self._tell(ready)

    def _is_told_of(self, job_id: str) -> bool:
        """Say whether the dependency for which a job failed is known by now, or it is pending no more."""
        future = self._sent.get(job_id)
        return future is None or _failed_dependency(future) is not None

    def _outcome(self, future: AnyFuture, job: pb.Job) -> Outcome | None:
        """Return what a job that has ended came to; None if it never started."""
        if job.state == pb.JOB_STATE_FAILED and not job.attempts:
            return None if job.is_cancelled or _failed_dependency(future) else _failure(job)
        outcome = self._carrier.outcome(future.request.request_id, job)
        if job.state == pb.JOB_STATE_SUCCEEDED:
            for _ in range(int(self._carrier.patience_s / OUTCOME_LOOK_S)):
                if outcome is not None:
                    break
                time.sleep(OUTCOME_LOOK_S)
                outcome = self._carrier.outcome(future.request.request_id, job)
        has_failed = job.state == pb.JOB_STATE_FAILED
        return _failure(job) if outcome is None or (has_failed and outcome.error is None) else outcome

    def _end(self, key: str, outcome: Outcome | None) -> None:
        """Tell a future its outcome; without one, that of the dependency for which it never started, or cancelled."""
        with self._changed:
            future = self._sent.pop(key)
        failed = None if outcome else _failed_dependency(future)
        if failed is not None and not failed.cancelled():
            outcome = Outcome(error=failed.exception())
        if outcome is None:
            future.be_cancelled()
        else:
            future.end(outcome)

    def _break(self, error: Exception) -> None:
        with self._changed:
            self._broken = f"{type(error).__name__}: {error}"
            futures = self.pending()
            for each in (self._waiting, self._sending, self._sent, self._late):
                each.clear()
            self._changed.notify_all()
        broken = BrokenExecutor(self._broken)
        broken.__cause__ = error
        for future in futures:
            future.end(Outcome(error=broken))


class _Life:
    """
    The thread that looks after futures as long as any is pending, and how it is spoken to.

    Attributes:
        wake: Something may be sent.
        news: What the thread has to do next.
    """

    def __init__(self, follow: Callable[[_Life], None]) -> None:
        self.wake = asyncio.Event()
        self.news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.thread = threading.Thread(target=follow, args=(self,), name="batchyard-futures")
        self.thread.start()


def _reference(future: AnyFuture) -> str:
    return future.job_id or f"request:{future.request.request_id}"


def _failed_dependency(future: AnyFuture) -> AnyFuture | None:
    return next((it for it in future.dependencies if it.done() and (it.cancelled() or it.exception())), None)


def _failure(job: pb.Job) -> Outcome:
    if job.state == pb.JOB_STATE_UNSPECIFIED:
        text = f"job {job.id} is not kept any more"
    elif job.state == pb.JOB_STATE_SUCCEEDED:
        text = f"job {job.id} succeeded, and nothing of it is in the folder (does its host share it?), or in its log"
    else:
        text = f"job {job.id} failed: {job.ending_cause or job.status_reason}"
    return Outcome(error=JobError(text, job))
