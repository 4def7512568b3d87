"""What a container reads, and the copy of what it writes, on a real Docker Engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.protocol import Adoption, Exited, LaunchSpec

from .engine import Seen, container_spec, named, scope, swept, usable_network

pytestmark = pytest.mark.docker
__all__ = ["scope", "swept"]

A = named("a")


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def runtime(scope: str, seen: Seen) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(scope, network=usable_network(), writer=lambda _: None)
    await runtime.open(seen)
    yield runtime
    await runtime.close()


async def done(runtime: DockerRuntime, seen: Seen, spec: LaunchSpec) -> int:
    runtime.launch(spec)
    end = await seen.end_of(spec.attempt_id)
    assert isinstance(end, Exited), end
    return end.exit_code


async def test_all_of_it_is_read_and_then_it_ends(runtime: DockerRuntime, seen: Seen, tmp_path: Path) -> None:
    data = os.urandom(1 << 16)
    spec = container_spec(tmp_path, A, "busybox", "sha256sum", stdin=data)
    assert await done(runtime, seen, spec) == 0
    assert spec.log_path.read_text().split() == [hashlib.sha256(data).hexdigest(), "-"]


async def test_who_does_not_read_it_ends_all_the_same(runtime: DockerRuntime, seen: Seen, tmp_path: Path) -> None:
    assert await done(runtime, seen, container_spec(tmp_path, A, "true", stdin=b"x" * (1 << 16))) == 0


async def test_it_outlives_the_agent(seen: Seen, scope: str, tmp_path: Path) -> None:
    """All of it is the engine's before the start: a container that reads late reads it after the agent's death."""
    runtime = DockerRuntime(scope, network=usable_network())
    await runtime.open(seen)
    spec = container_spec(tmp_path, A, "sh", "-c", "sleep 2; busybox wc -c", stdin=b"x" * (1 << 16))
    runtime.launch(spec)
    await seen.start_of(A)
    await runtime.close()
    again, later = DockerRuntime(scope, network=usable_network()), Seen()
    await again.open(later)
    try:
        assert await again.adopt(spec) is Adoption.KNOWN
        assert isinstance(end := await later.end_of(A), Exited)
        assert (end.exit_code, spec.log_path.read_text()) == (0, "65536\n")
    finally:
        await again.close()


async def test_a_copy_of_the_log_is_whole_at_the_end(runtime: DockerRuntime, seen: Seen, tmp_path: Path) -> None:
    spec = container_spec(
        tmp_path, A, "sh", "-c", "echo one; sleep 1; echo two >&2; exit 3", output_path=f"{tmp_path}/made/copy.out"
    )
    assert await done(runtime, seen, spec) == 3
    assert (tmp_path / "made" / "copy.out").read_text() == spec.log_path.read_text() == "one\ntwo\n"


async def test_one_that_cannot_be_written_is_told_after_the_output(
    runtime: DockerRuntime, seen: Seen, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    spec = container_spec(tmp_path, A, "sh", "-c", "echo one; sleep 1; echo two", output_path=f"{tmp_path}/file/copy")
    assert await done(runtime, seen, spec) == 0
    one, two, told = spec.log_path.read_text().splitlines()
    assert (one, two) == ("one", "two")
    assert told.startswith(f"[batchyard: the output file {tmp_path}/file/copy cannot be written: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write as somebody else")
async def test_it_is_written_as_the_jobs_user_and_not_as_the_containers(scope: str, seen: Seen, tmp_path: Path) -> None:
    runtime = DockerRuntime(scope, network=usable_network(), writer=lambda _: job_user.find("nobody", allow_root=False))
    await runtime.open(seen)
    try:
        tmp_path.chmod(0o755)
        spec = container_spec(tmp_path, A, "echo", "root", output_path=f"{tmp_path}/roots.out")
        assert await done(runtime, seen, spec) == 0
    finally:
        await runtime.close()
    assert not (tmp_path / "roots.out").exists()
    assert "cannot be written" in spec.log_path.read_text()


async def test_a_host_without_plain_processes_writes_none(scope: str, seen: Seen, tmp_path: Path) -> None:
    runtime = DockerRuntime(scope, network=usable_network())
    await runtime.open(seen)
    try:
        spec = container_spec(tmp_path, A, "true", output_path=f"{tmp_path}/none.out")
        assert await done(runtime, seen, spec) == 0
    finally:
        await runtime.close()
    assert not (tmp_path / "none.out").exists()
