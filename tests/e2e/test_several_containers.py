"""
Jobs of several containers, on a real Docker Engine, and of several plain processes.

By the SDK, the `aws` CLI, and over kills of agent and keeper.
"""

from __future__ import annotations

import contextlib
import time

import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.agent.runtimes.process_records import living, signal_keeper
from tests.e2e.programs import until
from tests.e2e.test_aws import Aws, aws
from tests.e2e.test_restarts import starts_of_containers
from tests.e2e.yard import Life, Yard

from batchyard import Client
from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1 import job_pb2 as pb2
from batchyard.v1.job_pb2 import JOB_STATE_RUNNING, JOB_STATE_STARTING, JOB_STATE_SUCCEEDED
from batchyard_agent.config import keeper_dir

__all__ = ["aws"]

pytestmark = pytest.mark.timeout(300)

RUNTIMES = [pytest.param("process"), pytest.param("docker", marks=pytest.mark.docker)]

SIZE = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
INIT, SIDECAR, MAIN = "init", "sidecar", "main"
FOREVER = "echo serving; while :; do sleep 1; done"


def image_for(runtime: str) -> str:
    return ensure_image() if runtime == "docker" else "process://"


def part(
    runtime: str, name: str, script: str, *after: tuple[str, str], essential: bool = True
) -> pb.ContainerProperties:
    """Build a container of a task that waits for others."""
    container = pb.ContainerProperties(
        name=name, image=image_for(runtime), command=["sh", "-c", script], essential=essential, stop_timeout_s=2
    )
    container.resources.cpu_millis, container.resources.memory_mib = 500, 32
    for other, condition in after:
        number = pb.ContainerCondition.Value(f"CONTAINER_CONDITION_{condition}")
        container.depends_on.add(container=other, condition=number)
    return container


def three(runtime: str, init: str, main: str) -> pb.TaskProperties:
    """An init that must succeed, a sidecar that never ends, and what it is all about, with a folder in common."""
    task = pb.TaskProperties(
        containers=[
            part(runtime, INIT, init, essential=False),
            part(runtime, SIDECAR, FOREVER, (INIT, "SUCCESS"), essential=False),
            part(runtime, MAIN, main, (INIT, "SUCCESS"), (SIDECAR, "START")),
        ],
    )
    if runtime == "docker":
        task.volumes.add(name="work")
        for container in task.containers:
            container.mount_points.add(source_volume="work", container_path="/common")
    return task


def log_of(client: Client, job_id: str, container: str) -> str:
    return b"".join(client.read_logs(job_id, container=container)).decode()


def lives(yard: Yard, runtime: str) -> set[Life]:
    """Return what lives of an attempt on the host ``a``."""
    return yard.processes("a") if runtime == "process" else yard.containers("a")


def count(yard: Yard, runtime: str) -> int:
    """Return how many live, beside what holds them together; of processes that may end while one looks."""
    return len(living(keeper_dir(yard.state_dir("a")))) if runtime == "process" else len(yard.containers("a")) - 1


def is_clear(yard: Yard, runtime: str) -> bool:
    return not (yard.kept_processes("a") if runtime == "process" else yard.kept_containers("a"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_three_by_the_aws_cli(yard: Yard, aws: Aws, runtime: str) -> None:
    """Each one's log and exit code, of a job that is registered, overridden and read through the gateway."""
    yard.start("alpha", cpus=4, runtimes=runtime)
    aws.sign_in(yard)
    image, common = image_for(runtime), "/common/" if runtime == "docker" else ""
    mount = {"mountPoints": [{"sourceVolume": "work", "containerPath": "/common"}]} if common else {}
    given = [
        {
            "name": INIT,
            "image": image,
            "command": ["sh", "-c", f"echo made by $AWS_BATCH_JOB_ID >{common}file; echo ready"],
            "essential": False,
            "resourceRequirements": SIZE,
            **mount,
        },
        {
            "name": SIDECAR,
            "image": image,
            "command": ["sh", "-c", FOREVER],
            "essential": False,
            "dependsOn": [{"containerName": INIT, "condition": "SUCCESS"}],
            "stopTimeout": 2,
            "resourceRequirements": SIZE,
        },
        {
            "name": MAIN,
            "image": image,
            "command": ["sh", "-c", f"cat {common}file; echo $GREETING; exit Ref::code"],
            "dependsOn": [
                {"containerName": INIT, "condition": "SUCCESS"},
                {"containerName": SIDECAR, "condition": "START"},
            ],
            "resourceRequirements": SIZE,
            **mount,
        },
    ]
    task = {"containers": given} | ({"volumes": [{"name": "work"}], "pidMode": "task"} if common else {})
    definition = aws(
        "register-job-definition",
        jobDefinitionName="three",
        type="container",
        ecsProperties={"taskProperties": [task]},
        parameters={"code": "0"},
    )
    (described,) = aws("describe-job-definitions", jobDefinitions=["three"])["jobDefinitions"]
    assert described["ecsProperties"] == {"taskProperties": [task]}
    override = {"name": MAIN, "environment": [{"name": "GREETING", "value": "hello"}]}
    job_id = aws(
        "submit-job",
        jobName="three",
        jobQueue="default",
        jobDefinition=definition["jobDefinitionArn"],
        parameters={"code": "7"},
        ecsPropertiesOverride={"taskProperties": [{"containers": [override]}]},
    )["jobId"]
    job = aws.wait(job_id)
    assert (job["status"], job["statusReason"]) == ("FAILED", "Essential container in task exited")
    assert "container" not in job
    (attempt,) = job["attempts"]
    (ran,) = attempt["taskProperties"]
    codes = {each["name"]: each.get("exitCode") for each in ran["containers"]}
    assert (codes[INIT], codes[MAIN]) == (0, 7)
    assert codes[SIDECAR] in (137, 143)
    (detail,) = job["ecsProperties"]["taskProperties"]
    assert detail["taskArn"] == ran["taskArn"]
    assert {each["name"]: each["exitCode"] for each in detail["containers"]} == codes
    assert detail["containers"][2]["environment"] == override["environment"]
    streams = {each["name"]: each["logStreamName"] for each in ran["containers"]}
    task_id = ran["taskArn"].rpartition("/")[2]
    assert streams == {name: f"three/{name}/{task_id}" for name in (INIT, SIDECAR, MAIN)}
    assert aws.log(streams[INIT]) == ["ready"]
    assert aws.log(streams[SIDECAR]) == ["serving"]
    assert aws.log(streams[MAIN]) == [f"made by {job_id}", "hello"]
    listed = aws("list-jobs", jobQueue="default", jobStatus="FAILED")["jobSummaryList"]
    assert [(each["jobId"], each["container"]["exitCode"]) for each in listed] == [(job_id, 7)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_containers_are_shown_while_they_run(yard: Yard, aws: Aws, runtime: str) -> None:
    """What waits for what, what ended with which code, and logs; also after a kill -9 of the controller."""
    yard.start("a", cpus=4, runtimes=runtime)
    aws.sign_in(yard)
    with yard.client() as client:
        task = three(runtime, "echo ready; sleep 10", "sleep 600")
        job_id = client.submit_job(name="shown", task=task).job_id

        def states() -> list[int]:
            attempts = client.describe_job(job_id).attempts
            return [each.state for attempt in attempts for each in attempt.containers]

        running, waiting, ended = pb2.CONTAINER_STATE_RUNNING, pb2.CONTAINER_STATE_WAITING, pb2.CONTAINER_STATE_ENDED
        until(lambda: states() == [running, waiting, waiting], "init runs")
        assert "container sidecar waits for init to end with exit code 0" in client.explain_job(job_id).summary
        until(lambda: log_of(client, job_id, INIT) == "ready\n", "its log can be read")
        until(lambda: states() == [ended, running, running], "all others run")
        assert client.describe_job(job_id).state == JOB_STATE_RUNNING
        job = aws.job(job_id)
        (detail,) = job["ecsProperties"]["taskProperties"]
        assert [each.get("exitCode") for each in detail["containers"]] == [0, None, None]
        until(lambda: aws.log(detail["containers"][1]["logStreamName"]) == ["serving"], "the sidecar has written")
        yard.controller.kill()
        yard.controller.start()
        until(lambda: states() == [ended, running, running], "its host tells it again")
        client.terminate_job(job_id, "seen")
        assert client.wait(job_id, timeout_s=60).status_reason == "seen"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_init_that_fails_is_a_failed_start_and_tried_again(yard: Yard, runtime: str) -> None:
    yard.start("a", cpus=4, runtimes=runtime)
    with yard.client() as client:
        task = three(runtime, 'echo try; [ "$AWS_BATCH_JOB_ATTEMPT" = 2 ] || exit 3', "echo done")
        job_id = client.submit_job(name="retried", task=task, attempts=2).job_id
        job = client.wait(job_id, timeout_s=60)
        assert job.state == JOB_STATE_SUCCEEDED
        first, second = job.attempts
        assert first.status_reason == "Task failed to start"
        assert first.reason == "Container sidecar was not started: init, which it waits for, exited with 3"
        assert [(each.name, each.HasField("exit_code")) for each in first.containers] == [
            (INIT, True),
            (SIDECAR, False),
            (MAIN, False),
        ]
        assert second.containers[2].exit_code == 0
        assert log_of(client, job_id, MAIN) == "done\n"
        assert b"".join(client.read_logs(job_id, container=INIT, attempt=1)) == b"try\n"
        until(lambda: is_clear(yard, runtime), "none is kept")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_agent_finds_its_tasks_again(yard: Yard, runtime: str) -> None:
    """Killed with -9 while an init runs, and while all run: each is started once, and goes on."""
    yard.start("a", cpus=4, runtimes=runtime)
    listening = starts_of_containers(yard, "a") if runtime == "docker" else contextlib.nullcontext(dict)
    with yard.client() as client, listening as starts:
        task = three(runtime, "echo begin; sleep 4; echo end", "echo main; sleep 6; exit 9")
        job_id = client.submit_job(name="held", task=task).job_id
        until(lambda: count(yard, runtime) == 1, "the init lives")
        assert client.describe_job(job_id).state == JOB_STATE_STARTING
        restart(yard, client)
        until(lambda: count(yard, runtime) == 2, "sidecar and main live")
        before = lives(yard, runtime)
        restart(yard, client)
        assert lives(yard, runtime) == before
        job = client.wait(job_id, timeout_s=60)
        assert (job.exit_code, len(job.attempts)) == (9, 1)
        assert [each.exit_code for each in job.attempts[0].containers][::2] == [0, 9]
        assert log_of(client, job_id, INIT) == "begin\nend\n"
        assert log_of(client, job_id, MAIN) == "main\n"
        assert log_of(client, job_id, SIDECAR) == "serving\n"
        assert starts() == ({f"{job_id}#1": 4} if runtime == "docker" else {})
        until(lambda: is_clear(yard, runtime), "none is kept")


def test_a_keeper_that_is_killed_between_processes_costs_nothing(yard: Yard) -> None:
    """The agent learns the codes instead; the next keeper starts what waits, and nothing twice."""
    yard.start("a", cpus=4)
    with yard.client() as client:
        task = three("process", "echo begin; sleep 3; exit 0", "echo main; sleep 3; exit 9")
        job_id = client.submit_job(name="held", task=task).job_id
        for number in (1, 2):
            until(lambda number=number: count(yard, "process") == number, "the next live")  # type: ignore[misc]
            assert signal_keeper(keeper_dir(yard.state_dir("a")))
        job = client.wait(job_id, timeout_s=60)
        assert (job.exit_code, len(job.attempts)) == (9, 1)
        assert [each.exit_code for each in job.attempts[0].containers] == [0, 143, 9]
        logs = [log_of(client, job_id, name) for name in (INIT, SIDECAR, MAIN)]
        assert logs == ["begin\n", "serving\n", "main\n"]


def restart(yard: Yard, client: Client) -> None:
    yard.agents["a"].kill()
    yard.agents["a"].start()
    log = yard.agents["a"]
    until(lambda: "connected to the controller" in log.text().rpartition("--- started")[2], "the agent is connected")
    until(lambda: yard.is_ready(client, "a", attempts=1), "it has its attempt")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_terminating_stops_all(yard: Yard, runtime: str) -> None:
    yard.start("a", cpus=4, runtimes=runtime)
    with yard.client() as client:
        job_id = client.submit_job(name="long", task=three(runtime, "true", "sleep 600")).job_id
        until(lambda: count(yard, runtime) == 2, "all live")
        began = time.monotonic()
        client.terminate_job(job_id, "enough")
        job = client.wait(job_id, timeout_s=60)
        assert time.monotonic() - began < 29, "the containers' own stop timeouts count"
        assert job.status_reason == "enough"
        assert [each.HasField("exit_code") for each in job.attempts[0].containers] == [True, True, True]
        until(lambda: is_clear(yard, runtime), "none is kept")
