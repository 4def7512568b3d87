"""
Multi-node jobs for real: nodes on hosts with networks of their own greet their main node over TCP.

Hosts are network namespaces, joined by a switch in another, where the controller is.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.e2e.machines import ip
from tests.e2e.programs import Program, until
from tests.e2e.yard import SECURED, Yard

from batchyard import Client, container, job_state, nodes
from batchyard.states import JobState
from batchyard.v1 import job_pb2
from batchyard.v1.job_definition_pb2 import TaskProperties

pytestmark = pytest.mark.timeout(300)

PORT = 29500
MEET = f"""
import os, socket, sys, time
index, main = os.environ["AWS_BATCH_JOB_NODE_INDEX"], os.environ.get("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS")
if main is None:
    waited = int(os.environ["AWS_BATCH_JOB_NUM_NODES"]) - 1
    server = socket.create_server(("", {PORT}))
    guests = [server.accept() for _ in range(waited)]
    print("met", *sorted(f"{{guest.recv(9).decode()}}@{{place[0]}}" for guest, place in guests))
    for guest, _ in guests:
        guest.sendall(b"bye")
    for guest, _ in guests:
        guest.recv(1)  # they end with this node: once they have said what they were told
else:
    while True:  # it runs, but need not listen yet
        try:
            guest = socket.create_connection((main, {PORT}), timeout=60)
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    guest.sendall(index.encode())
    print("told", guest.recv(3).decode(), "by", main, flush=True)
"""
# A port for each child: of two that reach one listener, only the first is read, and the other is not told.
# busybox's nc leaves once its peer has nothing more to say, also before it has sent anything itself.
MEET_IN_BUSYBOX = """
if [ -z "$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" ]; then
    grep -w "$(hostname)" /etc/hosts
    for i in 1 2 3; do nc -l -p $((FIRST_PORT + i)) -w 60 -e sh -c 'read greeting; echo "$greeting" >&2'; done
else
    port=$((FIRST_PORT + AWS_BATCH_JOB_NODE_INDEX))
    until echo "hello of $AWS_BATCH_JOB_NODE_INDEX" | nc -w 5 $AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS $port; do
        sleep 0.2
    done
    sleep 60
fi
"""


class SpacedYard(Yard):
    """A yard whose controller and agents are each in a network namespace."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._name = f"gang-{uuid.uuid4().hex[:6]}"
        self.address, self.agents_address = "10.77.0.254:8470", "10.77.0.254:8472"
        arguments = self._within(self._name, self.controller_arguments())
        self.controller = Program("controller", arguments, folder / "controller.log")

    @contextmanager
    def network(self, *names: str) -> Iterator[dict[str, str]]:
        """Join hosts of these names by a switch, and tell their addresses."""
        with ExitStack() as spaces:
            self._space(spaces, self._name)
            ip("-n", self._name, "link", "add", "switch", "type", "bridge")
            ip("-n", self._name, "address", "add", "10.77.0.254/24", "dev", "switch")
            ip("-n", self._name, "link", "set", "switch", "up")
            addresses = {}
            for number, name in enumerate(names, start=1):
                space, addresses[name] = f"{self._name}-{name}", f"10.77.0.{number}"
                self._space(spaces, space)
                ip(
                    "-n",
                    self._name,
                    "link",
                    "add",
                    f"to-{name}",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    space,
                )
                ip("-n", self._name, "link", "set", f"to-{name}", "master", "switch", "up")
                ip("-n", space, "address", "add", f"{addresses[name]}/24", "dev", "eth0")
                ip("-n", space, "link", "set", "eth0", "up")
            yield addresses

    def cut(self, name: str, *, is_cut: bool = True) -> None:
        """Take a host off the network, or put it back."""
        ip("-n", self._name, "link", "set", f"to-{name}", "down" if is_cut else "up")

    def add_agent(self, name: str, *, cpus: int = 2, runtimes: str = "process") -> Program:
        """Prepare an agent in the namespace of its host."""
        plain = super().add_agent(name, cpus=cpus, runtimes=runtimes)
        arguments = self._within(f"{self._name}-{name}", plain.arguments)
        self.agents[name] = Program(f"agent {name}", arguments, self.folder / f"agent-{name}.log", SECURED)
        return self.agents[name]

    def _space(self, spaces: ExitStack, name: str) -> None:
        ip("netns", "add", name)
        spaces.callback(ip, "netns", "delete", name)
        ip("-n", name, "link", "set", "lo", "up")

    def _within(self, space: str, arguments: list[str]) -> list[str]:
        return ["ip", "netns", "exec", space, *arguments]


@pytest.fixture
def spaced(tmp_path: Path) -> Iterator[SpacedYard]:
    yard = SpacedYard(tmp_path)
    try:
        yield yard
    finally:
        yard.sweep()


def log_of(client: Client, job_id: str, part: str = "") -> str:
    return b"".join(client.read_logs(job_id, container=part)).decode()


def meeting(count: int, *, is_spread: bool) -> job_pb2.SubmitJobRequest:
    wanted = container([sys.executable, "-c", MEET], vcpus=1, memory=64)
    return job_pb2.SubmitJobRequest(name="meet", queue="default", nodes=nodes(count, wanted, one_host_each=is_spread))


@pytest.mark.netns
@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c", "d")], ids=["two hosts", "four hosts"])
def test_children_greet_their_main_node(spaced: SpacedYard, names: tuple[str, ...]) -> None:
    """Four nodes, on a host each where there are four, else two on each."""
    with spaced.network(*names) as addresses:
        spaced.start(*names, cpus=2)
        with spaced.client() as client:
            request = meeting(4, is_spread=len(names) == 4)
            job_id = client.submit_job(name="meet", nodes=request.nodes).job_id
            assert job_state(client.wait(job_id, timeout_s=120)) is JobState.SUCCEEDED, log_of(client, job_id)
            until(lambda: all(job_state(client.describe_job(f"{job_id}#{i}")).is_final for i in range(4)), "all end")
            hosts = [client.describe_job(f"{job_id}#{i}").attempts[0].host_name for i in range(4)]
            assert sorted(hosts) == sorted(names * (4 // len(names)))
            met = {f"{i}@{addresses[hosts[i]]}" for i in (1, 2, 3)}
            assert log_of(client, job_id) == f"met {' '.join(sorted(met))}\n"
            for i in (1, 2, 3):
                assert log_of(client, f"{job_id}#{i}") == f"told bye by {addresses[hosts[0]]}\n"
        spaced.sweep()


@pytest.mark.netns
def test_all_run_again_once_a_silent_host_is_back(spaced: SpacedYard) -> None:
    """The main node fails while the host of another is cut off: nothing begins again before that has ended, too."""
    script = "if [ $AWS_BATCH_JOB_ATTEMPT = 1 ]; then while [ ! -e {gate} ]; do sleep 0.1; done; exit 3; fi"
    gate = spaced.folder / "gate"
    main = container(["sh", "-c", script.format(gate=gate)], memory=32)
    child = container(["sh", "-c", "sleep 600"], memory=32)
    with spaced.network("a", "b"):
        spaced.start("a", "b", cpus=1)
        with spaced.client() as client:
            job_id = client.submit_job(name="again", nodes=nodes(2, {":": child, "0": main}), attempts=2).job_id
            until(lambda: job_state(client.describe_job(f"{job_id}#1")) is JobState.RUNNING, "both run")
            spaced.cut(client.describe_job(f"{job_id}#1").attempts[0].host_name)
            gate.touch()
            until(lambda: job_state(client.describe_job(job_id)) is JobState.PENDING, "the main node has failed")
            assert "waits for the last node of attempt 1" in client.describe_job(job_id).waiting_reason
            spaced.cut(client.describe_job(f"{job_id}#1").attempts[0].host_name, is_cut=False)
            ended = client.wait(job_id, timeout_s=200)
            assert [attempt.exit_code for attempt in ended.attempts] == [3, 0]
            until(lambda: job_state(client.describe_job(f"{job_id}#1")).is_final, "the child has ended")
            node = client.describe_job(f"{job_id}#1")
            assert [attempt.number for attempt in node.attempts] == [1, 2]
            assert node.status_reason == "Main node exited"
        spaced.sweep()


@pytest.mark.docker
@pytest.mark.parametrize("is_several", [False, True])
def test_containers_of_nodes_are_on_their_hosts_network(yard: Yard, is_several: bool) -> None:
    """They reach their main node by its address, to which its own name leads as well; also where each has several."""
    image = ensure_image()
    yard.start("a", "b", cpus=3, runtimes="docker")
    with yard.client() as client:
        wanted = container(["sh", "-c", MEET_IN_BUSYBOX], image=image, vcpus=1, memory=32)
        # Both cases may run at once, and all containers stand on this host's network.
        wanted.environment["FIRST_PORT"] = str(PORT + 10 if is_several else PORT + 20)
        wanted.name = "main" if is_several else ""
        side = container(["sleep", "600"], image=image, vcpus=0.5, memory=32)
        side.name, side.essential = "side", False
        runs = TaskProperties(containers=[wanted, side]) if is_several else wanted
        job_id = client.submit_job(name="meet", nodes=nodes(4, {":": runs})).job_id
        assert job_state(client.wait(job_id, timeout_s=200)) is JobState.SUCCEEDED
        named, *greetings = log_of(client, job_id, wanted.name).splitlines()
        address = client.describe_job(job_id).attempts[0].host_address
        assert named.split() == [address, f"{job_id}-0"]
        assert sorted(greetings) == ["hello of 1", "hello of 2", "hello of 3"]
        until(lambda: all(job_state(client.describe_job(f"{job_id}#{i}")).is_final for i in (1, 2, 3)), "all end")
        assert client.describe_job(f"{job_id}#1").status_reason == "Main node exited"
