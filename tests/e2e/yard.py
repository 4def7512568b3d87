"""
A whole yard of real processes: one controller, agents, and what they leave on the disk.

    yard = Yard(tmp_path)
    yard.start("a", "b", cpus=2)
    with yard.client() as client: ...
    yard.controller.kill()
    yard.controller.start()

What attempts are doing is read from the outside too: the keepers' journals
and the agents', the engine's list of containers.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
from tests.agent.runtimes.engine import remove_all
from tests.agent.runtimes.process_records import end_attempts, kept, living
from tests.conftest import why_missing
from tests.e2e.programs import Program, until
from tests.ports import hold_address

from batchyard import Client
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1.host_pb2 import HOST_STATE_READY, Host
from batchyard.v1.job_queue_pb2 import JobQueue
from batchyard_agent.config import keeper_dir
from batchyard_agent.runtimes.docker_spec import ATTEMPT_LABEL, HOST_LABEL
from batchyard_agent.runtimes.plain_names import attempt_id_of
from batchyard_controller.authority_commands import init

RETRY_S = 90.0
SECURED = {"BATCHYARD_AGENT_INSECURE_LOOPBACK_ONLY": "0", "BATCHYARD_INSECURE_LOOPBACK_ONLY": "0"}
"""Over what most tests are content with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """
    What tells one living attempt from any other, and from a second start of itself.

    Attributes:
        identity: Process id and start time, or container id and start time.
    """

    attempt_id: str
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When an attempt ran, as its agent's journal has it."""

    attempt_id: str
    started_at_ms: int
    stopped_at_ms: int


class Yard:
    """
    Processes of one test, all below one folder; hosts join by tokens, over TLS.

    Args:
        folder: State and logs of all.
        store: Store URL; empty is a sqlite file in *folder*.
    """

    def __init__(self, folder: Path, store: str = "") -> None:
        self.folder = folder
        self.address = hold_address()
        self.store = store or f"sqlite:///{folder / 'controller.sqlite'}"
        self.agents_address = hold_address()
        self.socket = f"unix:{folder / 'controller.sock'}"
        self.ca = folder / "ca.pem"
        self.token_file = folder / "join-token"
        # Here, as a program of its own would import the whole controller for it, once a test.
        init.main(["--ca", str(self.ca), "--address", self.address], standalone_mode=False)
        self.controller = Program("controller", self.controller_arguments(), folder / "controller.log")
        self.agents: dict[str, Program] = {}
        self.others: list[Program] = []

    def controller_arguments(self) -> list[str]:
        return [
            *(sys.executable, "-m", "batchyard_controller", "--store", self.store, "--ca", str(self.ca)),
            *("--listen", self.address, "--listen-agents", self.agents_address),
            *("--socket", self.socket.removeprefix("unix:")),
        ]

    # Starting -----------------------------------------------------------------

    def start(self, *names: str, cpus: int = 2, runtimes: str = "process") -> None:
        """Start the controller and agents, and make the compute environment and the queue ``default``."""
        self.start_controller()
        with self.client() as client:
            for name in names:
                self.add_agent(name, cpus=cpus, runtimes=runtimes).start()
            until(lambda: self.is_ready(client, *names), "all hosts are ready")
            self.make_queue(client)

    def start_controller(self, speaks_for: str = "") -> None:
        """Start the controller, and make a token with which hosts join, and speak for others as told."""
        self.controller.start()
        with self.client() as client:
            until(lambda: list(client.list_join_tokens()) == [], "the controller answers")
            token = client.create_join_token(ttl_s=24 * 3600, uses=1000, speaks_for=speaks_for)
            self.token_file.write_text(token.token)

    def make_queue(self, client: Client) -> None:
        """Make the compute environment and the queue ``default``."""
        client.create_compute_environment(
            "default",
            compute_resources=environment_pb.ComputeResources(
                type=environment_pb.CAPACITY_TYPE_EC2,
                allocation_strategy=environment_pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
            ),
        )
        until(
            lambda: environment_of(client).status == environment_pb.RESOURCE_STATUS_VALID,
            "the environment is VALID",
        )
        client.create_job_queue("default", compute_environments=["default"])
        until(lambda: queue_of(client).status == environment_pb.RESOURCE_STATUS_VALID, "the queue is VALID")

    def add_agent(self, name: str, *, cpus: int = 2, runtimes: str = "process") -> Program:
        """Prepare an agent whose host bears *name*; the caller starts it."""
        arguments = [sys.executable, "-m", "batchyard_agent", "--controller", self.address]
        arguments += ["--join-token-file", str(self.token_file)]
        arguments += ["--name", name, "--state-dir", str(self.state_dir(name)), "--runtimes", runtimes]
        arguments += ["--cpus", str(cpus), "--memory", "4G"]
        self.agents[name] = Program(f"agent {name}", arguments, self.folder / f"agent-{name}.log", SECURED)
        return self.agents[name]

    def add_program(self, name: str, *arguments: str) -> Program:
        """Prepare some other program of ours, whose log is shown and which is swept away too."""
        program = Program(name, [sys.executable, "-m", *arguments], self.folder / f"{name}.log", SECURED)
        self.others.append(program)
        return program

    def client(self, *, retry_s: float = RETRY_S) -> Client:
        """Return a client of the controller's own user, to be closed by the caller."""
        return Client(self.socket, retry_s=retry_s)

    def is_ready(self, client: Client, *names: str, attempts: int | None = None) -> bool:
        """Say whether the hosts of these names are ready, each with so many attempts, if told."""
        hosts = {host.facts.name: host for host in client.list_hosts()}
        return all(
            name in hosts
            and hosts[name].state == HOST_STATE_READY
            and (attempts is None or hosts[name].attempts == attempts)
            for name in names
        )

    # Looking ------------------------------------------------------------------

    def state_dir(self, name: str) -> Path:
        return self.folder / f"agent-{name}"

    def host_id(self, name: str) -> str:
        return host_id_of(self.state_dir(name))

    def spans(self, name: str) -> list[Span]:
        """Return when the attempts that a host ran began and ended."""
        with self.journal(name) as journal:
            rows = journal.execute("SELECT attempt_id, started_at_ms, stopped_at_ms FROM attempts").fetchall()
        return [Span(attempt_id=a, started_at_ms=start, stopped_at_ms=stop) for a, start, stop in rows]

    def processes(self, name: str) -> set[Life]:
        """Return the attempts that live as processes of a host."""
        return processes(self.state_dir(name))

    def containers(self, name: str) -> set[Life]:
        """Return the attempts that live as containers of a host."""
        with contextlib.closing(docker.from_env().api) as api:
            listed = api.containers(filters={"label": f"{HOST_LABEL}={self.host_id(name)}"})
            found = [(each["Labels"][ATTEMPT_LABEL], api.inspect_container(each["Id"])) for each in listed]
        return {
            Life(attempt_id=attempt, identity=f"{it['Id']} pid {it['State']['Pid']} since {it['State']['StartedAt']}")
            for attempt, it in found
        }

    def kept_processes(self, name: str) -> list[str]:
        """Return the names of the attempts that a host's keeper keeps, of ended ones too."""
        return [*kept(keeper_dir(self.state_dir(name)))]

    def kept_containers(self, name: str) -> list[str]:
        """Return the ids of a host's containers, ended ones too."""
        with contextlib.closing(docker.from_env().api) as api:
            listed = api.containers(all=True, filters={"label": f"{HOST_LABEL}={self.host_id(name)}"})
        return [each["Id"] for each in listed]

    def journal(self, name: str) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """Open the journal of an agent, to read from."""
        return open_journal(self.state_dir(name))

    # Ending -------------------------------------------------------------------

    def programs(self) -> list[Program]:
        return [self.controller, *self.agents.values(), *self.others]

    def sweep(self) -> None:
        """End everything: programs, then the attempts that outlived them, as they are made to."""
        for program in self.programs():
            program.sweep()
        for name in self.agents:
            sweep_attempts(self.state_dir(name))


def processes(state_dir: Path) -> set[Life]:
    """Return the attempts that live as processes of an agent; who goes meanwhile is gone."""
    found = set()
    for name, pid in living(keeper_dir(state_dir)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.add(Life(attempt_id=attempt_id_of(name), identity=f"{pid} since {start_of(pid)}"))
    return found


def sweep_attempts(state_dir: Path) -> None:
    """End the attempts that outlived an agent, as they are made to, and remove what is left of them."""
    end_attempts(keeper_dir(state_dir))
    if not (state_dir / "journal.db").exists():
        return
    if not why_missing("docker"):
        remove_all(host_id_of(state_dir))


@contextlib.contextmanager
def open_journal(state_dir: Path) -> Iterator[sqlite3.Connection]:
    """Open the journal of an agent, to read from."""
    journal = sqlite3.connect(f"file:{state_dir / 'journal.db'}?mode=ro", uri=True)
    try:
        yield journal
    finally:
        journal.close()


def host_id_of(state_dir: Path) -> str:
    """Return the id that an agent's journal gives its host."""
    with open_journal(state_dir) as journal:
        return str(journal.execute("SELECT value FROM meta WHERE key = 'host_id'").fetchone()[0])


def host_named(client: Client, name: str) -> Host:
    """Return a host."""
    return client.describe_host(name).host


def environment_of(client: Client) -> environment_pb.ComputeEnvironment:
    """Return the compute environment ``default``."""
    return client.describe_compute_environments(["default"])[0]


def queue_of(client: Client) -> JobQueue:
    """Return the queue ``default``."""
    return client.describe_job_queues(["default"])[0]


def start_of(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: with the pid, it names one process for ever."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[19])
