"""The doors of ``batchyard up``: its user comes in without a flag, nobody else at all."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import boto3
import pytest
from tests.ports import hold_address

from batchyard.cli import main

START_LIMIT_S = 60.0
NOBODY = 65534

pytestmark = pytest.mark.timeout(400)  # a yard takes seconds to start, on a busy machine many


class Home:
    """A user's home with a yard in it, used without any flag; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.http = hold_address()
        self.state = folder / "batchyard"
        self.log = folder / "up.log"
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("BATCHYARD_", "AWS_"))}
        self.environment = mine | {"XDG_STATE_HOME": str(folder), "HOME": str(folder), "BATCHYARD_CONFIG": os.devnull}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.up = subprocess.Popen(
                # As careless a umask as there is.
                [
                    "sh",
                    "-c",
                    'umask 000; exec "$@"',
                    "sh",
                    *self.line("up", "--http", self.http, "--runtimes", "process"),
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        give_up_at = time.monotonic() + START_LIMIT_S
        while "ready at" not in self.log.read_text():
            assert self.up.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up_at, self.log.read_text()
            time.sleep(0.05)

    def line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "batchyard", *arguments]

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more
        return subprocess.run(
            self.line(*arguments), env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def told(self) -> dict[str, str]:
        """Return what ``eval "$(batchyard env)"`` sets in a shell."""
        script = 'eval "$("$@")"; env -0'
        answer = subprocess.run(
            ["sh", "-c", script, "sh", *self.line("env")],
            env=self.environment,
            capture_output=True,
            check=True,
            timeout=60,
        )
        pairs = (each.partition("=") for each in answer.stdout.decode().split("\0") if each)
        return {name: value for name, _, value in pairs if name.startswith(("AWS_", "BATCHYARD_ADDRESS"))}

    def stop(self) -> None:
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGINT)
        try:
            self.up.wait(timeout=40)
        finally:
            self.up.kill()


@contextlib.contextmanager
def opened_home() -> Iterator[Home]:
    """Open a home as homes are; pytest's own folders are closed to the user as whom a root's jobs run."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with Home(Path(folder)) as made:
            yield made


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with opened_home() as made:
        yield made


def test_its_user_needs_no_flag(home: Home) -> None:
    submitted = home.run("submit", "--wait", "--", "sh", "-c", "exit 7")
    assert submitted.returncode == 7, submitted.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="others' jobs run as themselves")
def test_jobs_of_root_run_as_nobody(home: Home) -> None:
    """With no option at all, in a folder that they can use."""
    answer = home.run("submit", "--follow", "--", "sh", "-c", "id -un; touch $HOME/file && echo made")
    assert answer.stdout.splitlines()[1:] == ["nobody", "made"], answer.stderr


def test_nothing_of_the_state_is_open_to_others_whatever_the_umask(home: Home) -> None:
    """The folder and all that holds a secret; the rest cannot be reached but through it."""
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((home.state / "controller.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((home.state / "gateway.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((home.state / "agent-1").stat().st_mode) & 0o022 == 0


def opened(pid: str) -> Iterator[str]:
    """Yield what a process has open; it may close some meanwhile."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(fd.readlink())


def test_nothing_listens_but_the_gateway(home: Home) -> None:
    """No TCP port of the controller's, unless asked for."""
    children = Path(f"/proc/{home.up.pid}/task/{home.up.pid}/children").read_text().split()
    listening = {}
    for pid in children:
        program = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[2]
        inodes = set(opened(pid))
        tables = [
            line.split()
            for name in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
        ]
        listening[program] = [row[1] for row in tables[1:] if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert listening["batchyard_controller"] == []
    assert len(listening["batchyard_gateway"]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_cannot_connect(home: Home) -> None:
    script = f"import os, socket; s = socket.socket(socket.AF_UNIX); os.setgroups([]); os.setuid({NOBODY}); s.connect('controller.sock')"
    # From inside a folder that lets everybody through, so that the socket's own mode is what is tried.
    home.state.chmod(0o755)
    try:
        line = [sys.executable, "-c", script]
        answer = subprocess.run(line, cwd=home.state, capture_output=True, text=True, check=False, timeout=60)
    finally:
        home.state.chmod(0o700)
    assert "PermissionError" in answer.stderr


def test_the_gateway_wants_the_key_that_env_prints(home: Home) -> None:
    told = home.told()
    assert told["BATCHYARD_ADDRESS"] == f"unix:{home.state}/controller.sock"
    url = f"http://{home.http}"
    services = ("BATCH", "CLOUDWATCH_LOGS", "ECS", "EC2", "STS")
    assert {name: told[f"AWS_ENDPOINT_URL_{name}"] for name in services} == dict.fromkeys(services, url)
    batch = boto3.client(
        "batch",
        endpoint_url=told["AWS_ENDPOINT_URL_BATCH"],
        region_name=told["AWS_DEFAULT_REGION"],
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )
    assert [queue["jobQueueName"] for queue in batch.describe_job_queues()["jobQueues"]] == ["default"]
    batch.close()
    unsigned = urllib.request.Request(f"{url}/v1/describejobqueues", b"{}", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(unsigned, timeout=20)
    with refused.value:
        assert refused.value.code == 403
        assert b"Missing Authentication Token" in refused.value.read()


def test_the_key_stays_the_same_over_restarts_and_a_revoked_one_is_replaced() -> None:
    with opened_home() as home:
        first = home.told()
        home.stop()
        home.start()
        assert home.told() == first
        assert home.run("access-key", "revoke", first["AWS_ACCESS_KEY_ID"]).returncode == 0
        home.stop()
        home.start()
        second = home.told()
        assert second["AWS_ACCESS_KEY_ID"] != first["AWS_ACCESS_KEY_ID"]


def test_env_without_a_yard_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--state-dir", str(tmp_path)]) == 1
    assert "no yard listens at" in capsys.readouterr().err
