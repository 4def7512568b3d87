"""Attempts of several containers on a real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from tests.conftest import emulator_of
from tests.e2e.programs import until

from batchyard.tasks import Condition, Container, ContainerDependency
from batchyard_agent.runtimes import docker_holder
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.docker_spec import ATTEMPT_LABEL, container_name
from batchyard_agent.runtimes.protocol import Adoption, Exited, LaunchSpec, Mount, StartFailed, StopSignal, Vanished

from .engine import Seen, container_spec, named, scope, swept, usable_network

__all__ = ["scope", "swept"]

A = named("task")

docker_needed = pytest.mark.docker


# The holder's program -------------------------------------------------------------


ARCHITECTURES = [
    pytest.param(name, marks=[] if name == platform.machine() else pytest.mark.emulator)
    for name in ("x86_64", "aarch64")
]


@pytest.fixture(params=ARCHITECTURES)
def hold(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The program as a command: that of this machine as it is, that of another one emulated."""
    path = tmp_path / "hold"
    path.write_bytes(docker_holder.program(request.param))
    path.chmod(0o755)
    return [str(path)] if request.param == platform.machine() else [emulator_of(request.param), str(path)]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_holder_sleeps_and_ends_when_told(hold: list[str], ending: signal.Signals) -> None:
    with subprocess.Popen(hold) as process:
        until(lambda: is_waiting(process.pid), "it waits for signals")
        process.send_signal(signal.SIGCHLD)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.send_signal(ending)
        assert process.wait(60) == 0


def test_the_holder_uses_no_time(hold: list[str]) -> None:
    with subprocess.Popen(hold) as process:
        until(lambda: is_waiting(process.pid), "it waits for signals")
        before = used_by(process.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)  # so long it could use some
        after = used_by(process.pid)
        process.kill()
    assert after == before


def is_waiting(pid: int) -> bool:
    """Say whether the kernel holds a process in rt_sigtimedwait(2)."""
    return "sigtimedwait" in Path(f"/proc/{pid}/wchan").read_text()


def used_by(pid: int) -> int:
    """Return how long a process has run, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="namespaces are made by root")
def test_the_holder_reaps_and_ends_as_first_process_of_a_namespace(hold: list[str]) -> None:
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *hold]) as process:
        until(lambda: children_of(process.pid), "the holder is there")
        (first,) = children_of(process.pid)
        until(lambda: is_waiting(first), "and waits for signals")
        subprocess.run(["nsenter", "-t", str(first), "-p", "sh", "-c", "sleep 1 & exit 0"], check=True)
        assert children_of(first)
        until(lambda: not children_of(first), "an orphan that has ended is no zombie")
        os.kill(first, signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize(("architecture", "machine", "length"), [("x86_64", 62, 236), ("aarch64", 183, 248)])
def test_the_holder_is_a_small_static_executable(architecture: str, machine: int, length: int) -> None:
    program = docker_holder.program(architecture)
    assert program[:5] == b"\x7fELF\x02"
    assert int.from_bytes(program[18:20], "little") == machine
    assert len(program) == length
    with pytest.raises(KeyError):
        docker_holder.program("riscv64")


# Attempts -----------------------------------------------------------------------


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def runtime(scope: str, seen: Seen) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(scope, network=usable_network())
    await runtime.open(seen)
    yield runtime
    await runtime.close()


@pytest.fixture
def api() -> Iterator[docker.APIClient]:
    """The engine by another way than ours."""
    with contextlib.closing(docker.from_env().api) as api:
        yield api


class Task:
    """Builds a spec of several containers, whose logs lie in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[LaunchSpec] = []

    def add(self, name: str, script: str, *, after: str = "", mounts: tuple[Mount, ...] = (), **others: Any) -> Task:
        depends_on = tuple(
            ContainerDependency(container=other, condition=Condition(condition))
            for other, _, condition in (text.partition(":") for text in after.split())
        )
        spec = container_spec(
            self.folder,
            A,
            *("sh", "-c", script),
            part=name,
            log_path=self.folder / f"{name}.log",
            mounts=mounts,
            name=name,
            depends_on=depends_on,
            **others,
        )
        self.parts.append(spec)
        return self

    def spec(self, **others: Any) -> LaunchSpec:
        modes = {key: others[key] for key in ("pid_mode", "ipc_mode") if key in others}
        parts = tuple(with_modes(part, **modes) for part in self.parts)
        return LaunchSpec(
            attempt_id=A,
            job_id="job",
            container=Container(),
            environment={},
            log_path=self.folder / "task.log",
            log_bytes_max=1 << 20,
            parts=parts,
            **modes,
        )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def with_modes(spec: LaunchSpec, **modes: str) -> LaunchSpec:
    fields = {name: getattr(spec, name) for name in LaunchSpec.__slots__}
    return LaunchSpec(**fields | modes)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path)


def codes(end: Any) -> dict[str, int | None]:
    return {each.name: each.exit_code for each in end.containers}


def held(api: docker.APIClient) -> list[str]:
    found = api.containers(all=True, filters={"label": f"{ATTEMPT_LABEL}={A}"})
    return sorted(name.lstrip("/") for container in found for name in container["Names"])


@docker_needed
async def test_init_sidecar_and_main(runtime: DockerRuntime, seen: Seen, task: Task, api: docker.APIClient) -> None:
    shared = (Mount(container_path="/data", volume="data"),)
    task.add("init", "echo made >/data/file; echo init", essential=False, mounts=shared)
    task.add("side", "echo side; sleep 100", essential=False, after="init:SUCCESS", stop_timeout_s=2)
    task.add("main", "cat /data/file; echo main; exit 7", after="init:SUCCESS side:START", mounts=shared)
    runtime.launch(task.spec())
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 7
    assert codes(end)["init"] == 0
    assert codes(end)["main"] == 7
    assert codes(end)["side"] in (137, 143)
    assert (task.log("init"), task.log("side"), task.log("main")) == ("init\n", "side\n", "made\nmain\n")
    assert all(0 < each.started_at_ms <= each.stopped_at_ms for each in end.containers)
    assert await runtime.launched() == [A]
    name = container_name(A)
    assert held(api) == [name, f"{name}-init", f"{name}-main", f"{name}-side"]
    assert not await runtime.remove([A])
    assert held(api) == []
    assert not api.volumes(filters={"label": f"{ATTEMPT_LABEL}={A}"})["Volumes"]


@docker_needed
async def test_containers_share_their_network(runtime: DockerRuntime, seen: Seen, task: Task) -> None:
    task.add("server", "echo hello >/tmp/x; exec busybox httpd -f -p 127.0.0.1:7777 -h /tmp", essential=False)
    retry = (
        "for i in 1 2 3 4 5 6 7 8 9; do busybox wget -qO- http://127.0.0.1:7777/x && exit 0; sleep 0.3; done; exit 1"
    )
    task.add("client", retry, after="server:START")
    runtime.launch(task.spec())
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 0
    assert task.log("client").strip().endswith("hello")


@docker_needed
@pytest.mark.parametrize(("mode", "sees"), [("task", True), ("", False)])
async def test_containers_share_their_processes_if_asked(
    runtime: DockerRuntime, seen: Seen, task: Task, mode: str, sees: bool
) -> None:
    task.add("other", "exec sleep 4242", essential=False, stop_timeout_s=2)
    look = "sleep 0.5; for f in /proc/[0-9]*/cmdline; do busybox tr '\\0' ' ' <$f; echo; done"
    task.add("main", look, after="other:START")
    runtime.launch(task.spec(pid_mode=mode))
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 0
    assert ("sleep 4242" in task.log("main")) is sees


@docker_needed
async def test_modes_reach_the_engine(runtime: DockerRuntime, seen: Seen, task: Task, api: docker.APIClient) -> None:
    task.add("main", "sleep 100", stop_timeout_s=2)
    runtime.launch(task.spec(pid_mode="task", ipc_mode="task"))
    await seen.start_of(A)
    name = container_name(A)
    holder = api.inspect_container(name)["Id"]
    config = api.inspect_container(f"{name}-main")["HostConfig"]
    modes = {config["NetworkMode"], config["PidMode"], config["IpcMode"]}
    assert modes == {f"container:{holder}"}
    await runtime.signal(A, StopSignal.KILL)
    await seen.end_of(A)


@docker_needed
async def test_a_failed_init_is_a_failed_start(runtime: DockerRuntime, seen: Seen, task: Task) -> None:
    task.add("init", "exit 3", essential=False)
    task.add("main", "echo never", after="init:SUCCESS")
    runtime.launch(task.spec())
    end = await seen.end_of(A)
    assert isinstance(end, StartFailed)
    assert end.reason == "Container main was not started: init, which it waits for, exited with 3"
    assert codes(end) == {"init": 3, "main": None}
    assert not (task.folder / "main.log").exists()
    assert not any(o for o in seen.all if o is not end)


@docker_needed
async def test_a_missing_image_of_one_fails_the_start(runtime: DockerRuntime, seen: Seen, task: Task) -> None:
    task.add("side", "sleep 100", essential=False, stop_timeout_s=2)
    task.add("main", "true", after="side:START", image="localhost:1/nosuch:latest")
    runtime.launch(task.spec())
    end = await seen.end_of(A)
    assert isinstance(end, StartFailed)
    assert end.reason.startswith("CannotPullContainerError")
    assert codes(end)["main"] is None


@docker_needed
async def test_stop_reaches_all(runtime: DockerRuntime, seen: Seen, task: Task) -> None:
    trap = "trap 'exit 9' TERM; echo ready; while true; do sleep 0.1; done"
    task.add("a", trap)
    task.add("b", trap, essential=False)
    runtime.launch(task.spec())
    await seen.start_of(A)
    async with asyncio.timeout(30):
        while not task.log("a") or not task.log("b"):
            await asyncio.sleep(0.1)
    await runtime.signal(A, StopSignal.TERM)
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 9
    assert codes(end) == {"a": 9, "b": 9}


@docker_needed
async def test_a_stop_during_the_launch_starts_nothing(runtime: DockerRuntime, seen: Seen, task: Task) -> None:
    task.add("main", "echo never")
    runtime.launch(task.spec())
    await runtime.signal(A, StopSignal.TERM)
    end = await seen.end_of(A)
    assert isinstance(end, StartFailed)
    assert end.reason == "Stopped before it started"
    assert not (task.folder / "main.log").exists()


@docker_needed
async def test_memory_is_bounded_by_container(runtime: DockerRuntime, seen: Seen, task: Task) -> None:
    task.add("small", "exec tail /dev/zero", essential=False)
    task.add("main", "sleep 3")
    runtime.launch(task.spec())
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 0
    small = next(each for each in end.containers if each.name == "small")
    assert small.exit_code == 137
    assert small.reason.startswith("OutOfMemoryError")


@docker_needed
async def test_holder_is_made_where_its_image_is_missing(
    runtime: DockerRuntime, seen: Seen, task: Task, api: docker.APIClient
) -> None:
    image = docker_holder.image(platform.machine())
    with contextlib.suppress(docker.errors.APIError):  # another worker's task may use it
        api.remove_image(image, force=True)
    task.add("main", "true")
    runtime.launch(task.spec(pid_mode="task"))
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 0


# Another agent ------------------------------------------------------------------


async def again(scope: str, seen: Seen) -> DockerRuntime:
    runtime = DockerRuntime(scope, network=usable_network())
    await runtime.open(seen)
    return runtime


@docker_needed
async def test_another_agent_goes_on_with_what_was_left(scope: str, task: Task, api: docker.APIClient) -> None:
    shared = (Mount(container_path="/data", volume="data"),)
    task.add("init", "echo run >>/data/init; sleep 2", essential=False, mounts=shared)
    task.add("side", "echo run >>/data/side; sleep 100", essential=False, mounts=shared, stop_timeout_s=2)
    task.add("main", "cat /data/init /data/side; exit 5", after="init:SUCCESS", mounts=shared)
    first, before = await again(scope, Seen()), time.monotonic()
    first.launch(task.spec())
    while len(held(api)) < 3 or not (task.folder / "side.log").exists():
        assert time.monotonic() < before + 60
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    await first.close()
    seen = Seen()
    second = await again(scope, seen)
    assert await second.launched() == [A]
    assert await second.adopt(task.spec()) is Adoption.KNOWN
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 5
    assert task.log("main") == "run\nrun\n"
    assert codes(end)["init"] == 0
    assert not await second.remove([A])
    assert held(api) == []
    await second.close()


@docker_needed
async def test_another_agent_learns_how_all_ended(scope: str, task: Task) -> None:
    task.add("a", "sleep 1; exit 4")
    task.add("b", "sleep 2; exit 6", essential=False)
    first = await again(scope, early := Seen())
    first.launch(task.spec())
    await early.start_of(A)
    await first.close()
    await asyncio.sleep(3)
    second = await again(scope, seen := Seen())
    assert await second.adopt(task.spec()) is Adoption.KNOWN
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert codes(end) == {"a": 4, "b": 6}
    assert end.exit_code == 4
    assert not await second.remove([A])
    await second.close()


@docker_needed
async def test_what_was_never_started_may_be_launched(scope: str, task: Task, api: docker.APIClient) -> None:
    task.add("main", "echo once")
    task.add("side", "echo once", essential=False)
    spec = task.spec()
    runtime = await again(scope, seen := Seen())
    assert await runtime.adopt(spec) is Adoption.NOT_LAUNCHED
    runtime.launch(spec)
    assert isinstance(await seen.end_of(A), Exited)
    assert not await runtime.remove([A])
    await runtime.close()


@docker_needed
async def test_a_part_that_ran_and_is_gone_is_never_run_again(scope: str, task: Task, api: docker.APIClient) -> None:
    task.add("main", "sleep 100")
    runtime = await again(scope, seen := Seen())
    runtime.launch(task.spec())
    await seen.start_of(A)
    await runtime.close()
    api.remove_container(f"{container_name(A)}-main", force=True)
    second = await again(scope, seen := Seen())
    assert await second.adopt(task.spec()) is Adoption.KNOWN
    assert isinstance(await seen.end_of(A), Vanished)
    assert not await second.remove([A])
    assert held(api) == []
    await second.close()


@docker_needed
async def test_discard_kills_all(scope: str, task: Task, api: docker.APIClient) -> None:
    task.add("a", "sleep 100", mounts=(Mount(container_path="/d", volume="d"),))
    task.add("b", "sleep 100")
    runtime = await again(scope, seen := Seen())
    runtime.launch(task.spec())
    await seen.start_of(A)
    await runtime.close()
    second = await again(scope, Seen())
    await second.discard(A)
    assert held(api) == []
    assert not api.volumes(filters={"label": f"{ATTEMPT_LABEL}={A}"})["Volumes"]
    await second.close()
