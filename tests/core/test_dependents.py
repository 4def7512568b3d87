"""Dependents: who waits for the end of a job, an array or a child."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard

from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.views import dependents
from batchyard_controller.core.views.dependents import Dependents, dependents_of


def after(job: Job, kind: DependencyType = DependencyType.WHOLE) -> dict[str, object]:
    return {"depends_on": (Dependency(job_id=job.id, type=kind),)}


def told(yard: Yard, job_id: str) -> Dependents:
    return dependents_of(yard.world, yard.unit(job_id))


def test_who_waits_for_a_job_is_told_until_it_ends(yard: Yard) -> None:
    first = yard.submit()
    after_it = yard.submit(**after(first))
    always = yard.submit(**after(first, DependencyType.AFTER_ANY))
    yard.submit(**after(after_it))
    assert told(yard, first.id) == Dependents(ids=(after_it.id, always.id), count=2, is_exact=True)
    yard.cancel(always.id)
    assert told(yard, first.id).ids == (after_it.id,), "who ended before waits no more"
    yard.terminate(first.id)
    assert told(yard, first.id) == Dependents(ids=(), count=0, is_exact=True)


def test_of_an_array_those_that_wait_for_its_children_are_told_too(yard: Yard) -> None:
    array = yard.submit(array_size=3)
    whole = yard.submit(**after(array))
    each = yard.submit(array_size=3, **after(array, DependencyType.N_TO_N))
    assert told(yard, array.id).ids == (whole.id, each.id)
    assert told(yard, f"{array.id}:1").ids == (f"{each.id}:1",)


def test_in_a_chain_the_next_child_waits(yard: Yard) -> None:
    chain = yard.submit(array_size=3, depends_on=(Dependency(type=DependencyType.SEQUENTIAL),))
    assert told(yard, f"{chain.id}:0").ids == (f"{chain.id}:1",)
    assert told(yard, f"{chain.id}:2").ids == ()


def test_few_are_named_and_not_all_are_looked_at(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependents, "TOLD_MAX", 2)
    monkeypatch.setattr(dependents, "LOOKED_AT_MAX", 4)
    first = yard.submit()
    waiting = [yard.submit(**after(first)) for _ in range(4)]
    assert told(yard, first.id) == Dependents(ids=(waiting[0].id, waiting[1].id), count=4, is_exact=True)
    yard.cancel(waiting[0].id)
    yard.submit(**after(first))
    assert told(yard, first.id) == Dependents(ids=(waiting[1].id, waiting[2].id), count=3, is_exact=False)
