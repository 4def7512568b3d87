"""The sweep of bad input through the command line: one plain line, the promised exit code, and nothing changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batchyard.cli import main
from batchyard.v1 import compute_environment_pb2 as ce

from .controller import MemoryController, definition, environment, queue

REFUSED, USAGE = 3, 2

SUBMIT = {
    "no command": ((), USAGE, "say what to run"),
    "a bad name": (
        ("--name", "a.b", "--", "true"),
        REFUSED,
        "name: Job name should match valid pattern: 'a.b' may hold only letters, digits, '-' and '_'",
    ),
    "a long name": (("--name", "n" * 129, "--", "true"), REFUSED, "has 129 characters; at most 128 are allowed"),
    "an unknown queue": (("-q", "nobody", "--", "true"), REFUSED, "batchyard: JobQueue nobody not found."),
    "a disabled queue": (("-q", "closed", "--", "true"), REFUSED, "JobQueue closed is DISABLED and takes no new jobs"),
    "an unknown definition": (("-d", "nobody"), REFUSED, "JobDefinition name nobody does not exist"),
    "a bad definition": (("-d", "a:b", "--name", "j"), REFUSED, "job_definition: 'a:b' does not have the form"),
    "an empty command": (("--name", "j", "--", ""), REFUSED, "the first argument, the command itself, is empty"),
    "a NUL in the environment": (("--env", "A=\0", "--", "true"), REFUSED, "container.environment: 'A' is no name"),
    "a reserved variable": (("--env", "AWS_BATCH_X=1", "--", "true"), REFUSED, "are reserved"),
    "a long image": (("--image", "i" * 256, "--", "true"), REFUSED, "image: 256 characters; at most 255 are allowed"),
    "no vCPUs": (("--vcpus", "0", "--", "true"), REFUSED, "cpu_millis: vCPU is not provided."),
    "negative vCPUs": (
        ("--vcpus", "-1", "--", "true"),
        REFUSED,
        "cpu_millis: -1000 thousandths of a vCPU is not between",
    ),
    "huge vCPUs": (("--vcpus", "9e18", "--", "true"), REFUSED, "container.vcpus: must be from -9223372036854775808 to"),
    "vCPUs of nonsense": (("--vcpus", "many", "--", "true"), USAGE, "many"),
    "memory of nonsense": (("--memory", "lots", "--", "true"), USAGE, "lots"),
    "little memory": (("--memory", "3", "--", "true"), REFUSED, "memory_mib: 3 MiB is not between 4 and 1073741824"),
    "1.5 GPUs": (("--gpus", "1.5", "--", "true"), REFUSED, "1500 is more than one GPU and no multiple of 1000"),
    "an array of 1": (("--array", "1", "--", "true"), USAGE, "--array 1: an array has at least 2 children"),
    "an array of nonsense": (
        ("--array", "x", "--", "true"),
        USAGE,
        "'x' is no number, and no range such as 1-100 or 1-100:5",
    ),
    "11 attempts": (("--attempts", "11", "--", "true"), REFUSED, "retry_strategy.attempts: 11 is not between 1 and 10"),
    "a negative timeout": (("--timeout", "-1", "--", "true"), USAGE, "is not a length of time"),
    "a dependency on nobody": (
        ("--depends-on", "nobody", "--", "true"),
        REFUSED,
        "depends_on[0].job_id: 'nobody' is no job id",
    ),
    "30 KiB": (("--param", "p=" + "x" * 30_720, "--", "true"), REFUSED, "at most 30720 are allowed"),
    "a tag without =": (("--tag", "x", "--", "true"), USAGE, "x"),
    "a surrogate": (("--name", "\udcff", "--", "true"), REFUSED, "name: is not valid UTF-8"),
}

OTHERS = {
    "queue twice": (("queue", "create", "default"), REFUSED, "job queue default exists already"),
    "queue of a bad name": (("queue", "create", "a b"), REFUSED, "name: 'a b' may hold only letters, digits"),
    "queue over nobody": (
        ("queue", "create", "q", "--compute-environment", "nobody"),
        REFUSED,
        "compute environment 'nobody' not found",
    ),
    "enabled queue": (
        ("queue", "delete", "default"),
        REFUSED,
        "job queue default is ENABLED; disable it before you delete it",
    ),
    "environment twice": (
        ("compute-environment", "create", "default"),
        REFUSED,
        "compute environment default exists already",
    ),
    "environment in use": (
        ("compute-environment", "delete", "default"),
        REFUSED,
        "found existing JobQueue relationship",
    ),
    "enabled environment": (("compute-environment", "delete", "idle"), REFUSED, "compute environment idle is ENABLED"),
    "unknown definition": (
        ("job-definition", "deregister", "nobody:1"),
        REFUSED,
        "job definition 'nobody:1' not found",
    ),
    "definition without revision": (
        ("job-definition", "deregister", "train"),
        REFUSED,
        "does not have the form name:revision",
    ),
    "unknown policy": (("scheduling-policy", "delete", "nobody"), REFUSED, "scheduling policy 'nobody' not found"),
    "shares that overlap": (
        ("scheduling-policy", "create", "p", "--share", "UserA*=1", "--share", "UserA1=1"),
        REFUSED,
        "fairshare.share_distribution: 'UserA*' and 'UserA1' overlap",
    ),
    "queue of an unknown policy": (
        ("queue", "create", "q", "--scheduling-policy", "nobody"),
        REFUSED,
        "scheduling policy 'nobody' not found",
    ),
    "policy for a queue without one": (
        ("queue", "update", "default", "--scheduling-policy", "nobody"),
        REFUSED,
        "A scheduling policy cannot be added to a job queue that was created without one.",
    ),
    "quota share of a queue without": (
        ("quota-share", "create", "default", "s", "--limit", "VCPU=1"),
        REFUSED,
        "job queue default has no scheduling policy with quota shares",
    ),
    "quota share of a bad limit": (("quota-share", "create", "q", "s", "--limit", "VCPU=x"), USAGE, "is not NAME=N"),
    "unknown quota share": (
        ("quota-share", "delete", "default", "s"),
        REFUSED,
        "quota share 's' of job queue 'default'",
    ),
    "unknown consumable": (
        ("consumable-resource", "update", "nobody", "--add", "1"),
        REFUSED,
        "consumable resource 'nobody' not found",
    ),
    "priority of nobody": (("update-job", "nobody", "--priority", "1"), REFUSED, "job 'nobody' not found"),
    "cancel": (("cancel", "nobody"), REFUSED, "job 'nobody' not found"),
    "terminate": (("terminate", "nobody"), REFUSED, "job 'nobody' not found"),
    "terminate for a long reason": (
        ("terminate", "nobody", "--reason", "r" * 1025),
        REFUSED,
        "reason: 1025 characters",
    ),
    "describe": (("describe", "nobody"), REFUSED, "nobody"),
    "explain": (("explain", "nobody"), REFUSED, "job 'nobody' not found"),
    "wait": (("wait", "nobody"), REFUSED, "no such job: nobody"),
    "logs": (("logs", "nobody"), REFUSED, "no such job: nobody"),
    "jobs of an unknown queue": (("jobs", "-q", "nobody"), REFUSED, "JobQueue 'nobody' not found."),
    "host": (("hosts", "nobody"), REFUSED, "host 'nobody' not found"),
    "drain": (("drain", "nobody"), REFUSED, "host 'nobody' not found"),
    "unknown command": (("frobnicate",), USAGE, "No such command 'frobnicate'"),
}

CASES = {f"submit: {name}": (("submit", *args), code, text) for name, (args, code, text) in SUBMIT.items()} | OTHERS


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ADDRESS", "CONFIG", "OUTPUT", "QUEUE", "TIMEOUT_S", "RETRY_S"):
        monkeypatch.delenv(f"BATCHYARD_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
async def furnished(yard: MemoryController) -> MemoryController:
    await yard.environments.CreateComputeEnvironment(environment("idle"))
    await yard.queues.CreateJobQueue(queue("closed", state=ce.RESOURCE_STATE_DISABLED))
    await yard.definitions.RegisterJobDefinition(definition("train"))
    return yard


@pytest.mark.parametrize("name", CASES)
async def test_mistake_is_told_in_plain_words(
    furnished: MemoryController, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, code, text = CASES[name]
    before = furnished.stored()
    assert await asyncio.to_thread(main, ["--address", furnished.address, *arguments]) == code
    out, err = capsys.readouterr()
    assert text in err
    assert "Traceback" not in err
    assert "internal error" not in err
    assert out == "", "notes go to stderr"
    assert furnished.stored() == before
