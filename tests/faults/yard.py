"""
A yard that is to be broken: three members of etcd, controllers, four hosts and a user, each in a space of its own.

All is as in production, TLS and joining by token included, but for short times: a lease of three
seconds and the least fence there is. One host runs containers too, the state folder of
another is a small disk. The machine's own processes reach controllers by their sockets, which no
network breaks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.agent.runtimes import process_records
from tests.conftest import why_missing
from tests.e2e.programs import Program, until
from tests.e2e.yard import host_id_of, sweep_attempts

from batchyard import Client
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard_agent.config import keeper_dir
from batchyard_agent.keeper import marks
from batchyard_agent.runtimes.docker_spec import HOST_LABEL

from .etcd import Cluster
from .spaces import Space, Switch
from .witness import Witness

FENCE_S = 30
LEASE_TTL_S = 3
HOSTS = 4
CPUS = 4
USERS_PORT, AGENTS_PORT = 8470, 8472
DISK = "192M"
SMALL, ENGINE = "h2", "h3"
"""The host of a small disk, and the one of containers."""
PROBE_S = 1.0

_ENVIRONMENT = {
    "BATCHYARD_AGENT_ALLOW_ROOT_JOBS": "1",  # what attempts write lies in folders of whoever runs this
    "BATCHYARD_AGENT_INSECURE_LOOPBACK_ONLY": "0",
    "BATCHYARD_INSECURE_LOOPBACK_ONLY": "0",
    "BATCHYARD_CONFIG": os.devnull,
}


class Host:
    """One host: an agent, its keeper, what they run, and its network."""

    def __init__(self, name: str, space: Space, yard: Yard) -> None:
        self.name = name
        self.space = space
        self.state = yard.folder / name
        self.has_engine = name == ENGINE and yard.has_engine
        arguments = [*space.prefix, sys.executable, "-m", "batchyard_agent", "--controller", yard.users_address]
        arguments += ["--join-token-file", str(yard.token_file), "--name", name, "--state-dir", str(self.state)]
        # Of what must be there an agent cannot do without when it starts; a busy engine may be late.
        arguments += [*([] if self.has_engine else ["--runtimes", "process"]), "--keep-free", "16M"]
        arguments += ["--cpus", str(CPUS), "--memory", "4G", "--container-network", "none"]
        arguments += ["--allow-volume", str(yard.witness.folder)]
        self.agent = Program(f"agent {name}", arguments, yard.folder / f"agent-{name}.log", _ENVIRONMENT)

    @property
    def keeper_folder(self) -> Path:
        return keeper_dir(self.state)

    @property
    def keeper(self) -> int:
        """The keeper's process id; 0: there is none."""
        return process_records.keeper(self.keeper_folder)

    def processes(self) -> list[int]:
        """Return the ids of all processes of attempts."""
        kept = process_records.kept(self.keeper_folder).values()
        return [pid for each in kept if each.ended is None for pid in marks.marked(each.mark)]

    def containers(self, *, ended: bool = False) -> list[str]:
        """Return the ids of containers that run here, or of all there are."""
        if not self.has_engine or not (self.state / "journal.db").exists():
            return []
        with contextlib.closing(docker.from_env().api) as api:
            label = f"{HOST_LABEL}={host_id_of(self.state)}"
            return [each["Id"] for each in api.containers(all=ended, filters={"label": label})]

    def kept(self) -> list[str]:
        """Return what is not cleared away of attempts: of processes their names, of containers their ids."""
        return [*process_records.kept(self.keeper_folder), *self.containers(ended=True)]


class Controller:
    """One controller."""

    def __init__(self, name: str, space: Space, yard: Yard) -> None:
        self.name = name
        self.space = space
        folder = yard.folder / name
        folder.mkdir()
        self.socket = f"unix:{folder / 's'}"
        arguments = [*space.prefix, sys.executable, "-m", "batchyard_controller", "--store", yard.store]
        arguments += ["--ca", str(yard.ca), "--secrets-key", str(yard.folder / "secrets.key"), "--fence", str(FENCE_S)]
        arguments += ["--listen", f"{space.address}:{USERS_PORT}", "--listen-agents", f"{space.address}:{AGENTS_PORT}"]
        arguments += ["--socket", str(folder / "s"), "--audit", str(folder / "audit")]
        self.program = Program(f"controller {name}", arguments, yard.folder / f"controller-{name}.log", _ENVIRONMENT)

    def leads(self) -> bool:
        """Say whether it says that it serves."""
        if not self.program.is_running:
            return False
        with grpc.insecure_channel(self.socket) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PROBE_S)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Yard:
    """
    All of it, below one folder.

    Args:
        folder: State, logs and the witness's ledger.
        switch: What its spaces are plugged into.
        controllers: How many, two or more.
    """

    def __init__(self, folder: Path, switch: Switch, controllers: int = 2) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.has_engine = not why_missing("docker")
        self.witness = Witness(folder / "witness")
        self.ca, self.token_file = folder / "ca.pem", folder / "join-token"
        self.user = switch.add("user", "10.0.0.1")
        self.etcd = Cluster([switch.add(f"e{number}", f"10.0.0.3{number}") for number in range(3)], folder / "etcd")
        spaces = {f"c{number}": switch.add(f"c{number}", f"10.0.0.1{number}") for number in range(controllers)}
        self.users_address = ",".join(f"{space.address}:{USERS_PORT}" for space in spaces.values())
        self.store = f"etcd://{self.etcd.endpoints}?lease_ttl_s={LEASE_TTL_S}"
        self.controllers = {name: Controller(name, space, self) for name, space in spaces.items()}
        hosts = [f"h{number}" for number in range(HOSTS)]
        self.hosts = {name: Host(name, switch.add(name, f"10.0.0.2{name[1:]}"), self) for name in hosts}
        arguments = [*self.user.prefix, sys.executable, "-m", "tests.faults.workload", str(folder)]
        self.workload = Program("workload", arguments, folder / "workload.log", _ENVIRONMENT)

    def start(self) -> None:
        """Start all but the workload, and make the environment and the queue ``default``."""
        self._make_keys()
        self._mount_small_disk()
        self.etcd.start()
        for controller in self.controllers.values():
            controller.program.start()
        with self.client() as client:
            until(lambda: list(client.list_join_tokens()) == [], "a controller leads")
            self.token_file.write_text(client.create_join_token(ttl_s=24 * 3600, uses=1000).token)
            for host in self.hosts.values():
                host.agent.start()
            client.create_compute_environment(
                "default",
                compute_resources=environment_pb.ComputeResources(
                    type=environment_pb.CAPACITY_TYPE_EC2,
                    allocation_strategy=environment_pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
                ),
            )
            client.create_job_queue("default", compute_environments=["default"])
            until(lambda: len(list(client.list_hosts())) == HOSTS, "all hosts have joined")

    def client(self) -> Client:
        """Return a client of the controllers' own user, by way of their sockets."""
        return Client(",".join(each.socket for each in self.controllers.values()), retry_s=60.0, timeout_s=30.0)

    def leader(self) -> Controller | None:
        """Return who says that it leads."""
        return next((each for each in self.controllers.values() if each.leads()), None)

    def programs(self) -> list[Program]:
        members = [member.program for member in self.etcd.members]
        controllers = [each.program for each in self.controllers.values()]
        return [self.workload, *controllers, *(host.agent for host in self.hosts.values()), *members]

    def sweep(self) -> None:
        """End everything."""
        for program in self.programs():
            program.sweep()
        for host in self.hosts.values():
            sweep_attempts(host.state)
        unmount_below(self.folder)

    def remove(self) -> None:
        """Leave nothing on the disk."""
        shutil.rmtree(self.folder)
        for host in self.hosts.values():
            shutil.rmtree(host.state.with_name(f"{host.name}-scratch"), ignore_errors=True)

    def _make_keys(self) -> None:
        init = ["controller", "init", "--ca", str(self.ca), "--address", self.users_address.partition(",")[0]]
        subprocess.run([sys.executable, "-m", "batchyard", *init], check=True, capture_output=True, timeout=60)
        key = self.folder / "secrets.key"
        key.touch(0o600)
        key.write_text("k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")

    def _mount_small_disk(self) -> None:
        state = self.hosts[SMALL].state
        state.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", str(state)], check=True)


def unmount_below(folder: Path) -> None:
    """Unmount what is mounted below a folder, deepest first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)


@contextlib.contextmanager
def open_yard(folder: Path, controllers: int = 2) -> Iterator[Yard]:
    """Start a yard, and end it."""
    with Switch() as switch:
        yard = Yard(folder, switch, controllers)
        try:
            yard.start()
            yield yard
        finally:
            yard.sweep()
