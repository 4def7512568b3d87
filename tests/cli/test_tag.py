"""``tag``: what is sent and what is written."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import Run


@pytest.mark.parametrize("kind", ["job", "queue", "job-definition", "compute-environment"])
def test_tags_are_added_listed_and_removed(run: Run, kind: str) -> None:
    added = run("tag", "add", kind, "default", "b=2", "a=x=y", "c=")
    assert (added.code, added.out, added.err) == (0, "", f"batchyard: tagged {kind} default\n")
    assert run("tag", "list", kind, "default").out == "a=x=y\nb=2\nc=\n"
    assert run("tag", "remove", kind, "default", "a", "b").code == 0
    assert json.loads(run("tag", "list", kind, "default", "-o", "json").out) == {"c": ""}


@pytest.mark.parametrize(
    "arguments", [("add", "queue", "default"), ("add", "host", "alpha", "a=b"), ("add", "queue", "default", "a")]
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("tag", *arguments)
    assert (result.code, result.out) == (2, "")
