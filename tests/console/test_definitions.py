"""Pages of job definitions: lists, revisions side by side, new ones, taking one out of use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.gateway.endpoint import definition, plain

from batchyard.v1 import job_definition_pb2 as pb
from batchyard_gateway.console.forms.definition_form import COMMAND, REQUIREMENTS, of_definition
from batchyard_gateway.console.settings.revisions import compare, newest, paths

from .visitor import Visitor

HOSTILE = '"><script>x()</script>'


def revision(name: str, number: int) -> pb.JobDefinition:
    return pb.JobDefinition(name=name, revision=number)


def test_a_name_stands_once_with_its_newest_revision() -> None:
    found = [revision("a", 3), revision("a", 2), revision("b", 1)]
    assert [row.key for row in newest(found)] == ["a:3", "b:1"]
    assert [row.key for row in newest(found, after="a")] == ["b:1"]


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"a": 1, "b": {"c": "x", "d": []}}, [("a", "1"), ("b.c", "x"), ("b.d", "[]")]),
        ({"e": [{"name": "N", "value": "v"}]}, [("e[N].name", "N"), ("e[N].value", "v")]),
        ({"l": ["a", "b"], "r": [{"onReason": "x"}]}, [("l", '["a", "b"]'), ("r[0].onReason", "x")]),
        ({}, []),
    ],
)
def test_members_are_told_by_their_paths(members: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert list(paths(members)) == found


def test_only_what_differs_is_compared() -> None:
    left = {"revision": 2, "containerProperties": {"image": "a", "user": "", "volumes": []}, "tags": {"k": "v"}}
    right = {
        "revision": 1,
        "containerProperties": {"image": "b", "user": ""},
        "timeout": {"attemptDurationSeconds": 60},
    }
    assert compare(left, right) == [
        ("containerProperties.image", "a", "b"),
        ("tags.k", "v", None),
        ("timeout.attemptDurationSeconds", None, "60"),
    ]


def test_an_empty_list_says_how_to_begin(visitor: Visitor) -> None:
    text = visitor.get("definitions").text
    assert "No job definition yet" in text
    assert "/console/definitions/new" in text
    assert visitor.get("definitions/d").status == 404
    assert "No such job definition: d:7" in visitor.get("definitions/d:7").text


def test_revisions_are_listed_shown_and_compared(visitor: Visitor) -> None:
    batch = visitor.endpoint.batch()
    batch.register_job_definition(**definition("d"))
    batch.register_job_definition(**definition("d", {"command": ["false"]}))
    listed = visitor.get("definitions").text
    assert "/console/definitions/d:2" in listed
    assert "/console/definitions/d:1" not in listed
    assert "Job definition d:2</h1>" in visitor.get("definitions/d").text
    compared = visitor.get("definitions/d:2?with=1").text
    assert "[&#34;true&#34;]" in compared
    assert "[&#34;false&#34;]" in compared
    assert visitor.get("definitions/d:2?with=9").status == 404


def test_many_names_come_by_pages(visitor: Visitor) -> None:
    batch = visitor.endpoint.batch()
    for i in range(34):
        for _ in range(3):
            batch.register_job_definition(**definition(f"d{i:02}"))
    first = visitor.get("definitions").text
    assert first.count('scope="row"') == 34
    token = first.partition('href="/console/definitions?token=')[2].partition('"')[0]
    rest = visitor.get(f"definitions?token={token}".replace("&amp;", "&")).text
    assert 'scope="row"' not in rest, "the last name stood on the page before"


def test_a_revision_is_registered_again_as_it_is(visitor: Visitor) -> None:
    """The form that a revision fills says all that it says, members without a field included."""
    batch = visitor.endpoint.batch()
    properties = {
        "command": ["sh", "-c", "a\nb", "Ref::x"], "environment": [{"name": "A", "value": ""}], "user": "nobody",
        "volumes": [{"name": "v", "host": {"sourcePath": "/d"}}], "privileged": True, "ulimits": [],
        "mountPoints": [{"containerPath": "/d", "sourceVolume": "v"}], "linuxParameters": {"sharedMemorySize": 64},
    }  # fmt: skip
    batch.register_job_definition(
        **definition("d", properties, parameters={"x": ""}, retryStrategy={"attempts": 2}, tags={"k": "v"})
    )
    page = visitor.get("definitions/new?of=d:1").text
    reply = visitor.post("definitions/new", {**visitor.filled(page, "/console/definitions/new"), "go": "register"})
    assert reply.status == 303, reply.text
    assert reply.headers["location"] == "/console/definitions/d:2"
    two, one = plain(batch.describe_job_definitions(jobDefinitionName="d"))["jobDefinitions"]
    assert of_definition(two) == of_definition(one)


def test_register_pressed_twice_makes_one_revision(visitor: Visitor) -> None:
    visitor.endpoint.batch().register_job_definition(**definition("d"))
    page = visitor.get("definitions/new?of=d:1").text
    form = {**visitor.filled(page, "/console/definitions/new"), "csrf": visitor.csrf(), "go": "register"}
    with ThreadPoolExecutor(5) as pool:
        replies = list(pool.map(lambda _: visitor.send("POST", "definitions/new", form), range(5)))
    assert {reply.headers["location"] for reply in replies} == {"/console/definitions/d:2"}
    assert visitor.get("definitions/d:3").status == 404
    again = visitor.get("definitions/new?of=d:1").text
    reply = visitor.post("definitions/new", {**visitor.filled(again, "/console/definitions/new"), "go": "register"})
    assert reply.headers["location"] == "/console/definitions/d:3", "another form is another request"


def test_a_wrong_definition_keeps_what_was_typed(visitor: Visitor) -> None:
    form = {"jobDefinitionName": HOSTILE, COMMAND: [HOSTILE], f"{REQUIREMENTS}.VCPU": "x", "go": "register"}
    reply = visitor.post("definitions/new", form)
    assert reply.status == 422
    assert "<script>x" not in reply.text
    assert 'id="fault-jobDefinitionName"' in reply.text
    assert visitor.get("definitions").text.count('scope="row"') == 0


def test_what_only_the_yard_refuses_stands_at_its_field(visitor: Visitor) -> None:
    form = {
        "jobDefinitionName": "d", "containerProperties.image": "x" * 300, f"{REQUIREMENTS}.VCPU": "1",
        f"{REQUIREMENTS}.MEMORY": "64", "go": "register",
    }  # fmt: skip
    reply = visitor.post("definitions/new", form)
    assert reply.status == 422
    assert 'id="fault-containerProperties.image"' in reply.text


def test_missing_parameters_and_room_are_told_on_request(visitor: Visitor) -> None:
    visitor.endpoint.agent()
    form = {COMMAND: ["echo Ref::what"], f"{REQUIREMENTS}.VCPU": "2", f"{REQUIREMENTS}.MEMORY": "64",
            "containerProperties.image": "process://", "go": "look"}  # fmt: skip
    text = visitor.post("definitions/new", form).text
    assert "Ref::what" in text.partition("<aside")[2]
    assert "<strong>1</strong> of 1 ready hosts" in text


def test_a_revision_is_taken_out_of_use(visitor: Visitor) -> None:
    batch = visitor.endpoint.batch()
    batch.register_job_definition(**definition("d"))
    assert visitor.post("definitions/d:1").headers["location"] == "/console/definitions/d:1"
    text = visitor.get("definitions/d:1").text
    assert "INACTIVE" in text
    assert "Deregister d:1" not in text
    (told,) = batch.describe_job_definitions(jobDefinitions=["d:1"])["jobDefinitions"]
    assert told["status"] == "INACTIVE"
    assert visitor.post("definitions/d:9").status in (404, 422)


def test_a_hostile_address_comes_out_as_text(visitor: Visitor) -> None:
    for path in (
        "definitions/%3Cscript%3Ex()",
        "definitions/d%22%3E:1",
        "jobs/new?clone=%3Cscript%3Ex()",
        "jobs/new?definition=%22%3E%3Cscript%3Ex()",
    ):
        assert "<script>x" not in visitor.get(path).text
