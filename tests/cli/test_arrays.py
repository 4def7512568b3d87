"""Arrays over lines, JSON, sweeps and numbers, and what has failed of them once more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard.array_values import NO_VALUES, ArrayValues, Axis
from batchyard.cli import array_input
from batchyard.v1 import job_pb2 as pb


@pytest.mark.parametrize(
    ("numbers", "sweeps", "found"),
    [
        ("", (), (0, NO_VALUES)),
        ("20", (), (20, NO_VALUES)),
        ("1-100:5", (), (20, ArrayValues(numbers="1-100:5"))),
        ("7-7", (), (1, ArrayValues(numbers="7-7"))),
        ("", ("a=1,x", "b=1..3"), (6, ArrayValues(sweep=(Axis(name="a", values=("1", "x")),
                                                         Axis(name="b", values=("1", "2", "3")))))),
        ("0,2", ("n=0..20..5,-1",), (2, ArrayValues(numbers="0,2", sweep=(
            Axis(name="n", values=("0", "5", "10", "15", "20", "-1")),)))),
    ],
)  # fmt: skip
def test_numbers_and_sweeps(numbers: str, sweeps: tuple[str, ...], found: tuple[int, ArrayValues]) -> None:
    assert array_input.read(numbers, None, None, sweeps) == found


@pytest.mark.parametrize(
    ("numbers", "sweeps", "wrong"),
    [
        ("1", (), "an array has at least 2 children"),
        ("5-1", (), "--array: '5-1' is an empty range"),
        ("a", (), "--array: 'a' is no number"),
        ("3", ("a=1",), "--array 3 beside items says which of them: 3-3, or 0-3"),
        ("", ("a",), "--sweep 'a' is not NAME=VALUES"),
        ("", ("a=5..1",), "5..1 is an empty range"),
    ],
)
def test_what_is_wrong_with_them_is_said(numbers: str, sweeps: tuple[str, ...], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        array_input.read(numbers, None, None, sweeps)


def submitted(run: Run, yard: Yard, *arguments: str) -> pb.Job:
    made = run("submit", *arguments)
    assert (made.code, made.err) == (0, "")
    return yard.client.describe_job(made.out.strip())


def test_a_child_for_each_line(run: Run, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b\n\nc\n")
    job = submitted(run, yard, "--each-line", str(tmp_path / "in"), "--max-fails", "1", "--", "fit", "Ref::item")
    assert (job.array.size, list(job.array.values.items), job.array.max_fails) == (3, ["a b", "", "c"], 1)
    child = yard.client.describe_job(f"{job.id}:2")
    assert (child.array.item, child.array.HasField("number"), list(child.container.command)) == (
        "c", False, ["fit", "Ref::item"],
    )  # fmt: skip
    (tmp_path / "in.json").write_text('["x", {"n": 1}, 2]')
    job = submitted(run, yard, "--from-json", str(tmp_path / "in.json"), "--array", "1,2", "--", "fit")
    assert (job.array.size, list(job.array.values.items)) == (2, ["x", '{"n": 1}', "2"])
    child = yard.client.describe_job(f"{job.id}:0")
    assert (child.array.number, child.array.item) == (1, '{"n": 1}')


def test_items_are_bounded_and_the_error_names_the_limit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("0123456789\n" * 30_000)
    refused = run("submit", "--each-line", str(tmp_path / "in"), "--", "fit")
    assert (refused.code, refused.out) == (3, "")
    assert "array_values.items: 330000 bytes, one more an item; at most 262144 are allowed" in refused.err


def test_what_has_failed_is_submitted_again_as_what_it_was(run: Run, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\nb\nc\nd\n")
    job = submitted(
        run, yard, "--name", "fits", "--tag", "t=u", "--each-line", str(tmp_path / "in"), "--", "fit", "Ref::item"
    )
    assert run("retry", "--failed", job.id).err.endswith(f"Error: {job.id} is PENDING: it has not ended\n")
    for index in (1, 3):
        run("terminate", f"{job.id}:{index}")
    host = yard.join()
    yard.do(host.run())
    yard.do(host.run())
    made = run("retry", "--failed", job.id)
    again = yard.client.describe_job(made.out.strip())
    assert (again.array.size, again.array.values.numbers, again.name, dict(again.tags)) == (
        2,
        "1,3",
        "fits",
        {"t": "u"},
    )
    assert list(again.array.values.items) == ["a", "b", "c", "d"]
    assert again.annotations["batchyard/retry-of"] == job.id
    assert yard.client.describe_job(f"{again.id}:1").array.item == "d"


def test_those_that_failed_by_filter_are_counted_first(run: Run, yard: Yard) -> None:
    jobs = [submitted(run, yard, "--name", f"n-{i}", "--", "x").id for i in range(3)]
    run("terminate", *jobs[:2])
    assert "2 jobs would be meant: --yes does it without asking." in run("retry", "--name", "n-*").err
    made = run("retry", "--name", "n-*", "--yes")
    assert made.err == "batchyard: 2 jobs match\n"
    assert [yard.client.describe_job(each).name for each in made.out.split()] == ["n-1", "n-0"]
    assert run("retry", f"{jobs[2]}").code == 2


def test_json_of_a_child_tells_its_item(run: Run, yard: Yard) -> None:
    job = submitted(run, yard, "--sweep", "a=1,2", "--sweep", "b=x", "--", "fit", "Ref::a", "Ref::b")
    (child,) = json.loads(run("describe", "-o", "json", f"{job.id}:1").out)
    assert json.loads(child["array"]["item"]) == {"a": "2", "b": "x"}
