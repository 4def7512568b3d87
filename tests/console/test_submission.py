"""Submitting outside the wizard: of a definition, a command alone, again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.endpoint import Yard, definition, environment, queue

from batchyard import container
from batchyard.v1 import job_pb2
from batchyard_gateway.console.forms.definition_form import COMMAND, REQUIREMENTS
from batchyard_gateway.console.forms.submission_form import is_native, named
from batchyard_gateway.console.forms.tables import NATIVE

from .visitor import Reply, Visitor

HOSTILE = '"><script>x()</script>'
RUN = {"of": "command", "jobQueue": "q", "containerProperties.image": "process://", COMMAND: ["/bin/echo", "hello"],
       f"{REQUIREMENTS}.VCPU": "0.5", f"{REQUIREMENTS}.MEMORY": "64"}  # fmt: skip
OF = {"of": "definition", "jobName": "j", "jobQueue": "q", "jobDefinition": "d"}


@pytest.fixture
def yard(visitor: Visitor) -> Yard:
    return Yard(visitor.endpoint, visitor.endpoint.batch())


def submit(visitor: Visitor, form: dict[str, Any], **more: Any) -> Reply:
    return visitor.post("jobs/new", {**form, "go": "submit", **more})


def submitted(visitor: Visitor, reply: Reply) -> job_pb2.Job:
    assert reply.status == 303, reply.text
    job_id = reply.headers["location"].removeprefix("/console/jobs/")
    return visitor.endpoint.run(visitor.endpoint.client.describe_job(job_id))


@pytest.mark.parametrize(
    ("members", "native"),
    [
        ({}, False),
        ({"arrayProperties": {"size": 10_000}}, False),
        ({"arrayProperties": {"size": 10_001}}, True),
        ({"arrayConcurrency": 1}, True),
        ({"dependsOn": [{"jobId": "x"}, {"type": "SEQUENTIAL"}, {"jobId": "y", "type": "N_TO_N"}]}, False),
        ({"dependsOn": [{"jobId": "x", "type": "AFTER_ANY"}]}, True),
        ({"dependsOn": [{"jobId": "x"}] * 21}, True),
        ({"containerProperties": {}}, True),
        ({NATIVE: "{}"}, True),
    ],
)
def test_what_aws_cannot_say_is_known(members: dict[str, Any], native: bool) -> None:
    assert is_native(members) is native


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/usr/bin/python3.11", "x"], "python3-11"),
        (["echo"], "echo"),
        (["--"], "job"),
        ([], "job"),
        (["x" * 200], "x" * 128),
    ],
)
def test_a_command_gives_its_job_a_name(words: list[str], name: str) -> None:
    assert named({"containerProperties": {"command": words}})["jobName"] == name
    assert named({"jobName": "mine", "containerProperties": {"command": words}})["jobName"] == "mine"


def test_a_command_alone_is_submitted(visitor: Visitor, yard: Yard) -> None:
    job = submitted(visitor, submit(visitor, RUN))
    assert (job.name, job.queue, job.job_definition) == ("echo", "q", "")
    assert list(job.container.command) == ["/bin/echo", "hello"]
    assert (job.container.image, job.container.resources.cpu_millis) == ("process://", 500)


def test_what_will_be_submitted_is_shown_first_and_can_be_edited(visitor: Visitor, yard: Yard) -> None:
    page = visitor.post("jobs/new", {**RUN, "tags.key": HOSTILE, "tags.value": "v", "go": "review"})
    assert page.status == 200
    assert "What will be submitted" in page.text
    assert "<script>x" not in page.text
    form = visitor.filled(page.text, "/console/jobs/new")
    edited = visitor.post("jobs/new", {**form, "go": "edit"})
    assert "hello</textarea>" in edited.text
    job = submitted(visitor, submit(visitor, form))
    assert dict(job.tags) == {HOSTILE: "v"}


def test_a_button_pressed_twice_submits_one_job(visitor: Visitor, yard: Yard) -> None:
    for form in (RUN, OF):
        once = {**form, "once": f"o-{form['of']}"}
        assert submitted(visitor, submit(visitor, once)).id == submitted(visitor, submit(visitor, once)).id
        assert (
            submitted(visitor, submit(visitor, once, once="another")).id != submitted(visitor, submit(visitor, once)).id
        )


def test_all_of_a_definition_s_job_is_submitted(visitor: Visitor, yard: Yard) -> None:
    first = yard.submit("first")
    reply = submit(
        visitor, OF,
        **{
            "arrayProperties.size": "3", "dependsOn.jobId": [first, ""], "dependsOn.type": ["", "SEQUENTIAL"],
            "tags.key": "k", "tags.value": "v", "propagateTags": "yes", "retryStrategy.attempts": "2",
            "retryStrategy.evaluateOnExit.onExitCode": "1*", "retryStrategy.evaluateOnExit.onReason": "",
            "retryStrategy.evaluateOnExit.onStatusReason": "", "retryStrategy.evaluateOnExit.action": "retry",
            "timeout.attemptDurationSeconds": "60", "parameters.key": "p", "parameters.value": "1",
            "containerOverrides.command": ["echo", "Ref::p"], "containerOverrides.environment.name": "A",
            "containerOverrides.environment.value": "", "containerOverrides.resourceRequirements.MEMORY": "32",
        },
    )  # fmt: skip
    job = submitted(visitor, reply)
    assert (job.array.size, job.timeout_s, job.retry_strategy.attempts, job.propagate_tags) == (3, 60, 2, True)
    assert list(job.container.command) == ["echo", "1"]
    assert (dict(job.container.environment), job.container.resources.memory_mib) == ({"A": ""}, 32)
    assert [(each.job_id, each.type) for each in job.depends_on] == [(first, 0), ("", 2)]


def test_what_only_batchyard_can_say_is_submitted(visitor: Visitor, yard: Yard) -> None:
    first = yard.submit("first")
    more = {
        "arrayProperties.size": "20000",
        "arrayConcurrency": "5",
        "dependsOn.jobId": first,
        "dependsOn.type": "AFTER_ANY",
    }
    job = submitted(visitor, submit(visitor, OF, **more))
    assert (job.array.size, job.array.concurrency) == (20_000, 5)
    assert job.depends_on[0].type == job_pb2.DEPENDENCY_TYPE_AFTER_ANY
    native = (
        '{"container": {"gpu_models": ["A100"], "working_directory": "/w"}, "retry_strategy": {"spot_attempts": 2}}'
    )
    job = submitted(
        visitor, submit(visitor, RUN, **{NATIVE: native, "retryStrategy.attempts": "3", f"{REQUIREMENTS}.GPU": "1"})
    )
    assert (list(job.container.gpu_models), job.container.working_directory) == (["A100"], "/w")
    assert (job.retry_strategy.attempts, job.retry_strategy.spot_attempts) == (3, 2)


@pytest.mark.parametrize("native", ["{", "[]", '{"no_such": 1}', '{"array_size": "many"}'])
def test_what_batchyard_does_not_know_is_refused_at_its_field(visitor: Visitor, yard: Yard, native: str) -> None:
    reply = submit(visitor, RUN, **{NATIVE: native})
    assert reply.status == 422
    assert f'id="fault-{NATIVE}"' in reply.text


def test_dependencies_are_found_by_name(visitor: Visitor, yard: Yard) -> None:
    yard.submit("build")
    newest = yard.submit("build")
    page = visitor.post("jobs/new", {**OF, "dependsOn.jobId": "build", "go": "review"})
    assert newest in page.text
    job = submitted(visitor, submit(visitor, OF, **{"dependsOn.jobId": "build"}))
    assert job.depends_on[0].job_id == newest
    reply = submit(visitor, OF, **{"dependsOn.jobId": "nobody"})
    assert reply.status == 422
    assert 'id="fault-dependsOn"' in reply.text


@pytest.mark.parametrize(
    ("form", "more", "field"),
    [
        (OF, {"jobDefinition": "none"}, "jobDefinition"),
        (OF, {"schedulingPriorityOverride": "5"}, "shareIdentifier"),
        (OF, {"shareIdentifier": "s"}, "shareIdentifier"),
        (OF, {"dependsOn.jobId": "01a21600-6c31-7802-aa4a-98843e39198a"}, "dependsOn"),
        (OF, {"arrayProperties.size": "2000000"}, "arrayProperties.size"),
        (OF, {"arrayConcurrency": "5"}, "arrayConcurrency"),
        (OF, {"containerOverrides.command": ["Ref::none"]}, "parameters"),
        (RUN, {"containerProperties.image": "x" * 300}, "containerProperties.image"),
        (RUN, {COMMAND: []}, COMMAND),
        (RUN, {"containerProperties.secrets.name": "S", "containerProperties.secrets.valueFrom": "no"}, "containerProperties.secrets"),
    ],
    ids=str,
)  # fmt: skip
def test_what_only_the_yard_refuses_stands_at_its_field(
    visitor: Visitor, yard: Yard, form: dict[str, Any], more: dict[str, Any], field: str
) -> None:
    reply = submit(visitor, form, **more)
    assert reply.status == 422
    assert f'id="fault-{field}"' in reply.text, reply.text.partition('id="faults"')[2][:400]


CLONED: list[dict[str, Any]] = [
    {},
    {"arrayProperties": {"size": 4}, "tags": {"k": "v"}, "propagateTags": True},
    {"parameters": {"x": "2"}},
    {"containerOverrides": {"command": ["other", "Ref::x"], "environment": [{"name": "A", "value": "2"}]}},
    {
        "containerOverrides": {"resourceRequirements": [{"type": "MEMORY", "value": "32"}]},
        "timeout": {"attemptDurationSeconds": 90},
    },
    {"retryStrategy": {"attempts": 3, "evaluateOnExit": [{"onReason": "x", "action": "exit"}]}},
]


@pytest.mark.parametrize("given", CLONED, ids=str)
def test_a_cloned_job_is_the_job(visitor: Visitor, yard: Yard, given: dict[str, Any]) -> None:
    yard.batch.register_job_definition(
        **definition(
            "template", {"command": ["run", "Ref::x"], "environment": [{"name": "A", "value": "1"}]},
            parameters={"x": "1"}, timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 2},
        )
    )  # fmt: skip
    job_id = yard.submit("j", jobDefinition="template", dependsOn=[{"jobId": yard.submit("before")}], **given)
    assert_cloned(visitor, job_id)


def test_a_cloned_command_is_the_command(visitor: Visitor, yard: Yard) -> None:
    client = visitor.endpoint.client
    what = container(
        ["echo", "a b"], image="busybox", vcpus=0.25, memory="96M", gpus=1, environment={"A": ""}, user="nobody"
    )
    what.log_size_mib = 3
    what.gpu_models.append("A100")
    answer = visitor.endpoint.run(
        client.submit_job(
            name="alone", queue="q", container=what, array_size=3, array_concurrency=2, attempts=2, spot_attempts=1,
            timeout_s=90, tags={"k": "v"}, depends_on=[job_pb2.Dependency(job_id=yard.submit("b"), type=job_pb2.DEPENDENCY_TYPE_AFTER_ANY)],
        )
    )  # fmt: skip
    assert_cloned(visitor, answer.job_id)


def assert_cloned(visitor: Visitor, job_id: str) -> None:
    page = visitor.get(f"jobs/new?clone={job_id}").text
    again = submitted(visitor, submit(visitor, visitor.filled(page, "/console/jobs/new")))
    one = visitor.endpoint.run(visitor.endpoint.client.describe_job(job_id))
    assert again.id != one.id
    for job in (one, again):
        for name in ("id", "created_at_ms", "annotations", "submitted_by", "state", "waiting_reason"):
            job.ClearField(name)
        job.array.ClearField("status_summary")
        job.array.ClearField("status_summary_updated_at_ms")
    assert again == one


def test_a_child_is_cloned_as_a_single_job(visitor: Visitor, yard: Yard) -> None:
    job_id = yard.submit(arrayProperties={"size": 3})
    form = visitor.filled(visitor.get(f"jobs/new?clone={job_id}:1").text, "/console/jobs/new")
    assert not submitted(visitor, submit(visitor, form)).HasField("array")


def test_a_job_that_is_forgotten_is_not_found(visitor: Visitor) -> None:
    assert visitor.get("jobs/new?clone=01a21600-6c31-7802-aa4a-98843e39198a").status == 404


def test_without_a_queue_the_wizard_is_named(visitor: Visitor) -> None:
    for of, text in (("command", "start?step=queue"), ("definition", "definitions/new")):
        assert text in visitor.get(f"jobs/new?of={of}").text


def test_a_definition_is_filled_in(visitor: Visitor, yard: Yard) -> None:
    form = visitor.filled(visitor.get("jobs/new?definition=d:1").text, "/console/jobs/new")
    assert form["jobDefinition"] == ["d:1"]
    assert submitted(visitor, submit(visitor, form)).job_definition == "d:1"


def test_lines_for_a_terminal_are_told(visitor: Visitor, yard: Yard) -> None:
    text = visitor.post("jobs/new", {**OF, "go": "review"}).text
    assert "batchyard submit --queue q --name j --definition d" in text
    assert "aws batch submit-job --cli-input-json" in text
    assert "aws batch" not in visitor.post("jobs/new", {**RUN, "go": "review"}).text


@pytest.mark.parametrize("source", ["command", "definition"])
def test_hostile_texts_come_out_as_text(visitor: Visitor, source: str) -> None:
    batch = visitor.endpoint.batch()
    batch.create_compute_environment(**environment("ce"))
    batch.create_job_queue(**queue("q"))
    names = set(visitor.filled(visitor.get(f"jobs/new?of={source}").text, "/console/jobs/new")) - {"csrf"}
    for go in ("review", "submit", "edit"):
        reply = visitor.post("jobs/new", {**dict.fromkeys(names, HOSTILE), "of": source, "go": go})
        assert "<script>x" not in reply.text
        assert "&lt;script&gt;" in reply.text
