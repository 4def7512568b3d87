"""Forms: what is typed to an operation's input and back, and refusals at the fields they are about."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard_gateway.batch import members as shapes
from batchyard_gateway.batch.shapes import Table
from batchyard_gateway.console.forms import (  # fmt: skip
    consumable_form,
    definition_form,
    environment_form,
    policy_form,
    queue_form,
    share_form,
    submission_form,
    words,
)
from batchyard_gateway.console.forms import tables as forms
from batchyard_gateway.console.forms.definition_form import COMMAND, REQUIREMENTS
from batchyard_gateway.console.forms.faults import faults_of
from batchyard_gateway.console.forms.fields import Answers, WrongError
from batchyard_gateway.console.forms.tables import NATIVE, REST, Form, fill, read
from batchyard_gateway.errors import ApiError

ENVIRONMENT = environment_form.environment("EC2")
FARGATE = environment_form.environment("FARGATE")
QUEUE = queue_form.queue(["ce", "other", "third", "fourth"], is_first_given=True)
DEFINITION = definition_form.definition(fargate=False, is_platform_open=True)
JOB = submission_form.form("definition", ["q"])
RUN = submission_form.form("command", ["q"])

REGISTRATION: dict[str, Any] = {
    "jobDefinitionName": "d",
    "platformCapabilities": ["EC2"],
    "schedulingPriority": 3,
    "parameters": {"a": "1", "b": "", "": "odd"},
    "retryStrategy": {
        "attempts": 3,
        "evaluateOnExit": [
            {"onExitCode": "1*", "action": "retry"},
            {"onReason": "x*", "onStatusReason": "Host*", "action": "exit"},
        ],
    },
    "propagateTags": False,
    "timeout": {"attemptDurationSeconds": 60},
    "tags": {"k": "v", "empty": ""},
    "containerProperties": {
        "image": "busybox",
        "command": ["sh", "-c", "echo 'two\nlines'", "", "Ref::a"],
        "jobRoleArn": "arn:aws:iam::1:role/j",
        "executionRoleArn": "arn:aws:iam::1:role/e",
        "environment": [{"name": "A", "value": ""}, {"name": "B", "value": "ü\t"}],
        "secrets": [{"name": "S", "valueFrom": "secret"}],
        "user": "nobody",
        "resourceRequirements": [
            {"type": "MEMORY", "value": "64"},
            {"type": "VCPU", "value": "1"},
            {"type": "GPU", "value": "2"},
        ],
    },
}
"""Every member of RegisterJobDefinition that the form has a field for."""


def kind_of(form: Form) -> str:
    return "FARGATE" if form is FARGATE else "EC2"


def by_kind(requirements: list[Any]) -> list[Any]:
    return sorted(requirements, key=str)


def test_a_definition_survives_the_form() -> None:
    answers = fill(DEFINITION, REGISTRATION)
    assert REST not in answers
    draft = read(DEFINITION, answers)
    assert not draft.faults
    container = draft.members["containerProperties"]
    container["resourceRequirements"].sort(key=lambda each: ("MEMORY", "VCPU", "GPU").index(each["type"]))
    assert draft.members == REGISTRATION


def test_the_sample_says_every_field() -> None:
    answers = fill(DEFINITION, REGISTRATION)
    unsaid = {name for field in forms.fields_of(DEFINITION) for name in field.inputs()} - answers.keys()
    assert unsaid == {REST}


@pytest.mark.parametrize(
    "more",
    [
        {"containerProperties": {"volumes": [{"name": "v", "host": {"sourcePath": "/d"}}], "privileged": True}},
        {"containerProperties": {"vcpus": 2, "memory": 64, "linuxParameters": {"maxSwap": 0, "tmpfs": []}}},
        {"ecsProperties": {"taskProperties": [{"containers": [{"image": "busybox", "command": ["a"]}]}]}},
        {"platformCapabilities": ["EC2", "FARGATE"]},
        {"containerProperties": {"environment": [{"value": "nameless"}]}},
        {"consumableResourceProperties": {"consumableResourceList": [{"consumableResource": "l", "quantity": 1}]}},
        {"parameters": {}, "tags": {}},
        {"propagateTags": None},
    ],
    ids=str,
)
def test_what_the_form_has_no_field_for_is_kept_as_json(more: dict[str, Any]) -> None:
    draft = read(DEFINITION, fill(DEFINITION, {"jobDefinitionName": "d", **more}))
    assert not draft.faults
    given = {name: value for name, value in more.items() if value is not None}
    assert {name: draft.members.get(name) for name in given} == given


def test_an_environment_and_a_queue_survive_their_forms() -> None:
    given = {
        "computeEnvironmentName": "ce", "serviceRole": "arn:aws:iam::1:role/s", "tags": {"a": "b"},
        "computeResources": {
            "type": "SPOT", "minvCpus": 0, "desiredvCpus": 0, "maxvCpus": 8, "instanceTypes": ["m5", "c5.large"],
            "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED", "instanceRole": "r", "bidPercentage": 50,
            "spotIamFleetRole": "f", "placementGroup": "p", "ec2KeyPair": "k", "subnets": ["s-1", "s-2"],
            "securityGroupIds": ["sg"], "launchTemplate": {"launchTemplateId": "l", "version": "1"},
            "ec2Configuration": [{"imageType": "ECS_AL2", "imageIdOverride": "ami"}],
        },
    }  # fmt: skip
    draft = environment_form.environment_draft("EC2", ENVIRONMENT, fill(ENVIRONMENT, given))
    assert draft.members == {"type": "MANAGED", **given}
    answers = {
        "jobQueueName": ["q"],
        "priority": ["7"],
        f"{queue_form.ORDER}.computeEnvironment": ["", "ce", "other"],
    }
    assert queue_form.queue_draft(QUEUE, answers, "ce").members == {
        "jobQueueName": "q",
        "priority": 7,
        "computeEnvironmentOrder": [
            {"order": 1, "computeEnvironment": "ce"},
            {"order": 2, "computeEnvironment": "other"},
        ],
    }


@pytest.mark.parametrize(
    ("kind", "form", "strategy"),
    [
        ("", ENVIRONMENT, "BEST_FIT_PROGRESSIVE"),
        ("SPOT", ENVIRONMENT, "SPOT_CAPACITY_OPTIMIZED"),
        ("FARGATE", FARGATE, None),
        ("FARGATE_SPOT", FARGATE, None),
    ],
)
def test_presets_suit_the_kind_of_hosts(kind: str, form: Form, strategy: str | None) -> None:
    answers = {"computeResources.type": [kind], "computeResources.bidPercentage": ["50"]}
    resources = environment_form.environment_draft(kind_of(form), form, answers).members["computeResources"]
    assert resources.get("allocationStrategy") == strategy
    assert resources.get("bidPercentage") == (50 if kind == "SPOT" else None)


# What is typed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("echo hello", ["echo", "hello"]),
        ('["a b"]', ["a b"]),
        ('["a", ""]', ["a", ""]),
        ("[ -f /etc/hosts ]", ["[", "-f", "/etc/hosts", "]"]),
        ("sh -c 'a && b'", ["sh", "-c", "a && b"]),
        ("""python3 -c 'print("a b")'""", ["python3", "-c", 'print("a b")']),
        ("train \\\n  --epochs 3 \\\n  'a\\\nb' \"c\\\nd\"", ["train", "--epochs", "3", "a\\\nb", "cd"]),
        (r"a\ b \"c\"", ["a b", '"c"']),
        ("a # b", ["a", "#", "b"]),
        ("a ''", ["a", ""]),
        ("a\nb", ["a", "b"]),
        (" \n", []),
    ],
)
def test_a_command_is_split_as_a_shell_would(line: str, expected: list[str]) -> None:
    assert words.split(line) == expected


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("echo 'a b", "The quote ' at character 6 is not closed: 'a b"),
        ("""echo "it's" don't""", "The quote ' at character 16 is not closed: 't"),
        ("""echo 'a' "b c""", 'The quote " at character 10 is not closed: "b c'),
        ("echo a\\", "The command ends in a backslash, behind which nothing stands"),
        ('["a"', "It begins as a JSON list and is none"),
        ('["a", null]', "A command is a JSON list of texts"),
        ("[1]", "A command is a JSON list of texts"),
    ],
)
def test_what_is_no_command_is_said(line: str, text: str) -> None:
    fault = read(DEFINITION, {"jobDefinitionName": ["d"], COMMAND: [line]}).faults[COMMAND]
    assert fault.startswith(text)
    assert definition_form.command(COMMAND).shown(line).fault == fault


@given(st.lists(st.text(st.sampled_from("ab '\"\\\n$[]{}#\u00fc"))))
def test_every_list_of_words_is_a_line(command: list[str]) -> None:
    field = definition_form.command(COMMAND)
    assert (field.read(field.write(command)) or []) == command


def test_a_command_is_handed_to_a_shell() -> None:
    wrapped = forms.edit(DEFINITION, {COMMAND: ["cd / && echo 'a b'"]}, "wrap", COMMAND)
    assert read(DEFINITION, wrapped).members["containerProperties"]["command"] == ["sh", "-c", "cd / && echo 'a b'"]
    assert forms.edit(DEFINITION, {COMMAND: [" "]}, "wrap", COMMAND) == {COMMAND: [""]}


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("a && b", "'&&'"), ("echo $HOME", "'$HOME'"), ("ls *.txt", "'*.txt'"), ("a; b", "'a;'"), ("a >out 2>&1", "'>out'"),
        ("a\nb", "All lines are one command"), ("a 'b\nc'", ""), ("a \\\n b", ""), ("'a|b'", ""), ("sh -c 'a | b'", ""),
        ("echo [a] b=c", ""), ("", ""), ('["a",\n"b"]', ""),
    ],
)  # fmt: skip
def test_words_for_a_shell_are_pointed_out(line: str, remark: str) -> None:
    found = definition_form.command(COMMAND).shown(line).remark
    assert (remark in found) if remark else not found, found


def test_rows_are_added_and_removed() -> None:
    answers: Mapping[str, list[str]] = {"tags.key": ["a", "b"], "tags.value": ["1"]}
    added = forms.edit(DEFINITION, answers, "add", "tags")
    assert added == {"tags.key": ["a", "b", ""], "tags.value": ["1", "", ""]}
    assert forms.edit(DEFINITION, added, "remove", "tags.0") == {"tags.key": ["b", ""], "tags.value": ["", ""]}
    for what in ("tags.9", "tags.x", "tags", "nothing.0", "nothing", "jobDefinitionName.0"):
        assert forms.edit(DEFINITION, answers, "remove", what)["tags.key"] == ["a", "b"]


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({"tags.key": ["a", "a"], "tags.value": ["1", "2"]}, "tags"),
        ({"schedulingPriority": ["1.5"]}, "schedulingPriority"),
        ({"schedulingPriority": ["\u0661"]}, "schedulingPriority"),
        ({"platformCapabilities": ["EKS"]}, "platformCapabilities"),
        ({REST: ["{"]}, REST),
        ({REST: ["[]"]}, REST),
        ({REST: ["[" * 100_000]}, REST),
        ({REST: ['{"jobDefinitionName": "e"}']}, REST),
        ({REST: ['{"containerProperties": {"image": "x"}}'], "containerProperties.image": ["y"]}, REST),
        ({}, "jobDefinitionName"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_read_is_said_at_its_field(answers: Answers, field: str) -> None:
    asked = {"jobDefinitionName": ["d"], **answers} if answers else answers
    assert field in read(DEFINITION, asked).faults


def test_only_what_a_form_asks_is_kept_and_not_without_end() -> None:
    given = [
        ("jobDefinitionName", "d\r\n"),
        ("csrf", "x"),
        ("go", "next"),
        ("other", "y"),
        ("tags.key", "a"),
        ("tags.key", "b"),
    ]
    assert forms.kept(DEFINITION, given) == {"jobDefinitionName": ["d\n"], "tags.key": ["a", "b"]}
    with pytest.raises(WrongError, match="65536 characters"):
        forms.kept(DEFINITION, [("jobDefinitionName", "x" * 70_000)])


# Refusals ---------------------------------------------------------------------------

RIGHT_ENVIRONMENT = {name: [text] for name, text in environment_form.PRESETS.items()}
RIGHT_QUEUE = {"jobQueueName": ["q"], "priority": ["1"]}
RIGHT_DEFINITION = {
    **{name: [text] for name, text in definition_form.PRESETS.items()},
    "containerProperties.image": ["busybox"],
    COMMAND: ["true"],
}
RIGHT_JOB = {"jobName": ["j"], "jobQueue": ["q"], "jobDefinition": ["d"]}
RIGHT_RUN = {
    "jobName": ["j"],
    "jobQueue": ["q"],
    "containerProperties.image": ["busybox"],
    f"{REQUIREMENTS}.VCPU": ["1"],
    f"{REQUIREMENTS}.MEMORY": ["64"],
}
RESOURCES = "computeResources."
OVERRIDES = "containerOverrides."
TAGS = {"tags.key": [f"k{i}" for i in range(51)], "tags.value": ["v"] * 51}
LONG_KEY = {"tags.key": ["k" * 129], "tags.value": ["v"]}
LONG_VALUE = {"tags.key": ["k"], "tags.value": ["v" * 257]}

Check = Callable[[dict[str, Any]], None]


def environment_faults(answers: Answers, form: Form = ENVIRONMENT) -> dict[str, str]:
    draft = environment_form.environment_draft(kind_of(form), form, answers)
    return refused(form, draft.members, environment_form.check_environment, draft.faults)


def refused(form: Form, members: dict[str, Any], check: Check, faults: Mapping[str, str] = {}) -> dict[str, str]:
    found = dict(faults)
    try:
        check(members)
    except ApiError as err:
        for name, text in faults_of(err, forms.called(form)).items():
            found.setdefault(name, text)
    return found


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({"computeEnvironmentName": ["a b"]}, "computeEnvironmentName"),
        ({"computeEnvironmentName": ["x" * 129]}, "computeEnvironmentName"),
        ({"computeEnvironmentName": [""]}, "computeEnvironmentName"),
        ({"serviceRole": ["role"]}, "serviceRole"),
        ({f"{RESOURCES}minvCpus": [""]}, f"{RESOURCES}minvCpus"),
        ({f"{RESOURCES}minvCpus": ["-1"]}, f"{RESOURCES}minvCpus"),
        ({f"{RESOURCES}minvCpus": ["300"]}, f"{RESOURCES}minvCpus"),
        ({f"{RESOURCES}maxvCpus": ["0"]}, f"{RESOURCES}maxvCpus"),
        ({f"{RESOURCES}maxvCpus": [""]}, f"{RESOURCES}maxvCpus"),
        ({f"{RESOURCES}maxvCpus": ["99999999999"]}, f"{RESOURCES}maxvCpus"),
        ({f"{RESOURCES}maxvCpus": ["many"]}, f"{RESOURCES}maxvCpus"),
        ({f"{RESOURCES}desiredvCpus": ["300"]}, f"{RESOURCES}desiredvCpus"),
        ({f"{RESOURCES}allocationStrategy": ["SPOT_CAPACITY_OPTIMIZED"]}, f"{RESOURCES}allocationStrategy"),
        ({f"{RESOURCES}allocationStrategy": ["NONE"]}, f"{RESOURCES}allocationStrategy"),
        ({f"{RESOURCES}type": ["FARGATE"]}, f"{RESOURCES}type"),
        ({f"{RESOURCES}ec2Configuration.imageIdOverride": ["ami"]}, f"{RESOURCES}ec2Configuration"),
        (TAGS, "tags"),
        (LONG_KEY, "tags"),
        (LONG_VALUE, "tags"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_each_rule_of_an_environment_stands_at_its_field(answers: Answers, field: str) -> None:
    assert not environment_faults(RIGHT_ENVIRONMENT)
    assert list(environment_faults({**RIGHT_ENVIRONMENT, **answers})) == [field]


def test_a_right_environment_of_fargate_is_right() -> None:
    assert not environment_faults(RIGHT_ENVIRONMENT, FARGATE)


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({"jobQueueName": ["a b"]}, "jobQueueName"),
        ({"jobQueueName": [""]}, "jobQueueName"),
        ({"priority": ["101"]}, "priority"),
        ({"priority": ["-1"]}, "priority"),
        ({"priority": [""]}, "priority"),
        ({"computeEnvironmentOrder.computeEnvironment": ["other", "third", "fourth"]}, "computeEnvironmentOrder"),
    ],
    ids=str,
)
def test_each_rule_of_a_queue_stands_at_its_field(answers: Answers, field: str) -> None:
    def faults(given: Answers) -> dict[str, str]:
        draft = queue_form.queue_draft(QUEUE, given, "ce")
        return refused(QUEUE, draft.members, queue_form.check_queue, draft.faults)

    assert not faults(RIGHT_QUEUE)
    assert list(faults({**RIGHT_QUEUE, **answers})) == [field]


CONTAINER = "containerProperties."
ON_EXIT = "retryStrategy.evaluateOnExit"
DEFINITION_RULES = [
    ({"jobDefinitionName": ["a b"]}, "jobDefinitionName"),
    ({f"{CONTAINER}image": [""]}, f"{CONTAINER}image"),
    ({f"{REQUIREMENTS}.VCPU": [""]}, REQUIREMENTS),
    ({f"{REQUIREMENTS}.VCPU": ["0"]}, REQUIREMENTS),
    ({f"{REQUIREMENTS}.VCPU": ["0.5"]}, REQUIREMENTS),
    ({f"{REQUIREMENTS}.MEMORY": [""]}, REQUIREMENTS),
    ({f"{REQUIREMENTS}.MEMORY": ["3"]}, REQUIREMENTS),
    ({f"{REQUIREMENTS}.MEMORY": ["much"]}, REQUIREMENTS),
    ({f"{REQUIREMENTS}.GPU": ["0"]}, REQUIREMENTS),
    ({f"{CONTAINER}environment.name": [""], f"{CONTAINER}environment.value": ["v"]}, f"{CONTAINER}environment"),
    ({f"{CONTAINER}environment.name": ["AWS_BATCH_X"]}, f"{CONTAINER}environment"),
    ({f"{CONTAINER}secrets.name": ["S"]}, f"{CONTAINER}secrets"),
    ({f"{CONTAINER}user": ["Not A User"]}, f"{CONTAINER}user"),
    ({"schedulingPriority": ["10000"]}, "schedulingPriority"),
    ({"retryStrategy.attempts": ["11"]}, "retryStrategy.attempts"),
    ({f"{ON_EXIT}.onReason": ["x"], f"{ON_EXIT}.action": ["exit"]}, "retryStrategy.attempts"),
    ({"retryStrategy.attempts": ["2"], f"{ON_EXIT}.action": ["exit"]}, ON_EXIT),
    ({"retryStrategy.attempts": ["2"], f"{ON_EXIT}.onReason": ["x"]}, ON_EXIT),
    ({"retryStrategy.attempts": ["2"], f"{ON_EXIT}.onExitCode": ["x"], f"{ON_EXIT}.action": ["exit"]}, ON_EXIT),
    ({"retryStrategy.attempts": ["2"], f"{ON_EXIT}.onReason": ["?"], f"{ON_EXIT}.action": ["exit"]}, ON_EXIT),
    ({"retryStrategy.attempts": ["2"], f"{ON_EXIT}.onStatusReason": ["x" * 513], f"{ON_EXIT}.action": ["exit"]}, ON_EXIT),
    ({"retryStrategy.attempts": ["2"], f"{ON_EXIT}.onReason": ["x"] * 6, f"{ON_EXIT}.action": ["exit"] * 6}, ON_EXIT),
    ({"timeout.attemptDurationSeconds": ["59"]}, "timeout.attemptDurationSeconds"),
    (TAGS, "tags"),
    (LONG_KEY, "tags"),
    ({REST: ['{"nodeProperties": {"numNodes": 2}}']}, ""),
    ({REST: ['{"containerProperties": {"privileged": "yes"}}']}, ""),
    ({COMMAND: ["x" * (25 << 10)]}, ""),
    ({"platformCapabilities": ["FARGATE"]}, f"{CONTAINER}executionRoleArn"),
    ({"platformCapabilities": ["FARGATE"], f"{CONTAINER}executionRoleArn": ["r"]}, REQUIREMENTS),
    ({"platformCapabilities": ["FARGATE"], f"{CONTAINER}executionRoleArn": ["r"], f"{REQUIREMENTS}.GPU": ["1"]}, REQUIREMENTS),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "field"), DEFINITION_RULES, ids=lambda value: str(value)[:90])
def test_each_rule_of_a_definition_stands_at_its_field(answers: Answers, field: str) -> None:
    def faults(given: Answers) -> dict[str, str]:
        draft = definition_form.definition_draft(DEFINITION, given, fargate=False)
        return refused(DEFINITION, draft.members, definition_form.check_definition, draft.faults)

    assert not faults(RIGHT_DEFINITION)
    assert list(faults({**RIGHT_DEFINITION, **answers})) == [field]


def test_fargate_offers_the_sizes_that_it_takes() -> None:
    form = definition_form.definition(fargate=True)
    assert len(definition_form.SIZES) > 40
    for size, _ in definition_form.SIZES:
        answers = {**RIGHT_DEFINITION, f"{REQUIREMENTS}.size": [size], f"{CONTAINER}executionRoleArn": ["r"]}
        draft = definition_form.definition_draft(form, answers, fargate=True)
        definition_form.check_definition(draft.members)


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({"jobName": ["-j"]}, "jobName"),
        ({"jobName": [""]}, "jobName"),
        ({"jobQueue": ["none"]}, "jobQueue"),
        ({"jobDefinition": [""]}, "jobDefinition"),
        ({"arrayProperties.size": ["1"]}, "arrayProperties.size"),
        ({"arrayProperties.size": ["x"]}, "arrayProperties.size"),
        ({"schedulingPriorityOverride": ["10000"]}, "schedulingPriorityOverride"),
        ({"retryStrategy.attempts": ["0"]}, "retryStrategy.attempts"),
        ({"timeout.attemptDurationSeconds": ["1"]}, "timeout.attemptDurationSeconds"),
        ({f"{OVERRIDES}command": ["a '' b"]}, f"{OVERRIDES}command"),
        ({f"{OVERRIDES}command": ["x" * 9000]}, f"{OVERRIDES}command"),
        ({f"{OVERRIDES}environment.name": ["AWS_BATCH_X"]}, f"{OVERRIDES}environment"),
        ({f"{OVERRIDES}resourceRequirements.VCPU": ["0"]}, f"{OVERRIDES}resourceRequirements"),
        ({f"{OVERRIDES}resourceRequirements.MEMORY": ["1"]}, f"{OVERRIDES}resourceRequirements"),
        ({"dependsOn.type": ["NEVER"], "dependsOn.jobId": ["x"]}, "dependsOn"),
        ({REST: ['{"nodeOverrides": {"numNodes": 0}}']}, ""),
        (TAGS, "tags"),
    ],
    ids=lambda value: str(value)[:90],
)
def test_each_rule_of_a_submission_stands_at_its_field(answers: Answers, field: str) -> None:
    def faults(given: Answers) -> dict[str, str]:
        draft = read(JOB, given)
        return refused(JOB, draft.members, submission_form.check, draft.faults)

    assert not faults(RIGHT_JOB)
    assert list(faults({**RIGHT_JOB, **answers})) == [field]


@pytest.mark.parametrize(
    ("answers", "field"),
    [
        ({f"{CONTAINER}image": [""]}, f"{CONTAINER}image"),
        ({f"{REQUIREMENTS}.VCPU": [""]}, REQUIREMENTS),
        ({f"{CONTAINER}environment.name": ["AWS_BATCH_X"]}, f"{CONTAINER}environment"),
        ({f"{CONTAINER}user": ["?"]}, ""),
        (LONG_KEY, "tags"),
    ],
    ids=str,
)
def test_each_rule_of_a_command_alone_stands_at_its_field(answers: Answers, field: str) -> None:
    def faults(given: Answers) -> dict[str, str]:
        draft = read(RUN, given)
        return refused(RUN, draft.members, submission_form.check, draft.faults)

    assert not faults(RIGHT_RUN)
    found = faults({**RIGHT_RUN, **answers})
    assert list(found) == ([field] if field else [])


# Words on parameters ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "parameters", "count"),
    [
        (["echo", "Ref::a"], {"a": "1"}, 0),
        (["echo", "x.Ref::a.Ref::b"], {"a": "1"}, 1),
        (["echo"], {"a": "1", "b": "2"}, 2),
        (["Ref::b"], {"a": "1"}, 2),
        ([], {}, 0),
    ],
)
def test_unused_and_missing_parameters_are_pointed_out(
    command: list[str], parameters: dict[str, str], count: int
) -> None:
    found = definition_form.remarks({"containerProperties": {"command": command}, "parameters": parameters})
    assert len(found) == count


def test_every_field_of_a_form_is_a_member_of_its_operation() -> None:
    """A misspelt field would be dropped without a word."""
    for form, shape, own in (
        (ENVIRONMENT, shapes.CREATE_COMPUTE_ENVIRONMENT, ()),
        (environment_form.environment("UNMANAGED"), shapes.CREATE_COMPUTE_ENVIRONMENT, ()),
        (environment_form.environment("EC2", is_new=False), shapes.UPDATE_COMPUTE_ENVIRONMENT, ()),
        (queue_form.queue(["ce"], [("", "none")]), shapes.CREATE_JOB_QUEUE, ()),
        (queue_form.queue(["ce"], is_new=False), shapes.UPDATE_JOB_QUEUE, ()),
        (policy_form.policy(), shapes.CREATE_SCHEDULING_POLICY, ()),
        (policy_form.policy(is_new=False), shapes.UPDATE_SCHEDULING_POLICY, ()),
        (share_form.share(), shapes.CREATE_QUOTA_SHARE, ()),
        (share_form.share(is_new=False), shapes.UPDATE_QUOTA_SHARE, ()),
        (consumable_form.NEW, shapes.CREATE_CONSUMABLE_RESOURCE, ()),
        (consumable_form.CHANGE, shapes.UPDATE_CONSUMABLE_RESOURCE, ()),
        (FARGATE, shapes.CREATE_COMPUTE_ENVIRONMENT, ()),
        (QUEUE, shapes.CREATE_JOB_QUEUE, ()),
        (DEFINITION, shapes.REGISTER_JOB_DEFINITION, ()),
        (JOB, shapes.SUBMIT_JOB, (submission_form.CONCURRENCY, NATIVE)),
    ):
        for field in forms.fields_of(form):
            at: Any = shape
            if field.name in (REST, *own) or field.name.startswith(f"{forms.NATIVE}."):
                continue
            for name in field.name.split("."):
                if isinstance(at, Table):
                    break
                assert name in at.members, field.name
                at = at.members[name]


def test_members_come_out_of_json_as_they_went_in() -> None:
    assert json.loads(fill(DEFINITION, {"nodeProperties": {"a": ["ü", 1, None, 1.5]}})[REST][0]) == {
        "nodeProperties": {"a": ["ü", 1, None, 1.5]}
    }
