"""The Docker runtime on a real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from tests.processes import running

from batchyard.resources import Resources
from batchyard.tasks import Tmpfs, Ulimit
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.docker_attempt import STOPPED_EARLY_REASON, VANISHED_REASON
from batchyard_agent.runtimes.docker_engine import Engine
from batchyard_agent.runtimes.docker_images import Images
from batchyard_agent.runtimes.docker_spec import HOME_LABEL, container_body, container_name
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.host_access import Allowed
from batchyard_agent.runtimes.log_limit import marker, used_bytes
from batchyard_agent.runtimes.protocol import (
    Adoption,
    Device,
    Exited,
    LaunchSpec,
    Mount,
    RuntimeUnavailableError,
    StartFailed,
    StopSignal,
    Vanished,
)

from .docker_registry import Registry
from .engine import IMAGE, Seen, Wire, busybox_tar, container_spec, named, scope, swept, usable_network

pytestmark = pytest.mark.docker
__all__ = ["scope", "swept"]

A = named("a")
"""The one attempt of most tests."""

sdk_leaks = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""The docker SDK leaves its socket open when it cannot connect."""

REPOSITORY = Path(__file__).parents[3]

Spec = Callable[..., LaunchSpec]


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """Build specs whose logs lie in this test's folder."""

    def build(attempt_id: str, *command: str, **others: Any) -> LaunchSpec:
        return container_spec(tmp_path, attempt_id, *command, **others)

    return build


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


@pytest.fixture
def registry() -> Iterator[Registry]:
    busybox = shutil.which("busybox")
    assert busybox is not None
    # Another root each time, so that the engine cannot have the layer already.
    registry = Registry(busybox_tar(busybox) + time.time_ns().to_bytes(512, "big"))
    yield registry
    registry.close()
    with contextlib.closing(docker.from_env().api) as api, contextlib.suppress(docker.errors.ImageNotFound):
        api.remove_image(registry.image, force=True)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path / "engine.sock")
    yield wire
    wire.close()


# --- launch ---


async def test_attempt_runs_and_ends_with_its_code_and_its_log(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    before_ms = time.time_ns() // 1_000_000
    one = spec(A, "sh", "-c", 'echo "out $WHO"; sleep 0.2; echo err >&2; exit 7', environment={"WHO": "you"})
    runtime.launch(one)
    end = await seen.end_of(A)
    after_ms = time.time_ns() // 1_000_000
    started = await seen.start_of(A)
    assert isinstance(end, Exited)
    assert end == Exited(attempt_id=A, exit_code=7, stopped_at_ms=end.stopped_at_ms, usage=end.usage)
    assert before_ms <= started.started_at_ms <= end.stopped_at_ms <= after_ms
    assert seen.all == [started, end]
    assert one.log_path.read_text() == "out you\nerr\n"


@pytest.mark.parametrize(("command", "exit_code"), [(("true",), 0), (("false",), 1), (("sh", "-c", "exit 255"), 255)])
async def test_exit_codes_are_passed_through(
    runtime: DockerRuntime, seen: Seen, spec: Spec, command: tuple[str, ...], exit_code: int
) -> None:
    runtime.launch(spec(A, *command))
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == exit_code


async def test_missing_command_has_a_reason_with_and_without_init(
    runtime: DockerRuntime, seen: Seen, spec: Spec
) -> None:
    """With an init process the engine has started the container before the command is found missing."""
    runtime.launch(spec(named("init"), "nosuch"))
    runtime.launch(spec(named("bare"), "nosuch", init_process_enabled=False))
    runtime.launch(spec(named("folder"), "/tmp", init_process_enabled=False))
    with_init, without, folder = [await seen.end_of(name) for name in (named("init"), named("bare"), named("folder"))]
    assert isinstance(with_init, StartFailed)
    assert with_init.exit_code == 127
    assert with_init.reason == "CannotStartContainerError: exec nosuch failed: No such file or directory"
    assert isinstance(without, StartFailed)
    assert without.exit_code == 127
    assert without.reason.startswith("CannotStartContainerError: ")
    assert "executable file not found" in without.reason
    assert isinstance(folder, StartFailed)
    assert folder.exit_code == 126


async def test_limits_are_the_kernels(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    script = (
        "cat /sys/fs/cgroup/cpu.max 2>/dev/null || echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us)"
        " $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us);"
        "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    )
    one = spec(A, "sh", "-c", script, resources=Resources(cpu_millis=250, memory_mib=48))
    runtime.launch(one)
    await seen.end_of(A)
    assert one.log_path.read_text().split() == ["25000", "100000", str(48 << 20)]


async def test_options_reach_the_container(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    script = (
        "id -u; pwd; ulimit -n; (: > /x) 2>/dev/null || echo read-only; (: > /scratch/x) && echo scratch;"
        "while read -r what where rest; do [ $where = /dev/shm ] && echo $rest; done < /proc/mounts"
    )
    one = spec(
        A,
        *("sh", "-c", script),
        user="1000:1000",
        working_directory="/tmp",
        readonly_root_filesystem=True,
        shared_memory_size_mib=3,
        ulimits=(Ulimit(name="nofile", soft_limit=100, hard_limit=200),),
        tmpfs=(Tmpfs(container_path="/scratch", size_mib=1, mount_options=("mode=1777",)),),
    )
    runtime.launch(one)
    await seen.end_of(A)
    *lines, shared_memory = one.log_path.read_text().splitlines()
    assert lines == ["1000", "/tmp", "100", "read-only", "scratch"]
    assert "size=3072k" in shared_memory


async def test_tmpfs_options_and_limits_of_the_kernel_reach_the_container(
    runtime: DockerRuntime, seen: Seen, spec: Spec
) -> None:
    script = (
        "while read -r what where kind how rest; do [ $where = /scratch ] && echo $how; done < /proc/mounts;"
        "cat /proc/1/comm /proc/self/limits"
    )
    limits = (
        Ulimit(name="nproc", soft_limit=50, hard_limit=60),
        Ulimit(name="core", soft_limit=0, hard_limit=0),
        Ulimit(name="stack", soft_limit=1 << 20, hard_limit=-1),
    )
    tmpfs = (Tmpfs(container_path="/scratch", size_mib=2, mount_options=("ro", "noexec", "mode=700")),)
    one = spec(A, "sh", "-c", script, ulimits=limits, tmpfs=tmpfs)
    runtime.launch(one)
    await seen.end_of(A)
    options, first, *lines = one.log_path.read_text().splitlines()
    assert {"ro", "noexec", "size=2048k", "mode=700"} <= set(options.split(","))
    assert "init" in first
    found = {line[:26].rstrip(): line[26:].split()[:2] for line in lines}
    assert found["Max processes"] == ["50", "60"]
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max stack size"] == [str(1 << 20), "unlimited"]


async def test_swap_reaches_the_engine(runtime: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient) -> None:
    """Kernels may account for no swap, so the engine is asked what it will have enforced."""
    runtime.launch(spec(A, "true", max_swap_mib=16, swappiness=40))
    await seen.end_of(A)
    config = api.inspect_container(container_name(A))["HostConfig"]
    assert config["Memory"] == 64 << 20
    assert config["MemorySwap"] in (80 << 20, -1)  # -1: without swap accounting
    assert config["MemorySwappiness"] in (40, None)  # None: cgroup v2 has none


USES = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; head -c 20000000 /dev/zero | tail -c 20000000 >/dev/null"
"""Some tenths of a second of a processor, and twenty million bytes."""


async def test_what_an_attempt_has_used_is_told_with_its_end(
    runtime: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient
) -> None:
    """Read from its cgroup in the moment of its end; the engine knows nothing of it any more."""
    began_s = time.monotonic()
    runtime.launch(spec(A, "sh", "-c", USES))
    end = await seen.end_of(A)
    took_ms = (time.monotonic() - began_s) * 1000
    assert isinstance(end, Exited)
    assert 50 < end.usage.user_cpu_ms + end.usage.system_cpu_ms < 2 * took_ms
    assert 20_000_000 // 1024 < end.usage.peak_memory_kib <= 64 << 10
    assert api.stats(container_name(A), stream=False)["cpu_stats"]["cpu_usage"]["total_usage"] == 0


async def test_what_an_adopted_attempt_has_used_is_told_too(seen: Seen, spec: Spec, scope: str) -> None:
    one = spec(A, "sh", "-c", f"{USES}; sleep 2")
    former, heir = (DockerRuntime(scope, network=usable_network()) for _ in range(2))
    before = Seen()
    await former.open(before)
    former.launch(one)
    await before.start_of(A)
    await former.close()
    await heir.open(seen)
    assert await heir.adopt(one) is Adoption.KNOWN
    end = await seen.end_of(A)
    await heir.close()
    assert isinstance(end, Exited)
    assert end.usage.peak_memory_kib > 20_000_000 // 1024


# --- what the host allows ---


@pytest.fixture
async def open_host(scope: str, seen: Seen, tmp_path: Path) -> AsyncIterator[DockerRuntime]:
    """A host that allows privileged containers, some devices, and the folder ``open`` to be mounted."""
    (tmp_path / "open" / "in").mkdir(parents=True)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "secret").write_text("secret")
    allowed = Allowed(privileged=True, volume_paths=(str(tmp_path / "open"),), device_paths=("/dev/kms*",))
    runtime = DockerRuntime(scope, network=usable_network(), allowed=allowed, mounts=HeldMounts(tmp_path / "mounts"))
    await runtime.open(seen)
    yield runtime
    await runtime.close()


async def test_volumes_are_mounted(open_host: DockerRuntime, seen: Seen, spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "open" / "in" / "given").write_text("given\n")
    script = "cat /in/given; (: > /in/x) 2>/dev/null || echo read-only; echo made > /out/made; : > /scratch/x && echo scratch"
    one = spec(
        *(A, "sh", "-c", script),
        mounts=(
            Mount(container_path="/in", host_path=str(tmp_path / "open" / "in"), read_only=True),
            Mount(container_path="/out", host_path=str(tmp_path / "open")),
            Mount(container_path="/scratch"),
        ),
    )
    open_host.launch(one)
    await seen.end_of(A)
    assert one.log_path.read_text().splitlines() == ["given", "read-only", "scratch"]
    assert (tmp_path / "open" / "made").read_text() == "made\n"


async def test_which_image_runs_is_told(
    open_host: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient
) -> None:
    """One that was made here has no digest of a registry's."""
    open_host.launch(spec(A, "true"))
    assert (await seen.start_of(A)).image_digest == api.inspect_image(IMAGE)["Id"]


async def test_scratch_goes_with_the_attempt(
    open_host: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient
) -> None:
    open_host.launch(spec(A, "true", mounts=(Mount(container_path="/scratch"),)))
    await seen.end_of(A)
    (mount,) = api.inspect_container(container_name(A))["Mounts"]
    assert not await open_host.remove([A])
    with pytest.raises(docker.errors.NotFound):
        api.inspect_volume(mount["Name"])


@pytest.mark.parametrize("path", ["closed", "open/link", "open/../closed", "open/missing"])
async def test_other_paths_are_not_mounted(
    open_host: DockerRuntime, seen: Seen, spec: Spec, tmp_path: Path, path: str, api: docker.APIClient
) -> None:
    (tmp_path / "open" / "link").symlink_to(tmp_path / "closed")
    open_host.launch(spec(A, "cat", "/x/secret", mounts=(Mount(container_path="/x", host_path=str(tmp_path / path)),)))
    end = await seen.end_of(A)
    assert isinstance(end, StartFailed)
    assert end.reason.startswith("CannotStartContainerError: ")
    assert path in end.reason
    assert not (tmp_path / "open" / "missing").exists()
    with pytest.raises(docker.errors.NotFound):
        api.inspect_container(container_name(A))


async def test_link_put_in_the_way_between_create_and_start_is_not_followed(
    open_host: DockerRuntime, seen: Seen, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Engine.create

    def create_and_swap(engine: Engine, name: str, body: dict[str, Any]) -> str:
        container = create(engine, name, body)
        (tmp_path / "open" / "in").rename(tmp_path / "open" / "away")
        (tmp_path / "open" / "in").symlink_to(tmp_path / "closed")
        return container

    monkeypatch.setattr(Engine, "create", create_and_swap)
    (tmp_path / "open" / "in" / "secret").write_text("own")
    mount = Mount(container_path="/x", host_path=str(tmp_path / "open" / "in"))
    one = spec(A, "cat", "/x/secret", mounts=(mount,))
    open_host.launch(one)
    assert isinstance(await seen.end_of(A), Exited)
    assert one.log_path.read_text() == "own"


async def test_devices_are_given_under_their_name_in_the_container(
    open_host: DockerRuntime, seen: Seen, spec: Spec
) -> None:
    """Of a device that no container has by itself; opening it for writing writes nothing yet."""
    script = "(: > /dev/kernel) 2>/dev/null && echo writable || echo not writable"
    for attempt_id, permissions in ((named("w"), "w"), (named("r"), "r")):
        device = Device(host_path="/dev/kmsg", container_path="/dev/kernel", permissions=permissions)
        open_host.launch(spec(attempt_id, "sh", "-c", script, devices=(device,)))
    refused = spec(named("refused"), "true", devices=(Device(host_path="/dev/null", container_path="/dev/x"),))
    open_host.launch(refused)
    ends = [await seen.end_of(name) for name in (named("w"), named("r"), named("refused"))]
    logs = [spec(name).log_path.read_text() for name in (named("w"), named("r"))]
    assert logs == ["writable\n", "not writable\n"]
    assert isinstance(ends[2], StartFailed)
    assert ends[2].reason == (
        "CannotStartContainerError: this host does not allow the device /dev/null (allowed: /dev/kms*)"
    )


async def test_only_a_host_that_allows_it_runs_privileged_containers(
    open_host: DockerRuntime, runtime: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient
) -> None:
    """Whether the engine can give all rights depends on its machine, so it is asked what it was told."""
    open_host.launch(spec(named("whole"), "true", privileged=True))
    runtime.launch(spec(named("refused"), "true", privileged=True))
    await seen.end_of(named("whole"))
    end = await seen.end_of(named("refused"))
    assert api.inspect_container(container_name(named("whole")))["HostConfig"]["Privileged"] is True
    assert isinstance(end, StartFailed)
    assert end.reason == "CannotStartContainerError: this host allows no privileged containers"


async def test_engine_that_refuses_a_container_is_quoted(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    runtime.launch(spec(A, "true", working_directory="not/absolute"))
    end = await seen.end_of(A)
    assert isinstance(end, StartFailed)
    assert end.reason.startswith("CannotCreateContainerError: ")
    assert "not/absolute" in end.reason


@pytest.mark.parametrize("init", [True, False])
async def test_memory_limit_ends_the_attempt(runtime: DockerRuntime, seen: Seen, spec: Spec, init: bool) -> None:
    """
    It is told as the engine tells it.

    Under cgroup v1 an engine now and then misses that the kernel killed a container's only process, as
    its watch ends with the container: of three attempts it has to tell of one.
    """
    resources = Resources(cpu_millis=1000, memory_mib=16)
    told = []
    for attempt_id in (A, named("b"), named("c")):
        runtime.launch(spec(attempt_id, "tail", "/dev/zero", init_process_enabled=init, resources=resources))
        end = await seen.end_of(attempt_id)
        assert isinstance(end, Exited)
        assert end.exit_code == 137
        told.append(end.out_of_memory)
        if end.out_of_memory:
            break
    assert told[-1], told


@pytest.mark.parametrize("exit_code", [0, 5, 143])
async def test_a_child_killed_for_memory_leaves_the_commands_exit_code(
    runtime: DockerRuntime, seen: Seen, spec: Spec, exit_code: int
) -> None:
    """An engine under cgroup v1 may miss a kill: of three attempts it has to tell of one."""
    resources = Resources(cpu_millis=1000, memory_mib=16)
    told = []
    for attempt_id in (A, named("b"), named("c")):
        script = f"tail /dev/zero; sleep 1; exit {exit_code}"
        runtime.launch(spec(attempt_id, "sh", "-c", script, resources=resources))
        end = await seen.end_of(attempt_id)
        assert isinstance(end, Exited)
        assert end.exit_code == exit_code
        told.append(end.out_of_memory)
        if end.out_of_memory:
            break
    assert told[-1], told


async def test_signals_end_the_attempt(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    for name, signal, exit_code in ((named("term"), StopSignal.TERM, 143), (named("kill"), StopSignal.KILL, 137)):
        runtime.launch(spec(name, "sleep", "60"))
        await seen.start_of(name)
        await runtime.signal(name, signal)
        end = await seen.end_of(name)
        assert isinstance(end, Exited)
        assert (end.exit_code, end.out_of_memory) == (exit_code, False)
        await runtime.signal(name, signal)
    await runtime.signal(named("never heard of"), StopSignal.KILL)


# --- images ---


async def test_missing_image_is_pulled_once_for_all_who_wait(
    runtime: DockerRuntime, seen: Seen, spec: Spec, registry: Registry
) -> None:
    registry.manifest_answers = [503]
    for index in range(3):
        runtime.launch(spec(named(f"a:{index}"), "true", image=registry.image))
    ends = [await seen.end_of(named(f"a:{index}")) for index in range(3)]
    assert [end.exit_code for end in ends if isinstance(end, Exited)] == [0, 0, 0]
    # The engine asks with HEAD, and after the 503 we once more; three pulls would ask more often.
    assert registry.manifest_requests <= 3


async def test_unknown_image_ends_the_attempt_at_once(
    runtime: DockerRuntime, seen: Seen, spec: Spec, registry: Registry
) -> None:
    unknown = registry.image.replace("/box:", "/other:")
    runtime.launch(spec(A, "true", image=unknown))
    end = await seen.end_of(A)
    assert isinstance(end, StartFailed)
    assert end.reason.startswith("CannotPullContainerError: ")
    assert end.image_missing
    assert not end.host_failed
    assert "manifest unknown" in end.reason
    assert registry.manifest_requests <= 2


async def test_registry_that_is_down_is_tried_five_times(scope: str) -> None:
    engine = Engine()
    tries: list[str] = []

    class Counting:
        def pull(self, image: str, on_progress: Callable[[], None]) -> None:
            tries.append(image)
            engine.pull(image, on_progress)

    images = Images(Counting(), backoff_s=(0.01, 0.01, 0.01, 0.01))
    failure = await images.pull("127.0.0.1:9/box:latest")
    await images.close()
    engine.close()
    assert failure.startswith("CannotPullContainerError: ")
    assert "connection refused" in failure
    assert len(tries) == 5


async def test_attempt_can_be_stopped_while_its_image_is_pulled(
    runtime: DockerRuntime, seen: Seen, spec: Spec, registry: Registry
) -> None:
    registry.hold.clear()
    runtime.launch(spec(A, "true", image=registry.image))
    assert await asyncio.to_thread(registry.asked.wait, 20)
    await runtime.signal(A, StopSignal.TERM)
    assert await seen.end_of(A) == StartFailed(attempt_id=A, reason=STOPPED_EARLY_REASON)


# --- logs ---


async def test_both_ends_of_a_long_log_are_kept(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    """Whether it came at once or while it was followed; the cause stands in the last line."""
    talk = "echo begun; yes 0123456789 | head -n 20000; echo the cause; exit 4"
    short = spec(named("short"), "sh", "-c", talk, log_bytes_max=50_000)
    long = spec(named("long"), "sh", "-c", f"sleep 1; {talk}", log_bytes_max=50_000)
    for one in (short, long):
        runtime.launch(one)
    for one in (short, long):
        await seen.end_of(one.attempt_id)
        content = one.log_path.read_bytes()
        assert content.startswith(b"begun\n0123456789\n")
        assert marker(50_000) in content
        assert content.endswith(b"0123456789\nthe cause\n")
        # Of the disk, in whole blocks: where the first half ends, and where the second begins and ends.
        assert used_bytes(one.log_path) <= 50_000 + 3 * 4096


async def test_log_of_a_running_attempt_can_be_read(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    one = spec(A, "sh", "-c", "echo first; sleep 60")
    runtime.launch(one)
    await seen.start_of(A)
    async with asyncio.timeout(60):
        while one.log_path.read_text() != "first\n":
            await asyncio.sleep(0.05)
    await runtime.signal(A, StopSignal.KILL)
    await seen.end_of(A)


# --- adopt ---


async def test_killed_agents_attempts_are_adopted(
    scope: str, seen: Seen, spec: Spec, tmp_path: Path, api: docker.APIClient
) -> None:
    """Same container, right exit code, a whole log with nothing twice; also for one that ended meanwhile."""
    scripts = {
        named("long"): "for i in $(seq 1 40); do echo line $i; sleep 0.1; done; exit 3",
        named("short"): "sleep 0.7; echo only; exit 4",
    }
    arguments = [scope, usable_network(), str(tmp_path), *(f"{name}={script}" for name, script in scripts.items())]
    launcher = [sys.executable, "-m", "tests.agent.runtimes.docker_launcher", *arguments]
    with running(launcher, cwd=REPOSITORY, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert {agent.stdout.readline().partition("(")[0] for _ in scripts} == {"Started"}
        log = spec(named("long")).log_path
        async with asyncio.timeout(60):
            while "line 3" not in log.read_text():
                await asyncio.sleep(0.05)
    containers = {name: api.inspect_container(container_name(name))["Id"] for name in scripts}
    api.wait(container_name(named("short")))

    runtime = DockerRuntime(scope, network=usable_network())
    await runtime.open(seen)
    assert sorted(await runtime.launched()) == sorted(scripts)
    for name in scripts:
        assert await runtime.adopt(spec(name)) is Adoption.KNOWN
    ends = [await seen.end_of(name) for name in scripts]
    assert [end.exit_code for end in ends if isinstance(end, Exited)] == [3, 4]
    assert [len(seen.of(name)) for name in scripts] == [2, 2]
    assert log.read_text() == "".join(f"line {i}\n" for i in range(1, 41))
    assert spec(named("short")).log_path.read_text() == "only\n"
    assert {name: api.inspect_container(container_name(name))["Id"] for name in scripts} == containers
    for name in scripts:
        assert not await runtime.remove([name])
        assert not await runtime.remove([name])
    assert await runtime.launched() == []
    await runtime.close()


async def test_attempt_without_a_trace_was_never_launched(runtime: DockerRuntime, spec: Spec) -> None:
    assert await runtime.adopt(spec(A, "true")) is Adoption.NOT_LAUNCHED


async def test_container_that_was_never_started_is_removed(
    runtime: DockerRuntime, seen: Seen, spec: Spec, scope: str, api: docker.APIClient
) -> None:
    one = spec(A, "echo", "once")
    body = container_body(one, scope=scope, home=scope, cpu_count=1, network="none")
    api.create_container_from_config(body, container_name(A))  # type: ignore[no-untyped-call]
    assert await runtime.adopt(one) is Adoption.NOT_LAUNCHED
    assert await runtime.launched() == []
    runtime.launch(one)
    assert isinstance(await seen.end_of(A), Exited)
    assert one.log_path.read_text() == "once\n"


async def test_container_that_somebody_removed_has_vanished(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    one = spec(A, "true")
    one.log_path.touch()
    assert await runtime.adopt(one) is Adoption.KNOWN
    assert await seen.end_of(A) == Vanished(attempt_id=A, reason=VANISHED_REASON)


async def test_container_removed_while_it_runs_has_ended(
    runtime: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient
) -> None:
    runtime.launch(spec(A, "sleep", "60"))
    await seen.start_of(A)
    api.remove_container(container_name(A), force=True)
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert end.exit_code == 137


async def test_second_launch_starts_nothing(
    scope: str, runtime: DockerRuntime, seen: Seen, spec: Spec, api: docker.APIClient
) -> None:
    """An agent that forgot its attempts asks again; the engine's names and labels know better."""
    one = spec(A, "sh", "-c", "echo ran; exit 5")
    runtime.launch(one)
    first = await seen.end_of(A)
    container = api.inspect_container(container_name(A))["Id"]
    forgetful, again = DockerRuntime(scope, network=usable_network()), Seen()
    await forgetful.open(again)
    forgetful.launch(one)
    assert await again.end_of(A) == first
    assert api.inspect_container(container_name(A))["Id"] == container
    assert one.log_path.read_text() == "ran\n"
    await forgetful.close()


async def test_other_agents_container_is_left_alone(runtime: DockerRuntime, seen: Seen, spec: Spec, scope: str) -> None:
    other = DockerRuntime(f"{scope}-other", network=usable_network())
    theirs = Seen()
    await other.open(theirs)
    runtime.launch(spec(A, "sleep", "60"))
    await seen.start_of(A)
    other.launch(spec(A, "true"))
    end = await theirs.end_of(A)
    assert isinstance(end, StartFailed)
    assert "another container is named" in end.reason
    assert await other.launched() == []
    assert await runtime.launched() == [A]
    await other.close()


async def test_an_agent_with_a_new_id_finds_and_kills_what_its_folder_launched(
    scope: str, seen: Seen, spec: Spec
) -> None:
    """The journal was wiped, and with it the host's id; a copy of the folder elsewhere has no part in it."""
    home = f"alpha:/{scope}"
    former = DockerRuntime(scope, home=home, network=usable_network())
    await former.open(seen)
    former.launch(spec(A, "sleep", "60"))
    await seen.start_of(A)
    await former.close()
    copied, heir = DockerRuntime(scope, home=f"{home}-copied"), DockerRuntime(f"{scope}-new", home=home)
    await copied.open(Seen())
    await heir.open(Seen())
    assert await copied.launched() == []
    assert await heir.launched() == [A]
    await heir.discard(A)
    assert await heir.launched() == []
    await heir.discard(A)
    await copied.close()
    await heir.close()


async def test_what_was_launched_before_homes_had_a_label_is_its_hosts(
    runtime: DockerRuntime, spec: Spec, scope: str, api: docker.APIClient
) -> None:
    body = container_body(spec(A, "true"), scope=scope, home="", cpu_count=1, network="none")
    del body["Labels"][HOME_LABEL]
    api.create_container_from_config(body, container_name(A))  # type: ignore[no-untyped-call]
    assert await runtime.launched() == [A]


# --- an engine that fails ---


@sdk_leaks
@pytest.mark.usefixtures("swept")
async def test_missing_engine_is_told_at_once(tmp_path: Path) -> None:
    runtime = DockerRuntime("nobody", address=f"unix://{tmp_path}/none.sock")
    with pytest.raises(RuntimeUnavailableError, match="no Docker Engine answers"):
        await runtime.open(Seen())
    await runtime.close()


@sdk_leaks
@pytest.mark.usefixtures("swept")
async def test_engine_that_hangs_is_unavailable_after_three_seconds(scope: str, wire: Wire) -> None:
    wire.freeze()
    runtime = DockerRuntime(scope, address=wire.address)
    begin = time.monotonic()
    with pytest.raises(RuntimeUnavailableError):
        await runtime.open(Seen())
    assert time.monotonic() - begin < 30, "the SDK alone would wait for a minute"
    wire.thaw()
    await runtime.close()


@sdk_leaks
@pytest.mark.usefixtures("swept")
async def test_end_while_the_engine_was_away_is_learnt_with_the_whole_log(
    scope: str, seen: Seen, spec: Spec, wire: Wire, api: docker.APIClient
) -> None:
    """All connections break, the container ends unseen, the engine comes back."""
    runtime = DockerRuntime(scope, address=wire.address, network=usable_network())
    await runtime.open(seen)
    one = spec(A, "sh", "-c", "echo before; sleep 2; echo after; exit 6")
    runtime.launch(one)
    await seen.start_of(A)
    async with asyncio.timeout(60):
        while one.log_path.read_text() != "before\n":
            await asyncio.sleep(0.05)
    wire.cut()
    await asyncio.to_thread(api.wait, container_name(A))
    assert len(seen.all) == 1
    with pytest.raises(RuntimeUnavailableError):
        await runtime.launched()
    wire.restore()
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.host_failed) == (6, False)
    assert one.log_path.read_text() == "before\nafter\n"
    await runtime.close()


@sdk_leaks
@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("signal", [15, 9])
async def test_what_the_engine_ends_as_it_is_restarted_is_no_fault_of_the_job(
    scope: str, seen: Seen, spec: Spec, wire: Wire, api: docker.APIClient, signal: int
) -> None:
    """It stops listening, ends its containers by signals, and is back."""
    runtime = DockerRuntime(scope, address=wire.address, network=usable_network())
    await runtime.open(seen)
    runtime.launch(spec(A, "sleep", "600"))
    await seen.start_of(A)
    wire.cut()
    await asyncio.to_thread(api.kill, container_name(A), signal)
    await asyncio.to_thread(api.wait, container_name(A))
    wire.restore()
    end = await seen.end_of(A)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.host_failed) == (128 + signal, True)
    assert end.reason == "The Docker Engine was stopped or restarted under the container"
    await runtime.close()


@sdk_leaks
@pytest.mark.usefixtures("swept")
async def test_an_engine_that_hangs_is_offered_no_work_and_comes_back_by_itself(
    scope: str, seen: Seen, spec: Spec, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchyard_agent.runtimes.docker_engine.PING_TIMEOUT_S", 0.5)
    monkeypatch.setattr("batchyard_agent.runtimes.docker.PING_EVERY_S", 0.1)
    runtime = DockerRuntime(scope, address=wire.address, network=usable_network())
    await runtime.open(seen)
    for stop, resume in ((wire.freeze, wire.thaw), (wire.cut, wire.restore)):
        assert runtime.fault == ""
        stop()
        async with asyncio.timeout(50):
            while runtime.fault != "the Docker Engine does not answer":
                await asyncio.sleep(0.05)
        resume()
        async with asyncio.timeout(50):
            while runtime.fault:
                await asyncio.sleep(0.05)
    runtime.launch(spec(A, "true"))
    assert isinstance(await seen.end_of(A), Exited)
    await runtime.close()


@sdk_leaks
@pytest.mark.usefixtures("swept")
async def test_launch_waits_for_an_engine_that_restarts(scope: str, seen: Seen, spec: Spec, wire: Wire) -> None:
    runtime = DockerRuntime(scope, address=wire.address, network=usable_network())
    await runtime.open(seen)
    wire.cut()
    runtime.launch(spec(A, "true"))
    with pytest.raises(RuntimeUnavailableError):
        await runtime.launched()
    wire.restore()
    assert isinstance(await seen.end_of(A), Exited)
    await runtime.close()


@sdk_leaks
@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("is_delivered", [True, False])
async def test_start_that_is_not_answered_runs_once_or_never(
    scope: str, seen: Seen, spec: Spec, wire: Wire, is_delivered: bool
) -> None:
    """The connection breaks while the engine is asked to start; only the engine knows what became of it."""
    runtime = DockerRuntime(scope, address=wire.address, network=usable_network())
    await runtime.open(seen)
    one = spec(A, "echo", "ran")
    wire.lose_next(b"/start ", is_delivered=is_delivered)
    runtime.launch(one)
    end = await seen.end_of(A)
    if is_delivered:
        assert isinstance(end, Exited)
        assert one.log_path.read_text() == "ran\n"
    else:
        assert isinstance(end, StartFailed)
        assert end.reason.startswith("CannotStartContainerError: the Docker Engine cannot be reached")
        assert await runtime.launched() == []
    await runtime.close()


# --- many at once (how fast: bench/docker_jobs.py) ---


async def test_many_at_once_each_end_well(runtime: DockerRuntime, seen: Seen, spec: Spec) -> None:
    """Twenty containers, four at a time."""
    slots = asyncio.Semaphore(4)

    async def run(index: int) -> int:
        name = named(f"many:{index}")
        async with slots:
            runtime.launch(spec(name, "true"))
            end = await seen.end_of(name)
        assert not await runtime.remove([name])
        assert isinstance(end, Exited)
        return end.exit_code

    assert await asyncio.gather(*(run(index) for index in range(20))) == [0] * 20
    assert await runtime.launched() == []
