"""Yards for tools: one ``batchyard up`` for all that make do with plain processes, and boto3 as a witness."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.e2e.programs import Program, until
from tests.e2e.yard import sweep_attempts
from tests.ports import hold_address

REGION = "us-east-1"
DEFINITIONS: Mapping[str, tuple[str, ...]] = {
    "say": ("echo", "said", "Ref::word"),
    "fail": ("sh", "-c", "echo it broke; exit 3"),
    "index": ("sh", "-c", "echo index $AWS_BATCH_JOB_ARRAY_INDEX"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """
    A yard as tools see it.

    Attributes:
        variables: All that a tool is told of it.
        batch: boto3's client of it.
        socket: Address of its controller, for our own tools.
    """

    variables: Mapping[str, str]
    batch: Any
    socket: str

    def endings(self, name: str) -> list[str]:
        """Return how the jobs of a name ended, oldest first; the name may end with ``*``."""
        filters = [{"name": "JOB_NAME", "values": [name]}]
        jobs = self.batch.list_jobs(jobQueue="default", filters=filters)["jobSummaryList"]
        return [job["status"] for job in reversed(jobs)]


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Return a yard of plain processes that runs, with a definition for each of ``DEFINITIONS``."""
    with running_yard(tmp_path_factory.mktemp("yard"), "process") as made:
        for name, command in DEFINITIONS.items():
            made.batch.register_job_definition(
                jobDefinitionName=name,
                type="container",
                containerProperties=container(command),
            )
        yield made


@contextlib.contextmanager
def running_yard(folder: Path, runtimes: str) -> Iterator[Yard]:
    """Run a yard in a folder, of agents that offer these runtimes and are told the rest by the environment."""
    http = hold_address()
    flags = ("--http", http, "--runtimes", runtimes, "--state-dir", str(folder / "state"))
    up = Program("up", [sys.executable, "-m", "batchyard", "up", *flags], folder / "up.log")
    up.start()
    try:
        until(lambda: "ready at" in up.text(), "the yard is ready", 150.0)
        yield _open(f"http://{http}", folder / "state")
        assert up.stop() == 0
    finally:
        up.sweep()
        sweep_attempts(folder / "state" / "agent-1")


def _open(url: str, state_dir: Path) -> Yard:
    keys = _told(state_dir)
    batch = boto3.client(
        "batch",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    socket = f"unix:{state_dir / 'controller.sock'}"
    return Yard(variables={"AWS_ENDPOINT_URL": url, **keys}, batch=batch, socket=socket)


def _told(state_dir: Path) -> dict[str, str]:
    """Return what ``batchyard env`` tells a shell of the key."""
    line = [sys.executable, "-m", "batchyard", "env", "--state-dir", str(state_dir)]
    told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    variables = dict(line.removeprefix("export ").split("=", 1) for line in told.splitlines())
    return {name: variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")}


def container(command: tuple[str, ...]) -> dict[str, Any]:
    """Return the properties of a plain process."""
    requirements = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
    return {"image": "process://", "command": list(command), "resourceRequirements": requirements}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where a tool runs: nothing of ours is in it."""
    made = tmp_path / "work"
    made.mkdir()
    return made
