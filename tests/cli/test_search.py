"""What ``search`` finds, as a table, as names and as JSON."""

from __future__ import annotations

import json

from tests.cli.conftest import Run
from tests.sdk.yard import Yard
from tests.services.hand_agent import HOST_ID

from batchyard import container


def test_search_tells_kind_and_name(run: Run, yard: Yard) -> None:
    yard.join(name="default-h")
    job_id = yard.submit(name="default-j", container=container(["true"], vcpus=1000))
    assert [line.split() for line in run("search", "DEFAULT").out.splitlines()] == [
        ["KIND", "NAME", "WHAT"],
        ["job", job_id, "default-j", "RUNNABLE"],
        ["queue", "default"],
        ["compute", "environment", "default"],
        ["host", "default-h", HOST_ID],
    ]
    assert run("search", job_id[:20], "-o", "name").out.split() == [job_id]
    assert json.loads(run("search", job_id, "-o", "json").out)["jobs"][0]["id"] == job_id
    yard.submit(name="default-k")
    more = run("search", "default", "-n", "1")
    assert (more.code, more.err) == (0, "batchyard: there may be more: --limit N, or a longer text\n")
    assert run("search", "nobody").out.split() == ["KIND", "NAME", "WHAT"]
