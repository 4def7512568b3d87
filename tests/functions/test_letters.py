"""An executor without a folder: calls are what jobs read, outcomes a line of their logs, and both are bounded."""

from __future__ import annotations

import contextlib
import os
import venv
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from docker.utils import kwargs_from_env
from tests.clients.image import make_image
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.functions.deeds import OwnError, add, die, fail, wait_for

from batchyard import Client, Executor, JobError

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def pool(client: Client) -> Iterator[Executor]:
    with Executor(client=client, vcpus=0.25, memory=64) as made:
        yield made


def test_functions_of_the_program_go_along_and_futures_among_arguments_are_waited_for(pool: Executor) -> None:
    offset = 10
    one, two = pool.submit(add, 1), pool.submit(add, 2)
    both = pool.submit(lambda pair, *, more: sum(pair) + more + offset, [one, two], more=pool.submit(add, 3))
    assert both.result() == 19
    assert pool.submit(lambda: add).result()(4) == 5


def test_who_depends_on_a_call_that_fails_or_is_cancelled_shares_its_end(pool: Executor, tmp_path: Path) -> None:
    assert isinstance(pool.submit(add, pool.submit(fail, "broke")).exception(), OwnError)
    held = pool.submit(wait_for, str(tmp_path / "gate"))
    after = pool.submit(add, held)
    last = pool.submit(add, after)
    until(held.running, "it runs")
    assert after.cancel()
    with pytest.raises(CancelledError):
        last.result()
    (tmp_path / "gate").touch()
    assert held.result() == "came"


def test_what_it_prints_is_no_outcome(pool: Executor, client: Client) -> None:
    def print_much() -> str:
        os.write(1, b"no line end" * 1000)
        print("batchyard-outcome 1 eJw=", flush=True)
        return "it"

    future = pool.submit(print_much)
    assert future.result() == "it"
    assert b"".join(client.read_logs(future.job_id)).startswith(b"no line end")


def test_what_is_too_large_says_that_a_folder_would_do(pool: Executor) -> None:
    error = pool.submit(len, os.urandom(1 << 16)).exception()
    assert isinstance(error, ValueError)
    assert "and may take 65536: give the executor a folder" in str(error)
    error = pool.submit(os.urandom, 1 << 20).exception()
    assert isinstance(error, ValueError)
    assert "bytes of the log, and may take 1048576: give the executor a folder" in str(error)
    assert len(pool.submit(bytes, 1 << 24).result()) == 1 << 24, "zeros are packed"


@dataclass(frozen=True)
class BarePython:
    """An environment with nothing in it."""

    home: Path

    @property
    def bin(self) -> Path:
        return self.home / "bin"


@pytest.mark.docker
def test_a_container_needs_python_and_shares_nothing(tmp_path: Path) -> None:
    bare = BarePython(tmp_path / "bare")
    venv.create(bare.home, with_pip=False, symlinks=True)
    engine = str(kwargs_from_env().get("base_url", "unix:///var/run/docker.sock"))
    image = make_image(bare, {}, engine, "batchyard-tests-python")
    yard = Yard(tmp_path / "yard")
    try:
        yard.start("a", cpus=1, runtimes="docker")
        offset = 2
        with yard.client() as client, Executor(client=client, image=image, python="python", memory="256M") as pool:
            assert pool.submit(lambda number: number + offset, pool.submit(int, 3.5)).result() == 5
    finally:
        yard.sweep()
        with contextlib.closing(docker.APIClient(base_url=engine)) as api:
            api.remove_image(image, force=True)


def test_a_job_that_dies_says_so(pool: Executor) -> None:
    error = pool.submit(die).exception()
    assert isinstance(error, JobError)
    assert error.job.exit_code == 9
