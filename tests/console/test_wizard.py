"""The wizard: its steps by pure answers, and over plain HTTP, without a script."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.gateway.endpoint import Endpoint, definition, environment, queue

from batchyard.errors import UnavailableError
from batchyard_gateway.console.forms.definition_form import COMMAND, REQUIREMENTS
from batchyard_gateway.console.start import start, wizard
from batchyard_gateway.console.start.wizard import (
    DEFINITION,
    ENVIRONMENT,
    JOB,
    ORCHESTRATION,
    QUEUE,
    REVIEW,
    STEPS,
    Yard,
)
from batchyard_gateway.console.visit import Visit

from .visitor import Reply, Visitor

EMPTY = Yard(account_id="123456789012")
FULL = Yard(environments={"ce": "EC2", "fargate": "FARGATE", "eks": "EKS"}, queues=("q",), definitions=("d:3",))
ANSWERS: dict[str, dict[str, Any]] = {
    ENVIRONMENT: {"computeEnvironmentName": "ce", "computeResources.maxvCpus": "16", "computeResources.minvCpus": "0",
                  "computeResources.instanceTypes": "optimal", "computeResources.instanceRole": "r"},
    QUEUE: {"jobQueueName": "q", "priority": "1"},
    DEFINITION: {"jobDefinitionName": "d", "containerProperties.image": "process://", COMMAND: ["echo hello"],
                 f"{REQUIREMENTS}.VCPU": "1", f"{REQUIREMENTS}.MEMORY": "64"},
    JOB: {"jobName": "j"},
}  # fmt: skip


FARGATE_ENVIRONMENT = {
    "computeEnvironmentName": "fargate", "type": "MANAGED",
    "computeResources": {"type": "FARGATE", "maxvCpus": 4, "subnets": ["s"], "securityGroupIds": ["g"]},
}  # fmt: skip


def session(**steps: dict[str, list[str]]) -> wizard.Session:
    return dict(steps)


# Pure -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_empty", "answers", "opens"),
    [(True, {}, True), (True, {wizard.SKIPPED: {}}, False), (False, {}, False), (True, {ENVIRONMENT: {}}, True)],
)
def test_the_wizard_opens_in_an_empty_yard_until_it_is_left(is_empty: bool, answers: Any, opens: bool) -> None:
    assert wizard.opens_by_itself(is_empty=is_empty, answers=answers) is opens


def test_each_step_has_one_before_and_one_after() -> None:
    names = list(STEPS)
    assert [wizard.after(name) for name in names] == [*names[1:], REVIEW]
    assert [wizard.before(name) for name in names] == [ORCHESTRATION, *names[:-1]]


@pytest.mark.parametrize("orchestration", ["EC2", "FARGATE"])
@pytest.mark.parametrize("runs_containers", [True, False])
def test_what_stands_in_the_steps_of_an_empty_yard_is_right(orchestration: str, runs_containers: bool) -> None:
    yard = Yard(account_id="123456789012", runs_containers=runs_containers)
    answers = session(orchestration={"orchestration": [orchestration]})
    assert [wizard.faults(step, answers, yard) for step in STEPS] == [{}] * len(STEPS)
    image = wizard.drafted(DEFINITION, answers, yard).members["containerProperties"]["image"]
    assert image == ("busybox:latest" if runs_containers or orchestration == "FARGATE" else "process://")
    kind = wizard.drafted(ENVIRONMENT, answers, yard).members["computeResources"]["type"]
    assert kind == orchestration
    capabilities = wizard.drafted(DEFINITION, answers, yard).members.get("platformCapabilities")
    assert capabilities == (["FARGATE"] if orchestration == "FARGATE" else None)


def test_what_is_there_is_used_unless_one_says_otherwise() -> None:
    answers = session()
    assert wizard.chosen(ENVIRONMENT, answers, FULL) == "ce"
    assert wizard.chosen(QUEUE, answers, FULL) == "q"
    assert wizard.chosen(DEFINITION, answers, FULL) == ""
    job = wizard.drafted(JOB, answers, FULL).members
    assert job == {"jobName": "hello", "jobQueue": "q", "jobDefinition": "hello"}
    answers[DEFINITION] = {wizard.EXISTING: ["d:3"]}
    assert wizard.drafted(JOB, answers, FULL).members["jobDefinition"] == "d:3"
    answers[ENVIRONMENT] = {wizard.EXISTING: ["fargate"]}
    assert wizard.kind_of(answers, FULL) == "FARGATE"
    assert wizard.chosen(ENVIRONMENT, answers, EMPTY) == "", "it is gone by now"


def test_a_new_one_may_not_have_the_name_of_one_that_is_there() -> None:
    answers = session(environment={"computeEnvironmentName": ["ce"]}, queue={"jobQueueName": ["q"]})
    assert (
        "There is a compute environment ce already"
        in wizard.faults(ENVIRONMENT, answers, FULL)["computeEnvironmentName"]
    )
    assert "There is a job queue q already" in wizard.faults(QUEUE, answers, FULL)["jobQueueName"]


def test_what_was_made_is_known_by_all_that_it_was_made_of() -> None:
    answers = session()
    members = {"computeEnvironmentName": "ce", "tags": {"a": "b"}}
    wizard.note_try(ENVIRONMENT, answers, members, [])
    assert wizard.made_name(ENVIRONMENT, answers, members) == ""
    wizard.note_made(ENVIRONMENT, answers, members, "ce")
    assert wizard.made_name(ENVIRONMENT, answers, members) == "ce"
    assert wizard.made_name(ENVIRONMENT, answers, {**members, "tags": {}}) == ""
    assert wizard.made_name(QUEUE, answers, members) == ""


def test_what_was_made_while_the_answer_got_lost_is_found() -> None:
    answers, members = session(), {"jobDefinitionName": "d"}
    assert wizard.found_after_all(DEFINITION, answers, members, ["d:4"]) == "", "nobody asked for it"
    wizard.note_try(DEFINITION, answers, members, ["d:4"])
    assert wizard.found_after_all(DEFINITION, answers, members, ["d:4"]) == ""
    assert wizard.found_after_all(DEFINITION, answers, members, ["d:5", "d:4"]) == "d:5"
    assert wizard.found_after_all(DEFINITION, answers, {"jobDefinitionName": "e"}, ["d:5"]) == ""
    wizard.note_refused(DEFINITION, answers)
    assert wizard.found_after_all(DEFINITION, answers, members, ["d:5"]) == ""


# Over HTTP ---------------------------------------------------------------------------


def post(visitor: Visitor, step: str, **form: Any) -> Reply:
    return visitor.post(f"start?step={step}", {**ANSWERS.get(step, {}), "go": "next", **form})


def answer_all(visitor: Visitor, orchestration: str = "EC2", **changed: dict[str, Any]) -> None:
    for step in list(STEPS)[:-1]:
        given = {"orchestration": orchestration} if step == ORCHESTRATION else changed.get(step, {})
        reply = post(visitor, step, **given)
        assert reply.status == 303, reply.text
        assert reply.headers["location"].endswith(f"step={wizard.after(step)}")


def create(visitor: Visitor) -> Reply:
    return visitor.post("start?step=review", {"go": "create"})


def made(endpoint: Endpoint) -> tuple[list[str], list[str], list[str], list[str]]:
    batch = endpoint.batch()
    return (
        [each["computeEnvironmentName"] for each in batch.describe_compute_environments()["computeEnvironments"]],
        [each["jobQueueName"] for each in batch.describe_job_queues()["jobQueues"]],
        [f"{each['jobDefinitionName']}:{each['revision']}" for each in batch.describe_job_definitions()["jobDefinitions"]],
        [job.name for job in endpoint.run(jobs(endpoint))],
    )  # fmt: skip


async def jobs(endpoint: Endpoint) -> list[Any]:
    return [job async for job in endpoint.client.list_jobs()]


def test_nothing_is_made_before_the_last_button(visitor: Visitor) -> None:
    answer_all(visitor)
    assert "Create resources" in visitor.get("start?step=review").text
    assert made(visitor.endpoint) == ([], [], [], [])


def test_the_four_are_made_in_order_and_the_job_is_shown(visitor: Visitor) -> None:
    answer_all(visitor)
    reply = create(visitor)
    assert reply.status == 303
    (job,) = visitor.endpoint.run(jobs(visitor.endpoint))
    assert reply.headers["location"] == f"/console/jobs/{job.id}"
    assert made(visitor.endpoint) == (["ce"], ["q"], ["d:1"], ["j"])
    told = visitor.endpoint.batch().describe_compute_environments()["computeEnvironments"][0]["computeResources"]
    assert (told["type"], told["maxvCpus"], told["allocationStrategy"]) == ("EC2", 16, "BEST_FIT_PROGRESSIVE")
    assert "environment ce, queue q, definition d:1" in visitor.get("about").text


@pytest.mark.parametrize(
    ("orchestration", "purchase", "kind"),
    [
        ("EC2", "", "EC2"), ("EC2", "SPOT", "SPOT"),
        ("FARGATE", "", "FARGATE"), ("FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"),
    ],
)  # fmt: skip
def test_each_kind_of_hosts_can_be_had(visitor: Visitor, orchestration: str, purchase: str, kind: str) -> None:
    sized = {
        f"{REQUIREMENTS}.size": "0.25:512",
        "containerProperties.executionRoleArn": "arn:aws:iam::1:role/x",
        "containerProperties.image": "busybox",
    }
    changed = {
        ENVIRONMENT: {"computeResources.type": purchase},
        DEFINITION: sized if orchestration == "FARGATE" else {},
    }
    answer_all(visitor, orchestration, **changed)
    assert create(visitor).status == 303
    batch = visitor.endpoint.batch()
    (told,) = batch.describe_compute_environments()["computeEnvironments"]
    assert told["computeResources"]["type"] == kind
    (registered,) = batch.describe_job_definitions()["jobDefinitions"]
    assert registered.get("platformCapabilities") == (["FARGATE"] if orchestration == "FARGATE" else None)


def test_kubernetes_is_shown_and_cannot_be_chosen(visitor: Visitor) -> None:
    text = visitor.get("start").text
    assert 'value="EKS" disabled' in text
    assert "no agent for Kubernetes" in text
    post(visitor, ORCHESTRATION, orchestration="EKS")
    answer = visitor.get("start?step=environment")
    assert answer.status == 200
    assert "EKS" not in answer.text


@pytest.mark.parametrize("step", [ENVIRONMENT, QUEUE, DEFINITION, JOB, REVIEW])
def test_back_loses_nothing(visitor: Visitor, step: str) -> None:
    answer_all(visitor)
    reply = visitor.post(f"start?step={step}", {**ANSWERS.get(step, {}), "go": "back"})
    assert reply.headers["location"].endswith(f"step={wizard.before(step)}")
    for each, given in ANSWERS.items():
        text = visitor.get(f"start?step={each}").text
        (first, *_) = given.values()
        assert f'value="{first}"' in text


def test_what_is_wrong_can_be_left_and_found_again(visitor: Visitor) -> None:
    reply = visitor.post("start?step=environment", {"computeEnvironmentName": "a b", "go": "back"})
    assert reply.status == 303
    assert 'value="a b"' in visitor.get("start?step=environment").text


def test_the_job_may_be_skipped(visitor: Visitor) -> None:
    answer_all(visitor)
    assert post(visitor, JOB, go="skip", jobName="").status == 303
    reply = create(visitor)
    assert reply.headers["location"] == "/console/definitions/d:1"
    assert made(visitor.endpoint) == (["ce"], ["q"], ["d:1"], [])


def test_leaving_it_leads_to_the_overview_and_not_back(visitor: Visitor) -> None:
    reply = visitor.post("start?step=orchestration", {"go": "away"})
    assert reply.headers["location"] == "/console/"


def test_going_to_a_step_by_its_name_keeps_what_was_typed(visitor: Visitor) -> None:
    answer_all(visitor)
    reply = visitor.post(
        "start?step=environment", {**ANSWERS[ENVIRONMENT], "computeEnvironmentName": "a b", "go": "step:job"}
    )
    assert reply.headers["location"] == "/console/start?step=job"
    assert 'value="a b"' in visitor.get("start?step=environment").text
    assert visitor.post("start?step=review", {"go": "step:queue"}).headers["location"] == "/console/start?step=queue"
    assert visitor.post("start?step=queue", {**ANSWERS[QUEUE], "go": "step:nowhere"}).status == 303


def test_a_secret_is_made_where_it_is_named(visitor: Visitor) -> None:
    secrets = "containerProperties.secrets"
    new = {"secret": secrets, "secret.name": "db/password", "secret.value": "hush-hush"}
    page = visitor.post("start?step=definition", {**ANSWERS[DEFINITION], f"{secrets}.name": "PASSWORD", **new})
    assert page.status == 200
    assert f'name="{secrets}.valueFrom" value="db/password"' in page.text
    assert f'name="{secrets}.name" value="PASSWORD"' in page.text
    assert "hush-hush" not in page.text
    assert "db/password" in visitor.get("secrets").text
    for wrong in ({"secret.name": "db/password"}, {"secret.value": ""}, {"secret.name": "a b"}, {"secret.name": ""}):
        refused = visitor.post("start?step=definition", {**ANSWERS[DEFINITION], **new, **wrong})
        assert refused.status == 422, wrong
        assert f'id="fault-{secrets}"' in refused.text
        assert "hush-hush" not in refused.text
    form = {**ANSWERS[DEFINITION], **new, "secret": COMMAND, "secret.name": "other"}
    assert visitor.post("start?step=definition", form).status == 200
    assert "other" not in visitor.get("secrets").text


def test_a_wrong_step_is_said_at_its_field_and_in_the_review(visitor: Visitor) -> None:
    answer_all(visitor)
    reply = post(visitor, QUEUE, priority="101")
    assert reply.status == 422
    assert 'href="#field-priority"' in reply.text
    assert 'id="fault-priority"' in reply.text
    assert 'value="101"' in reply.text
    assert "not right yet" in visitor.get("start?step=review").text
    assert create(visitor).status == 422
    assert made(visitor.endpoint) == ([], [], [], [])


FARGATE_TOO = {"computeEnvironmentOrder.computeEnvironment": ["fargate"]}
UNKNOWN_REFERENCE = {COMMAND: ["echo Ref::what"]}
REFERENCE_SAID = {**UNKNOWN_REFERENCE, "parameters.key": ["what"], "parameters.value": ["hello"]}


@pytest.mark.parametrize(
    ("refused", "edited", "wrong", "right", "text"),
    [
        (ENVIRONMENT, ENVIRONMENT, {"computeResources.instanceTypes": "x" * 200}, {}, "instance"),
        (QUEUE, QUEUE, FARGATE_TOO, {}, "Fargate and EC2 compute environments can not be mixed."),
        (DEFINITION, DEFINITION, {"containerProperties.image": "x" * 300}, {}, "255"),
        (JOB, DEFINITION, UNKNOWN_REFERENCE, REFERENCE_SAID, "No parameter found for reference what"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_after_a_refusal_one_goes_on_from_there(
    visitor: Visitor, refused: str, edited: str, wrong: dict[str, Any], right: dict[str, Any], text: str
) -> None:
    """Rules that only the yard can know, at each of the four calls."""
    endpoint = visitor.endpoint
    if refused == QUEUE:
        endpoint.batch().create_compute_environment(**FARGATE_ENVIRONMENT)
    changed: dict[str, Any] = {ENVIRONMENT: {wizard.EXISTING: ""}, edited: wrong}
    answer_all(visitor, **changed)
    reply = create(visitor)
    assert reply.status == 422, reply.text
    assert text in reply.text
    before = list(wizard.OPERATIONS)[: list(wizard.OPERATIONS).index(refused)]
    assert reply.text.count("</span> made") == len(before)
    assert reply.text.count("</span> refused") == 1
    assert ("Go on from here" in reply.text) is bool(before)
    assert post(visitor, edited, **right).status == 303
    reply = create(visitor)
    assert reply.status == 303, reply.text
    environments, queues, definitions, names = made(endpoint)
    assert (sorted({*environments} - {"fargate"}), queues, names) == (["ce"], ["q"], ["j"])
    assert definitions == (["d:2", "d:1"] if refused == JOB else ["d:1"])


def test_buttons_that_are_pressed_together_make_everything_once(visitor: Visitor) -> None:
    answer_all(visitor)
    form = {"csrf": visitor.csrf(), "go": "create"}
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: visitor.send("POST", "start?step=review", form), range(5)))
    (job,) = visitor.endpoint.run(jobs(visitor.endpoint))
    assert {reply.headers.get("location") for reply in replies} == {f"/console/jobs/{job.id}"}
    assert made(visitor.endpoint) == (["ce"], ["q"], ["d:1"], ["j"])


def test_nothing_is_made_of_what_nobody_has_seen(visitor: Visitor) -> None:
    assert create(visitor).headers["location"] == "/console/start?step=environment"
    post(visitor, ENVIRONMENT)
    assert create(visitor).headers["location"] == "/console/start?step=queue"
    assert made(visitor.endpoint) == ([], [], [], [])


@pytest.mark.parametrize("lost", list(wizard.OPERATIONS))
def test_what_was_made_though_the_answer_got_lost_is_not_made_again(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    operate = Visit.operate

    async def and_go_away(visit: Visit, operation: str, members: Any, amend: Any = None) -> Any:
        told = await operate(visit, operation, members, amend)
        if operation == wizard.OPERATIONS[lost]:
            raise UnavailableError("the controller went away")
        return told

    answer_all(visitor)
    monkeypatch.setattr(Visit, "operate", and_go_away)
    assert create(visitor).status == 503
    monkeypatch.undo()
    assert create(visitor).status == 303
    assert made(visitor.endpoint) == (["ce"], ["q"], ["d:1"], ["j"])


def test_what_is_there_is_used(visitor: Visitor) -> None:
    batch = visitor.endpoint.batch()
    batch.create_compute_environment(**environment("default"))
    batch.create_job_queue(**queue("default", "default"))
    batch.register_job_definition(**definition("there"))
    for step in (ENVIRONMENT, QUEUE):
        assert '<option value="default" selected' in visitor.get(f"start?step={step}").text
        assert visitor.post(f"start?step={step}", {"go": "next", wizard.EXISTING: "default"}).status == 303
    visitor.post("start?step=definition", {"go": "next", wizard.EXISTING: "there:1"})
    assert post(visitor, JOB).status == 303
    assert visitor.get("start?step=review").text.count("is there already") == 3
    assert create(visitor).status == 303
    (job,) = visitor.endpoint.run(jobs(visitor.endpoint))
    assert (job.queue, job.job_definition) == ("default", "there:1")


def test_rows_and_words_are_changed_by_buttons(visitor: Visitor) -> None:
    given = {COMMAND: "echo hello", "tags.key": ["a", "b"], "tags.value": ["1", "2"]}
    assert visitor.post("start?step=definition", {**given, "remove": "tags.0"}).status == 200
    text = visitor.get("start?step=definition").text
    assert 'value="b"' in text
    assert 'value="a"' not in text
    text = visitor.post("start?step=definition", {COMMAND: "echo 'a  b'", "words": COMMAND}).text
    assert "<code>a  b</code>" in text
    reply = visitor.post("start?step=definition", {COMMAND: "echo 'a", "go": "next"})
    assert reply.status == 422
    assert f'id="fault-{COMMAND}"' in reply.text
    assert "echo &#39;a</textarea>" in reply.text
    text = visitor.post("start?step=definition", {COMMAND: "cd / && ls", "wrap": COMMAND}).text
    assert "sh -c &#39;cd / &amp;&amp; ls&#39;</textarea>" in text


def test_answers_are_kept_while_the_controller_is_away(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(visit: Visit) -> Any:
        raise UnavailableError("the controller went away")

    monkeypatch.setattr(start, "_yard", away)
    for step, given in ANSWERS.items():
        assert visitor.post(f"start?step={step}", {**given, "go": "next"}).status == 503
    monkeypatch.undo()
    assert create(visitor).status == 303
    assert made(visitor.endpoint) == (["ce"], ["q"], ["d:1"], ["j"])


def test_a_name_that_is_taken_is_told_beside_the_form(visitor: Visitor) -> None:
    visitor.endpoint.batch().create_compute_environment(**environment("ce"))
    form = {**ANSWERS[ENVIRONMENT], wizard.EXISTING: "", "go": "look"}
    assert "There is a compute environment ce already" in visitor.post("start?step=environment&part=aside", form).text


def test_answers_have_an_end(visitor: Visitor) -> None:
    reply = visitor.post("start?step=definition", {COMMAND: ["x" * 70_000], "go": "next"})
    assert reply.status == 422
    assert "65536 characters" in reply.text


def test_each_step_is_shown_as_commands(visitor: Visitor) -> None:
    answer_all(visitor)
    for step, own, theirs in (
        (
            ENVIRONMENT,
            "batchyard compute-environment create ce ",
            "aws batch create-compute-environment --cli-input-json",
        ),
        (QUEUE, "batchyard queue create q ", "aws batch create-job-queue --cli-input-json"),
        (DEFINITION, "batchyard job-definition register d ", "aws batch register-job-definition --cli-input-json"),
        (JOB, "batchyard submit ", "aws batch submit-job --cli-input-json"),
    ):
        for page in (step, REVIEW):
            text = visitor.get(f"start?step={page}").text
            assert own in text
            assert theirs in text


def test_the_overview_leads_there_from_an_empty_yard(visitor: Visitor) -> None:
    assert visitor.get("").headers["location"] == start.HERE
    visitor.post("start?step=orchestration", {"go": "away"})
    assert visitor.get("").status == 200


def test_the_overview_does_not_lead_there_from_another(visitor: Visitor) -> None:
    visitor.endpoint.batch().register_job_definition(**definition("d"))
    assert visitor.get("").status == 200


HOSTILE = '"><script>x()</script>{{7*7}}'


@pytest.mark.parametrize("step", list(STEPS)[1:-1])
def test_hostile_texts_come_out_as_text(visitor: Visitor, step: str) -> None:
    page = visitor.get(f"start?step={step}").text
    names = set(re.findall(r'<(?:input|select|textarea)[^>]* name="([^"]+)"', page)) - {"csrf", "q", "style", "back"}
    assert len(names) >= (1 if step == JOB else 3)
    for action in ({"go": "next"}, {"go": "look"}, {"add": "tags"}):
        reply = visitor.post(f"start?step={step}", {**dict.fromkeys(names, HOSTILE), **action})
        for text in (reply.text, visitor.get(f"start?step={step}").text, visitor.get("start?step=review").text):
            assert "<script>x" not in text
    assert "&lt;script&gt;" in reply.text
