"""What runs does not notice that controller, agents or etcd come and go."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.contract.etcd_server import EtcdServer
from tests.e2e.conftest import OpenYard, etcd_store
from tests.e2e.programs import until
from tests.e2e.witness import Witness
from tests.e2e.yard import Life, Yard

from batchyard import Client, JobState, UnavailableError, container, job_state
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard_agent.runtimes.docker_spec import ATTEMPT_LABEL, HOST_LABEL

pytestmark = pytest.mark.timeout(150)

KILLS = 5
CODES = (0, 3, 0, 41)
ETCD_OUTAGE_S = 20.0
END_LIMIT_S = 30.0


def submit(client: Client, name: str, what: ContainerProperties) -> str:
    """Submit a job and return its id."""
    return client.submit_job(name=name, container=what).job_id


def submit_held(client: Client, witness: Witness) -> list[str]:
    """Submit a job for each of ``CODES``, to run until the witness releases them; return their ids."""
    return [
        submit(client, f"held-{n}", container(witness.held(f"held-{n}", code=code), memory=32))
        for n, code in enumerate(CODES)
    ]


def await_running(client: Client, ids: list[str]) -> None:
    """Wait until the controller knows that these jobs run."""
    until(lambda: {job_state(job) for job in client.describe_jobs(ids)} == {JobState.RUNNING}, "all jobs are RUNNING")


def check_ends(client: Client, ids: list[str]) -> None:
    """Make sure that the jobs have ended with ``CODES``, each in its first attempt."""
    jobs = client.wait_all(ids, timeout_s=END_LIMIT_S)
    assert [(job.exit_code, len(job.attempts), job_state(job)) for job in jobs] == [
        (code, 1, JobState.FAILED if code else JobState.SUCCEEDED) for code in CODES
    ]


def check_held_log(text: str, name: str) -> None:
    """Make sure that the log of a held job has no line too few and none too many."""
    first, *lines, last = text.splitlines()
    assert (first, last) == (f"begin {name}", f"finish {name}")
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]


def log_of(client: Client, job_id: str) -> str:
    return b"".join(client.read_logs(job_id)).decode()


def await_adoption(yard: Yard, client: Client, name: str) -> None:
    """Wait until the agent of this life has told the controller what it found."""
    until(
        lambda: "connected to the controller" in yard.agents[name].text().rpartition("--- started")[2],
        f"agent {name} is connected",
    )
    until(lambda: yard.is_ready(client, name, attempts=len(CODES)), f"host {name} has its attempts")


def test_an_agent_finds_its_processes_again(yard: Yard, witness: Witness) -> None:
    """After each of five kills with -9: the same pids, and in the end the right codes and whole logs."""
    yard.start("a", cpus=len(CODES))
    with yard.client() as client:
        ids = submit_held(client, witness)
        await_running(client, ids)
        lives = yard.processes("a")
        assert {life.attempt_id for life in lives} == {f"{job_id}#1" for job_id in ids}
        for _ in range(KILLS):
            yard.agents["a"].kill()
            yard.agents["a"].start()
            await_adoption(yard, client, "a")
            assert yard.processes("a") == lives
        witness.release()
        check_ends(client, ids)
        for n, job_id in enumerate(ids):
            check_held_log(log_of(client, job_id), f"held-{n}")
    witness.check_once([f"held-{n}" for n in range(len(CODES))])


HELD_CONTAINER = """
echo begin
until [ -e /release ]; do n=$((n + 1)); echo line $n; sleep 0.1; done
echo finish >&2
exit $CODE
"""


@contextlib.contextmanager
def starts_of_containers(yard: Yard, name: str) -> Iterator[Callable[[], Counter[str]]]:
    """
    Yield a function that says how often the engine started a container of each attempt until then.

    It is listened to all the time: of what is past it remembers few events, those of other tests among them.
    """
    started: Counter[str] = Counter()
    filters = {"label": f"{HOST_LABEL}={yard.host_id(name)}", "event": "start", "type": "container"}
    with contextlib.closing(docker.from_env().api) as api:
        events = api.events(since=int(time.time()), filters=filters, decode=True)

        def listen() -> None:
            for event in events:
                started[event["Actor"]["Attributes"][ATTEMPT_LABEL]] += 1

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield lambda: Counter(started)
        finally:
            events.close()
            listener.join()


def release_containers(lives: set[Life]) -> None:
    """Let held containers end."""
    with contextlib.closing(docker.from_env().api) as api:
        for life in lives:
            command = api.exec_create(life.identity.split()[0], ["sh", "-c", ": >/release"])
            api.exec_start(command["Id"])


@pytest.mark.docker
def test_an_agent_finds_its_containers_again(yard: Yard) -> None:
    """After each of five kills with -9: the same containers, started once, the right codes and whole logs."""
    image = ensure_image()
    yard.start("a", cpus=len(CODES), runtimes="docker")
    with yard.client() as client, starts_of_containers(yard, "a") as starts:
        command = ["sh", "-c", HELD_CONTAINER]
        ids = [
            submit(client, "held", container(command, image=image, memory=32, environment={"CODE": str(code)}))
            for code in CODES
        ]
        await_running(client, ids)
        lives = yard.containers("a")
        assert {life.attempt_id for life in lives} == {f"{job_id}#1" for job_id in ids}
        for _ in range(KILLS):
            yard.agents["a"].kill()
            yard.agents["a"].start()
            await_adoption(yard, client, "a")
            assert yard.containers("a") == lives
        release_containers(lives)
        check_ends(client, ids)
        for job_id in ids:
            first, *lines, last = log_of(client, job_id).splitlines()
            assert (first, last) == ("begin", "finish")
            assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
        until(lambda: starts() == {f"{job_id}#1": 1 for job_id in ids}, "each was started once")
        until(lambda: not yard.kept_containers("a"), "no container is kept")


@pytest.mark.docker
def test_short_containers_survive_kills_of_their_agent(yard: Yard) -> None:
    """Killed with -9 while containers are created, started and removed: each is started once, all codes are right."""
    image, count = ensure_image(), 30
    yard.start("a", cpus=8, runtimes="docker")
    with yard.client() as client, starts_of_containers(yard, "a") as starts:
        script = "echo begin; sleep 0.5; echo end; [ $((AWS_BATCH_JOB_ARRAY_INDEX % 10)) != 7 ] || exit 3"
        job = submit_array(client, container(["sh", "-c", script], image=image, memory=32), count)
        children = [f"{job}:{index}" for index in range(count)]
        for kill in range(KILLS):
            until(lambda: starts().total() >= (kill + 1) * count // (KILLS + 2), "containers are started")  # noqa: B023
            yard.agents["a"].kill()
            yard.agents["a"].start()
        client.wait_all([job], timeout_s=90)
        ended = client.describe_jobs(children)
        assert [(child.exit_code, len(child.attempts)) for child in ended] == [
            (3 if index % 10 == 7 else 0, 1) for index in range(count)
        ]
        assert {log_of(client, child) for child in children} == {"begin\nend\n"}
        until(lambda: starts() == {f"{child}#1": 1 for child in children}, "each was started once")
        until(lambda: not yard.kept_containers("a"), "no container is kept")


def submit_array(client: Client, what: ContainerProperties, size: int) -> str:
    return client.submit_job(name="array", container=what, array_size=size).job_id


def test_a_crash_of_controller_and_agent_at_once(yard: Yard, witness: Witness) -> None:
    """Both killed with -9; the agent is back first and has to wait for its controller."""
    yard.start("a", cpus=len(CODES))
    with yard.client() as client:
        ids = submit_held(client, witness)
        await_running(client, ids)
        lives = yard.processes("a")
        yard.controller.kill()
        yard.agents["a"].kill()
        yard.agents["a"].start()
        until(lambda: yard.agents["a"].text().count("no controller") > 0, "the agent says that there is no controller")
        yard.controller.start()
        await_adoption(yard, client, "a")
        assert yard.processes("a") == lives
        witness.release()
        check_ends(client, ids)
    witness.check_once([f"held-{n}" for n in range(len(CODES))])


def test_an_orderly_stop_of_an_agent_leaves_its_attempts_alone(yard: Yard, witness: Witness) -> None:
    """SIGTERM ends the agent with 0; attempts go on, one ends meanwhile, the next agent knows of both."""
    yard.start("a", cpus=len(CODES))
    with yard.client() as client:
        ids = submit_held(client, witness)
        await_running(client, ids)
        until(lambda: len(yard.processes("a")) == len(CODES), "each has told its pid")
        lives = yard.processes("a")
        assert yard.agents["a"].stop() == 0
        assert yard.processes("a") == lives
        witness.release()
        until(lambda: witness.count("end") == len(CODES), "the jobs end without their agent")
        assert {job_state(job) for job in client.describe_jobs(ids)} == {JobState.RUNNING}
        yard.agents["a"].start()
        check_ends(client, ids)
    witness.check_once([f"held-{n}" for n in range(len(CODES))])


def test_an_orderly_stop_of_the_controller_is_quick(yard: Yard, witness: Witness) -> None:
    """SIGTERM ends it with 0 within 5 s, though agents, watchers and readers of logs are connected."""
    yard.start("a", "b", cpus=len(CODES))
    with yard.client() as client, ThreadPoolExecutor() as threads:
        ids = submit_held(client, witness)
        await_running(client, ids)
        waiter = threads.submit(client.wait_all, ids, timeout_s=60)
        reader = threads.submit(lambda: b"".join(client.read_logs(ids[0], follow=True)).decode())
        until(lambda: witness.count("start") == len(CODES), "the jobs run")
        assert yard.controller.stop(limit_s=5) == 0
        yard.controller.start()
        until(lambda: yard.is_ready(client, "a", "b"), "the agents are back")
        witness.release()
        check_ends(client, ids)
        assert [job.exit_code for job in waiter.result(30)] == list(CODES)
        check_held_log(reader.result(30), "held-0")


@pytest.mark.etcd
def test_jobs_run_on_while_etcd_is_away(yards: OpenYard, etcd: EtcdServer, witness: Witness) -> None:
    """etcd killed for 20 s: what runs runs on and ends, nothing is lost, submissions wait for its return."""
    yard = yards(etcd_store(etcd))
    yard.start("a", cpus=len(CODES))
    with yard.client() as client, yard.client(retry_s=1) as hasty, ThreadPoolExecutor() as threads:
        ids = submit_held(client, witness)
        await_running(client, ids)
        lives = yard.processes("a")
        etcd.kill()
        back_at = time.monotonic() + ETCD_OUTAGE_S
        waiting = threads.submit(submit, client, "later", container(witness.command("later"), memory=32))
        with pytest.raises(UnavailableError):
            submit(hasty, "refused", container(witness.command("refused"), memory=32))
        assert yard.processes("a") == lives
        witness.release()
        until(lambda: witness.count("end") == len(CODES), "running jobs end while etcd is away")
        until(lambda: time.monotonic() >= back_at, "the outage has lasted long enough")
        assert not waiting.done()
        etcd.start()
        ids.append(waiting.result(60))
        check_ends(client, ids[:-1])
        assert client.wait(ids[-1], timeout_s=30).exit_code == 0
    witness.check_once([*(f"held-{n}" for n in range(len(CODES))), "later"])


def test_two_hosts_of_one_name(yard: Yard) -> None:
    """The second is told what to do about it; the first does not notice; the second gets in when the first has gone."""
    yard.start("a")
    second = yard.add_program(
        "impostor", "batchyard_agent", "--controller", yard.address, "--name", "a", "--cpus", "1",
        "--join-token-file", str(yard.token_file),
        "--runtimes", "process", "--state-dir", str(yard.folder / "impostor"),
    )  # fmt: skip
    second.start()
    told = re.compile(r"another host named a is connected; give this one another --name")
    until(lambda: told.search(second.text()), "the second is told")
    with yard.client() as client:
        assert [host.id for host in client.list_hosts()] == [yard.host_id("a")]
        assert yard.is_ready(client, "a")
        assert yard.agents["a"].stop() == 0
        until(lambda: len([*client.list_hosts()]) == 2, "the second host is let in")


def test_two_agents_on_one_state_folder(yard: Yard) -> None:
    """The second is refused at once, with the pid of the first."""
    yard.start("a")
    arguments = yard.agents["a"].arguments
    second = yard.add_program("second", *arguments[2:])
    second.start()
    assert second.wait() == 1
    assert f"another agent (pid {yard.agents['a'].pid}) uses the state folder" in second.text()
    assert yard.agents["a"].is_running
    with yard.client() as client:
        assert yard.is_ready(client, "a")
