"""What pages of jobs show, by tables: rows, the view of one job, why it waits or failed, the map of an array."""

from __future__ import annotations

from typing import Any

import pytest

from batchyard.v1 import attempt_pb2
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.resources_pb2 import Resources
from batchyard_gateway.console.jobs import array_map, job_rows, job_view, why

ID = "01a21600-9c20-794b-8971-6805633080ca"
NOW_MS = 1_000_000


def job(**fields: Any) -> pb.Job:
    return pb.Job(**{"id": ID, "name": "n", "queue": "q", "state": pb.JOB_STATE_RUNNING, **fields})


def attempt(**fields: Any) -> pb.Attempt:
    return pb.Attempt(**{"id": f"{ID}#1", "number": 1, "state": pb.JOB_STATE_FAILED, "host_name": "alpha", **fields})


def array(**counts: int) -> pb.ArrayProperties:
    return pb.ArrayProperties(size=sum(counts.values()), status_summary=counts)


def part(name: str, **fields: Any) -> pb.ContainerStatus:
    return pb.ContainerStatus(name=name, **fields)


# Rows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"short_id": "633080ca", "state": "RUNNING", "ran_ms": None, "exit_code": "", "host": "", "reason": ""}),
        ({"started_at_ms": 400_000}, {"ran_ms": 600_000}),
        ({"started_at_ms": 400_000, "stopped_at_ms": 401_000}, {"ran_ms": 1_000}),
        # Clocks of hosts may be ahead of ours.
        ({"started_at_ms": 2_000_000}, {"ran_ms": 0}),
        ({"exit_code": 0, "attempts": [attempt()]}, {"exit_code": "0", "host": "alpha", "attempts": 1}),
        ({"state": pb.JOB_STATE_RUNNABLE, "waiting_reason": "w", "status_reason": "s"}, {"reason": "w"}),
        ({"state": pb.JOB_STATE_RUNNABLE, "status_reason": "s"}, {"reason": "s"}),
        ({"state": pb.JOB_STATE_FAILED, "ending_cause": "c", "status_reason": "s"}, {"reason": "c"}),
        ({"state": pb.JOB_STATE_SUCCEEDED, "ending_cause": "c"}, {"reason": ""}),
        ({"id": f"{ID}:7", "array": pb.ArrayProperties(index=7, size=9)}, {"short_id": ":7", "label": "n :7", "is_array": False}),
        ({"array": array(SUCCEEDED=3)}, {"is_array": True}),
    ],
)  # fmt: skip
def test_a_row(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    row = job_rows.row_of(job(**fields), NOW_MS)
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("counts", "text", "parts"),
    [
        ({"PENDING": 4}, "0 of 4 done", []),
        ({"SUCCEEDED": 18, "FAILED": 2}, "18 of 20 done, 2 failed", [("failed", 0, 12), ("done", 12, 108)]),
        ({"RUNNING": 1, "STARTING": 1, "SUCCEEDED": 2}, "2 of 4 done, 2 active", [("done", 0, 60), ("active", 60, 60)]),
        # One of a million is seen, and nothing stands beyond the end.
        ({"FAILED": 1, "SUCCEEDED": 999_999}, "999,999 of 1,000,000 done, 1 failed", [("failed", 0, 2), ("done", 2, 118)]),
    ],
)  # fmt: skip
def test_progress_of_an_array(counts: dict[str, int], text: str, parts: list[tuple[str, int, int]]) -> None:
    progress = job_rows.progress_of(job(array=array(**counts)))
    assert progress is not None
    assert progress.text == text
    assert progress.parts == parts


# One job ------------------------------------------------------------------------


def test_several_containers_are_told_as_they_are() -> None:
    """Of the latest attempt: what ended with which code, what runs, what waits for what; what was lost ran until then."""
    waits = definition_pb.ContainerDependency(container="init", condition=definition_pb.CONTAINER_CONDITION_SUCCESS)
    parts = [
        part("init", state=pb.CONTAINER_STATE_ENDED, exit_code=0, started_at_ms=900_000, stopped_at_ms=903_000,
             log_stream_name="d/init/1"),
        part("proxy", state=pb.CONTAINER_STATE_RUNNING, started_at_ms=904_000, log_stream_name="d/proxy/1"),
        part("main", state=pb.CONTAINER_STATE_WAITING, waits_for=[waits]),
    ]  # fmt: skip
    live = job(attempts=[attempt(), attempt(number=2, containers=parts)])
    assert [(p.name, p.state, p.ran_ms, p.exit_code, p.reason, p.has_log) for p in job_view.parts(live, NOW_MS)] == [
        ("init", "ENDED", 3_000, "0", "", True),
        ("proxy", "RUNNING", 96_000, "", "", True),
        ("main", "WAITING", None, "", "waits for success of init", False),
    ]
    lost = job(attempts=[attempt(stopped_at_ms=905_000, containers=parts[1:2])])
    assert [p.ran_ms for p in job_view.parts(lost, NOW_MS)] == [1_000]
    assert job_view.parts(job(), NOW_MS) == []


def test_a_life_is_told_as_far_as_it_came() -> None:
    ran = job(created_at_ms=1_000, started_at_ms=5_000, stopped_at_ms=9_000, attempts=[attempt(claimed_at_ms=4_000)])
    assert [(step.what, step.after_ms) for step in job_view.timeline(ran)] == [
        ("Submitted", None), ("Given a host", 3_000), ("Started", 1_000), ("Ended", 4_000),
    ]  # fmt: skip
    assert [step.what for step in job_view.timeline(job(created_at_ms=1_000))] == ["Submitted"]
    # A host's clock may be behind the controller's.
    assert job_view.timeline(job(created_at_ms=2_000, started_at_ms=1_000))[1].after_ms == 0


def test_attempts_come_the_latest_first() -> None:
    first = attempt(
        cause=attempt_pb2.END_CAUSE_OUT_OF_MEMORY,
        exit_code=137,
        status_reason="s",
        retry_verdict="again",
        usage=attempt_pb2.Usage(peak_memory_kib=3 << 19, user_cpu_ms=1_250, system_cpu_ms=4),
    )
    second = attempt(number=2, state=pb.JOB_STATE_RUNNING, started_at_ms=999_000, host_name="", host_id="h")
    newest, oldest = job_view.tries(job(attempts=[first, second]), NOW_MS)
    assert (newest.number, newest.outcome, newest.ran_ms, newest.host, newest.exit_code) == (2, "", 1_000, "h", "")
    assert (oldest.outcome, oldest.exit_code, oldest.reason, oldest.verdict) == ("out of memory", "137", "s", "again")
    assert (newest.used, oldest.used) == ("", "1.25 s CPU, 1.5 GiB")


def test_of_dependencies_the_failed_come_first() -> None:
    waits = job(depends_on=[pb.Dependency(job_id=each) for each in ("gone", "good", "bad")])
    found = [
        pb.Job(id="good", name="g", state=pb.JOB_STATE_SUCCEEDED),
        pb.Job(id="bad", name="b", state=pb.JOB_STATE_FAILED, ending_cause="why"),
    ]
    rows = job_view.needed(waits, found)
    assert [(row.id, row.state, row.cause) for row in rows] == [("bad", "FAILED", "why"), ("gone", "", ""), ("good", "SUCCEEDED", "")]  # fmt: skip


def test_of_secrets_names_alone_are_shown() -> None:
    with_secret = job(
        container={"secrets": [{"name": "TOKEN", "value_from": "db"}], "resources": Resources(cpu_millis=250)}
    )
    assert ("vCPU", "0.25") in job_view.facts(with_secret)
    assert "TOKEN" not in str(job_view.facts(with_secret))


def test_what_is_asked_for_is_told() -> None:
    asked = job(
        timeout_s=60,
        consumables={"licence": 2},
        container={
            "image": "busybox",
            "resources": Resources(cpu_millis=2000, memory_mib=20_480, gpu_millis=500),
            "gpu_models": ["A100"],
        },
    )
    assert job_view.facts(asked) == [
        ("Image", "busybox"), ("vCPU", "2"), ("Memory", "20.0 GiB"), ("GPU", "0.5"), ("GPU models", "A100"),
        ("Consumables", "2 of licence"), ("Timeout", "60 s an attempt"),
    ]  # fmt: skip
    assert job_view.facts(job())[0] == ("Image", "a plain process on the host")


def test_how_it_is_tried_again() -> None:
    retry = definition_pb.RetryStrategy(
        attempts=3,
        infrastructure_retries=0,
        spot_attempts=2,
        preemption_retries_before_termination=1,
        evaluate_on_exit=[
            definition_pb.EvaluateOnExit(
                action=definition_pb.EVALUATE_ON_EXIT_ACTION_RETRY, on_exit_code="1", on_reason="Host*"
            ),
            definition_pb.EvaluateOnExit(action=definition_pb.EVALUATE_ON_EXIT_ACTION_EXIT, on_status_reason="*"),
        ],
    )
    given = job(retry_strategy=retry, share_identifier="s", scheduling_priority=0)
    assert job_view.scheduling(given) == [
        ("Share", "s"), ("Scheduling priority", "0"), ("Attempts", "at most 3"), ("After faults of hosts", "none more"),
        ("After being preempted", "it runs again 1 time at most"), ("On spot hosts", "2 reclaims, then on-demand alone"),
    ]  # fmt: skip
    assert job_view.rules(given) == ["retry on reason Host* and exit code 1", "exit on status reason *"]
    assert job_view.scheduling(job())[0] == ("Attempts", "at most 1")


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        ("SUBMITTED", ["cancel", "terminate"]), ("PENDING", ["cancel", "terminate"]),
        ("RUNNABLE", ["cancel", "terminate"]), ("STARTING", ["terminate"]), ("RUNNING", ["terminate"]),
        ("SUCCEEDED", []), ("FAILED", []),
    ],
)  # fmt: skip
def test_actions_go_by_state(state: str, actions: list[str]) -> None:
    there = job(state=f"JOB_STATE_{state}", share_identifier="s")
    assert job_view.actions(there) == actions
    assert job_view.has_priority(there) is bool(actions)
    assert ("terminate" in str(job_view.commands(there))) is bool(actions)


def test_a_child_has_no_priority_of_its_own() -> None:
    assert not job_view.has_priority(job(share_identifier="s", array=pb.ArrayProperties(index=0, size=2)))
    assert not job_view.has_priority(job())


# Why ----------------------------------------------------------------------------


def test_amounts_are_told_in_their_units() -> None:
    explained = pb.ExplainJobResponse(
        summary="waits",
        refusals=[
            pb.Refusal(kind="cpu_millis", asked=4000, free=3500, largest_free=2250, largest_capacity=8000),
            pb.Refusal(kind="memory_mib", asked=20_480, free=100, largest_free=50, largest_capacity=8192),
            pb.Refusal(kind="hosts", message="alpha is cordoned"),
        ],
        position=1_201,
        position_is_least=True,
        first_job_id="F",
        eligible_hosts=3,
        estimated_start_at_ms=5,
    )
    waiting = why.waiting(explained)
    assert [(each.what, each.asked, each.free, each.most_free, each.largest) for each in waiting.amounts] == [
        ("vCPU", "4", "3.5", "2.25", "8"), ("memory", "20.0 GiB", "100 MiB", "50 MiB", "8,192 MiB"),
    ]  # fmt: skip
    assert (waiting.place, waiting.first_id, waiting.hosts, waiting.starts_at_ms) == ("at least 1,201", "F", 3, 5)
    assert why.waiting(pb.ExplainJobResponse(position=1)).place == "first"
    assert why.waiting(pb.ExplainJobResponse()).place == ""


@pytest.mark.parametrize(
    ("fields", "beginnings"),
    [
        ({"exit_code": 0}, []),
        ({"exit_code": 1}, ["Its command ended with exit code 1."]),
        ({"exit_code": 126}, ["126: "]),
        ({"exit_code": 127}, ["127: "]),
        ({"exit_code": 137}, ["137: "]),
        ({"exit_code": 139}, ["139: "]),
        ({"exit_code": 143}, ["143: "]),
        ({"exit_code": 137, "cause": "END_CAUSE_OUT_OF_MEMORY"}, ["It had reached its memory: ask for more than 512 MiB"]),
        ({"exit_code": 143, "cause": "END_CAUSE_TIMED_OUT"}, ["It ran for longer than its timeout of 60 s"]),
        ({"cause": "END_CAUSE_IMAGE_UNAVAILABLE"}, ["The host could not get the image busybox"]),
        ({"cause": "END_CAUSE_START_FAILED", "exit_code": 127}, ["It never ran", "127: "]),
        ({"reason": "CannotPullContainerError: no such"}, ["The host could not get the image busybox"]),
        ({"cause": "END_CAUSE_LOST"}, ["Its host went down"]),
    ],
)  # fmt: skip
def test_hints(fields: dict[str, Any], beginnings: list[str]) -> None:
    failed = job(
        state=pb.JOB_STATE_FAILED,
        timeout_s=60,
        container={"image": "busybox", "resources": Resources(memory_mib=512)},
        attempts=[attempt(), attempt(**fields)],
    )
    found = why.hints(failed)
    assert len(found) == len(beginnings)
    assert all(text.startswith(begin) for text, begin in zip(found, beginnings, strict=True)), found


def test_who_never_ran_has_no_hints() -> None:
    assert why.hints(job(state=pb.JOB_STATE_FAILED)) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"a\r\nb\n", "a\nb"),
        (b"\n".join(b"%d" % i for i in range(30)), "\n".join(str(i) for i in range(10, 30))),
        (b"\x1b[31mred\x1b[0m\x07\x00", "red"),
        (b"\x1b]0;title\x07x\x1b]8;;http://evil\x1b\\y", "xy"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 5000, "x" * 2000),
    ],
)
def test_the_end_of_a_log_is_harmless(data: bytes, text: str) -> None:
    assert why.log_end(data) == text


# The map ------------------------------------------------------------------------


def test_of_a_cell_the_worst_is_seen() -> None:
    counts = [{"SUCCEEDED": 2, "FAILED": 1}, {"SUCCEEDED": 2, "RUNNING": 1}, {"PENDING": 3}, {"SUCCEEDED": 1}]
    drawn = array_map.map_of(10, 3, counts)
    assert [cell.kind for cell in drawn.cells] == ["failed", "active", "waiting", "done"]
    assert [f"{cell.which}: {cell.words}" for cell in drawn.cells] == [
        "0 to 2: 2 SUCCEEDED, 1 FAILED", "3 to 5: 1 RUNNING, 2 SUCCEEDED", "6 to 8: all PENDING", "9: all SUCCEEDED",
    ]  # fmt: skip
    assert [line for _, *line in drawn.lines] == [[cell.which, cell.words] for cell in drawn.cells]


def test_cells_stand_in_rows() -> None:
    drawn = array_map.map_of(999, 1, [{"SUCCEEDED": 1}] * 999)
    assert [len(row) for row in drawn.rows] == [40] * 24 + [39]
    assert drawn.rows[1][1].first == 41
    assert drawn.lines == [(0, "0 to 998", "all SUCCEEDED")]


def test_the_table_says_what_the_map_says() -> None:
    drawn = array_map.map_of(8, 2, [{"SUCCEEDED": 2}, {"SUCCEEDED": 2}, {"FAILED": 1, "SUCCEEDED": 1}, {"FAILED": 2}])
    assert [line for _, *line in drawn.lines] == [
        ["0 to 3", "all SUCCEEDED"], ["4 to 5", "1 SUCCEEDED, 1 FAILED"], ["6 to 7", "all FAILED"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("indexes", "text"), [([], ""), ([3, 17], "3,17"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8"), ([9], "9")]
)
def test_ranges(indexes: list[int], text: str) -> None:
    assert array_map.ranges(indexes) == text
