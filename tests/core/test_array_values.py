"""What children of an array are told: numbers, items, sweeps; and how many of them may fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.yard import Yard

from batchyard.array_values import NO_VALUES, ArrayValues, Axis, numbers_of, numbers_text
from batchyard.states import JobState
from batchyard.tasks import Container, Task
from batchyard_controller.core.jobs.resolution import Submission, resolve, with_values


@given(st.sets(st.integers(0, 10**6), min_size=1))
def test_numbers_are_read_as_they_are_written(numbers: set[int]) -> None:
    found = numbers_of(numbers_text(sorted(numbers)))
    assert [found.at(place) for place in range(len(found))] == sorted(numbers)


def test_numbers_are_short_and_none_is_made_beforehand() -> None:
    assert numbers_text([1, 6, 11, 12, 13, 14, 20]) == "1-11:5,12-14,20"
    million = numbers_of("0-999999999:1000")
    assert (len(million), million.at(999_999), million.largest) == (1_000_000, 999_999_000, 999_999_000)


@pytest.mark.parametrize("text", ["", "x", "3-1", "1-5:0", "1,1", "1-5,3", "2,1", "-1", "1-", "1:2"])
def test_what_is_no_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        numbers_of(text)


def test_a_number_finds_its_item_whatever_its_place() -> None:
    values = ArrayValues(numbers="1,3", items=("a", "b", "c", "d"))
    assert (values.children, values.number(1), values.values(values.number(1))) == (2, 3, {"item": "d"})


def test_the_last_parameter_of_a_sweep_is_the_fastest() -> None:
    sweep = ArrayValues(sweep=(Axis(name="lr", values=("0.1", "0.2")), Axis(name="seed", values=("1", "2", "3"))))
    assert sweep.children == 6
    found = [(sweep.values(i)["lr"], sweep.values(i)["seed"]) for i in range(6)]
    assert found == [("0.1", "1"), ("0.1", "2"), ("0.1", "3"), ("0.2", "1"), ("0.2", "2"), ("0.2", "3")]
    assert sweep.item(4) == '{"lr": "0.2", "seed": "2"}'


def test_members_of_an_item_that_is_an_object_have_names() -> None:
    values = ArrayValues(items=('{"in": "a b", "n": 3, "item": "x"}',))
    assert values.values(0) == {"in": "a b", "n": "3", "item": '{"in": "a b", "n": 3, "item": "x"}'}
    assert ArrayValues(items=('{"a=b": "x", "n": "\\u0000"}',)).values(0).keys() == {"item"}
    assert ArrayValues(items=("{no json",)).values(0) == {"item": "{no json"}
    assert NO_VALUES.values(0) == {}


def test_what_differs_is_put_in_when_a_child_is_started() -> None:
    """And a reference that nobody knows is refused at once."""
    task = Task(containers=(Container(command=("fit", "--in=Ref::item", "Ref::n", "Ref::item")),))
    values = ArrayValues(items=("a", "b Ref::n"))
    submission = Submission(name="j", queue="q", task=task, parameters=(("n", "7"),), array_size=2, array_values=values)
    spec, violations = resolve(submission, None)
    assert not violations
    assert spec.task.main.command == ("fit", "--in=Ref::item", "7", "Ref::item")
    assert with_values(spec.task, values.values(1)).main.command == ("fit", "--in=b Ref::n", "7", "b Ref::n")
    _, violations = resolve(Submission(name="j", queue="q", task=task, parameters=(("n", "7"),)), None)
    assert [violation.field for violation in violations] == ["parameters"]


def failing(yard: Yard, max_fails: int | None) -> str:
    """Run three of eight children, of which two fail, and return the array's id."""
    yard.environment()
    yard.queue("q", "ce")
    yard.host("alpha", cpu=3000)
    job = yard.submit(array_size=8, array_max_fails=max_fails)
    yard.plan()
    first, second, _ = yard.live()
    yard.started(first)
    yard.started(second)
    yard.ended(first, exit_code=1)
    assert yard.state(job.id) is JobState.PENDING
    yard.ended(second, exit_code=1)
    return job.id


def test_once_too_many_have_failed_the_rest_is_stopped() -> None:
    yard = Yard()
    job_id = failing(yard, 1)
    assert yard.reason(f"{job_id}:7") == "2 children failed; at most 1 may"
    (left,) = yard.live()
    assert yard.world.jobs[job_id].terminate_reason == "2 children failed; at most 1 may"
    yard.ended(left, exit_code=137)
    assert yard.state(job_id) is JobState.FAILED


@pytest.mark.parametrize("max_fails", [None, 2])
def test_as_many_as_may_fail_stop_nothing(max_fails: int | None) -> None:
    yard = Yard()
    job_id = failing(yard, max_fails)
    assert yard.state(f"{job_id}:7") is JobState.RUNNABLE
