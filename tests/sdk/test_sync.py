"""The client without ``await``: the same behaviour, in threads, at a fork, at an interrupt and at the end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.sdk.yard import Yard

from batchyard import AsyncClient, Client, NotFoundError, container

HELLO = container(["echo", "hello"])


def test_the_sync_client_does_the_same(yard: Yard) -> None:
    with Client(yard.address) as client:
        answer = client.submit_job(name="hello", container=HELLO)
        yard.do(yard.join().run(3, log=b"out\n"))
        assert client.wait(answer.job_id).exit_code == 3
        assert b"".join(client.read_logs(answer.job_id)) == b"out\n"
        assert [job.id for job in client.list_jobs()] == [answer.job_id]
        with pytest.raises(NotFoundError):
            client.describe_job("nothing")


def test_the_sync_client_lets_go_of_an_iterator_left_early(yard: Yard) -> None:
    with Client(yard.address) as client:
        for _ in range(3):
            client.submit_job(name="hello", container=HELLO)
        first = client.list_jobs(page_size=1)
        next(first)
        first.close()
        events = client.watch_jobs([next(client.list_jobs()).id])
        next(events)
        events.close()


def test_changes_are_told_from_the_first_message_on_and_over_a_restart(yard: Yard) -> None:
    with Client(yard.address) as client:
        client.submit_job(name="before", container=HELLO)
        changes = client.watch_changes()
        assert not next(changes).changed_ids
        job_id = client.submit_job(name="hello", container=HELLO).job_id
        assert next(changes).changed_ids == [job_id]
        yard.stop()
        yard.start()
        client.cancel_job(job_id, "no")
        told = next(changes)
        assert told.changed_ids == [job_id]
        assert not told.missed
        changes.close()


def test_the_sync_client_serves_many_threads(yard: Yard) -> None:
    with Client(yard.address) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: client.submit_job(name=f"job{i}", container=HELLO), range(40)))
    assert len({answer.job_id for answer in answers}) == 40


def test_many_sync_clients_come_and_go_in_many_threads(yard: Yard) -> None:
    def submit_one(i: int) -> str:
        with Client(yard.address) as client:
            return client.submit_job(name=f"job{i}", container=HELLO).job_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(submit_one, range(40)))) == 40


def test_an_unclosed_client_leaves_nothing_to_say_at_exit(yard: Yard) -> None:
    """A script that forgets close(), even in the middle of a stream, ends quietly."""
    job_id = yard.client.submit_job(name="hello", container=HELLO).job_id
    script = (
        "import sys; from batchyard import Client; c = Client(sys.argv[1]); w = c.watch_jobs([sys.argv[2]]); next(w)"
    )
    command = [sys.executable, "-c", script, yard.address, job_id]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_a_forked_process_gets_a_loop_of_its_own(yard: Yard) -> None:
    """A process that has not called yet may fork, and both sides may then call."""
    script = (
        "import os, sys; from batchyard.sync import Client; parent = Client(sys.argv[1]); pid = os.fork()\n"
        "with Client(sys.argv[1]) as client: client.describe_jobs(['a'])\n"
        "if pid: sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    command = [sys.executable, "-c", script, yard.address]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_an_interrupt_that_does_not_wake_the_waiting_thread_ends_the_wait(yard: Yard) -> None:
    """As one does not that comes between the last look for signals and the wait."""

    async def wait_for_ever() -> None:
        # Where the handler runs in another thread, the main one goes on waiting.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        await asyncio.Event().wait()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            yard.client.run(wait_for_ever())
    finally:
        signal.signal(signal.SIGINT, before)
    assert yard.client.describe_jobs(["a"]) == []


def test_a_closed_sync_client_says_so(yard: Yard) -> None:
    client = Client(yard.address)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.describe_jobs(["a"])


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can; and each carries its documentation."""

    def public(kind: type) -> set[str]:
        found = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
        return found - {"acting_for"}  # for gateways, which do not wait

    assert public(Client) - {"run", "iterate"} == public(AsyncClient)
    assert all(
        getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__ for name in public(AsyncClient) - {"close"}
    )
