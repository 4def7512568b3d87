"""What our executor has beyond the standard library's: futures as arguments, jobs, a decorator, its own ends."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path

import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.functions.deeds import OwnError, add, die, fail, wait_for

from batchyard import Client, Executor, InvalidArgumentError, JobError, JobFuture
from batchyard.functions.follower import Follower
from batchyard.v1.job_pb2 import Job
from batchyard.wording import job_state

pytestmark = pytest.mark.timeout(240)


def test_futures_among_arguments_are_waited_for_by_the_jobs_themselves(pool: Executor, client: Client) -> None:
    one, two = pool.submit(add, 1), pool.submit(add, 2)
    both = pool.submit(lambda pair, *, more: sum(pair) + more["three"], [one, two], more={"three": pool.submit(add, 3)})
    assert both.result() == 9
    job = client.describe_job(both.job_id)
    assert job.name == "lambda"
    assert {each.job_id for each in job.depends_on} <= {future.job_id for future in both.dependencies}
    assert pool.submit(add, one).result() == 3  # of one that has ended long since


def test_who_depends_on_a_call_that_fails_has_its_error(pool: Executor) -> None:
    failed = pool.submit(fail, "broke")
    after = pool.submit(add, failed)
    last = pool.submit(add, after)
    assert isinstance(last.exception(), OwnError)
    error = failed.exception()
    assert error is not None
    assert "in fail\n" in str(error.__cause__)
    assert isinstance(after.exception(), OwnError)
    assert isinstance(pool.submit(add, failed).exception(), OwnError)


def test_it_has_it_also_where_its_own_end_is_told_first(pool: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """News of jobs come in any order."""
    ends: dict[str, Job] = {}
    tell = Follower._tell

    def tell_last_first(self: Follower, jobs: Sequence[Job]) -> None:
        ends.update({job.id: job for job in jobs if job_state(job).is_final})
        if len(ends) == 3:
            for job_id in sorted(ends, reverse=True):
                tell(self, [ends[job_id]])

    monkeypatch.setattr(Follower, "_tell", tell_last_first)
    failed = pool.submit(fail, "broke")
    after = pool.submit(add, failed)
    last = pool.submit(add, after)
    errors = [each.exception() for each in (last, after, failed)]
    assert [type(error) for error in errors] == [OwnError] * 3


def test_who_depends_on_a_call_that_is_cancelled_is_cancelled(client: Client, tmp_path: Path) -> None:
    with Executor(tmp_path, client=client, vcpus=1, memory=64) as one:
        first = one.submit(wait_for, str(tmp_path / "gate"))
        behind = one.submit(add, 1)
        after = one.submit(add, behind)
        until(first.running, "the first runs")
        assert behind.cancel()
        with pytest.raises(CancelledError):
            after.result()
        (tmp_path / "gate").touch()


def test_a_future_of_another_executor_is_refused(pool: Executor, client: Client, tmp_path: Path) -> None:
    with Executor(tmp_path, client=client, vcpus=0.25, memory=64) as other:
        error = pool.submit(add, other.submit(add, 1)).exception()
    assert isinstance(error, ValueError)
    assert "is of another executor" in str(error)


def test_a_job_that_dies_or_is_terminated_says_so(pool: Executor, tmp_path: Path) -> None:
    died, ended = pool.submit(die), pool.submit(wait_for, str(tmp_path / "never"))
    error = died.exception()
    assert isinstance(error, JobError)
    assert error.job.exit_code == 9
    until(ended.running, "it runs")
    ended.terminate("enough")
    error = ended.exception()
    assert isinstance(error, JobError)
    assert "enough" in str(error)


def test_a_try_that_dies_is_made_again(client: Client, tmp_path: Path) -> None:
    def die_first(path: Path) -> str:
        if not path.exists():
            path.touch()
            die()
        return "second"

    with Executor(tmp_path, client=client, vcpus=0.25, memory=64, attempts=2) as pool:
        assert pool.submit(die_first, tmp_path / "tried").result() == "second"


def test_a_decorated_function_is_called_as_a_job_and_plain_within_one(pool: Executor, client: Client) -> None:
    @pool.job(memory=96)
    def factorial(number: int) -> int:
        return number * factorial(number - 1) if number > 1 else 1  # type: ignore[operator]  # plain there

    @pool.job
    def minus(one: int, other: int) -> int:
        return one - other

    future = minus(factorial(5), factorial.__wrapped__(1))
    assert isinstance(future, JobFuture)
    assert future.result() == 119
    five = future.dependencies[0]
    assert client.describe_job(five.job_id).container.resources.memory_mib == 96
    assert client.describe_job(five.job_id).name == "factorial"


def test_what_the_controller_refuses_is_its_futures_error(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"container\.vcpus"):
        Executor(tmp_path, client=client, vcpus="much")
    with Executor(tmp_path, client=client, vcpus=0) as pool:
        assert isinstance(pool.submit(add, 1).exception(), InvalidArgumentError)
    with Executor(tmp_path, client=client, queue="none") as pool:
        with pytest.raises(BrokenExecutor, match="none"):
            pool.submit(add, 1).result()
        with pytest.raises(BrokenExecutor):
            pool.submit(add, 1)


def test_calls_outlive_a_controller_that_is_killed(yard: Yard, client: Client, tmp_path: Path) -> None:
    with Executor(tmp_path, client=client, vcpus=0.25, memory=64) as pool:
        first = pool.submit(wait_for, str(tmp_path / "gate"))
        after = pool.submit(str.upper, first)
        until(first.running, "the first runs")
        yard.controller.kill()
        late = pool.submit(add, 1)
        yard.controller.start()
        (tmp_path / "gate").touch()
        assert (after.result(), late.result()) == ("CAME", 2)


PROGRAM = """
import sys
from batchyard import Client, Executor

class Odd(Exception):
    pass

def halve(number):
    if number % 2:
        raise Odd(number)
    return number // 2

pool = Executor(sys.argv[1], client=Client(sys.argv[2]), vcpus=0.25, memory=64)
try:
    pool.submit(halve, 3).result()
except Odd as odd:
    print("odd", odd)
pool.submit(halve, 84).add_done_callback(lambda future: print("late", future.result()))
"""


def test_a_program_ends_when_its_calls_have_and_leaves_no_files(yard: Yard, tmp_path: Path) -> None:
    """Its own functions and classes go along, and come back as its own."""
    (tmp_path / "calls").mkdir()
    line = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "calls"), yard.socket]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "odd 3\nlate 42\n", "")
    assert list((tmp_path / "calls").iterdir()) == []


def test_nobody_has_to_keep_the_executor_itself(client: Client, tmp_path: Path) -> None:
    """As of the standard library's: a call outlives it, and its folder goes with the last future."""
    future = Executor(tmp_path, client=client, vcpus=0.25, memory=64).submit(add, 1)
    gc.collect()
    assert future.result(timeout=60) == 2
    del future
    until(lambda: gc.collect() >= 0 and not list(tmp_path.iterdir()), "its folder is gone")


def test_a_folder_that_is_gone_breaks_the_executor(client: Client, tmp_path: Path) -> None:
    with Executor(tmp_path, client=client, vcpus=0.25, memory=64) as pool:
        future = pool.submit(wait_for, str(tmp_path / "never"))
        until(future.running, "it runs")
        for folder in tmp_path.iterdir():
            shutil.rmtree(folder)
        future.terminate()
        assert isinstance(future.exception(timeout=60), BrokenExecutor)


def test_the_example_runs(yard: Yard, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "functions.py"
    ended = subprocess.run(
        [sys.executable, str(example), str(tmp_path)],
        env={"BATCHYARD_ADDRESS": yard.socket, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.stdout.splitlines() == [
        "2 ** 10 = 1024",
        "best of 5: 0.3, with an error of 0.0000",
        "not a rate: -1.0",
        "cancelled: True",
    ], ended.stderr


def test_a_thousand_calls_with_failures_and_cancels_come_to_what_they_should(pool: Executor, tmp_path: Path) -> None:
    """The most go in chunks; those beside them are jobs each."""
    gate = tmp_path / "gate"
    gates = [pool.submit(wait_for, str(gate)) for _ in range(4)]
    singles = [pool.submit(fail if number % 3 == 0 else add, number) for number in range(30)]
    results = pool.map(add, range(966), chunksize=161)
    until(lambda: all(each.running() for each in gates), "the host is full")
    cancelled = [future.cancel() for future in singles[::5]]
    gate.touch()
    assert cancelled == [True] * 6
    assert list(results) == list(range(1, 967))
    for number, future in enumerate(singles):
        if number % 5 == 0:
            assert future.cancelled()
        elif number % 3 == 0:
            error = future.exception()
            assert error is not None
            assert error.args == (number, 7)
        else:
            assert future.result() == number + 1


def test_notebooks_show_what_is_pending(pool: Executor, tmp_path: Path) -> None:
    future = pool.submit(wait_for, str(tmp_path / "gate"))
    assert "1 calls pending in queue default" in pool._repr_html_()
    (tmp_path / "gate").touch()
    future.result()
    assert f"<td>wait_for</td><td>{future.job_id}</td><td>finished</td>" in future._repr_html_()
