"""Environments that scale, with real processes: hosts come when jobs wait, and go when none do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.e2e.conftest import show_logs_of
from tests.e2e.programs import Program, until
from tests.e2e.test_restores import File
from tests.e2e.yard import sweep_attempts

from batchyard import Client, JobState, container, job_state
from batchyard.v1 import compute_environment_pb2 as pb

pytestmark = pytest.mark.timeout(240)

ENVIRONMENT = "burst"
GONE_LIMIT_S = 60.0


class ScalingYard:
    """A controller whose settings file declares providers, and the hosts that they launch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = folder / "hosts"
        self.settings = folder / "config.toml"
        self.settings.write_text("")
        self.socket = f"unix:{folder / 'controller.sock'}"
        arguments = [sys.executable, "-m", "batchyard_controller", "--socket", str(folder / "controller.sock")]
        arguments += ["--store", f"sqlite:///{folder / 'controller.sqlite'}", "--local-hosts", str(self.hosts)]
        self.controller = Program(
            "controller", ["env", f"BATCHYARD_CONFIG={self.settings}", *arguments], folder / "controller.log"
        )

    def client(self) -> Client:
        return Client(self.socket, retry_s=60)

    def start(self, client: Client, **resources: object) -> None:
        """Start the controller, and make an environment with a provider and a queue over it."""
        self.controller.start()
        until(lambda: list(client.list_hosts()) is not None, "the controller answers")
        usual: dict[str, object] = {
            "type": pb.CAPACITY_TYPE_EC2,
            "allocation_strategy": pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
            "max_vcpus": 8,
            "scale_down_delay_s": 2,
        }
        wanted = pb.ComputeResources(**usual | resources)  # type: ignore[arg-type]
        client.create_compute_environment(ENVIRONMENT, compute_resources=wanted)
        client.create_job_queue(ENVIRONMENT, compute_environments=[ENVIRONMENT])

    def standing(self, client: Client) -> pb.ScalingStatus:
        return client.describe_compute_environments([ENVIRONMENT])[0].scaling

    def agents(self) -> dict[str, int]:
        """
        Return the process of each agent that was launched below this yard's folder, by the name of its host.

        Of one that a killed controller was just starting the next may not see the process yet, and start another,
        which finds the state folder taken and ends; so that is waited for.
        """
        until(lambda: len(self._processes()) == len(dict(self._processes())), "no host has two agents")
        return dict(self._processes())

    def _processes(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for process in psutil.process_iter():
            try:
                arguments = process.cmdline()
            except psutil.Error:
                continue
            if "batchyard_agent" in arguments and any(each.startswith(str(self.folder)) for each in arguments):
                found.append((arguments[arguments.index("--name") + 1], process.pid))
        return found

    def programs(self) -> list[Program]:
        logs = [*sorted(self.hosts.glob("*/agent.log")), self.folder / "agent.log"]
        return [self.controller, *(Program(log.parent.name, [], log) for log in logs)]

    def sweep(self) -> None:
        self.controller.sweep()
        for pid in self.agents().values():
            psutil.Process(pid).kill()
        for state in self.folder.glob("**/journal.db"):
            sweep_attempts(state.parent)


@pytest.fixture
def yard(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ScalingYard]:
    made = ScalingYard(tmp_path)
    show_logs_of(request, made)
    yield made
    made.sweep()


def test_three_hosts_come_and_go_though_the_controller_is_killed(yard: ScalingYard, tmp_path: Path) -> None:
    """From none to three and back; nobody is launched twice, and nobody is left."""
    gate = tmp_path / "gate"
    command = ["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.1; done"]
    with yard.client() as client:
        yard.start(client, provider="local", instance_types=["small"])
        ids = [
            client.submit_job(name=f"job-{n}", queue=ENVIRONMENT, container=container(command, memory=32)).job_id
            for n in range(3)
        ]
        until(lambda: yard.standing(client).launching_hosts, "hosts are launched")
        yard.controller.kill()
        yard.controller.start()
        until(lambda: {job_state(job) for job in client.describe_jobs(ids)} == {JobState.RUNNING}, "all jobs run", 60)
        names = set(yard.agents())
        assert len(names) == 3
        yard.controller.kill()
        yard.controller.start()
        until(lambda: yard.standing(client).running_hosts == 3, "the hosts are known again")
        until(lambda: all(host.attempts for host in client.list_hosts()), "and have joined again")
        assert set(yard.agents()) == names
        gate.touch()
        jobs = client.wait_all(ids, timeout_s=60)
        assert [(job.exit_code, len(job.attempts)) for job in jobs] == [(0, 1)] * 3
        until(lambda: yard.standing(client).stopping_hosts, "idle hosts are stopped")
        yard.controller.kill()
        yard.controller.start()
        until(lambda: not yard.agents(), "no agent is left", GONE_LIMIT_S)
        until(lambda: not list(client.list_hosts()), "no host is left", GONE_LIMIT_S)
        assert yard.standing(client) == pb.ScalingStatus()
        assert list(yard.hosts.iterdir()) == []


def test_a_backup_that_is_put_back_stops_no_host_on_which_a_job_runs(yard: ScalingYard, tmp_path: Path) -> None:
    """The backup knows neither the host nor its job, and a host that is idle goes at once."""
    gate, ended = tmp_path / "gate", tmp_path / "ended"
    command = ["sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.1; done; touch {ended}"]
    store = File(yard.folder / "controller.sqlite")
    with yard.client() as client:
        yard.start(client, provider="local", instance_types=["small"], scale_down_delay_s=0)
        store.back_up()
        job_id = client.submit_job(name="job", queue=ENVIRONMENT, container=container(command, memory=32)).job_id
        until(lambda: job_state(client.describe_jobs([job_id])[0]) is JobState.RUNNING, "it runs")
        agents = yard.agents()
        yard.controller.kill()
        store.put_back()
        restore = [sys.executable, "-m", "batchyard", "controller", "restore", "--store"]
        subprocess.run([*restore, f"sqlite:///{yard.folder / 'controller.sqlite'}"], check=True, timeout=60)
        yard.controller.start()
        until(lambda: [stray.attempt_id for stray in client.describe_restore().strays] == [f"{job_id}#1"], "it is told")
        until(lambda: client.describe_restore().is_over, "all has been learnt")
        until(lambda: yard.standing(client).stopping_hosts == 1, "its host gets no more work")
        assert yard.agents() == agents
        gate.touch()
        until(ended.exists, "it ends by itself")
        until(lambda: not yard.agents(), "its host goes")


SCRIPT = """
import json, os, signal, subprocess, sys
folder = {folder!r}
asked = json.load(sys.stdin)
with open(os.path.join(folder, "asked"), "a") as log:
    print(asked["operation"], asked.get("type"), file=log)
home = os.path.join(folder, "machines", asked.get("launch", ""))
match asked["operation"]:
    case "launch" if asked["type"] == "broken":
        sys.exit("no power in rack 4")
    case "launch":
        os.makedirs(home, exist_ok=True)
        if asked["type"] == "works" and not os.path.exists(home + "/pid"):
            agent = subprocess.Popen(
                [sys.executable, "-m", "batchyard_agent", "--controller", asked["controller"], "--runtimes", "process",
                 "--state-dir", home + "/agent", "--allow-root-jobs", "--job-user", str(os.getuid()), "--cpus", "1", "--memory", "1G", *asked["agent_options"]],
                stdin=subprocess.DEVNULL, stdout=open(folder + "/agent.log", "a"), stderr=subprocess.STDOUT, start_new_session=True,
            )
            open(home + "/pid", "w").write(str(agent.pid))
    case "stop":
        if os.path.exists(home + "/pid"):
            try:
                os.kill(int(open(home + "/pid").read()), signal.SIGTERM)
            except ProcessLookupError:
                pass
        subprocess.run(["rm", "-rf", home])
    case "list":
        print(json.dumps({{"launches": os.listdir(os.path.join(folder, "machines"))}}))
"""


def test_a_script_that_fails_and_one_whose_host_never_joins(yard: ScalingYard, tmp_path: Path) -> None:
    """The first type has no power, the second never joins; the third runs the job. What was there is stopped."""
    (tmp_path / "machines").mkdir()
    script = tmp_path / "provider.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path)))
    types = "".join(
        f'[provider.rack.types.{name}]\nvcpus = 1\nmemory = "1G"\nprice = {price}\n'
        for name, price in (("broken", 1), ("silent", 2), ("works", 3))
    )
    command = json.dumps([sys.executable, str(script)])
    yard.settings.write_text(f'[provider.rack]\nkind = "command"\ncommand = {command}\njoin_timeout_s = 10\n{types}')
    with yard.client() as client:
        yard.start(client, provider="rack")
        job_id = client.submit_job(name="job", queue=ENVIRONMENT, container=container(["true"], memory=32)).job_id
        until(lambda: "no power in rack 4" in yard.standing(client).last_failure, "the failure is told")
        (job,) = client.wait_all([job_id], timeout_s=60)
        assert job.exit_code == 0
        until(lambda: not list(client.list_hosts()), "no host is left", GONE_LIMIT_S)
        until(lambda: not list((tmp_path / "machines").iterdir()), "no machine is left", GONE_LIMIT_S)
    asked = (tmp_path / "asked").read_text().splitlines()
    launched = list(dict.fromkeys(line for line in asked if line.startswith("launch")))
    assert launched == ["launch broken", "launch silent", "launch works"]
    for name in ("broken", "silent", "works"):
        assert asked.count(f"stop {name}") == asked.count(f"launch {name}"), "all that was launched is stopped"
