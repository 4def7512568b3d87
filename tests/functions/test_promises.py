"""What the standard library promises of executors: of its own two, and of ours, by the same tests."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.programs import until
from tests.functions.deeds import OwnError, add, fail, leave, one_by, wait_for

from batchyard import Client, Executor

pytestmark = pytest.mark.timeout(240)

AnyExecutor = concurrent.futures.Executor
MANY = 6
"""Calls behind one that runs: a process pool takes one or two of them for running, too."""


def _all(*futures: Future[Any]) -> list[Future[Any]]:
    return list(futures)


@pytest.fixture(params=["threads", "processes", "jobs", "letters"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AnyExecutor]:
    """Return what makes an executor that carries out one call at a time."""
    if request.param == "jobs":
        client: Client = request.getfixturevalue("client")
        return lambda: Executor(tmp_path, client=client, vcpus=1, memory=64)
    if request.param == "letters":
        its_client: Client = request.getfixturevalue("client")
        return lambda: Executor(client=its_client, vcpus=1, memory=64)
    if request.param == "threads":
        return lambda: ThreadPoolExecutor(1)
    return lambda: ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture
def one(make: Callable[[], AnyExecutor]) -> Iterator[AnyExecutor]:
    with make() as made:
        yield made


def test_a_future_has_what_its_call_returned_or_raised(one: AnyExecutor) -> None:
    good, bad, left = one.submit(add, 2, other=3), one.submit(fail, "broke"), one.submit(leave)
    assert good.result() == 5
    assert good.exception() is None
    assert good.done()
    assert not good.running()
    assert not good.cancelled()
    assert not good.cancel()
    with pytest.raises(OwnError) as caught:
        bad.result()
    assert caught.value.args == ("broke", 7)
    assert caught.value.code == 7
    assert isinstance(left.exception(), SystemExit)


def test_map_yields_in_order_and_raises_where_a_call_did(one: AnyExecutor) -> None:
    assert list(one.map(add, [1, 2, 3], [10, 20, 30])) == [11, 22, 33]
    assert list(one.map(add, range(5), range(5), chunksize=2)) == [0, 2, 4, 6, 8]
    results = one.map(one_by, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_who_waits_for_too_long_is_told_and_the_call_goes_on(one: AnyExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    future = one.submit(wait_for, str(gate))
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    with pytest.raises(TimeoutError):
        list(one.map(wait_for, [str(gate)], timeout=0.05))
    gate.touch()
    assert future.result() == "came"


def test_a_call_can_be_cancelled_until_it_runs(one: AnyExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = one.submit(wait_for, str(gate))
    behind = [one.submit(add, number) for number in range(MANY)]
    until(first.running, "the first runs")
    assert not first.cancel()
    called: list[Future[int]] = []
    behind[-1].add_done_callback(called.append)
    assert behind[-1].cancel()
    assert behind[-1].cancel()
    assert called == [behind[-1]]
    assert behind[-1].cancelled()
    assert behind[-1].done()
    with pytest.raises(CancelledError):
        behind[-1].result()
    gate.touch()
    assert first.result() == "came"
    assert not concurrent.futures.wait(_all(first, *behind)).not_done
    assert [future.result() for future in behind[:-1]] == [1, 2, 3, 4, 5]
    assert not first.cancel()


def test_callbacks_are_called_once_each_whatever_one_raises(one: AnyExecutor) -> None:
    called: list[int] = []
    over = threading.Event()

    def complain(_: Future[int]) -> None:
        called.append(1)
        raise ValueError("of a callback")

    def note(future: Future[int]) -> None:
        called.append(future.result())
        over.set()

    future = one.submit(add, 40)
    future.add_done_callback(complain)
    future.add_done_callback(note)
    assert over.wait(60)
    future.add_done_callback(note)
    assert called == [1, 41, 41]


def test_futures_can_be_waited_for_together(one: AnyExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    quick, failed, slow = one.submit(add, 1), one.submit(fail, "broke"), one.submit(wait_for, str(gate))
    done, left = concurrent.futures.wait(_all(quick, slow), return_when=FIRST_COMPLETED)
    assert (done, left) == ({quick}, {slow})
    done, left = concurrent.futures.wait(_all(quick, failed, slow), return_when=FIRST_EXCEPTION)
    assert slow in left
    gate.touch()
    assert set(as_completed(_all(quick, failed, slow))) == {quick, failed, slow}


def test_after_shutdown_nothing_is_taken_and_what_was_is_done(make: Callable[[], AnyExecutor]) -> None:
    executor = make()
    futures = [executor.submit(add, number) for number in range(3)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(add, 1)
    assert [future.result() for future in futures] == [1, 2, 3]
    with make() as waiting:
        futures = [waiting.submit(add, number) for number in range(3)]
    assert [future.done() for future in futures] == [True] * 3


def test_shutdown_may_cancel_what_does_not_run(make: Callable[[], AnyExecutor], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    executor = make()
    first = executor.submit(wait_for, str(gate))
    behind = [executor.submit(add, number) for number in range(MANY)]
    until(first.running, "the first runs")
    executor.shutdown(wait=False, cancel_futures=True)
    gate.touch()
    assert first.result() == "came"
    # Not by `wait`: a thread pool never tells it of these.
    until(lambda: all(future.done() for future in behind), "all are done or cancelled")
    assert behind[-1].cancelled()


def test_what_cannot_be_pickled_is_told_by_its_future(make: Callable[[], AnyExecutor]) -> None:
    with make() as executor:
        if isinstance(executor, ThreadPoolExecutor):
            pytest.skip("threads pickle nothing")
        future = executor.submit(str, threading.Lock())
        assert isinstance(future.exception(), TypeError)
        assert executor.submit(add, 1).result() == 2


def test_a_future_can_be_awaited(make: Callable[[], AnyExecutor]) -> None:
    async def gather() -> list[int]:
        return await asyncio.gather(*(asyncio.wrap_future(executor.submit(add, each)) for each in range(3)))

    with make() as executor:
        assert asyncio.run(gather()) == [1, 2, 3]
