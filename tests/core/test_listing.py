"""Which jobs a list shows, and that a page looks at few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.yard import Yard, container, task

from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.requests import settings
from batchyard_controller.core.views import listing
from batchyard_controller.core.views.listing import JobFilter, find_page
from batchyard_controller.core.world.submitted import BLOCK


def names(yard: Yard, **fields: Any) -> list[str]:
    page = find_page(yard.world.all_jobs, JobFilter(**fields), None, 1000)
    assert page.next_before is None
    return [job.name for job in page.jobs]


def at(yard: Yard, wall_ms: int) -> None:
    yard.now = replace(yard.now, wall_ms=wall_ms)


def test_names_match_whole_or_by_beginning_whatever_the_case(yard: Yard):
    """A star is special at the end alone."""
    for name in ("Train", "train-2", "other"):
        yard.submit(name=name)
    assert names(yard, name="TRAIN") == ["Train"]
    assert names(yard, name="tra*") == ["train-2", "Train"]
    assert names(yard, name="*") == ["other", "train-2", "Train"]
    assert names(yard, name="*2") == []


def test_definitions_match_by_name_revision_or_beginning(yard: Yard):
    """A name without a revision means any."""
    for name in ("d", "d", "dd"):
        yard.apply(
            settings.register_definition(yard.world, JobDefinition(name=name, revision=0, task=task(container())))
        )
    for key in ("d:1", "d:2", "dd:1"):
        yard.submit(name=key.replace(":", "-"), container=None, definition=key)
    yard.submit(name="none")
    assert names(yard, definition="d") == ["d-2", "d-1"]
    assert names(yard, definition="d:1") == ["d-1"]
    assert names(yard, definition="d*") == ["dd-1", "d-2", "d-1"]
    assert names(yard, definition="d:*") == ["d-2", "d-1"]
    assert names(yard, definition="D") == []


def test_moments_are_bounds_that_are_not_included(yard: Yard):
    """Also when the clock was set back between two submissions."""
    for wall_ms in (5_000, 7_000, 3_000):
        at(yard, wall_ms)
        yard.submit(name=f"at-{wall_ms}")
    assert names(yard, created_after_ms=3_000) == ["at-7000", "at-5000"]
    assert names(yard, created_before_ms=7_000) == ["at-3000", "at-5000"]
    assert names(yard, created_after_ms=3_000, created_before_ms=7_000) == ["at-5000"]


@pytest.mark.parametrize("has_gaps", [False, True])
def test_blocks_that_were_not_created_in_time_are_left_out(yard: Yard, has_gaps: bool):
    """The same jobs are found as without bounds, of blocks of any filling."""
    spec_job = yard.submit()
    submitted = type(yard.world.all_jobs)()
    jobs = [replace(spec_job, seq=i, created_at_ms=i // 2 * 10 + 1) for i in range(2 * BLOCK + 7)]
    for job in jobs:
        submitted.add(job)
    if has_gaps:
        for job in jobs[: BLOCK + 100]:
            submitted.remove(job)
        jobs = jobs[BLOCK + 100 :]
    for after, before in ((0, 0), (BLOCK * 5, 0), (0, BLOCK * 7), (BLOCK * 6, BLOCK * 6 + 50), (10**9, 0)):
        wanted = JobFilter(created_after_ms=after, created_before_ms=before)
        expected = [job.seq for job in reversed(jobs) if wanted.matches(job)]
        assert [job.seq for job in find_page(submitted, wanted, None, 5000).jobs] == expected
    assert list(submitted.before(None, created_after_ms=10**9)) == []


def test_pages_join_without_gap_or_repeat_and_look_at_few(yard: Yard, monkeypatch: pytest.MonkeyPatch):
    """A page that found little says where the next begins."""
    monkeypatch.setattr(listing, "LOOKS_MAX", 4)
    for i in range(11):
        yard.submit(name="wanted" if i in (0, 1, 2, 9) else "other")
    seen: list[str] = []
    before, sizes = None, []
    while True:
        page = find_page(yard.world.all_jobs, JobFilter(name="wanted"), before, 2)
        seen += [job.id for job in page.jobs]
        sizes.append(len(page.jobs))
        if page.next_before is None:
            break
        before = page.next_before
    assert seen == [job.id for job in yard.world.all_jobs.before(None) if job.name == "wanted"]
    assert sizes == [1, 0, 2, 1]
