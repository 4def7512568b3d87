"""``tag``: what becomes of it and what is written."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard import container


@pytest.mark.parametrize(
    "kind", ["job", "queue", "job-definition", "compute-environment", "scheduling-policy", "consumable-resource"]
)
def test_tags_are_added_listed_and_removed(run: Run, yard: Yard, kind: str) -> None:
    yard.client.register_job_definition("train", container=container(["true"]))
    yard.client.create_scheduling_policy("default")
    yard.client.create_consumable_resource("default")
    name = {"job": yard.submit(), "job-definition": "train:1"}.get(kind, "default")
    added = run("tag", "add", kind, name, "b=2", "a=x=y", "c=")
    assert (added.code, added.out, added.err) == (0, "", f"batchyard: tagged {kind} {name}\n")
    assert run("tag", "list", kind, name).out == "a=x=y\nb=2\nc=\n"
    assert run("tag", "remove", kind, name, "a", "b").code == 0
    assert json.loads(run("tag", "list", kind, name, "-o", "json").out) == {"c": ""}


@pytest.mark.parametrize(
    "arguments", [("add", "queue", "default"), ("add", "host", "alpha", "a=b"), ("add", "queue", "default", "a")]
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("tag", *arguments)
    assert (result.code, result.out) == (2, "")
