"""Answers that show what a controller knew before its store was away bear a header, and pages a line."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from batchyard_gateway.staleness import Marking, note, stale_since


async def fresh(_: object) -> PlainTextResponse:
    return PlainTextResponse(stale_since())


async def stale(_: object) -> PlainTextResponse:
    note(1_700_000_060_000)
    note(1_700_000_000_000)
    return PlainTextResponse(stale_since())


def test_an_answer_says_since_when_it_may_be_out_of_date_and_the_next_does_not() -> None:
    client = TestClient(Marking(Starlette(routes=[Route("/fresh", fresh), Route("/stale", stale)])))
    told = client.get("/stale")
    assert told.headers["x-batchyard-stale-since"] == told.text == "2023-11-14T22:13:20Z"
    told = client.get("/fresh")
    assert "x-batchyard-stale-since" not in told.headers
    assert told.text == ""
