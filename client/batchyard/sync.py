"""
The SDK's client without ``await``: the same methods over a loop in a background thread.

It knows no gRPC. Its law: every method is the asynchronous one of the same name, so
that there is one behaviour to learn and to test. All clients of a process share one
loop: with several, grpc.aio can miss events, and it breaks when one of them is closed
while another polls.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from batchyard.client import AsyncClient
from batchyard.entry_calls import AsyncExecution, ExecResult, Output
from batchyard.errors import WorldError

P = ParamSpec("P")
T = TypeVar("T")

STOP_LIMIT_S = 2.0
"""How long the end of the process waits for the loop to come to rest."""

WAKE_S = 0.5
"""How often a thread that waits for a call looks for signals."""


def _sync(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    @wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method(self.client, *args, **kwargs))

    return call


def _sync_iterator(
    method: Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    @wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self.iterate(method(self.client, *args, **kwargs))

    return call


def _sync_execution(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncExecution]],
) -> Callable[Concatenate[Client, P], Execution]:
    @wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Execution:
        return Execution(self, self.run(method(self.client, *args, **kwargs)))

    return call


class _Background:
    """The loop that all clients of a process share, in its thread."""

    _lock = threading.Lock()
    _present: _Background | None = None

    def __init__(self) -> None:
        self.process_id = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="batchyard-client", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    @classmethod
    def loop_of_this_process(cls) -> asyncio.AbstractEventLoop:
        """Return the loop; started with the first client, and anew in a forked process, which has no threads."""
        with cls._lock:
            if cls._present is None or cls._present.process_id != os.getpid():
                cls._present = cls()
            return cls._present.loop

    def _stop(self) -> None:
        # Tasks cut short by the end of the process would complain on stderr.
        if self.process_id == os.getpid():
            asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(STOP_LIMIT_S)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


class Client:
    """
    A client of one controller, for plain threads; safe to share between them.

    Arguments are those of :class:`batchyard.client.AsyncClient`; *on_retry* and *on_stale* are
    called in the background thread. Use it as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        credentials: Path | None = None,
        context: str | None = None,
        timeout_s: float | None = None,
        retry_s: float | None = None,
        on_retry: Callable[[WorldError], None] = lambda _: None,
        on_stale: Callable[[int], None] | None = None,
    ) -> None:
        self.client = AsyncClient(
            address,
            credentials=credentials,
            context=context,
            timeout_s=timeout_s,
            retry_s=retry_s,
            on_retry=on_retry,
            on_stale=on_stale,
        )
        self._loop = _Background.loop_of_this_process()
        self._is_closed = False

    @property
    def address(self) -> str:
        """Where the controller is expected."""
        return self.client.address

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop in which its calls run, in a thread of its own."""
        return self._loop

    submit_job = _sync(AsyncClient.submit_job)
    submit_jobs = _sync_iterator(AsyncClient.submit_jobs)
    describe_job = _sync(AsyncClient.describe_job)
    describe_jobs = _sync(AsyncClient.describe_jobs)
    list_jobs = _sync_iterator(AsyncClient.list_jobs)
    list_jobs_page = _sync(AsyncClient.list_jobs_page)
    get_array_digest = _sync(AsyncClient.get_array_digest)
    cancel_job = _sync(AsyncClient.cancel_job)
    update_job = _sync(AsyncClient.update_job)
    terminate_job = _sync(AsyncClient.terminate_job)
    explain_job = _sync(AsyncClient.explain_job)
    watch_jobs = _sync_iterator(AsyncClient.watch_jobs)
    watch_changes = _sync_iterator(AsyncClient.watch_changes)
    wait = _sync(AsyncClient.wait)
    wait_all = _sync(AsyncClient.wait_all)
    read_logs = _sync_iterator(AsyncClient.read_logs)
    read_log_slice = _sync(AsyncClient.read_log_slice)

    exec = _sync_execution(AsyncClient.exec)
    attach = _sync_execution(AsyncClient.attach)

    create_compute_environment = _sync(AsyncClient.create_compute_environment)
    describe_compute_environments = _sync(AsyncClient.describe_compute_environments)
    list_compute_environments = _sync_iterator(AsyncClient.list_compute_environments)
    list_environment_hosts = _sync_iterator(AsyncClient.list_environment_hosts)
    update_compute_environment = _sync(AsyncClient.update_compute_environment)
    delete_compute_environment = _sync(AsyncClient.delete_compute_environment)
    create_job_queue = _sync(AsyncClient.create_job_queue)
    describe_job_queues = _sync(AsyncClient.describe_job_queues)
    get_job_queue_snapshot = _sync(AsyncClient.get_job_queue_snapshot)
    list_job_queues = _sync_iterator(AsyncClient.list_job_queues)
    update_job_queue = _sync(AsyncClient.update_job_queue)
    delete_job_queue = _sync(AsyncClient.delete_job_queue)
    register_job_definition = _sync(AsyncClient.register_job_definition)
    describe_job_definitions = _sync(AsyncClient.describe_job_definitions)
    list_job_definitions = _sync_iterator(AsyncClient.list_job_definitions)
    deregister_job_definition = _sync(AsyncClient.deregister_job_definition)
    list_hosts = _sync_iterator(AsyncClient.list_hosts)
    summarize_hosts = _sync(AsyncClient.summarize_hosts)
    describe_host = _sync(AsyncClient.describe_host)
    approve_host = _sync(AsyncClient.approve_host)
    cordon_host = _sync(AsyncClient.cordon_host)
    uncordon_host = _sync(AsyncClient.uncordon_host)
    drain_host = _sync(AsyncClient.drain_host)
    reclaim_host = _sync(AsyncClient.reclaim_host)
    keep_host = _sync(AsyncClient.keep_host)
    remove_host = _sync(AsyncClient.remove_host)
    release_brake = _sync(AsyncClient.release_brake)
    describe_restore = _sync(AsyncClient.describe_restore)
    stop_stray = _sync(AsyncClient.stop_stray)

    create_scheduling_policy = _sync(AsyncClient.create_scheduling_policy)
    describe_scheduling_policies = _sync(AsyncClient.describe_scheduling_policies)
    list_scheduling_policies = _sync_iterator(AsyncClient.list_scheduling_policies)
    update_scheduling_policy = _sync(AsyncClient.update_scheduling_policy)
    delete_scheduling_policy = _sync(AsyncClient.delete_scheduling_policy)
    create_quota_share = _sync(AsyncClient.create_quota_share)
    describe_quota_shares = _sync(AsyncClient.describe_quota_shares)
    list_quota_shares = _sync_iterator(AsyncClient.list_quota_shares)
    update_quota_share = _sync(AsyncClient.update_quota_share)
    delete_quota_share = _sync(AsyncClient.delete_quota_share)
    create_consumable_resource = _sync(AsyncClient.create_consumable_resource)
    describe_consumable_resources = _sync(AsyncClient.describe_consumable_resources)
    list_consumable_resources = _sync_iterator(AsyncClient.list_consumable_resources)
    update_consumable_resource = _sync(AsyncClient.update_consumable_resource)
    delete_consumable_resource = _sync(AsyncClient.delete_consumable_resource)

    search = _sync(AsyncClient.search)
    sum_usage = _sync(AsyncClient.sum_usage)

    list_events = _sync_iterator(AsyncClient.list_events)
    create_sink = _sync(AsyncClient.create_sink)
    list_sinks = _sync(AsyncClient.list_sinks)
    switch_sink = _sync(AsyncClient.switch_sink)
    delete_sink = _sync(AsyncClient.delete_sink)

    tag_resource = _sync(AsyncClient.tag_resource)
    untag_resource = _sync(AsyncClient.untag_resource)
    list_tags = _sync(AsyncClient.list_tags)

    get_login = _sync(AsyncClient.get_login)
    who_am_i = _sync(AsyncClient.who_am_i)
    bind_role = _sync(AsyncClient.bind_role)
    unbind_role = _sync(AsyncClient.unbind_role)
    list_bindings = _sync_iterator(AsyncClient.list_bindings)
    create_token = _sync(AsyncClient.create_token)
    list_tokens = _sync_iterator(AsyncClient.list_tokens)
    revoke_token = _sync(AsyncClient.revoke_token)
    get_audit_head = _sync(AsyncClient.get_audit_head)

    put_secret = _sync(AsyncClient.put_secret)
    list_secrets = _sync_iterator(AsyncClient.list_secrets)
    delete_secret = _sync(AsyncClient.delete_secret)
    create_join_token = _sync(AsyncClient.create_join_token)
    list_join_tokens = _sync_iterator(AsyncClient.list_join_tokens)
    revoke_join_token = _sync(AsyncClient.revoke_join_token)
    rekey_secrets = _sync(AsyncClient.rekey_secrets)
    create_access_key = _sync(AsyncClient.create_access_key)
    list_access_keys = _sync_iterator(AsyncClient.list_access_keys)
    rotate_access_key = _sync(AsyncClient.rotate_access_key)
    revoke_access_key = _sync(AsyncClient.revoke_access_key)
    derive_signing_key = _sync(AsyncClient.derive_signing_key)
    note_signature = _sync(AsyncClient.note_signature)

    def close(self) -> None:
        """Close the connection. The client cannot be used afterwards."""
        if self._is_open:
            self.run(self.client.close())
            self._is_closed = True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out *work* in the background loop; an interrupt of this thread cancels it."""
        if not self._is_open:
            work.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            # A signal that comes just before a wait, or to another thread, does not end it.
            while not future.done():
                concurrent.futures.wait([future], WAKE_S)
            return future.result()
        finally:
            future.cancel()

    def iterate(self, source: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Iterate over *source* in the background loop."""
        step = asyncio.Lock()
        try:
            while True:
                try:
                    yield self.run(_next(source, step))
                except StopAsyncIteration:
                    return
        finally:
            if self._is_open:
                self.run(_close(source, step))

    @property
    def _is_open(self) -> bool:
        return not self._is_closed and not self._loop.is_closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Execution:
    """
    A command that runs in an attempt, for plain threads; see :class:`batchyard.entry_calls.AsyncExecution`.

    `Client.exec` makes it; leave it by ``with``, or ``close``. One thread reads, and another may write.
    """

    def __init__(self, client: Client, execution: AsyncExecution) -> None:
        self._client = client
        self._execution = execution

    @property
    def attempt_id(self) -> str:
        """Of the attempt."""
        return self._execution.attempt_id

    @property
    def host(self) -> str:
        """Name of the host."""
        return self._execution.host

    @property
    def exit_code(self) -> int | None:
        """As a shell gives it; None until all output was read, and where nobody knows."""
        return self._execution.exit_code

    @property
    def error(self) -> str:
        """Why it could not be started, or why its code is not known."""
        return self._execution.error

    def read(self) -> Output | None:
        """See ``AsyncExecution``."""
        return self._client.run(self._execution.read())

    def __iter__(self) -> Iterator[Output]:
        while (output := self.read()) is not None:
            yield output

    def write(self, data: bytes) -> None:
        """See ``AsyncExecution``."""
        self._client.run(self._execution.write(data))

    def close_stdin(self) -> None:
        """See ``AsyncExecution``."""
        self._client.run(self._execution.close_stdin())

    def resize(self, rows: int, columns: int) -> None:
        """See ``AsyncExecution``."""
        self._client.run(self._execution.resize(rows, columns))

    def communicate(self, data: bytes = b"") -> ExecResult:
        """See ``AsyncExecution``."""
        return self._client.run(self._execution.communicate(data))

    def close(self) -> None:
        """See ``AsyncExecution``."""
        self._client.run(self._execution.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _next(source: AsyncGenerator[T, None], step: asyncio.Lock) -> T:
    async with step:
        return await anext(source)


async def _close(source: AsyncGenerator[T, None], step: asyncio.Lock) -> None:
    # After an interrupt the step under way is still being cancelled; it must end first.
    async with step:
        await source.aclose()
