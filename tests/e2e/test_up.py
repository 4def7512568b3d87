"""
``batchyard up`` and the command line, as a user meets them.

All of it goes through the installed programs: arguments in; stdout, stderr and
exit codes out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.e2e.conftest import show_logs_of
from tests.e2e.programs import Program, until
from tests.e2e.witness import Witness
from tests.e2e.yard import processes, sweep_attempts
from tests.ports import hold_address

pytestmark = pytest.mark.timeout(120)

COMMAND_LIMIT_S = 60.0
OUT_AND_ERR = ("sh", "-c", "echo out; echo err >&2; exit 7")
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 130


class Up:
    """One ``batchyard up`` after the other on one state directory, and a prompt to use it from."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.agent_dir = self.state_dir / "agent-1"
        self.folder = folder
        self.address = hold_address()
        # As a user of another machine: over TLS, by what `up` has written.
        self._secured = {
            "BATCHYARD_CREDENTIALS": str(self.state_dir / "administrator.toml"),
            "BATCHYARD_INSECURE_LOOPBACK_ONLY": "0",
        }
        self._environment = {**os.environ, "BATCHYARD_ADDRESS": self.address, **self._secured}
        self._children: list[psutil.Process] = []
        self.program = self.prepare(
            "up", "up", "--listen", self.address, "--http", "", "--state-dir", str(self.state_dir)
        )

    def prepare(self, name: str, *arguments: str) -> Program:
        """Prepare a command line of ours that goes on for a while."""
        line = [sys.executable, "-m", "batchyard", "--address", self.address, *arguments]
        return Program(name, line, self.folder / f"{name}.log", self._secured)

    def start(self) -> None:
        """Start the yard and wait until it says that it is ready."""
        self.program.start()
        until(lambda: "ready at" in self.said(), "the yard is ready")
        self._children += psutil.Process(self.program.pid).children()

    def said(self) -> str:
        """Return what the latest ``up`` has said."""
        return self.program.text().rpartition("--- started")[2]

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command, make sure of its exit code, and return what it wrote to stdout."""
        line = [sys.executable, "-m", "batchyard", *arguments]
        ended = subprocess.run(
            line, capture_output=True, text=True, env=self._environment, timeout=COMMAND_LIMIT_S, check=False
        )
        assert ended.returncode == code, f"{arguments} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command and return its JSON."""
        return json.loads(self.run("-o", "json", *arguments))

    def submit(self, *arguments: str) -> str:
        """Submit a job and return its id."""
        return self.run("submit", *arguments).strip()

    def await_state(self, job_id: str, state: str) -> None:
        """Wait until a job is in a state."""
        until(lambda: self.json("describe", job_id)[0]["state"] == state, f"{job_id} is {state}")

    def programs(self) -> list[Program]:
        logs = sorted(self.state_dir.glob("*.log"))
        return [self.program, *(Program(log.stem, [], log) for log in logs)]

    def sweep(self) -> None:
        """End everything, orphans too."""
        if self.program.is_running:
            self._children += psutil.Process(self.program.pid).children()
        self.program.sweep()
        for child in self._children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(self._children, timeout=COMMAND_LIMIT_S)
        for process in self.local_hosts():
            process.kill()
        for agent_dir in (self.agent_dir, *self.state_dir.glob("hosts/*/agent")):
            sweep_attempts(agent_dir)

    def local_hosts(self) -> list[psutil.Process]:
        """Return the agents that provider ``local`` has started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(argument.startswith(f"{self.state_dir}/hosts/") for argument in process.cmdline()):
                    found.append(process)
        return found


@pytest.fixture
def up(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Up]:
    """Return a yard that was never started."""
    made = Up(tmp_path)
    show_logs_of(request, made)
    yield made
    made.sweep()


def test_the_first_ten_minutes_of_a_user(up: Up) -> None:
    """Submit and wait, logs, jobs, describe, hosts, explain, cancel, terminate: what each tells and how it exits."""
    up.start()
    failed = up.run("submit", "--wait", "--", *OUT_AND_ERR, code=7).strip()
    assert up.run("logs", failed) == "out\nerr\n"
    assert up.run("submit", "--follow", "--", *OUT_AND_ERR, code=7).splitlines()[1:] == ["out", "err"]
    (job,) = up.json("describe", failed)
    (host,) = up.json("hosts")
    assert (job["state"], job["exit_code"], job["status_reason"]) == (
        "FAILED", 7, "Essential container in task exited",
    )  # fmt: skip
    assert [attempt["host_id"] for attempt in job["attempts"]] == [host["id"]]
    assert host["state"] == "READY"
    assert "process" in host["facts"]["runtimes"]
    table = up.run("jobs").splitlines()
    assert table[0].split()[:5] == ["JOB", "NAME", "QUEUE", "STATE", "EXIT"]
    assert [failed, "sh", "default", "FAILED", "7"] in [line.split()[:5] for line in table]
    assert "READY" in up.run("hosts")

    waiting = up.submit("--vcpus", "1000", "--", "true")
    answer = up.json("explain", waiting)
    (refusal,) = answer["refusals"]
    assert (refusal["kind"], refusal["asked"]) == ("cpu_millis", 1_000_000)
    assert refusal["largest_capacity"] == host["facts"]["capacity"]["cpu_millis"]
    assert "no host known now could ever fit it" in up.run("explain", waiting)
    up.run("cancel", waiting)
    assert up.run("wait", waiting, code=1) == ""

    running = up.submit("--", "sleep", "600")
    up.await_state(running, "RUNNING")
    up.run("terminate", running, "--reason", "enough")
    up.run("wait", running, code=TERMINATED)
    (job,) = up.json("describe", running)
    assert (job["state"], job["status_reason"], job["is_terminated"]) == ("FAILED", "enough", True)
    assert up.program.stop() == 0


def test_up_and_its_console_each_write_a_link_that_signs_in(up: Up) -> None:
    """In the browser: the link that ``up`` says, opened once, then one of ``batchyard console``."""
    http = hold_address()
    up.program = up.prepare("up", "up", "--listen", up.address, "--http", http, "--state-dir", str(up.state_dir))
    up.start()
    until(lambda: "/console/sign-in?" in up.said(), "the link is said")
    said = re.search(r"http://\S+/console/sign-in\?\S+", up.said())
    assert said is not None
    for link in (said[0], up.run("console", "--state-dir", str(up.state_dir)).strip()):
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(link) as page:
            assert (page.status, page.url) == (200, f"http://{http}/console/")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(link)
    assert up.program.stop() == 0


@pytest.mark.docker
def test_the_same_in_a_container(up: Up) -> None:
    """The runtime is found by itself; the job's image decides."""
    image = ensure_image()
    up.start()
    (host,) = up.json("hosts")
    assert "docker" in host["facts"]["runtimes"]
    job = up.run("submit", "--wait", "--image", image, "--", *OUT_AND_ERR, code=7).strip()
    assert sorted(up.run("logs", job).splitlines()) == ["err", "out"]


def test_an_interrupt_leaves_jobs_alone(up: Up, witness: Witness) -> None:
    """Ctrl-C of a waiting submit, then of the yard: the job goes on as the same process; the next yard finds it."""
    up.start()
    waiter = up.prepare("submit", "submit", "--wait", "--", *witness.held("job", code=5))
    waiter.start()
    until(lambda: witness.count("start") == 1, "the job runs")
    (job_id,) = up.run("-o", "name", "jobs").split()
    waiter.send(signal.SIGINT)
    assert waiter.wait() == INTERRUPTED
    assert f"batchyard terminate {job_id}" in waiter.text()
    up.await_state(job_id, "RUNNING")
    before = processes(up.agent_dir)

    second = up.prepare("second", "up", "--listen", hold_address(), "--http", "", "--state-dir", str(up.state_dir))
    second.start()
    assert second.wait() == 1
    assert f"another `batchyard up` uses {up.state_dir}" in second.text()

    up.program.send(signal.SIGINT)
    assert up.program.wait() == 0
    assert "attempts still running: 1" in up.said()
    assert processes(up.agent_dir) == before
    up.start()
    until(lambda: "attempts found running: 1" in up.said(), "it tells of the job")
    assert processes(up.agent_dir) == before
    witness.release()
    up.run("wait", job_id, code=5)
    witness.check_once(["job"])


def test_a_killed_yard_can_be_started_again(up: Up, witness: Witness) -> None:
    """After kill -9 of ``up`` itself: the same command starts it again, and it finds the job."""
    up.start()
    job_id = up.submit("--", *witness.held("job", code=5))
    until(lambda: witness.count("start") == 1, "the job runs")
    before = processes(up.agent_dir)
    up.program.kill()

    def starts_again() -> bool:
        up.program.sweep()
        up.program.start()
        until(lambda: "ready at" in up.said() or not up.program.is_running, "it is ready or gives up")
        return up.program.is_running

    until(starts_again, "the yard is ready again", 60)
    assert processes(up.agent_dir) == before
    witness.release()
    up.run("wait", job_id, code=5)
    witness.check_once(["job"])


def test_launched_hosts_end_with_the_yard_and_come_back(up: Up, witness: Witness) -> None:
    """Provider ``local`` needs no setting. Ctrl-C leaves the job alone, which the same host takes up again."""
    up.start()
    burst = ("--provider", "local", "--instance-type", "small", "--max-vcpus", "1", "--scale-down-delay", "1s")
    up.run("compute-environment", "create", "burst", *burst)
    up.run("queue", "create", "burst", "--compute-environment", "burst")
    job_id = up.submit("--queue", "burst", "--memory", "32M", "--", *witness.held("job", code=5))
    until(lambda: witness.count("start") == 1, "the job runs", 60)
    (before,) = up.local_hosts()
    up.program.send(signal.SIGINT)
    assert up.program.wait() == 0
    assert not before.is_running()
    up.start()
    until(lambda: len(up.local_hosts()) == 1, "the host is back")
    witness.release()
    up.run("wait", job_id, code=5)
    witness.check_once(["job"])
    until(lambda: not up.local_hosts(), "the idle host is stopped", 60)
    assert up.program.stop() == 0
