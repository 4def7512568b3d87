"""The stream of an open page, over plain HTTP and a real controller."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import pytest
from tests.gateway.endpoint import Endpoint, Yard

from batchyard_gateway.console.entry.sessions import IDLE_S, Sessions
from batchyard_gateway.console.live.tabs import TABS_MAX

from .events import Stream
from .visitor import Visitor


def place_of(visitor: Visitor) -> str:
    """Return what a page that is read now has seen."""
    found = re.search(r'data-since="([^"]+)"', visitor.get("about").text)
    assert found is not None
    return found[1]


def test_a_submit_changes_the_counts(visitor: Visitor, yard: Yard) -> None:
    with Stream(visitor) as stream:
        assert stream.hear() == ("look", "counts")
        yard.submit()
        assert stream.hear() == ("look", "counts")
        assert "<b>1</b> waiting" in visitor.get("counts?part=totals").text


def test_a_job_that_changes_is_told_to_who_shows_it(visitor: Visitor, yard: Yard) -> None:
    one, other = yard.submit(), yard.submit()
    with Stream(visitor, ids=[one], topics="") as stream, Stream(visitor, ids=[other], topics="") as quiet:
        assert stream.hear() == quiet.hear() == ("look", "jobs")
        yard.batch.terminate_job(jobId=one, reason="enough")
        assert stream.hear() == ("look", "jobs")
        yard.batch.terminate_job(jobId=other, reason="enough")
        assert quiet.hear() == ("look", "jobs")


def test_who_has_just_read_a_page_is_told_only_what_is_new(visitor: Visitor, yard: Yard) -> None:
    job_id = yard.submit()
    with Stream(visitor, topics="counts,queues,hosts", ids=[job_id]) as first:
        heard: set[str] = set()
        while heard < {"counts", "queues", "hosts", "jobs"}:
            heard |= set(first.hear()[1].split())
        place = place_of(visitor)
        with Stream(visitor, since=place, topics="counts,queues,hosts", ids=[job_id]) as second:
            yard.batch.terminate_job(jobId=job_id, reason="enough")
            assert second.hear() == ("look", "jobs")
        with Stream(visitor, since=place, topics="", ids=[job_id]) as third:
            assert third.hear() == ("look", "jobs")


def test_the_counts_are_one_reading_for_all(visitor: Visitor, yard: Yard) -> None:
    yard.submit()
    page = visitor.get("counts?part=totals")
    assert "<b>1</b> waiting" in page.text
    assert "state=SUBMITTED&amp;state=PENDING&amp;state=RUNNABLE" in page.text
    again = visitor.get("counts?part=totals", If_None_Match=page.headers["etag"])
    assert (again.status, again.text) == (304, "")


def test_every_page_has_the_counts(visitor: Visitor) -> None:
    visitor.post("start", {"go": "away"})  # else the overview of an empty yard leads to the wizard
    for path in ("", "about", "counts", "nothing"):
        assert 'data-topics="counts' in visitor.get(path).text


def test_too_many_ids_are_refused(visitor: Visitor) -> None:
    reply = visitor.get("live?ids=" + ",".join(["a"] * 501))
    assert reply.status == 400
    assert "ids: at most 500 jobs, not 501." in reply.text


def test_a_stranger_hears_nothing(stranger: Visitor) -> None:
    with Stream(stranger) as stream:
        assert stream.status == 303


def test_signing_out_ends_the_stream_at_once(visitor: Visitor) -> None:
    with Stream(visitor) as stream:
        stream.hear()
        begun_s = time.monotonic()
        visitor.post("sign-out")
        assert stream.hear() == ("ended", "-")
        assert stream.hear() == ("", "")
        assert time.monotonic() - begun_s < 30


def test_a_revoked_key_ends_the_stream(visitor: Visitor, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    with Stream(visitor) as stream:
        stream.hear()
        monkeypatch.setattr("batchyard_gateway.console.entry.entry.CHECK_S", 0.0)
        endpoint = visitor.endpoint
        endpoint.run(endpoint.client.revoke_access_key(visitor.key_id))
        yard.submit()
        assert stream.hear() == ("ended", "-")


def test_what_a_page_asks_by_itself_keeps_no_session_open() -> None:
    sessions = Sessions(lambda: "token")
    sessions.open("key", now_s=0.0)
    assert sessions.find("token", IDLE_S - 1, is_use=False) is not None
    assert sessions.find("token", IDLE_S + 1) is None


def test_so_many_streams_and_no_more_and_those_that_closed_make_room(visitor: Visitor) -> None:
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(Stream(visitor)) for _ in range(TABS_MAX)]
        assert {stream.status for stream in streams} == {200}
        for stream in streams:
            stream.hear()
        with Stream(visitor) as refused:
            assert refused.status == 503
        assert visitor.get("about").status == 200
    for _ in range(100):
        with Stream(visitor) as stream:
            if stream.status == 200:
                return
    raise AssertionError("closed streams are not forgotten")


def test_a_stop_does_not_wait_for_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchyard_gateway.app.STOP_GRACE_S", 50)
    with contextlib.ExitStack() as stack:
        endpoint = Endpoint()
        with endpoint:
            visitor = Visitor(endpoint).sign_in()
            streams: list[Any] = [stack.enter_context(Stream(visitor)) for _ in range(20)]
            for stream in streams:
                stream.hear()
            begun_s = time.monotonic()
        assert time.monotonic() - begun_s < 40
        while streams[0].hear() != ("", ""):
            pass
