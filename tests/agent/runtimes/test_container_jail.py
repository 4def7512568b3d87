"""What a container at a security level may not do, each tried in a real one."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from batchyard.resources import Resources
from batchyard.security import SecurityLevel
from batchyard_agent.runtimes import queue_networks
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.docker_spec import BRIDGE, HOST_LABEL, bridge_prefix, container_name
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.host_access import Allowed
from batchyard_agent.runtimes.protocol import Exited, Mount, StartFailed
from batchyard_agent.runtimes.queue_networks import QueueNetworks, jumps, rules

from .engine import Seen, container_spec, named, scope, usable_network

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]
__all__ = ["scope"]

LINK_LOCAL, CLOSED, OPEN = "169.254.169.254", "198.18.0.2", "198.18.0.3"
"""Where a machine is told of itself; what an operator closed; what a job may reach (RFC 2544: of no network)."""


class Hello(http.server.BaseHTTPRequestHandler):
    """Says who asks for what."""

    def do_GET(self) -> None:  # http.server's name
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(address: str = "0.0.0.0") -> Iterator[int]:  # containers are to reach it, or not
    with http.server.ThreadingHTTPServer((address, 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Jail:
    """A runtime whose containers are of one queue."""

    def __init__(self, runtime: DockerRuntime, seen: Seen, folder: Path) -> None:
        self.runtime, self.seen, self._folder = runtime, seen, folder

    async def start(self, name: str, script: str, level: SecurityLevel, **more: object) -> str:
        amounts = Resources(cpu_millis=1000, memory_mib=256)
        spec = container_spec(self._folder, named(name), "sh", "-c", script, resources=amounts, **more)
        self.runtime.launch(replace(spec, security_level=level, job_queue="strangers"))
        return spec.attempt_id

    async def tells(self, name: str, script: str, level: SecurityLevel, **more: object) -> list[str]:
        """Run a script to its end, and return the lines that it wrote."""
        attempt_id = await self.start(name, script, level, **more)
        end = await self.seen.end_of(attempt_id)
        assert isinstance(end, Exited), end
        return (self._folder / f"{attempt_id}.log").read_text().splitlines()


def packet_filter(*words: str) -> None:
    subprocess.run(["iptables", "-w", *words], check=False, capture_output=True)


def bridge_address() -> str:
    """Return this machine's address on Docker's default bridge."""
    told = subprocess.run(["ip", "-4", "-o", "addr", "show", "docker0"], check=True, capture_output=True, text=True)
    return told.stdout.split()[3].partition("/")[0]


@pytest.fixture
def door() -> Iterator[tuple[str, int]]:
    """Where attempts' metadata would be."""
    with serving(bridge_address()) as port:
        yield bridge_address(), port


@pytest.fixture
async def jail(scope: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Jail]:
    if usable_network() != BRIDGE or os.geteuid() or shutil.which("iptables") is None:
        pytest.skip("needs root, iptables and an engine with a network")
    seen = Seen()
    where = request.getfixturevalue("door") if "door" in request.fixturenames else None
    networks = QueueNetworks(scope, closed=(CLOSED,), door=lambda: where)
    (tmp_path / "open").mkdir()
    allowed = Allowed(privileged=True, volume_paths=(str(tmp_path / "open"),))
    runtime = DockerRuntime(scope, allowed=allowed, mounts=HeldMounts(tmp_path / "mounts"), networks=networks)
    await runtime.open(seen)
    if not runtime.isolation.is_fenced:
        await runtime.close()
        pytest.skip("the engine keeps no rules of its own in this network namespace")
    yield Jail(runtime, seen, tmp_path)
    await runtime.close()
    with contextlib.closing(docker.from_env().api) as api:
        for container in api.containers(all=True, filters={"label": f"{HOST_LABEL}={scope}"}):
            api.remove_container(container["Id"], force=True, v=True)
        for network in api.networks(filters={"label": f"{HOST_LABEL}={scope}"}):
            api.remove_network(network["Id"])
    for chain, jump in jumps(bridge_prefix(scope)):
        packet_filter("-D", chain, *jump)
        packet_filter("-F", jump[-1])
        packet_filter("-X", jump[-1])


WRONGS = {
    "chown": "busybox chown 0 /tmp/own",
    "a device": "busybox mknod /tmp/disk b 8 0",
    "a mount": "busybox mount -t tmpfs none /tmp",
    "the host's name": "busybox hostname mine",
    "a root of its own": "busybox chroot / /bin/true",
    "a raw socket": "busybox ping -c 1 -W 1 127.0.0.1",
    "a kernel's setting": "echo 1 > /proc/sys/kernel/panic",
    "the root folder": "echo > /own",
    "system folders": "echo >> /etc/passwd",
    "a higher priority": "busybox nice -n -5 /bin/true && [ $(busybox nice -n -5 busybox nice) = -5 ]",
    "memory of the machine": "head -c 1 /dev/mem",
    "the kernel's log": "busybox dmesg",
}


async def test_what_a_restricted_container_may_not_do(jail: Jail) -> None:
    tried = "\n".join(f'({command}) >/dev/null 2>&1 && echo "WENT THROUGH: {name}"' for name, command in WRONGS.items())
    script = f"""
        id -u; id -g
        busybox grep -E '^(CapInh|CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
        echo > /tmp/own && echo 'may write to /tmp'
        {tried}
        true
    """
    told = await jail.tells("restricted", script, SecurityLevel.RESTRICTED, readonly_root_filesystem=True)
    none = "0" * 16
    assert told == [
        "65534", "65534", f"CapInh:\t{none}", f"CapPrm:\t{none}", f"CapEff:\t{none}", f"CapBnd:\t{none}",
        "NoNewPrivs:\t1", "Seccomp:\t2", "may write to /tmp",
    ]  # fmt: skip


async def test_a_user_that_the_job_names_stays_and_root_is_refused(jail: Jail) -> None:
    assert await jail.tells("named-user", "id -u; id -g", SecurityLevel.RESTRICTED, user="1000:7") == ["1000", "7"]
    attempt_id = await jail.start("as-root", "id -u", SecurityLevel.RESTRICTED, user="0")
    end = await jail.seen.end_of(attempt_id)
    assert isinstance(end, StartFailed)
    assert end.reason == "CannotStartContainerError: security level RESTRICTED does not allow root"


async def test_root_at_the_baseline_is_root_without_the_host(jail: Jail) -> None:
    assert await jail.tells("baseline", "id -u", SecurityLevel.BASELINE) == ["0"]
    attempt_id = await jail.start("privileged", "true", SecurityLevel.BASELINE, privileged=True)
    assert isinstance(end := await jail.seen.end_of(attempt_id), StartFailed)
    assert end.reason.endswith("security level BASELINE does not allow privileged containers")


async def test_processes_and_threads_are_bounded(jail: Jail) -> None:
    """Of 1,100 that are begun the last ones are not."""
    script = "i=0; while [ $i -lt 1100 ]; do sleep 30 & i=$((i+1)); done 2>/tmp/refused; busybox wc -l < /tmp/refused"
    attempt_id = await jail.start("crowd", script, SecurityLevel.RESTRICTED)
    end = await jail.seen.end_of(attempt_id)
    assert isinstance(end, Exited)
    with contextlib.closing(docker.from_env().api) as api:
        assert api.inspect_container(container_name(attempt_id))["HostConfig"]["PidsLimit"] == 1024
    assert end.exit_code, "the shell ends when it cannot fork"


def reaching(address: str, port: int) -> str:
    return (
        f"echo {address} $(busybox timeout 3 busybox wget -q -O - http://{address}:{port}/ 2>/dev/null || echo closed)"
    )


@pytest.fixture
def cloud() -> Iterator[int]:
    """Another machine, in a network namespace, that has three addresses; where a server listens at each."""
    name, near, far = f"by{os.getpid()}", f"byn{os.getpid()}", f"byf{os.getpid()}"
    steps = [
        f"ip netns add {name}",
        f"ip link add {near} type veth peer name {far} netns {name}",
        f"ip addr add 198.18.0.1/24 dev {near}",
        f"ip link set {near} up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} addr add {CLOSED}/24 dev {far}",
        f"ip -n {name} addr add {OPEN}/24 dev {far}",
        f"ip -n {name} addr add {LINK_LOCAL}/32 dev lo",
        f"ip -n {name} link set {far} up",
        f"ip -n {name} route add default via 198.18.0.1",
        f"ip route add {LINK_LOCAL}/32 via {CLOSED}",
    ]
    try:
        for step in steps:
            subprocess.run(step.split(), check=True, capture_output=True)
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-u", "-m", "http.server", "8080"],
            cwd="/proc/self/fdinfo", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield 8080
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
    finally:
        for step in (f"ip netns del {name}", f"ip link del {near}", f"ip route del {LINK_LOCAL}/32"):
            subprocess.run(step.split(), check=False, capture_output=True)


async def test_a_network_reaches_what_is_not_closed(jail: Jail, door: tuple[str, int], cloud: int) -> None:
    """The metadata of attempts and other machines, and neither this one, nor what is closed, nor what tells of it."""
    with serving() as port:
        host = door[0]
        lines = (reaching(*door), reaching(host, port), *(reaching(a, cloud) for a in (OPEN, CLOSED, LINK_LOCAL)))
        told = await jail.tells("reaching", "\n".join(lines), SecurityLevel.BASELINE)
        assert [line.split()[1] != "closed" for line in told] == [True, False, True, False, False], told
        # What is closed is there: a container of no level gets through.
        told = await jail.tells("unsecured", "\n".join(lines), SecurityLevel.PRIVILEGED)
        assert [line.split()[1] != "closed" for line in told] == [True] * 5, told


async def test_jobs_of_a_queue_do_not_reach_each_other(jail: Jail) -> None:
    script = "busybox hostname -i; while true; do echo hello | busybox nc -l -p 7000; done"
    server = await jail.start("server", script, SecurityLevel.RESTRICTED)
    await jail.seen.start_of(server)
    with contextlib.closing(docker.from_env().api) as api:
        (network,) = api.inspect_container(container_name(server))["NetworkSettings"]["Networks"].values()
    told = await jail.tells("client", reaching(network["IPAddress"], 7000), SecurityLevel.RESTRICTED)
    assert told == [f"{network['IPAddress']} closed"]


async def test_rules_that_somebody_removed_are_written_again(jail: Jail, scope: str) -> None:
    with serving() as port:
        host = reaching(bridge_address(), port)
        for name in ("first", "second"):
            assert (await jail.tells(name, host, SecurityLevel.BASELINE))[0].endswith(" closed")
            packet_filter("-D", "INPUT", *jumps(bridge_prefix(scope))[0][1])


async def test_a_volume_is_never_another_folder(jail: Jail, tmp_path: Path) -> None:
    """Somebody swaps a folder for a link to the host's own for as long as containers are launched (C6)."""
    (tmp_path / "open" / "in").mkdir()
    (tmp_path / "open" / "in" / "passwd").write_text("own\n")
    (tmp_path / "open" / "link").symlink_to("/etc")
    swap = (
        "import ctypes, os, sys; os.chdir(sys.argv[1]); libc = ctypes.CDLL(None)\n"
        "while True: libc.renameat2(-100, b'in', -100, b'link', 2)\n"  # RENAME_EXCHANGE
    )
    racer = subprocess.Popen([sys.executable, "-c", swap, str(tmp_path / "open")])
    try:
        mount = Mount(container_path="/x", host_path=str(tmp_path / "open" / "in"), read_only=True)
        ended = {"own": 0, "refused": 0}
        for number in range(int(os.environ.get("BATCHYARD_RACES", "20"))):
            attempt_id = await jail.start(f"race-{number}", "cat /x/passwd", SecurityLevel.PRIVILEGED, mounts=(mount,))
            end = await jail.seen.end_of(attempt_id)
            if isinstance(end, Exited):
                assert (tmp_path / f"{attempt_id}.log").read_text() == "own\n"
                ended["own"] += 1
            else:
                ended["refused"] += 1  # it was a link, or nothing, just then
            assert not await jail.runtime.remove([attempt_id])
    finally:
        racer.kill()
        racer.wait()
    print(ended)
    assert ended["own"]


def test_rules_close_all_but_names_and_metadata() -> None:
    text = rules("by01234-", ("10.0.7.0/24",), ("172.17.0.1", 4711))
    assert (
        "-A BATCHYARD-BY01234-HOST -d 172.17.0.1 -p tcp --dport 4711 -j RETURN\n-A BATCHYARD-BY01234-HOST -j REJECT"
        in text
    )
    assert (
        "-A BATCHYARD-BY01234-AWAY -d 169.254.0.0/16 -j REJECT\n-A BATCHYARD-BY01234-AWAY -d 10.0.7.0/24 -j REJECT"
        in text
    )
    assert all(len(jump[-1]) <= 28 for _, jump in jumps("by01234-")), "iptables takes no longer name of a chain"


@pytest.mark.parametrize(
    ("target", "addresses"),
    [("127.0.0.1:8470", ()), ("unix:/run/controller.sock", ()), ("10.1.2.3:8470", ("10.1.2.3",)), ("localhost:1", ())],
)
def test_the_controllers_address_is_closed_unless_it_is_this_machine(target: str, addresses: tuple[str, ...]) -> None:
    assert queue_networks.addresses_of(target) == addresses
