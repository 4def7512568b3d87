"""Jobs per second on Docker; bounded by the engine, which takes about half a second of its own for a container."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import docker
import docker.errors
from bench.figures import Figure, Outcome, Skipped, median, spread
from bench.scale import Scale
from bench.yard import in_own_process, open_yard, small_job
from tests.agent.runtimes.engine import IMAGE, ensure_image
from tests.conftest import why_no_docker

AT_ONCE = 4
NAME = "containers"


async def measure(scale: Scale) -> AsyncIterator[Outcome]:
    """Run arrays of ``true`` in containers and the bare loop in turn."""
    why = _why_not()
    if why:
        yield Skipped(NAME, why)
        return
    count, rounds = scale.pick(32, 8), scale.pick(3, 1)
    ours: list[float] = []
    bare: list[float] = []
    async with open_yard() as yard:
        await yard.add_agent("docker", AT_ONCE)
        job = small_job(IMAGE, "true")
        for _ in range(rounds):
            bare.append(await in_own_process(container_rate, count))
            pace = await yard.run(lambda: yard.submit(job, array_size=count), count)
            ours.append(pace.jobs_per_s)
    yield Figure(
        name=f"array of {count:,} {NAME}, sqlite",
        value=median(ours),
        unit="/s",
        baseline=median(bare),
        baseline_name=f"bare create, start, wait, remove, {AT_ONCE} at once",
        aim="0.9 of it",
        note=spread(ours),
    )


def _why_not() -> str:
    """Return why no container can be run here; empty when one can."""
    why = why_no_docker()
    if why:
        return why
    if shutil.which("busybox") is None and not _has_image():
        return f"there is neither an image {IMAGE} nor a busybox to make one of (on Debian: apt-get install busybox-static)"
    ensure_image()
    try:
        container_rate(1)
    except docker.errors.APIError as error:
        return f"the engine cannot run a container ({error.explanation})"
    return ""


def _has_image() -> bool:
    with contextlib.closing(docker.from_env().api) as api:
        return bool(api.images(IMAGE, quiet=True))


def container_rate(count: int) -> float:
    """Run *count* containers, ``AT_ONCE`` at once; return containers per second."""

    def work(share: int) -> None:
        with contextlib.closing(docker.from_env().api) as api:
            for _ in range(share):
                made = api.create_container(IMAGE, ["true"])["Id"]
                try:
                    api.start(made)
                    assert api.wait(made)["StatusCode"] == 0
                finally:
                    api.remove_container(made, force=True)

    shares = [count // AT_ONCE + (i < count % AT_ONCE) for i in range(AT_ONCE)]
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, shares))
    return count / (time.perf_counter() - began)
