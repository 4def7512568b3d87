"""
Executor: functions as jobs, by the standard library's interface of executors.

    from batchyard import Executor

    with Executor("/shared/calls", vcpus=2, memory="4G") as pool:
        future = pool.submit(pow, 2, 10)
        print(future.result())

Its law: what `concurrent.futures` promises of an executor holds of this one. A future
of it may stand anywhere in the arguments of a call: the call's job waits for it, and
``pool.submit(g, future)`` comes to what ``g(future.result())`` would.
"""

from __future__ import annotations

import functools
import html
import itertools
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor as StandardExecutor
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from batchyard import arguments
from batchyard.functions.calls import CallFolder, Carrier, Outcome
from batchyard.functions.follower import Follower
from batchyard.functions.future import JobFuture
from batchyard.functions.letters import Letters
from batchyard.job_calls import new_request_id
from batchyard.sync import Client
from batchyard.v1 import job_pb2 as pb

T = TypeVar("T")

NAME_LENGTH_MAX = 128


class JobOptions(TypedDict, total=False):
    """
    What a call's job may be given; what is not given is as of `batchyard.container` and of submits.

    Attributes:
        image: Container image, with a ``python3`` of the caller's version; without one it is a plain process.
        python: The Python that runs the call. Default: the caller's own, in an image ``python3``.
        vcpus, memory, gpus, gpu_models, gpu_memory, disk, environment, secrets, secret_files, user,
        working_directory:
            As of `batchyard.container`.
        attempts: Tries, of functions that raise and of hosts that fail.
        timeout_s: Seconds that a try may run.
        tags: Of the job.
        share_identifier, scheduling_priority: In queues with a scheduling policy.
    """

    image: str
    python: str
    vcpus: float | str
    memory: int | str
    gpus: float | str
    gpu_models: Sequence[str]
    gpu_memory: int | str
    disk: int | str
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    secret_files: Mapping[str, str]
    user: str
    working_directory: str
    attempts: int
    timeout_s: int
    tags: Mapping[str, str]
    share_identifier: str
    scheduling_priority: int


class Executor(StandardExecutor):
    """
    Runs functions as jobs of one queue.

    Function, arguments and outcomes are carried as files below *folder*, in a folder of the
    executor's own that goes with it; without one by what a job reads, of 64 KiB at most, and a line
    of its log. Functions and classes of the calling program go along
    whole; modules are imported where the job runs, also from the caller's ``sys.path`` where
    its folders are there. Hosts and images need Python of the caller's version, and nothing else.

    Args:
        folder: Every host that may run a job has it under the same path, and every image is
            given it there. Whoever may write in it may run code as you. None: hosts share nothing.
        queue: For all jobs.
        client: Of the controller. Default: a new one, as settings say, closed with the executor.
        options: Of each job; see `JobOptions`.

    Raises:
        InvalidArgumentError: an option has the wrong type or is no amount.
        OSError: nothing can be written in *folder*.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        queue: str = "default",
        client: Client | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        self._options = options
        self._client = Client() if client is None else client
        self._owns_client = client is None
        self._carrier: Carrier = (
            Letters(self._client) if folder is None else CallFolder(Path(folder), f"calls-{new_request_id()}")
        )
        self._follower = Follower(self._client, queue, self._carrier)
        # Of the follower, which is there for as long as a call is: nobody has to keep the executor itself.
        self._remove_calls = weakref.finalize(self._follower, self._carrier.remove)
        _request(self._carrier, print, options)  # refuses at once what every call would be refused for
        self._is_shut_down = False
        self._door = threading.Lock()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> JobFuture[T]:
        """
        Run ``fn(*args, **kwargs)`` as a job, once the futures among its arguments have ended.

        What cannot be pickled, and what the controller refuses, is told by the future.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenExecutor: the controller was away for five minutes.
        """
        return self._submit(self._options, fn, args, kwargs)

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """
        As `concurrent.futures.Executor.map`.

        Args:
            fn: Called with one item of each of the iterables.
            *iterables: What it is called with; the shortest ends it.
            timeout: Seconds from this call on, after which iterating raises TimeoutError.
            chunksize: So many calls are one job, as of `ProcessPoolExecutor`.

        Raises:
            ValueError: *chunksize* is below 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return itertools.chain.from_iterable(super().map(_each_of(fn), chunks, timeout=timeout))

    @overload
    def job(self, fn: Callable[..., T], /) -> JobFunction[T]: ...
    @overload
    def job(self, /, **options: Unpack[JobOptions]) -> Callable[[Callable[..., T]], JobFunction[T]]: ...
    def job(
        self, fn: Callable[..., T] | None = None, /, **options: Unpack[JobOptions]
    ) -> JobFunction[T] | Callable[[Callable[..., T]], JobFunction[T]]:
        """
        Make a function one whose calls are jobs, with options of its own; a decorator, with or without them.

            @pool.job(memory="8G", attempts=3)
            def train(rate: float) -> float: ...

            future = train(0.1)
        """
        merged: JobOptions = {**self._options, **options}
        if fn is None:
            return lambda decorated: JobFunction(self, decorated, merged)
        return JobFunction(self, fn, merged)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """
        Take no more calls.

        Args:
            wait: Return when all have ended.
            cancel_futures: Cancel those whose jobs have no host yet.
        """
        with self._door:
            self._is_shut_down = True
        if cancel_futures:
            self._follower.cancel(self._follower.pending())
        if wait:
            self._follower.join()
            self._remove_calls()
            if self._owns_client:
                self._client.close()

    def _repr_html_(self) -> str:
        futures = self._follower.pending()
        rows = "".join(future._repr_html_().removeprefix("<table>").removesuffix("</table>") for future in futures[:20])
        return f"<p>{len(futures)} calls pending in queue {html.escape(self._follower.queue)}</p><table>{rows}</table>"

    def _submit(
        self, options: JobOptions, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> JobFuture[T]:
        request = _request(self._carrier, fn, options)
        request.queue = self._follower.queue
        future: JobFuture[T] = JobFuture(self._follower, request)
        with self._door:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            try:
                self._carrier.write(request.request_id, (fn, args, kwargs), functools.partial(self._note, future))
            except Exception as error:  # noqa: BLE001  # as of a process pool, it is the future's
                future.end(Outcome(error=error))
            else:
                self._follower.add(future)
        return future

    def _note(self, future: JobFuture[Any], value: object) -> str | None:
        """Return where the outcome of a future among the arguments will be; None of anything else."""
        if not isinstance(value, JobFuture):
            return None
        if value.follower is not self._follower:
            raise ValueError(f"{value!r} is of another executor: hand on its result()")
        if value not in future.dependencies:
            future.dependencies.append(value)
        return self._carrier.reference(value.request.request_id)


class JobFunction(Generic[T]):
    """
    A function whose calls are jobs; made by `Executor.job`.

    In a job, and as an argument of one, it is the plain function again. That is here as ``__wrapped__``.
    """

    __wrapped__: Callable[..., T]

    def __init__(self, executor: Executor, fn: Callable[..., T], options: JobOptions) -> None:
        self._executor = executor
        self._options = options
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> JobFuture[T]:
        """Run it as a job, with futures in place of any arguments."""
        return self._executor._submit(self._options, self.__wrapped__, args, kwargs)  # noqa: SLF001

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return functools.partial, (self.__wrapped__,)


def _each_of(fn: Callable[..., T]) -> Callable[[Iterable[tuple[Any, ...]]], list[T]]:
    # Made here, so that it goes along whole: jobs need nothing of ours.
    @functools.wraps(fn)
    def call_each(calls: Iterable[tuple[Any, ...]]) -> list[T]:
        return [fn(*args) for args in calls]

    return call_each


def _chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rest = iter(calls)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def _request(carrier: Carrier, fn: Callable[..., Any], options: JobOptions) -> pb.SubmitJobRequest:
    """Return the submit of a call; its request id is the call's name in the folder."""
    request_id = new_request_id()
    given: dict[str, Any] = dict(options)
    attempts, python = given.pop("attempts", None), given.pop("python", "")
    of_job = {key: given.pop(key) for key in _OF_JOBS if key in given}
    python = arguments.text("python", python) or ("python3" if given.get("image") else sys.executable)
    container = arguments.container(carrier.command(python, request_id), **given)
    if container.image:
        carrier.furnish(container)
    return arguments.request(
        pb.SubmitJobRequest,
        name=_name(fn),
        container=container,
        retry_strategy=arguments.retry_strategy(attempts, ()),
        request_id=request_id,
        **of_job,
    )


_OF_JOBS = ("timeout_s", "tags", "share_identifier", "scheduling_priority")


def _name(fn: Callable[..., Any]) -> str:
    """Return what a call's job is called: its function's name, of the letters that names of jobs may have."""
    plain = fn.func if isinstance(fn, functools.partial) else fn
    said = str(getattr(plain, "__qualname__", type(plain).__qualname__)).rpartition("<locals>.")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", said).strip("-_")[:NAME_LENGTH_MAX] or "call"
