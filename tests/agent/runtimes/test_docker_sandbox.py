"""Jobs of Fargate in a sandbox: gVisor's runsc, from Debian, under an engine of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from batchyard.resources import Resources
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.protocol import Exited, RuntimeUnavailableError, StopSignal

from .engine import Seen, busybox_tar, container_spec, named
from .own_engine import own_engine

RUNSC = shutil.which("runsc")
KERNEL = "4.4.0"
"""What gVisor says that it is."""

pytestmark = [
    pytest.mark.docker,
    pytest.mark.netns,
    pytest.mark.timeout(180),
    pytest.mark.sandbox,
]


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """An engine that has runsc among its runtimes, and the test's image."""
    # Debian's takes every network namespace of a recent kernel for the host's own, and will not join it.
    runtime = tmp_path / "runsc"
    runtime.write_text(f'#!/bin/sh\nexec {RUNSC} --network=none "$@"\n')
    runtime.chmod(0o755)
    with own_engine("--add-runtime", f"runsc={runtime}") as engine, engine.running():
        with contextlib.closing(docker.APIClient(base_url=engine.address)) as api:
            api.import_image_from_data(busybox_tar("/bin/busybox"), repository="busybox", tag="latest")
        yield engine.address


async def test_only_jobs_of_fargate_are_sandboxed(address: str, tmp_path: Path) -> None:
    """They see another kernel than the host's; exit codes, signals, limits and output are as ever."""
    runtime, seen = DockerRuntime("scope", address=address, sandbox="runsc"), Seen()
    await runtime.open(seen)

    async def run(name: str, script: str, *, is_fargate: bool = True) -> tuple[Exited, str]:
        """Run a script, and send it a signal when it says that it is ready; return its end and its output."""
        amounts = Resources(cpu_millis=250, memory_mib=512)
        one = container_spec(tmp_path, named(name), "sh", "-c", script, resources=amounts)
        runtime.launch(replace(one, is_fargate=is_fargate))
        await seen.start_of(one.attempt_id)
        if "ready" in script:
            while b"ready" not in one.log_path.read_bytes():
                await asyncio.sleep(0.1)
            await runtime.signal(one.attempt_id, StopSignal.TERM)
        end = await seen.end_of(one.attempt_id)
        assert isinstance(end, Exited), end
        output = one.log_path.read_text()
        assert not await runtime.remove([one.attempt_id])
        return end, output

    end, kernel = await run("sandbox-code", "busybox uname -r; exit 7")
    assert (end.exit_code, kernel) == (7, f"{KERNEL}\n")
    _, kernel = await run("sandbox-none", "busybox uname -r", is_fargate=False)
    assert kernel not in ("", f"{KERNEL}\n")
    end, _ = await run("sandbox-stop", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    assert (end.exit_code, end.host_failed) == (9, False)
    end, _ = await run("sandbox-hungry", "busybox dd if=/dev/zero of=/dev/null bs=900M count=1; exit $?")
    assert (end.exit_code, end.out_of_memory) == (137, True)
    await runtime.close()


async def test_a_sandbox_that_the_engine_has_not_is_told(address: str) -> None:
    runtime = DockerRuntime("scope", address=address, network="none", sandbox="kata")
    with pytest.raises(RuntimeUnavailableError, match=r"has no runtime 'kata' for --sandbox; it has .*runc.*runsc"):
        await runtime.open(Seen())
