"""``submit-jobs``: a line in, a line out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

LINES = b"""{"name": "a", "request_id": "a", "container": {"command": ["true"]}}

{"name": "b", "queue": "nowhere", "container": {"command": ["true"]}}
{"nmae": "c"}
\xff
{"name": "d", "arraySize": "20", "container": {"command": ["true"]}}
"""


def test_each_line_is_answered_in_its_place(run: Run, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(LINES)
    result = run("submit-jobs", str(tmp_path / "jobs"))
    first, queue, field, no_text, last = result.out.splitlines()
    made = yard.do(lambda world: [job.id for job in world.jobs.values() if ":" not in job.id])
    assert [first, last] == made
    assert queue == "refused: no such queue: nowhere"
    assert field.startswith("refused: no job as JSON: ")
    assert "nmae" in field
    assert no_text.startswith("refused: no job as JSON: ")
    assert (result.code, result.err) == (3, "")
    sent = yard.do(lambda world: world.submits)
    assert [(request.name, request.queue, request.array_size) for request in sent] == [
        ("a", "default", 0),
        ("d", "default", 20),
    ]


def test_stdin_and_json(run: Run, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.do(lambda world: world.add_queue("fast"))
    stdin = io.TextIOWrapper(io.BytesIO(LINES.splitlines()[0]))
    monkeypatch.setattr("sys.stdin", stdin)
    result = run("submit-jobs", "-", "-q", "fast", "-o", "json")
    (told,) = map(json.loads, result.out.splitlines())
    assert (told["request_id"], told["job"]["name"], result.code) == ("a", "a", 0)
    assert yard.do(lambda world: world.submits)[0].queue == "fast"


def test_repeated_with_request_ids_it_makes_no_second_job(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(LINES.splitlines()[0])
    first = run("submit-jobs", str(tmp_path / "jobs"))
    assert (first.code, run("submit-jobs", str(tmp_path / "jobs"))) == (0, first)


def test_file_that_is_not_there(run: Run) -> None:
    assert run("submit-jobs", "nothing").code == 2


def test_line_that_is_no_job_has_a_reason_as_one_that_the_controller_refuses(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(b'{"nmae": "a"}\n')
    (told,) = map(json.loads, run("submit-jobs", str(tmp_path / "jobs"), "-o", "json").out.splitlines())
    assert (told["refusal"]["code"], told["refusal"]["reason"]) == ("InvalidArgument", "INVALID_ARGUMENT")
