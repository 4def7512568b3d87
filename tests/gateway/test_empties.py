"""What says nothing is as good as absent: nulls, and structures in which nothing is given, in every operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from batchyard_gateway.batch.operations import OFFERED
from batchyard_gateway.batch.shapes import Anything, Items, Shape, Structure
from batchyard_gateway.errors import ApiError

from .endpoint import ARN, Yard, environment

Path = tuple[str, ...]


def structures(shape: Shape, at: Path = ()) -> Iterator[Path]:
    """Return where a shape may have a structure that need not be there; ``[]`` stands for the one item of a list."""
    match shape:
        case Items():
            yield from structures(shape.item, (*at, "[]"))
        case Structure():
            for name, member in shape.members.items():
                if isinstance(member, Structure | Anything) and name not in shape.required:
                    yield (*at, name)
                yield from structures(member, (*at, name))


def required(shape: Shape) -> Any:
    """Return the least of a shape."""
    match shape:
        case Structure():
            return {name: required(shape.members[name]) for name in shape.required}
        case Items():
            return [required(shape.item)] * shape.count_min
        case _:
            return {"Text": "x", "Words": getattr(shape, "words", ("",))[0], "Whole": 1, "Table": {"a": "b"}}[
                type(shape).__name__
            ]


def put(shape: Shape, given: Any, path: Path, value: Any) -> None:
    """Put a value at a place of an input, with the least of what leads there."""
    name, *rest = path
    if name == "[]":
        assert isinstance(shape, Items)
        given[:] = [required(shape.item)]
        put(shape.item, given[0], tuple(rest), value)
        return
    assert isinstance(shape, Structure)
    if not rest:
        given[name] = value
        return
    if not given.get(name):
        given[name] = required(shape.members[name])
    put(shape.members[name], given[name], tuple(rest), value)


PLACES = [(name, path) for name, row in sorted(OFFERED.items()) for path in structures(row.takes)]


@pytest.mark.parametrize("value", [{}, {"none": 1}, None], ids=["empty", "unknown", "null"])
@pytest.mark.parametrize(("name", "path"), PLACES, ids=lambda each: each if isinstance(each, str) else ".".join(each))
def test_an_empty_structure_is_as_good_as_absent(name: str, path: Path, value: Any) -> None:
    shape = OFFERED[name].takes
    given, without = required(shape), required(shape)
    put(shape, given, path, value)
    put(shape, without, path, value)
    _drop(without, path)
    if path and isinstance(_shape_at(shape, path), Anything) and value:
        return  # of a part that is not offered, no member is known
    assert _result(shape, given) == _result(shape, without)


def _shape_at(shape: Any, path: Path) -> Shape:
    for name in path:
        shape = shape.item if name == "[]" else shape.members[name]
    found: Shape = shape
    return found


def _drop(given: Any, path: Path) -> None:
    *outer, name = path
    for each in outer:
        given = given[0] if each == "[]" else given[each]
    del given[name]


def _result(shape: Shape, given: Any) -> Any:
    try:
        return shape.check(given, "")
    except ApiError as err:
        return err.message


def test_nested_empties_are_empty_too() -> None:
    shape = OFFERED["SubmitJob"].takes
    least = {"jobName": "j", "jobQueue": "q", "jobDefinition": "d"}
    cases: tuple[dict[str, Any], ...] = (
        {"eksPropertiesOverride": {"podProperties": {"containers": None, "metadata": {"labels": None}}}},
        {"arrayProperties": {"size": None}},
        {"retryStrategy": {}},
    )
    for empties in cases:
        assert shape.check(least | empties, "") == least


def test_what_is_not_offered_may_be_empty_to_any_depth() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = [{"a": deep, "b": None}]
    least = {"jobQueueName": "q", "priority": 1}
    assert OFFERED["CreateJobQueue"].takes.check(least | {"serviceEnvironmentOrder": deep}, "") == least


@pytest.mark.parametrize("kind", ["FARGATE", "FARGATE_SPOT"])
@pytest.mark.parametrize(
    "empties",
    [
        {"tags": {}},
        {"tags": {"a": None}},
        {"instanceTypes": [], "ec2Configuration": []},
        {"launchTemplate": {}, "scalingPolicy": {}, "capacityTags": {}},
        {"ec2KeyPair": "", "placementGroup": "", "imageId": ""},
    ],
    ids=str,
)
def test_what_is_empty_breaks_no_rule_of_fargate(yard: Yard, kind: str, empties: dict[str, Any]) -> None:
    resources = {"type": kind, "maxvCpus": 1, **empties}
    yard.endpoint.post("CreateComputeEnvironment", {})
    reply = yard.endpoint.post(
        "CreateComputeEnvironment",
        {"computeEnvironmentName": "f", "type": "MANAGED", "computeResources": resources, "eksConfiguration": {}},
    )
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("kind", ["EC2", "SPOT"])
@pytest.mark.parametrize("percentage", [0, 101, 1000])
def test_a_bid_has_no_bound(batch: Any, kind: str, percentage: int) -> None:
    batch.create_compute_environment(**environment("ce", type=kind, bidPercentage=percentage))


@pytest.mark.parametrize("strategy", [{}, {"evaluateOnExit": []}, {"attempts": None}], ids=str)
def test_a_retry_strategy_that_says_nothing_is_none(yard: Yard, strategy: dict[str, Any]) -> None:
    members = {
        "jobDefinitionName": "r",
        "type": "container",
        "containerProperties": {"image": "i", "vcpus": 1, "memory": 4},
    }
    assert yard.endpoint.post("RegisterJobDefinition", members | {"retryStrategy": strategy}).status == 200
    yard.batch.register_job_definition(**members, retryStrategy={"attempts": 3})
    body = {"jobName": "j", "jobQueue": "q", "jobDefinition": "r", "retryStrategy": strategy}
    reply = yard.endpoint.post("SubmitJob", body)
    assert reply.status == 200, reply.body
    assert yard.job(reply.json()["jobId"])["retryStrategy"]["attempts"] == 3, "the definition's holds"


@pytest.mark.parametrize("keys", ["", "tagKeys=", "tagKeys"])
def test_no_tag_key_is_too_few(yard: Yard, keys: str) -> None:
    arn = ARN.replace(":", "%3A") + "job-queue%2Fq"
    reply = yard.endpoint.send("DELETE", f"/v1/tags/{arn}?{keys}")
    assert reply.status == 400


@pytest.mark.parametrize("nulls", [[None], [None, None]])
def test_nulls_do_not_count(nulls: list[None]) -> None:
    """Neither as one that is there, nor towards too many."""
    shape = OFFERED["UntagResource"].takes
    with pytest.raises(ApiError, match="length greater than or equal to 1"):
        shape.check({"resourceArn": "a", "tagKeys": nulls}, "")
    keys = [f"k{i}" for i in range(50)]
    assert shape.check({"resourceArn": "a", "tagKeys": [*keys, *nulls]}, "")["tagKeys"] == keys
    shape = OFFERED["TagResource"].takes
    with pytest.raises(ApiError, match="length greater than or equal to 1"):
        shape.check({"resourceArn": "a", "tags": {"k": None}}, "")
    tags = dict.fromkeys(keys, "v")
    assert shape.check({"resourceArn": "a", "tags": tags | {"x": None}}, "")["tags"] == tags
