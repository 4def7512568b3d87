"""Filters of lists of jobs: addresses to arguments of the SDK, words and commands."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from starlette.datastructures import QueryParams

from batchyard import errors
from batchyard.errors import Reason, Violation
from batchyard_gateway.console.jobs import job_filters
from batchyard_gateway.console.jobs.job_filters import Filters, read

ALL = (
    "queue=a&queue=b&state=FAILED&state=RUNNING&tag=team%3Dblue&tag=owner&name=train*&definition=d%3A3"
    "&share=s&host=alpha&user=ann&from=2026-01-02T03%3A04&to=2026-02-03T00%3A00&size=500"
)


def test_all_filters_go_together() -> None:
    filters = read(QueryParams(ALL))
    assert not filters.faults
    assert filters.wanted(500) == {
        "queue": ("a", "b"),
        "states": ("FAILED", "RUNNING"),
        "tags": {"team": "blue", "owner": None},
        "name": "train*",
        "job_definition": "d:3",
        "share_identifier": "s",
        "host": "alpha",
        "owner": "ann",
        "created_after_ms": 1_767_323_039_999,
        "created_before_ms": 1_770_076_800_000,
        "page_size": 500,
    }


def test_an_address_says_all_of_them() -> None:
    filters = read(QueryParams(ALL))
    assert sorted(filters.pairs()) == sorted(parse_qsl(ALL))
    assert read(QueryParams(filters.pairs())) == filters
    assert Filters().address("/x") == "/x"


def test_each_filter_is_dropped_alone() -> None:
    filters = read(QueryParams(ALL))
    chips = filters.chips()
    assert [chip.text for chip in chips] == [
        "queue a", "queue b", "state FAILED", "state RUNNING", "tag team=blue", "tag owner", "name train*",
        "definition d:3", "share s", "host alpha", "user ann", "created from 2026-01-02T03:04", "created before 2026-02-03T00:00",
    ]  # fmt: skip
    for chip in chips:
        assert len(chip.without.chips()) == len(chips) - 1
        assert chip.text not in [other.text for other in chip.without.chips()]
        assert read(QueryParams(chip.without.pairs())) == chip.without


def test_times_are_those_of_the_reader() -> None:
    there = read(QueryParams("from=2026-07-01"), ZoneInfo("Europe/Berlin"))
    assert there.after_ms + 1 == 1_782_856_800_000
    assert there.created_from == "2026-07-01T00:00"
    utc = read(QueryParams("from=2026-06-30T22:00:00Z"), ZoneInfo("Europe/Berlin"))
    assert utc.created_from == "2026-07-01T00:00"


def test_children_are_narrowed_by_state_alone() -> None:
    filters = read(QueryParams("array=A&state=FAILED&name=x"))
    assert filters.wanted(100) == {"array_job_id": "A", "states": ("FAILED",), "page_size": 100}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=GONE", "state"),
        ("name=a*b", "name"),
        ("definition=*a", "definition"),
        ("tag=%3Dx", "tag"),
        ("size=7", "size"),
        ("size=", "size"),
        ("from=yesterday", "from"),
        ("to=1960-01-01", "to"),
        ("to=99999-01-01", "to"),
        ("from=0001-01-01", "from"),
        ("&".join(f"queue=q{i}" for i in range(51)), "queue"),
    ],
)
def test_what_cannot_be_read_is_said(query: str, field: str) -> None:
    assert list(read(QueryParams(query)).faults) == [field]


@pytest.mark.parametrize(
    ("error", "faults"),
    [
        (errors.NotFoundError("no q", reason=Reason.JOB_QUEUE_NOT_FOUND), {"queue": "no q"}),
        (errors.NotFoundError("no h", reason=Reason.HOST_NOT_FOUND), {"host": "no h"}),
        (errors.NotFoundError("no j", reason=Reason.JOB_NOT_FOUND), {"": "no j"}),
        (
            errors.InvalidArgumentError.from_violations([Violation("tags[0].key", "is too long")]),
            {"tag": "is too long"},
        ),
        (errors.InvalidArgumentError.from_violations([Violation("page_token", "is bad")]), {"": "page_token: is bad"}),
        (errors.InvalidArgumentError("no"), {"": "no"}),
    ],
)
def test_a_refusal_stands_at_its_field(error: errors.RequestError, faults: dict[str, str]) -> None:
    assert job_filters.faults_of_list(error) == faults


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({}, ["batchyard jobs --limit 100"]),
        (
            {"queues": ("q",), "states": ("FAILED",), "size": 50},
            [
                "batchyard jobs --queue q --state FAILED --limit 50",
                "aws batch list-jobs --job-queue q --job-status FAILED",
            ],
        ),
        (
            {"queues": ("q",), "name": "it's*"},
            [
                """batchyard jobs --queue q --name 'it'"'"'s*' --limit 100""",
                """aws batch list-jobs --job-queue q --filters 'name=JOB_NAME,values=it'"'"'s*'""",
            ],
        ),
        # AWS lists one queue, in one state or by one filter; the command line knows no shares.
        (
            {"queues": ("a", "b"), "states": ("FAILED",)},
            ["batchyard jobs --queue a --queue b --state FAILED --limit 100"],
        ),
        (
            {"queues": ("q",), "share": "s"},
            ["aws batch list-jobs --job-queue q --filters name=SHARE_IDENTIFIER,values=s"],
        ),
        ({"queues": ("q",), "share": "s", "name": "n"}, []),
        (
            {"array": "A", "states": ("FAILED",)},
            [
                "batchyard jobs --state FAILED --array A --limit 100",
                "aws batch list-jobs --array-job-id A --job-status FAILED",
            ],
        ),
        ({"tags": ("a=b c",), "host": "h"}, ["batchyard jobs --tag 'a=b c' --host h --limit 100"]),
        (
            {"queues": ("q",), "user": "ann", "states": ("FAILED",)},
            ["batchyard jobs --queue q --state FAILED --user ann --limit 100"],
        ),
    ],
)
def test_commands_list_the_same(given: dict[str, Any], lines: list[str]) -> None:
    assert [command.line for command in Filters(**given).commands()] == lines


def test_words_name_them_all() -> None:
    assert Filters().words() == "jobs"
    assert Filters(array="A", states=("FAILED",)).words() == "children of A, state FAILED"
