"""Where copies of logs go: what differs from attempt to attempt is put into the path."""

from __future__ import annotations

from batchyard.ids import JobId
from batchyard.tasks import Container, Task
from batchyard_controller.core.jobs.output_paths import unknown_marks, with_output_paths
from batchyard_controller.core.model.jobs import Job, JobKind, JobSpec
from batchyard_controller.core.model.units import Unit


def unit(path: str, index: int | None = None) -> Unit:
    spec = JobSpec(queue="q", task=Task(containers=(Container(output_path=path),)))
    kind, size = (JobKind.SINGLE, 0) if index is None else (JobKind.ARRAY, 10)
    return Unit(Job(id=JobId("id"), name="fit", spec=spec, seq=1, created_at_ms=1, kind=kind, size=size), index)


def filled(path: str, index: int | None = None) -> str:
    found = unit(path, index)
    return with_output_paths(found.task, found, index or 0, 2, "rack/1").main.output_path


def test_each_mark_has_its_value() -> None:
    assert filled("%x-%j-%t.out") == "fit-id-2.out"
    assert filled("/logs/%j/%a.out", 7) == "/logs/id/7.out"
    assert filled("%a%n%%a") == "00%a"
    assert filled("%N") == "rack_1", "no name of a host leads to another folder"


def test_a_task_without_one_is_left_as_it_is() -> None:
    found = unit("")
    assert with_output_paths(found.task, found, 0, 1, "h") is found.task


def test_unknown_marks_are_found() -> None:
    assert unknown_marks("%j%q/%%d%") == ["%q", "%"]
