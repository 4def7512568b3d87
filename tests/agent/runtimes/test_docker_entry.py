"""Commands in containers, on a real Docker Engine: the container's user and rights, its streams apart, its end theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.protocol import EntryRefusedError, Exited, LaunchSpec, StopSignal, Wanted, Window

from .engine import Seen, container_spec, named, scope, swept, usable_network
from .entries import run, visit

pytestmark = pytest.mark.docker
__all__ = ["scope", "swept"]

A = named("entered")


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def runtime(scope: str, seen: Seen) -> AsyncIterator[DockerRuntime]:  # the fixture above
    runtime = DockerRuntime(scope, network=usable_network())
    await runtime.open(seen)
    yield runtime
    await runtime.close()


@pytest.fixture
def started(runtime: DockerRuntime, seen: Seen, tmp_path: Path) -> Callable[..., Any]:
    async def start(*command: str, **fields: Any) -> LaunchSpec:
        spec = container_spec(tmp_path, A, *(command or ("sleep", "1000")), **fields)
        runtime.launch(spec)
        await seen.start_of(A)
        return spec

    return start


async def test_it_is_what_the_container_is(runtime: DockerRuntime, started: Callable[..., Any]) -> None:
    spec = await started(user="1234:55", environment={"A": "b"}, secrets={"S": "x"})
    script = "id -u; id -g; echo $A $S; grep -E 'CapEff|NoNewPrivs' /proc/self/status; cat; echo e >&2; exit 7"
    code, out, err = await run(runtime, spec, "sh", "-c", script, data=b"in\n")
    assert (code, err) == (7, b"e\n")
    assert out.split() == [b"1234", b"55", b"b", b"x", b"CapEff:", b"0" * 16, b"NoNewPrivs:", b"1", b"in"]


async def test_streams_are_whole_and_codes_passed_through(runtime: DockerRuntime, started: Callable[..., Any]) -> None:
    spec = await started()
    data = bytes(range(256)) * 4096
    assert await run(runtime, spec, "cat", data=data) == (0, data, b"")
    assert (await run(runtime, spec, "sh", "-c", "kill -9 $$"))[0] == 137


@pytest.mark.parametrize(("command", "code"), [("no-such", 127), ("/no/such", 127), ("/etc", 126)])
async def test_what_cannot_be_started_has_a_shells_code(
    runtime: DockerRuntime, started: Callable[..., Any], command: str, code: int
) -> None:
    spec = await started()
    assert (await run(runtime, spec, command))[0] == code


async def test_a_terminal_is_its_own(runtime: DockerRuntime, started: Callable[..., Any]) -> None:
    spec = await started()
    script = "trap 'echo got; exit 5' INT; echo on $TERM; while :; do sleep 0.1; done"
    one = await visit(runtime, spec, "sh", "-c", script, stdin=True, terminal=True, terminal_type="vt100")
    await one.until(lambda out: b"on vt100\r\n" in out)
    await one.entry.resize(Window(rows=44, columns=111))
    await one.entry.write(b"\x03")
    assert (await one.end()).exit_code == 5
    await one.close()


async def test_it_ends_with_its_container(runtime: DockerRuntime, seen: Seen, started: Callable[..., Any]) -> None:
    spec = await started()
    one = await visit(runtime, spec, "sh", "-c", "echo up; exec sleep 1000")
    await one.until(lambda out: out == b"up\n")
    with pytest.raises(EntryRefusedError, match="gone"):
        await runtime.enter(spec, "nobody", Wanted(command=("true",)))
    await runtime.signal(A, StopSignal.KILL)
    assert isinstance(await seen.end_of(A), Exited)
    assert (await one.end()).exit_code == 137
    await one.close()
    with pytest.raises(EntryRefusedError, match="does not run"):
        await runtime.enter(spec, "", Wanted(command=("true",)))


async def test_a_job_with_a_terminal_keeps_its_place(
    runtime: DockerRuntime, seen: Seen, started: Callable[..., Any]
) -> None:
    """Its own command is not started by the container, whose image may have an entrypoint."""
    spec = await started("sh", "-c", "exit 3", terminal_grace_s=60)
    await asyncio.sleep(0.5)
    assert len(seen.of(A)) == 1
    assert b"2147483647" in (await run(runtime, spec, "cat", "/proc/1/cmdline", "/proc/7/cmdline"))[1]
