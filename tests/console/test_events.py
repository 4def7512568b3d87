"""The page of events: of all, of a job, of a host, page by page."""

from __future__ import annotations

import re

from tests.gateway.endpoint import Endpoint, Yard

from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.console.yard.event_rows import row_of

from .visitor import Visitor


def what(text: str) -> list[str]:
    """Return what happened, row by row."""
    return re.findall(r'<th scope="row">([^<]*)</th>', text)


def test_a_row_says_what_moved_and_why() -> None:
    row = row_of(
        pb.Event(
            subject=pb.SUBJECT_JOB, job_id="j:3", children=5, what="TIMED_OUT", text="it ran too long", host_id="h",
            previous_state=job_pb2.JOB_STATE_RUNNING, state=job_pb2.JOB_STATE_FAILED,
        )
    )  # fmt: skip
    assert (row.job_id, row.more, row.before, row.after) == ("j:3", 4, "RUNNING", "FAILED")
    assert (row.what, row.why, row.host, row.host_path) == ("Timed out", "it ran too long", "h", "h")


def test_a_host_is_called_as_its_page_is() -> None:
    row = row_of(pb.Event(subject=pb.SUBJECT_HOST, host_id="h", host_name="big box", what="JOINED"))
    assert (row.host, row.host_path, row.after, row.more) == ("big box", "big%20box", "", 0)


def test_the_events_of_a_job_are_found_from_its_page(visitor: Visitor, yard: Yard) -> None:
    job_id, other = yard.submit("one"), yard.submit("other")
    (there,) = re.findall(r'href="/console/(events[^"]*)"', visitor.get(f"jobs/{job_id}").text.partition("<main")[2])
    page = visitor.get(there).text
    assert what(page) == ["Released"]
    assert job_id in page
    assert other not in page
    assert "it waits for nothing but a host" in page


def test_those_of_a_host_are_found_from_its_page(endpoint: Endpoint, visitor: Visitor, yard: Yard) -> None:
    endpoint.agent(name="box")
    yard.submit("beside")
    (there,) = re.findall(r'href="/console/(events[^"]*)"', visitor.get("hosts/box").text.partition("<main")[2])
    page = visitor.get(there).text
    assert what(page)[-1] == "Joined"
    assert "its agent connected" in page


def test_a_long_trail_has_pages(visitor: Visitor, yard: Yard) -> None:
    for number in range(130):
        yard.submit(f"job-{number}")
    first = visitor.get("events").text
    assert len(what(first)) == 100
    (older,) = re.findall(r'href="/console/(events\?before=[^"]*)"', first)
    rest = visitor.get(older).text
    assert len(what(rest)) >= 30
    assert "Older" not in rest
    assert 'href="/console/events"' in rest


def test_of_what_is_not_there_nothing_is_told(visitor: Visitor, yard: Yard) -> None:
    assert visitor.get("events?host=nobody").status == 404
    forgotten = visitor.get("events?job=00000000-0000-7000-8000-000000000000")
    assert (forgotten.status, "No event is kept of it." in forgotten.text) == (200, True)
    assert visitor.get("events?before=nonsense").status == 400
