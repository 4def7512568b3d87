"""
Future: one call that is a job, with all that the standard library promises of a future.

It adds which job that is. What becomes of the job is told it by the follower.
"""

from __future__ import annotations

import html
from concurrent.futures import Future
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from batchyard.errors import BatchyardError
from batchyard.functions.calls import Outcome
from batchyard.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from batchyard.functions.follower import Follower

T = TypeVar("T")


class JobError(BatchyardError):
    """
    A job ended without telling what its function returned or raised.

    Attributes:
        job: As it was then; its attempts have the reasons.
    """

    def __init__(self, message: str, job: pb.Job) -> None:
        super().__init__(message)
        self.job = job


class JobFuture(Future[T]):
    """
    What a call will come to.

    Attributes:
        request: The job, as it is asked for.
        dependencies: Futures among its arguments.
        job_id: Of its job; empty until that is submitted, and of a call that never is.
    """

    def __init__(self, follower: Follower, request: pb.SubmitJobRequest) -> None:
        super().__init__()
        self.request = request
        self.dependencies: list[JobFuture[object]] = []
        self.job_id = ""
        self._follower = follower
        self._turn = RLock()

    @property
    def follower(self) -> Follower:
        """Who looks after it."""
        return self._follower

    @property
    def is_pending(self) -> bool:
        """Whether it has not begun; it can be cancelled then."""
        return not self.running() and not self.done()

    def cancel(self) -> bool:
        """
        Cancel the call unless its job was given a host; say whether it is cancelled.

        Raises:
            WorldError: the controller cannot be asked.
        """
        if self.is_pending:
            self._follower.cancel([self])
        return self.cancelled()

    def terminate(self, reason: str = "terminated through its future") -> None:
        """
        Stop the job in whatever state it is. A call that had begun then has a `JobError`.

        Raises:
            WorldError: the controller cannot be asked.
        """
        if not self.cancel() and not self.done():
            self._follower.client.terminate_job(self.job_id, reason)

    # Told by the follower -----------------------------------------------------------

    def begin(self) -> None:
        """Its job was given a host."""
        with self._turn:
            if self.is_pending:
                self.set_running_or_notify_cancel()

    def be_cancelled(self) -> None:
        """Its job will never start."""
        with self._turn:
            if super().cancel() and self.is_pending_notice:
                self.set_running_or_notify_cancel()

    def end(self, outcome: Outcome) -> None:
        """Its job has ended."""
        with self._turn:
            if self.done():
                return
            self.begin()
            if outcome.error is None:
                self.set_result(outcome.value)  # type: ignore[arg-type]  # what a call returns is what it says
            else:
                self.set_exception(outcome.error)

    @property
    def is_pending_notice(self) -> bool:
        """Whether those who wait have yet to be told that it was cancelled."""
        return self._state == "CANCELLED"

    # Shown --------------------------------------------------------------------------

    @property
    def word(self) -> str:
        """How it stands, in a word."""
        if not self.done():
            return "running" if self.running() else "pending"
        if self.cancelled():
            return "cancelled"
        return "finished" if self.exception() is None else f"raised {type(self.exception()).__name__}"

    def __repr__(self) -> str:
        return f"<JobFuture {self.request.name} {self.job_id or 'not submitted'} {self.word}>"

    def _repr_html_(self) -> str:
        cells = (self.request.name, self.job_id, self.word)
        return "<table><tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr></table>"
