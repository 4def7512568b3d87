"""``up`` with the real controller and agent, as a user starts it; and what it decides to start."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ports import hold_address

from batchyard import Client
from batchyard.cli import main
from batchyard.cli.children import Children, ChildSpec
from batchyard.cli.up import YardPlan, yard_plan

START_LIMIT_S = 150.0

pytestmark = pytest.mark.timeout(400)  # a yard takes seconds to start, on a busy machine many


class Up:
    """One ``batchyard up`` in a process of its own."""

    def __init__(self, state_dir: Path, *flags: str) -> None:
        self.address = hold_address()
        self.http = hold_address()
        self.log = state_dir.parent / "up.log"
        self.log.touch()
        self.seen = self.log.stat().st_size
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "batchyard", "up", "--listen", self.address, "--http", self.http),
                    *("--state-dir", str(state_dir), "--runtimes", "process", *flags),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._credentials = state_dir / "administrator.toml"

    def text(self) -> str:
        return self.log.read_bytes()[self.seen :].decode()

    def until_ready(self) -> None:
        self.until(f"ready at {self.address}")

    def until(self, words: str) -> None:
        give_up_at = time.monotonic() + START_LIMIT_S
        while words not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < give_up_at, self.text()
            time.sleep(0.05)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=40)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batchyard", "--address", self.address, *arguments]
        # As a user of another machine: over TLS, by what `up` has written.
        secured = {"BATCHYARD_CREDENTIALS": str(self._credentials), "BATCHYARD_INSECURE_LOOPBACK_ONLY": "0"}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **secured}
        )


@pytest.fixture
def ups() -> Iterator[list[Up]]:
    """Every ``up`` put here is stopped at the end, or killed: its children end with it."""
    with contextlib.ExitStack() as stack:
        started: list[Up] = []
        yield started
        for up in started:
            stack.callback(up.process.kill)
            stack.callback(up.stop)


def test_a_job_runs_at_once_and_ctrl_c_stops_all(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path / "state")
    ups.append(up)
    up.until_ready()
    result = up.run("submit", "--wait", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert result.returncode == 7, result.stderr
    assert sorted(up.run("logs", result.stdout.strip()).stdout.splitlines()) == ["err", "out"]
    followed = up.run("submit", "--follow", "--", "echo", "hello")
    assert (followed.returncode, followed.stdout.splitlines()[1:]) == (0, ["hello"])
    assert up.stop() == 0
    assert "batchyard: stopping" in up.text()
    assert "did not stop in time" not in up.text()
    assert up.run("jobs").returncode == 4
    assert {path.name for path in (tmp_path / "state").glob("*.log")} == {
        "controller.log",
        "agent-1.log",
        "gateway.log",
    }


def test_running_attempts_go_on_and_are_found_again(tmp_path: Path, ups: list[Up]) -> None:
    """The exit code of an attempt that ended while the yard was down is learnt by the next ``up``."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = Up(tmp_path / "state")
    ups.append(first)
    first.until_ready()
    job_id = first.run("submit", "--", "sh", "-c", f"cat {shlex.quote(str(gate))}; exit 9").stdout.strip()
    with gate.open("w") as held:  # opens once the job reads
        assert first.stop() == 0
        assert "attempts still running: 1; they go on, and the next `batchyard up` finds them again" in first.text()
        held.write("go\n")
    second = Up(tmp_path / "state", "-v")
    ups.append(second)
    second.until_ready()
    result = second.run("wait", job_id)
    assert result.returncode == 9, result.stderr
    assert "controller | " in second.text()


def test_several_agents_share_the_machine(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path / "state", "--agents", "2")
    ups.append(up)
    up.until_ready()
    with Client(f"unix:{tmp_path}/state/controller.sock") as client:
        hosts = list(client.list_hosts())
        assert [host.facts.name for host in hosts] == [f"{socket.gethostname()}-{i}" for i in (1, 2)]
        assert sum(host.facts.capacity.cpu_millis for host in hosts) <= 1000 * len(os.sched_getaffinity(0))


def test_a_child_that_dies_ends_the_yard_loudly(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path / "state")
    ups.append(up)
    up.until_ready()
    children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children").read_text().split()
    agent = next(pid for pid in children if b"batchyard_agent" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(agent), signal.SIGKILL)
    assert up.process.wait(timeout=40) == 1
    assert "agent-1 ended unexpectedly (killed by SIGKILL); stopping the others" in up.text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_child_that_cannot_start_says_why(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path / "state", "--store", "nothing://x")
    ups.append(up)
    assert up.process.wait(timeout=60) == 1
    assert "controller ended unexpectedly" in up.text()
    assert re.search(r"^controller \| .*nothing", up.text(), re.MULTILINE)


def test_one_state_directory_serves_one_yard(tmp_path: Path, ups: list[Up]) -> None:
    up = Up(tmp_path / "state")
    ups.append(up)
    up.until(f"state and logs are in {tmp_path / 'state'}")
    second = Up(tmp_path / "state")
    ups.append(second)
    assert second.process.wait(timeout=30) == 1
    assert "another `batchyard up` uses" in second.text()


def test_a_taken_address_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["up", "--listen", address, "--http", "", "--state-dir", str(tmp_path)]) == 1
        assert f"something listens at {address} already" in capsys.readouterr().err
        listen = hold_address()
        assert main(["up", "--listen", listen, "--http", address, "--state-dir", str(tmp_path)]) == 1
        assert f"something listens at {address} already; stop it or give another --http" in capsys.readouterr().err


def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["up", "--http", "", "--state-dir", str(tmp_path / "file" / "state")]) == 1
    assert "cannot write to the state directory" in capsys.readouterr().err


def test_missing_programs_are_named() -> None:
    script = (
        "import sys, importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name: None if name.startswith('batchyard_') else find(name); "
        "from batchyard.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for command in ("up", "controller", "agent", "gateway"):
        answer = subprocess.run(
            [sys.executable, "-c", script, command], capture_output=True, text=True, timeout=60, check=False
        )
        assert answer.returncode == 1
        assert 'pip install "batchyard[all]"' in answer.stderr


@pytest.mark.parametrize("command", ["controller", "agent", "gateway"])
def test_programs_get_their_arguments_as_they_are(command: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "batchyard", command, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0
    assert "--log-level" in answer.stdout


def test_what_one_agent_is_told(tmp_path: Path) -> None:
    plan = yard_plan("", "127.0.0.1:8471", tmp_path, 1, "", None)
    (agent,) = plan.agents()
    assert plan.controller().arguments[1:] == (
        *("-m", "batchyard_controller", "--socket", f"{tmp_path}/controller.sock"),
        *("--store", f"sqlite:///{tmp_path}/controller.sqlite"),
        *("--local-hosts", f"{tmp_path}/hosts", "--local-scratch", f"{plan.scratch_dir}/hosts"),
        *("--ca", f"{tmp_path}/ca.pem"),
    )
    assert plan.gateway().arguments[1:] == (
        *("-m", "batchyard_gateway", "--listen", "127.0.0.1:8471"),
        *("--controller", f"unix:{tmp_path}/controller.sock"),
    )
    platforms = ("--platform", "EC2", "--platform", "FARGATE")
    assert agent.arguments[1:] == (
        *("-m", "batchyard_agent", "--controller", f"unix:{tmp_path}/controller.sock"),
        *("--state-dir", f"{tmp_path}/agent-1", "--name", socket.gethostname()),
        *("--scratch-dir", f"{plan.scratch_dir}/agent-1", *platforms),
    )


@pytest.mark.parametrize(
    ("uid", "mode", "wanted"),
    [
        (1000, 0o700, "{}/home/yard-scratch"),
        (0, 0o711, "{}/home/yard-scratch"),
        (0, 0o700, "/var/lib/batchyard-scratch/{}-home-yard-scratch"),
    ],
)
def test_jobs_work_where_their_user_can_go(uid: int, mode: int, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the state folder, unless a root's home is closed to the user as whom its jobs run."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        home = Path(folder, "home")
        home.mkdir(mode=mode)
        plan = YardPlan(listen="", http="", state_dir=home / "yard", store="", host_names=("a",))
        name = folder if wanted.startswith("{}") else folder[1:].replace("/", "-")
        assert str(plan.scratch_dir) == wanted.format(name)


def test_what_several_agents_are_told(tmp_path: Path) -> None:
    plan = YardPlan(
        listen="h:1",
        http="",
        state_dir=tmp_path,
        store="etcd://e:2379",
        host_names=("a-1", "a-2"),
        runtimes="process",
        cpu_millis=500,
        memory_mib=100,
    )
    platforms = ("--platform", "EC2", "--platform", "FARGATE")
    assert [agent.arguments[-16:] for agent in plan.agents()] == [
        (
            *("--state-dir", f"{tmp_path}/agent-{i}", "--name", f"a-{i}"),
            *("--scratch-dir", f"{plan.scratch_dir}/agent-{i}", *platforms),
            *("--runtimes", "process", "--cpus", "0.5", "--memory", "100M"),
        )
        for i in (1, 2)
    ]


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchyard.cli.children.STOP_GRACE_S", 0.3)
    children = Children()
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    spec = ChildSpec(name="deaf", arguments=(sys.executable, "-c", script), log=tmp_path / "log")
    children.start(spec)
    give_up_at = time.monotonic() + START_LIMIT_S
    while "deaf" not in spec.log.read_text():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    assert list(children.new_log_lines()) == ["deaf | deaf"]
    assert list(children.new_log_lines()) == []
    assert children.dead() is None
    assert children.stop() == ["deaf"]
