"""What a text may mean, and that finding it looks at few jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.yard import Yard, container, task

from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.requests import settings
from batchyard_controller.core.views import listing
from batchyard_controller.core.views.search import Found, search
from batchyard_controller.core.world import submitted

HOUR_MS = 3_600_000


def found(yard: Yard, text: str, limit: int = 10) -> Found:
    return search(yard.world, text, limit)


def ids(yard: Yard, text: str, limit: int = 10) -> list[str]:
    return [unit.id for unit in found(yard, text, limit).units]


def later(yard: Yard, by_ms: int = HOUR_MS) -> None:
    yard.now = replace(yard.now, wall_ms=yard.now.wall_ms + by_ms)


def test_whole_id_finds_one_alone(yard: Yard):
    """A job, or a child that there is."""
    job, array = yard.submit(name="a"), yard.submit(name="b", array_size=3)
    assert ids(yard, job.id) == [job.id]
    assert ids(yard, f" {job.id.upper()} ") == [job.id]
    assert ids(yard, f"{array.id}:2") == [f"{array.id}:2"]
    assert ids(yard, f"{array.id}:3") == []


def test_names_and_ids_are_found_by_beginnings_newest_first(yard: Yard):
    """Ids by their ends, too; of three characters nothing of an id is asked."""
    first = yard.submit(name="Train-1")
    later(yard)
    second = yard.submit(name="train-2")
    yard.submit(name="other")
    assert ids(yard, "TRAIN") == [second.id, first.id]
    assert ids(yard, "rain") == []
    assert ids(yard, first.id[:13]) == [first.id]
    assert ids(yard, second.id[-8:]) == [second.id]
    assert ids(yard, second.id[:3]) == []
    assert (ids(yard, "train", 1), found(yard, "train", 1).is_partial) == ([second.id], True)
    assert not found(yard, "train", 2).is_partial


def test_everything_else_is_found_by_its_name(yard: Yard):
    """Hosts by the beginning of their id, too."""
    yard.environment("Alpha-ce")
    yard.queue("alpha-q")
    definition = JobDefinition(name="alpha-d", revision=0, task=task(container()))
    for _ in range(2):
        yard.apply(settings.register_definition(yard.world, definition))
    yard.host("alpha-h")
    told = found(yard, "alpha")
    assert (told.queues, told.environments, told.definitions) == (("alpha-q",), ("Alpha-ce",), ("alpha-d",))
    assert [record.facts.name for record in told.hosts] == ["alpha-h"]
    assert (told.units, told.is_partial) == ((), False)
    assert found(yard, "h1").hosts
    assert not found(yard, "1").hosts


def test_old_jobs_are_found_by_what_their_id_says_of_time(yard: Yard, monkeypatch: pytest.MonkeyPatch):
    """By name only the newest are looked at, and that is told."""
    monkeypatch.setattr(listing, "LOOKS_MAX", 3)
    monkeypatch.setattr(submitted, "BLOCK", 2)
    yard.now = replace(yard.now, wall_ms=1_700_000_000_000)
    old = yard.submit(name="old")
    for _ in range(5):
        later(yard)
        yard.submit(name="new")
    assert (ids(yard, "old"), found(yard, "old").is_partial) == ([], True)
    for length in (8, 9, 12, 13, 18, 35):
        assert (ids(yard, old.id[:length]), found(yard, old.id[:length]).is_partial) == ([old.id], False), length
    assert ids(yard, old.id[-8:]) == []
    assert len(ids(yard, "new")) == 3
