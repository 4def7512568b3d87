"""``submit-jobs``: a line in, a line out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

WHAT = b'"container": {"command": ["true"], "resources": {"cpu_millis": 1000, "memory_mib": 128}}'
LINES = b"""{"name": "a", "request_id": "a", %(what)b}

{"name": "b", "queue": "nowhere", %(what)b}
{"nmae": "c"}
\xff
{"name": "d", "arraySize": "20", %(what)b}
""" % {b"what": WHAT}


def test_each_line_is_answered_in_its_place(run: Run, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(LINES)
    result = run("submit-jobs", str(tmp_path / "jobs"))
    first, queue, field, no_text, last = result.out.splitlines()
    assert [(job.id, job.name, job.queue, job.array.size) for job in yard.client.list_jobs()] == [
        (last, "d", "default", 20),
        (first, "a", "default", 0),
    ]
    assert queue == "refused: JobQueue nowhere not found."
    assert field.startswith("refused: no job as JSON: ")
    assert "nmae" in field
    assert no_text.startswith("refused: no job as JSON: ")
    assert (result.code, result.err) == (3, "")


def test_the_last_job_that_was_accepted_is_the_last(run: Run, tmp_path: Path) -> None:
    lines = LINES.splitlines()
    (tmp_path / "jobs").write_bytes(b"\n".join([lines[0], lines[-1], lines[2]]))
    _, accepted, refused = run("submit-jobs", str(tmp_path / "jobs")).out.splitlines()
    assert refused.startswith("refused: ")
    assert run("-o", "name", "describe", "last").out == f"{accepted}\n"


def test_a_line_that_is_nested_too_deep_is_refused_and_the_next_go_on(run: Run, tmp_path: Path) -> None:
    """For the reader of JSON, or for messages."""
    deep = b'{"annotations": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    (tmp_path / "jobs").write_bytes(b"\n".join([deep, LINES.splitlines()[0]]))
    refused, accepted = run("submit-jobs", str(tmp_path / "jobs")).out.splitlines()
    assert refused == "refused: no job as JSON: it is nested too deep"
    assert run("-o", "name", "describe", accepted).code == 0


def test_stdin_and_json(run: Run, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.client.create_job_queue("fast")
    stdin = io.TextIOWrapper(io.BytesIO(LINES.splitlines()[0]))
    monkeypatch.setattr("sys.stdin", stdin)
    result = run("submit-jobs", "-", "-q", "fast", "-o", "json")
    (told,) = map(json.loads, result.out.splitlines())
    assert (told["request_id"], told["job"]["name"], result.code) == ("a", "a", 0)
    assert [(job.id, job.queue) for job in yard.client.list_jobs()] == [(told["job"]["job_id"], "fast")]


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
