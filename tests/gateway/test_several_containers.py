"""Jobs of several containers through boto3: registered, overridden, read back, with a host driven by hand."""

from __future__ import annotations

from typing import Any

from tests.services.hand_agent import ended

from batchyard.v1 import agent_pb2, job_definition_pb2
from batchyard.v1.job_definition_pb2 import ContainerProperties, TaskProperties

from .endpoint import REQUIREMENTS, Yard, error_of

FEATURE = ["several-containers"]
INIT = {
    "name": "init",
    "image": "busybox",
    "command": ["prepare", "Ref::what"],
    "essential": False,
    "startTimeout": 60,
    "resourceRequirements": REQUIREMENTS,
}
MAIN = {
    "name": "main",
    "image": "busybox:2",
    "command": ["work"],
    "dependsOn": [{"containerName": "init", "condition": "SUCCESS"}],
    "environment": [{"name": "A", "value": "1"}],
    "stopTimeout": 5,
    "resourceRequirements": [*REQUIREMENTS[:1], {"type": "MEMORY", "value": "256"}],
    "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}],
    "secrets": [],
}
TASK = {
    "containers": [INIT, MAIN],
    "volumes": [{"name": "data"}],
    "pidMode": "task",
    "ipcMode": "task",
    "taskRoleArn": "arn:role",
}


def register(yard: Yard, task: Any = TASK) -> None:
    yard.batch.register_job_definition(
        jobDefinitionName="two",
        type="container",
        ecsProperties={"taskProperties": [task]},
        parameters={"what": "all"},
    )


def test_a_definition_is_read_back_as_it_was_given(yard: Yard) -> None:
    register(yard)
    (found,) = yard.batch.describe_job_definitions(jobDefinitions=["two"])["jobDefinitions"]
    assert found["ecsProperties"] == {"taskProperties": [TASK]}
    assert "containerProperties" not in found


def test_what_a_host_is_told_and_what_it_tells(yard: Yard) -> None:
    register(yard)
    agent = yard.endpoint.agent(features=FEATURE)
    override = {
        "containers": [
            {"name": "main", "command": ["work", "Ref::what"], "environment": [{"name": "B", "value": "2"}]},
            {"name": "init", "resourceRequirements": [{"type": "MEMORY", "value": "512"}]},
        ]
    }
    job_id = yard.submit(jobDefinition="two", ecsPropertiesOverride={"taskProperties": [override]})
    (spec,) = yard.endpoint.run(agent.hear_starts())
    assert not spec.HasField("container")
    init, main = spec.task.containers
    assert (list(init.command), list(main.command)) == (["prepare", "all"], ["work", "all"])
    assert dict(main.environment) == {"A": "1", "B": "2"}
    assert (init.resources.memory_mib, main.resources.memory_mib) == (512, 256)
    assert (init.essential, main.HasField("essential")) == (False, False)
    assert (init.start_timeout_s, main.stop_timeout_s) == (60, 5)
    assert [(each.container, each.condition) for each in main.depends_on] == [
        ("init", job_definition_pb2.CONTAINER_CONDITION_SUCCESS)
    ]
    assert [volume.name for volume in spec.task.volumes] == ["data"]
    assert (spec.task.pid_mode, spec.task.ipc_mode, main.job_role_arn) == ("task", "task", "arn:role")
    yard.endpoint.run(agent.report(report(spec.attempt_id)))
    job = yard.job(job_id)
    assert (job["status"], job["statusReason"]) == ("FAILED", "Essential container in task exited")
    assert "container" not in job
    (attempt,) = job["attempts"]
    assert "container" not in attempt
    (ran,) = attempt["taskProperties"]
    task_id = ran["taskArn"].rpartition("/")[2]
    assert ran["containers"] == [
        {
            "name": "init",
            "exitCode": 0,
            "logStreamName": f"two/init/{task_id}",
            "networkInterfaces": [],
        },
        {
            "name": "main",
            "exitCode": 4,
            "reason": "OutOfMemoryError: Container killed due to memory usage",
            "logStreamName": f"two/main/{task_id}",
            "networkInterfaces": [],
        },
    ]
    (detail,) = job["ecsProperties"]["taskProperties"]
    assert detail["containerInstanceArn"] == ran["containerInstanceArn"]
    assert {name: detail[name] for name in ("pidMode", "ipcMode", "volumes", "taskRoleArn")} == {
        name: TASK[name] for name in ("pidMode", "ipcMode", "volumes", "taskRoleArn")
    }
    first, second = detail["containers"]
    assert second["command"] == ["work", "all"]
    assert second["environment"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert {each["type"]: each["value"] for each in first["resourceRequirements"]} == {"VCPU": "1", "MEMORY": "512"}
    assert (first["exitCode"], second["exitCode"]) == (0, 4)
    assert second["dependsOn"] == MAIN["dependsOn"]


def test_several_plain_processes_are_no_other_job(yard: Yard) -> None:
    """They have the host's memory segments, which AWS's mode for that says."""
    init, main = ({**each, "image": "process://"} for each in (INIT, MAIN))
    del main["mountPoints"]
    task = {"containers": [init, main], "ipcMode": "host"}
    register(yard, task)
    (found,) = yard.batch.describe_job_definitions(jobDefinitions=["two"])["jobDefinitions"]
    assert found["ecsProperties"] == {"taskProperties": [task]}
    agent = yard.endpoint.agent(features=FEATURE, runtimes=["process"])
    job_id = yard.submit(jobDefinition="two")
    yard.endpoint.run(agent.hear_nothing())
    answer = yard.endpoint.run(yard.endpoint.client.explain_job(job_id))
    assert "no host's agent is new enough for several processes" in answer.summary
    newer = yard.endpoint.agent(
        host_id="00000000-0000-4000-8000-000000000002",
        name="newer",
        features=["several-processes"],
        runtimes=["process"],
    )
    (spec,) = yard.endpoint.run(newer.hear_starts())
    assert (spec.task.ipc_mode, [each.image for each in spec.task.containers]) == ("host", ["process://"] * 2)
    yard.endpoint.run(newer.report(report(spec.attempt_id)))
    (ran,) = yard.job(job_id)["attempts"][0]["taskProperties"]
    assert [(each["name"], each["exitCode"]) for each in ran["containers"]] == [("init", 0), ("main", 4)]


def test_containers_are_shown_while_they_run(yard: Yard) -> None:
    """Each with its log stream from the start on, and those that have ended with their exit code."""
    register(yard)
    agent = yard.endpoint.agent(features=FEATURE)
    job_id = yard.submit(jobDefinition="two")
    (spec,) = yard.endpoint.run(agent.hear_starts())

    def shown() -> list[Any]:
        job = yard.job(job_id)
        assert job["attempts"] == []  # AWS lists those that are over
        (ran,) = job["ecsProperties"]["taskProperties"]
        task_id = ran["taskArn"].rpartition("/")[2]
        assert [each["logStreamName"] for each in ran["containers"]] == [f"two/{n}/{task_id}" for n in ("init", "main")]
        return [job["status"], job.get("statusReason"), *(each.get("exitCode") for each in ran["containers"])]

    assert shown() == ["STARTING", None, None, None]
    init = agent_pb2.ContainerReport(name="init", started_at_ms=900)
    report = agent_pb2.AttemptReport(
        attempt_id=spec.attempt_id,
        phase=agent_pb2.ATTEMPT_PHASE_STARTING,
        containers=[init, agent_pb2.ContainerReport(name="main")],
    )
    yard.endpoint.run(agent.report(report))
    yard.endpoint.run(agent.hear_nothing())
    assert shown() == ["STARTING", "container main waits for init to end with exit code 0", None, None]
    report.containers[0].MergeFrom(agent_pb2.ContainerReport(stopped_at_ms=950, exit_code=0))
    report.containers[1].started_at_ms = 960
    report.phase, report.started_at_ms = agent_pb2.ATTEMPT_PHASE_RUNNING, 960
    yard.endpoint.run(agent.report(report))
    yard.endpoint.run(agent.hear_nothing())
    assert shown() == ["RUNNING", None, 0, None]


def report(attempt_id: str) -> agent_pb2.AttemptReport:
    parts = [
        agent_pb2.ContainerReport(name="init", exit_code=0, started_at_ms=900, stopped_at_ms=950),
        agent_pb2.ContainerReport(
            name="main",
            exit_code=4,
            reason="OutOfMemoryError: Container killed due to memory usage",
            started_at_ms=1000,
            stopped_at_ms=2000,
        ),
    ]
    return ended(attempt_id, 4, containers=parts)


def test_a_host_whose_agent_is_too_old_gets_none(yard: Yard) -> None:
    register(yard)
    agent = yard.endpoint.agent()
    job_id = yard.submit(jobDefinition="two")
    yard.endpoint.run(agent.hear_nothing())
    assert yard.job(job_id)["status"] == "RUNNABLE"
    answer = yard.endpoint.run(yard.endpoint.client.explain_job(job_id))
    assert "no host's agent is new enough for several containers" in answer.summary


def test_overrides_are_for_containers_that_there_are(yard: Yard) -> None:
    register(yard)

    def text(*containers: dict[str, Any], **members: Any) -> str:
        override = {"ecsPropertiesOverride": {"taskProperties": [{"containers": list(containers)}]}}
        return error_of(lambda: yard.submit(jobDefinition="two", **(members or override)))[1]

    assert "Container override 'side' should match a container of the job definition: init, main" in text(
        {"name": "side", "command": ["a"]}
    )
    assert "Container override '' should match" in text({"command": ["a"]})
    assert "Each container may be overridden once" in text({"name": "main"}, {"name": "main"})
    assert "Container overrides command must not contain empty string" in text({"name": "main", "command": ["a", ""]})
    assert "the job has 2 containers" in text(containerOverrides={"command": ["a"]})
    assert "Use ecsPropertiesOverride instead" in text(containerOverrides={"memory": 64})
    assert "No parameter found for reference nothing" in text({"name": "init", "command": ["Ref::nothing"]})


def test_a_task_that_was_registered_natively_is_shown_as_aws_would(yard: Yard) -> None:
    parts = []
    for name in ("a", "b"):
        part = ContainerProperties(name=name, image="busybox", essential=name == "a")
        part.resources.cpu_millis, part.resources.memory_mib = 1000, 64
        parts.append(part)
    task = TaskProperties(containers=parts, pid_mode="task")
    yard.endpoint.run(yard.endpoint.client.register_job_definition("native", task=task))
    (found,) = yard.batch.describe_job_definitions(jobDefinitions=["native"])["jobDefinitions"]
    (shown,) = found["ecsProperties"]["taskProperties"]
    assert [each["name"] for each in shown["containers"]] == ["a", "b"]
    assert (shown["pidMode"], shown["containers"][1]["essential"]) == ("task", False)
    job = yard.job(yard.submit(jobDefinition="native"))
    assert [each["name"] for each in job["ecsProperties"]["taskProperties"][0]["containers"]] == ["a", "b"]
