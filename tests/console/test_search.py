"""Search, over plain HTTP."""

from __future__ import annotations

from tests.gateway.endpoint import Yard

from .visitor import Visitor


def test_the_only_one_is_gone_to(visitor: Visitor, yard: Yard) -> None:
    job_id = yard.submit("alone")
    for text in (job_id, job_id[:6], "alo", "ALONE"):
        assert visitor.get(f"search?q={text}").headers["location"] == f"/console/jobs/{job_id}"
    assert visitor.get("search?q=ce").headers["location"] == "/console/environments/ce"


def test_several_are_shown_by_kind(visitor: Visitor, yard: Yard) -> None:
    ids = [yard.submit("ce-job"), yard.submit("ce-other")]
    page = visitor.get("search?q=ce")
    assert page.status == 200
    assert all(job_id in page.text for job_id in ids)
    assert 'href="/console/environments/ce"' in page.text


def test_nothing_is_said(visitor: Visitor) -> None:
    hostile = "%22%3E%3Cscript%3Ex()%3C/script%3E"
    page = visitor.get(f"search?q={hostile}").text
    assert "Nothing begins with" in page
    assert "<script>x()" not in page
    assert "Search for the id of a job" in visitor.get("search?q=").text
    assert "Search for the id of a job" in visitor.get("search").text


def test_a_text_too_long_is_refused(visitor: Visitor) -> None:
    assert visitor.get(f"search?q={'x' * 1000}").status == 400
