"""The tables against botocore's model: every operation, and every member that is taken, as AWS has them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import ListShape, MapShape, StructureShape

from batchyard_gateway.batch.operations import NEVER, OFFERED, SERVICE
from batchyard_gateway.batch.shapes import Anything, Flag, Items, Number, Structure, Table, Text, Whole, Words

from .endpoint import MODEL


def test_every_operation_of_the_model_is_here_once() -> None:
    assert sorted([*OFFERED, *NEVER]) == sorted(MODEL.operation_names)


@pytest.mark.parametrize("name", sorted(SERVICE.operations))
def test_an_operation_is_where_the_model_has_it(name: str) -> None:
    operation, model = SERVICE.operations[name], MODEL.operation_model(name)
    assert (operation.method, operation.path) == (model.http["method"], model.http["requestUri"])


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_an_operation_takes_what_the_model_says(name: str) -> None:
    compare(OFFERED[name].takes, MODEL.operation_model(name).input_shape, name)


def compare(ours: Any, model: Any, at: str) -> None:
    """Compare one shape with the model's, all the way down."""
    match ours:
        case Anything():
            return
        case Structure():
            assert isinstance(model, StructureShape), at
            assert sorted(ours.members) == sorted(model.members), at
            assert sorted(ours.required) == sorted(model.required_members), at
            for name, shape in ours.members.items():
                compare(shape, model.members[name], f"{at}.{name}")
        case Items():
            assert isinstance(model, ListShape), at
            compare_bounds(ours.count_min, ours.count_max, model, at)
            compare(ours.item, model.member, f"{at}[]")
        case Table():
            assert isinstance(model, MapShape), at
            # AWS takes an empty map of tags for what is new or changed, whatever its model says.
            is_spared = model.name == "TagrisTagsMap" and at != "TagResource.tags"
            compare_bounds(1 if is_spared else ours.count_min, ours.count_max, model, at)
            assert not (is_spared and ours.count_min), at
            compare(ours.key, model.key, f"{at}.key")
            compare(ours.value, model.value, f"{at}.value")
        case Words():
            # The status of definitions is a plain text in the model, and two words in its prose.
            assert list(ours.words) == list(model.enum) or at == "DescribeJobDefinitions.status", at
        case Text():
            assert model.type_name == "string", at
            assert not model.enum, at
            compare_bounds(ours.length_min, ours.length_max, model, at)
        case Whole():
            assert model.type_name == {32: "integer", 64: "long"}[ours.bits], at
        case Number():
            assert model.type_name == "float", at
        case Flag():
            assert model.type_name == "boolean", at
        case other:
            raise AssertionError(f"{at}: {other}")


def compare_bounds(low: int, high: int, model: Any, at: str) -> None:
    assert (low, high) == (model.metadata.get("min", 0), model.metadata.get("max", 0)), at
