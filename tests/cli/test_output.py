"""What the reading commands write: tables for people, JSON and names for scripts."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from google.protobuf import json_format
from tests.cli.conftest import Run
from tests.e2e.programs import until
from tests.processes import running
from tests.sdk.yard import Yard
from tests.services.hand_agent import HOST_ID, OTHER_ID

from batchyard import container
from batchyard.cli import json_input, output, spans
from batchyard.cli.clock import now_ms
from batchyard.cli.jobs import show_jobs
from batchyard.cli.progress import Tally
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2 as pb

NOW = 1_800_000_000_000
HOUR = 3_600_000

ROWS = [
    pb.JobSummary(
        id="0199c7a2-0000-7000-8000-000000000002",
        name="train",
        queue="default",
        state=pb.JOB_STATE_RUNNING,
        created_at_ms=NOW - 26 * HOUR,
        started_at_ms=NOW - 90_000,
        array=pb.ArrayProperties(size=20, status_summary={"SUCCEEDED": 11, "FAILED": 1, "RUNNING": 8}),
    ),
    pb.JobSummary(
        id="0199c7a2-0000-7000-8000-000000000001",
        name="hello",
        queue="fast",
        state=pb.JOB_STATE_FAILED,
        created_at_ms=NOW - 5_000,
        started_at_ms=NOW - 4_000,
        stopped_at_ms=NOW - 3_700,
        exit_code=7,
        host_name="alpha",
        attempts=2,
        status_reason="Essential container in task exited",
    ),
]


def golden(text: str) -> str:
    return dedent(text).removeprefix("\n")


def test_the_table_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs("table", ROWS, NOW)
    assert capsys.readouterr().out == golden("""
        JOB                                   NAME   QUEUE    STATE     DONE  EXIT  RAN     AGE  HOST
        0199c7a2-0000-7000-8000-000000000002  train  default  RUNNING  12/20     -  1m 30s  1d   -
        0199c7a2-0000-7000-8000-000000000001  hello  fast     FAILED             7  0.3s    5s   alpha
    """)


def test_the_wide_table_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs("wide", ROWS[1:], NOW)
    assert capsys.readouterr().out == golden("""
        JOB                                   NAME   QUEUE  STATE   EXIT  RAN   AGE  HOST   TRIES  DEFINITION  REASON
        0199c7a2-0000-7000-8000-000000000001  hello  fast   FAILED     7  0.3s  5s   alpha      2  -           Essential container in task exited
    """)


@pytest.mark.parametrize(
    ("width", "widths"),
    [(200, [36, 100, 30, 9]), (150, [36, 69, 30, 9]), (100, [36, 24, 25, 9]), (20, [36, 5, 5, 9])],
)
def test_only_elastic_columns_are_cut_and_the_widest_first(width: int, widths: list[int]) -> None:
    assert output.fitted([36, 100, 30, 9], [False, True, True, False], width) == widths


def test_an_empty_table_has_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    show_jobs("table", [], NOW)
    assert capsys.readouterr().out == "JOB  NAME  QUEUE  STATE  EXIT  RAN  AGE  HOST\n"
    show_jobs("json", [], NOW)
    assert capsys.readouterr().out == "[]\n"


def test_what_a_terminal_would_obey_is_made_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_fields([("Reason", "red \x1b[31m[bold]bell\x07\nnext")])
    assert (
        capsys.readouterr().out == "Reason  red \N{REPLACEMENT CHARACTER}[31m[bold]bell\N{REPLACEMENT CHARACTER} next\n"
    )


def test_json_is_the_contracts_with_numbers_for_numbers() -> None:
    plain = output.to_plain(ROWS[0])
    assert plain["state"] == "RUNNING"
    assert plain["created_at_ms"] == NOW - 26 * HOUR
    assert plain["array"] == {
        "size": 20,
        "status_summary": {"SUCCEEDED": 11, "FAILED": 1, "RUNNING": 8},
        "status_summary_updated_at_ms": 0,
        "concurrency": 0,
    }
    assert (plain["stopped_at_ms"], plain["host_name"], "exit_code" in plain) == (0, "", False)
    assert json_input.parse(json.dumps(plain), pb.JobSummary()) == ROWS[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('{"type": "N_TO_N"}', pb.DEPENDENCY_TYPE_N_TO_N),
        ('{"type": "DEPENDENCY_TYPE_N_TO_N"}', pb.DEPENDENCY_TYPE_N_TO_N),
        ('{"type": ""}', pb.DEPENDENCY_TYPE_UNSPECIFIED),
        ('{"type": 2}', 2),
    ],
)
def test_enums_are_read_in_both_forms(written: str, meant: int) -> None:
    request = json_input.parse(f'{{"name": "a", "dependsOn": [{written}]}}', pb.SubmitJobRequest())
    assert [each.type for each in request.depends_on] == [meant]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"name": 1}', '{"name": "a", "name": "b"}', '{"depends_on": [{"type": "NO"}]}']
)
def test_json_that_is_no_such_message_is_refused(text: str) -> None:
    with pytest.raises(json_format.ParseError):
        json_input.parse(text, pb.SubmitJobRequest())


def test_jobs_limits_and_says_so(run: Run, yard: Yard) -> None:
    made = [yard.submit() for _ in range(5)]
    result = run("jobs", "--limit", "2", "-o", "name")
    assert result.out.split() == made[:2:-1]
    assert result.err == "batchyard: there are more than the newest 2: --limit N shows them\n"
    assert run("jobs", "--limit", "5", "-o", "name").err == ""


def test_jobs_are_chosen_by_queue_tag_and_host(run: Run, yard: Yard) -> None:
    yard.client.create_job_queue("other")
    one = yard.client.submit_job(name="one", container=container(["true"]), tags={"team": "x", "stage": ""}).job_id
    two = yard.client.submit_job(name="two", container=container(["true"]), queue="other", tags={"team": "y"}).job_id
    both = ("-q", "default", "-q", "other", "-o", "name")
    assert run("jobs", *both).out.split() == [two, one]
    assert run("jobs", *both, "--oldest-first", "-n", "1").err == (
        "batchyard: there are more than the oldest 1: --limit N shows them\n"
    )
    assert run("jobs", "--tag", "team", "-o", "name").out.split() == [two, one]
    assert run("jobs", "--tag", "team", "--tag", "stage=", "-o", "name").out.split() == [one]
    assert run("jobs", "--tag", "team=y", "-o", "name").out.split() == [two]
    yard.join()
    assert sorted(run("jobs", "--host", "alpha", "-o", "name").out.split()) == sorted([one, two])
    refused = run("jobs", "--host", "nobody")
    assert (refused.code, "host 'nobody' not found" in refused.err) == (3, True), refused


def test_jobs_of_an_array(run: Run, yard: Yard) -> None:
    job_id = yard.submit(array_size=2)
    assert run("jobs", "--array", job_id, "-o", "name").out.split() == [f"{job_id}:0", f"{job_id}:1"]
    assert len(json.loads(run("jobs", "-o", "json", "-s", "pending").out)) == 1


def test_describe_tells_all(run: Run, yard: Yard) -> None:
    yard.inner.behind_ms = 50 * HOUR
    what = container(["sh", "-c", "exit 7"], vcpus=0.5, memory="4G", gpus=1, environment={"A": "b c"})
    job_id = yard.submit(container=what, tags={"team": "yard"})
    created = yard.client.describe_job(job_id).created_at_ms
    at = spans.moment(created, now_ms()).partition(" (")[0]
    assert run("describe", job_id).out == golden(f"""
        Job          {job_id}
        Name         hello
        State        RUNNABLE
        Reason       CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type [optimal]
        Waits        waits for a host: no host belongs to default and offers runtime process
        Queue        default
        Image        none (a process on the host)
        Command      sh -c 'exit 7'
        Asks for     0.5 vCPU, 4G memory, 1 GPU
        Environment  A=b c
        Tags         team=yard
        Created      {at} (2d 2h ago)
    """)


def test_describe_shows_what_a_job_waits_for_and_when_it_is_retried(run: Run, yard: Yard) -> None:
    exit_on = definition_pb.EVALUATE_ON_EXIT_ACTION_EXIT
    rule = definition_pb.EvaluateOnExit(action=exit_on, on_exit_code="4*", on_reason="Out*")
    array, single = yard.submit(array_size=6), yard.submit()
    job_id = yard.submit(
        array_size=6,
        array_concurrency=2,
        depends_on=[pb.Dependency(job_id=array, type=pb.DEPENDENCY_TYPE_N_TO_N), single],
        attempts=3,
        infrastructure_retries=4,
        spot_attempts=2,
        container=container(["true"], gpus=1, gpu_models=["A100", "H100"], gpu_memory="39G"),
        evaluate_on_exit=[rule],
    )
    lines = [line.split(None, 1) for line in run("describe", job_id).out.splitlines()]
    assert ["Array", "6 children, at most 2 at once"] in lines
    assert ["Depends", f"on  {array},N_TO_N {single}"] in lines
    assert [
        "Attempts",
        "at most 3, 4 that their host fails do not count, on-demand hosts after 2 reclaimed, EXIT:exit-code=4*,reason=Out*",
    ] in lines
    assert ["GPUs", "A100 or H100, 39G or more each"] in lines


def test_describe_shows_attempts(run: Run, yard: Yard) -> None:
    job_id = yard.submit()
    yard.do(yard.join().run(7))
    lines = run("describe", job_id).out.splitlines()
    assert lines[-2].split() == ["ATTEMPT", "STATE", "HOST", "EXIT", "RAN", "CPU", "MEMORY", "REASON"]
    assert lines[-1].split()[:4] == ["1", "FAILED", "alpha", "7"]


def test_describe_is_always_a_list_in_the_order_asked(run: Run, yard: Yard) -> None:
    first, second = yard.submit(), yard.submit()
    assert [job["id"] for job in json.loads(run("describe", "-o", "json", first).out)] == [first]
    assert run("describe", "-o", "name", second, first).out.split() == [second, first]


def test_describe_shows_what_it_finds_and_names_the_rest(run: Run, yard: Yard) -> None:
    job_id = yard.submit()
    result = run("describe", "-o", "name", job_id, "nothing")
    assert (result.code, result.out, result.err) == (3, f"{job_id}\n", "batchyard: no such job: nothing\n")


def test_explain(run: Run, yard: Yard) -> None:
    yard.join()
    yard.submit(container=container(["true"], memory="2G"))
    large = container(["true"], memory="64G")
    first, job_id = yard.submit(container=large), yard.submit(container=large)
    assert run("explain", job_id).out == golden(f"""
        Job       {job_id}
        State     RUNNABLE
        Why       waits for a host: 65536 MiB memory asked, at most 6144 free on one host (largest host: 8192); no host known now could ever fit it; 1 of its queue comes before it, first {first}
        Position  2
        Hosts     1 suit the job

        RULE        ASKED  FREE  MOST FREE  LARGEST HOST  MEANING
        memory_mib    64G    6G         6G            8G  65536 MiB memory asked, at most 6144 free on one host (largest host: 8192); no host known now could ever fit it
    """)
    assert json.loads(run("explain", "-o", "json", first).out)["refusals"][0]["asked"] == 65536


def test_hosts(run: Run, yard: Yard) -> None:
    yard.inner.behind_ms = 50 * HOUR
    host = yard.join()
    for _ in range(2):
        yard.submit(container=container(["true"], vcpus=0.75, memory="256M"))
    yard.do(host.take(2))
    assert run("hosts").out == golden("""
        HOST   STATE  VCPUS   MEMORY  GPUS  ATTEMPTS  RUNTIMES        HEARD
        alpha  READY  1.5/4  512M/8G     -         2  docker,process  2d 2h
    """)
    assert run("hosts", "alpha").out.splitlines()[:3] == [
        "Host       alpha",
        f"Id         {HOST_ID}",
        "State      READY",
    ]
    assert json.loads(run("hosts", "alpha", "-o", "json").out)["host"]["id"] == HOST_ID
    assert run("hosts", "beta").code == 3


def test_cordon_drain_uncordon(run: Run, yard: Yard) -> None:
    host = yard.join()
    yard.submit()
    yard.do(host.take())
    assert run("cordon", "alpha").err == "batchyard: alpha is CORDONED; attempts on it: 1\n"
    assert run("drain", "alpha").err == "batchyard: alpha is DRAINING; attempts on it: 1\n"
    assert run("uncordon", "alpha").err == "batchyard: alpha is READY; attempts on it: 1\n"
    assert json.loads(run("-o", "json", "cordon", "alpha").out)["state"] == "CORDONED"


def test_logs(run: Run, yard: Yard) -> None:
    job_id = yard.submit()
    waiting = run("logs", job_id)
    assert (waiting.code, waiting.err) == (
        3,
        f"batchyard: {job_id} has not started; `batchyard explain {job_id}` says why\n",
    )
    yard.do(yard.join().run(log=b"one\ntwo\nthree\n"))
    assert run("logs", job_id).out == "one\ntwo\nthree\n"
    assert run("logs", "--tail", "2", job_id).out == "two\nthree\n"
    assert run("logs", "-f", job_id).out == "one\ntwo\nthree\n"
    assert run("logs", "-f", "-n", "1", job_id).out == "three\n"
    missing = run("logs", "--attempt", "2", job_id)
    assert (missing.code, missing.err) == (3, f"batchyard: job {job_id} has no attempt 2; it has 1\n")


def test_an_array_has_no_log_but_its_children_have(run: Run, yard: Yard) -> None:
    job_id = yard.submit(array_size=2)
    host = yard.join()
    child = yard.do(host.take(2))[1]
    yard.do(host.end(child.attempt_id, log=b"child\n"))
    assert run("logs", job_id).code == 3
    assert run("logs", f"{job_id}:1").out == "child\n"


def test_queues(run: Run, yard: Yard) -> None:
    yard.inner.behind_ms = 50 * HOUR
    run("compute-environment", "create", "ce")
    assert run("queue", "create", "fast", "--priority", "9", "--compute-environment", "ce", "--tag", "a=b").err == (
        "batchyard: created queue fast (ENABLED, VALID, priority 9)\n"
    )
    assert run("queue", "list").out == golden("""
        NAME     STATE    STATUS  PRIORITY  WAITING  ACTIVE  SUCCEEDED  FAILED  ENVIRONMENTS
        default  ENABLED  VALID          0        0       0          0       0  default
        fast     ENABLED  VALID          9        0       0          0       0  ce
    """)
    (made,) = yard.client.describe_job_queues(["fast"])
    at = spans.moment(made.created_at_ms, now_ms()).partition(" (")[0]
    assert run("queue", "describe", "fast").out == golden(f"""
        Name            fast
        State           ENABLED
        Status          VALID
        Reason          JobQueue Healthy
        Priority        9
        Environments    ce
        Order           DUE_TIME
        Security level  PRIVILEGED
        Jobs            none
        Tags            a=b
        Created         {at} (2d 2h ago)
    """)
    wait = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT=10m"
    assert run("queue", "update", "fast", "--time-limit", wait).code == 0
    assert f"Time limits     {wait}\n" in run("queue", "describe", "fast").out
    assert run("queue", "update", "fast", "--priority", "8").code == 0
    assert wait in run("queue", "describe", "fast").out
    assert run("queue", "update", "fast", "--no-time-limits").code == 0
    assert "Time limits" not in run("queue", "describe", "fast").out
    assert run("queue", "create", "slow", "--time-limit", wait).code == 0
    assert wait in run("queue", "describe", "slow").out
    assert run("queue", "update", "slow", "--time-limit", wait, "--no-time-limits").code == 2
    assert (
        "'soon' is not a length of time such as 90s, 15m, 2h or 1d"
        in run("queue", "update", "fast", "--time-limit", "CAPACITY:X=soon").err
    )
    assert run("queue", "delete", "fast").code == 3
    assert run("queue", "update", "fast", "--state", "DISABLED").code == 0
    assert run("queue", "delete", "fast").err == "batchyard: deleted queue fast\n"
    missing = run("queue", "describe", "fast", "-o", "json")
    assert (missing.code, missing.out, missing.err) == (3, "[]\n", "batchyard: no such queue: fast\n")


def test_compute_environments(run: Run, yard: Yard) -> None:
    yard.inner.behind_ms = 50 * HOUR
    yard.join(host_type="m5.large", purchase_option="on-demand", labels={"rack": "4"})
    created = run(
        "compute-environment", "create", "ce", "--max-vcpus", "8", "--label", "rack=4", "--instance-type", "m5"
    )
    assert created.err == "batchyard: created compute environment ce (ENABLED, VALID)\n"
    assert run("compute-environment", "list").out == golden("""
        NAME     STATE    STATUS  TYPE         STRATEGY              MAX VCPUS  HOSTS
        ce       ENABLED  VALID   MANAGED EC2  BEST_FIT_PROGRESSIVE          8      1
        default  ENABLED  VALID   MANAGED EC2  BEST_FIT              unbounded      1
    """)
    assert run("compute-environment", "update", "ce", "--strategy", "BEST_FIT", "--state", "DISABLED").code == 0
    (made,) = yard.client.describe_compute_environments(["ce"])
    resources = made.compute_resources
    assert (resources.max_vcpus, list(resources.instance_types), dict(resources.labels)) == (8, ["m5"], {"rack": "4"})
    at = spans.moment(made.created_at_ms, now_ms()).partition(" (")[0]
    for i in range(11):
        yard.join(name=f"spot-{i}", host_id=HOST_ID[:-2] + f"{i + 50}", purchase_option="spot")
    yard.join(name="typed", host_id=OTHER_ID, host_type="c5.large", purchase_option="on-demand")
    assert run("compute-environment", "describe", "ce").out == golden(f"""
        Name            ce
        State           DISABLED
        Status          VALID
        Reason          ComputeEnvironment Healthy
        Type            MANAGED EC2
        Strategy        BEST_FIT
        vCPUs           min 0, desired 0, max 8
        Instance types  m5
        Labels          rack=4
        Hosts           alpha
        Not selected    spot-0, spot-1, spot-10, spot-2, spot-3, spot-4, spot-5, spot-6, spot-7, spot-8 and 1 more (it is spot); typed (its type is c5.large)
        Created         {at} (2d 2h ago)
    """)
    assert run("cordon", "alpha").code == 0
    assert "Hosts           alpha (is cordoned)\n" in run("compute-environment", "describe", "ce").out
    (shown,) = json.loads(run("compute-environment", "describe", "ce", "-o", "json").out)
    assert shown["host_ids"] == [HOST_ID]
    assert run("compute-environment", "create", "ce").code == 3
    assert run("compute-environment", "update", "nothing", "--max-vcpus", "1").code == 3
    assert run("compute-environment", "delete", "ce").code == 0


def test_compute_environments_that_scale(run: Run, yard: Yard) -> None:
    yard.inner.controller.provider.error = "no power"
    flags = "--provider hand --instance-type small --min-vcpus 1 --max-vcpus 8 --scale-down-delay 30s"
    assert run("compute-environment", "create", "burst", *flags.split()).code == 0
    shown = run("compute-environment", "describe", "burst").out
    assert "vCPUs           min 1, desired 1, max 8\n" in shown
    assert "Provider        hand, stops hosts that are idle for 30s\n" in shown
    until(lambda: "Last failure" in run("compute-environment", "describe", "burst").out, "the failure is shown")
    shown = run("compute-environment", "describe", "burst").out
    assert "Last failure    type small: it could not be launched: no power (" in shown
    assert "next try in " in shown
    assert "Scaling         0 running (0 vCPUs), 0 launching (0 vCPUs), " in shown
    changed = run("compute-environment", "update", "burst", "--max-vcpus", "16", "--scale-down-delay", "0s")
    assert changed.code == 0
    shown = run("compute-environment", "describe", "burst").out
    assert "max 16\n" in shown
    assert "stops hosts that are idle for 0s\n" in shown
    assert "Scaling " not in run("compute-environment", "describe", "default").out
    wrong = run("compute-environment", "create", "other", "--provider", "nobody", "--max-vcpus", "1")
    assert wrong.code == 3
    assert "compute_resources.provider: 'nobody' is not one of hand" in wrong.err


def test_job_definitions(run: Run) -> None:
    flags = "--image busybox:latest -c 2 -m 1G --env A=b --param epochs=1 --attempts 2 --timeout 60"
    assert run("job-definition", "register", "train", *flags.split(), "--", "train", "Ref::epochs").err == (
        "batchyard: registered job definition train:1\n"
    )
    assert run("job-definition", "register", "train", "-o", "name", "true").out == "train:2\n"
    rows = [line.split()[:2] for line in run("job-definition", "list").out.splitlines()]
    assert rows == [["DEFINITION", "STATUS"], ["train:2", "ACTIVE"], ["train:1", "ACTIVE"]]
    assert run("job-definition", "deregister", "train:1").code == 0
    assert run("job-definition", "list", "--status", "active", "-o", "name").out == "train:2\n"
    assert run("job-definition", "describe", "train:1").out.splitlines()[:5] == [
        "Definition   train:1",
        "Status       INACTIVE",
        "Image        busybox:latest",
        "Command      train Ref::epochs",
        "Asks for     2 vCPU, 1G memory",
    ]
    assert [row["revision"] for row in json.loads(run("job-definition", "describe", "train", "-o", "json").out)] == [
        2,
        1,
    ]
    assert run("job-definition", "describe", "train", "nothing").code == 3


def test_a_definition_may_come_from_a_file(run: Run, yard: Yard, tmp_path: Path) -> None:
    file = tmp_path / "container.json"
    file.write_text('{"image": "a:1", "command": ["x"], "resources": {"memory_mib": 64}, "privileged": true}')
    assert run("job-definition", "register", "d", "--file", str(file), "--image", "b:2").code == 0
    (made,) = yard.client.describe_job_definitions(["d"])
    what = made.container
    assert (what.image, list(what.command), what.privileged) == ("b:2", ["x"], True)
    assert (what.resources.cpu_millis, what.resources.memory_mib) == (1000, 64)
    file.write_text('{"nothing": 1}')
    wrong = run("job-definition", "register", "d", "--file", str(file))
    assert wrong.code == 2
    assert "is no ContainerProperties" in wrong.err


@pytest.mark.parametrize("written", [b"\xff", b"[" * 100_000, b"{}}"], ids=["no text", "deep", "no JSON"])
def test_a_file_that_is_no_definition_is_wrong_usage(run: Run, tmp_path: Path, written: bytes) -> None:
    (tmp_path / "container.json").write_bytes(written)
    answer = run("job-definition", "register", "train", "--file", str(tmp_path / "container.json"))
    assert answer.code == 2
    assert "--file is no ContainerProperties: " in answer.err


def in_terminal(*arguments: str) -> str:
    """Run the command on a terminal of 100 columns and return what it wrote there."""
    here, there = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    command = [sys.executable, "-m", "batchyard", *arguments]
    settings = {**env, "TERM": "xterm-256color", "COLUMNS": "100"}
    written = b""
    with running(command, stdout=there, stderr=there, stdin=there, env=settings) as process:
        os.close(there)
        try:
            while data := os.read(here, 4096):
                written += data
        except OSError:  # a terminal whose other side is closed
            pass
        finally:
            os.close(here)
        assert process.wait(timeout=100) == 0
    return written.decode()


def test_states_are_coloured_on_a_terminal_and_ids_are_not_cut(yard: Yard) -> None:
    job_id = yard.submit(name="a" * 100)
    written = in_terminal("--address", yard.address, "jobs")
    assert "\x1b[33mRUNNABLE" in written
    assert f"\n{job_id[:13]}  " in written
    assert "\N{HORIZONTAL ELLIPSIS}" in written
    assert "\x1b" not in in_terminal("--address", yard.address, "jobs", "-o", "json")


def test_waiting_on_a_terminal_shows_the_state_and_ends_with_the_outcome(yard: Yard) -> None:
    job_id = yard.submit()
    running = yard.once_watched(lambda host: host.run())
    written = in_terminal("--address", yard.address, "wait", job_id)
    running.result()
    assert "\x1b[?25l" in written  # the cursor is hidden while the status line turns
    assert f" {job_id}: " in written
    assert written.splitlines()[-1].endswith(f"batchyard: {job_id} SUCCEEDED (exit code 0)")


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0s"), (0, "0s"), (49, "0s"), (50, "0.1s"), (999, "1.0s"), (1000, "1s"), (61_000, "1m 1s"), (3_600_000, "1h"),
     (3_601_000, "1h"), (93_784_000, "1d 2h"), (864_000_000, "10d")],
)  # fmt: skip
def test_spans(ms: int, text: str) -> None:
    assert spans.span(ms) == text


@pytest.mark.parametrize(("mib", "text"), [(0, "0M"), (512, "512M"), (1024, "1G"), (1536, "1.5G"), (2 << 20, "2T")])
def test_sizes(mib: int, text: str) -> None:
    assert spans.mib(mib) == text


def test_a_tally_is_silent_until_all_are_known() -> None:
    tally = Tally(watched=frozenset({"a", "b"}))
    tally.see(pb.JobEvent(job=pb.JobSummary(id="a", state=pb.JOB_STATE_RUNNING)))
    assert tally.line() == ""
    tally.see(pb.JobEvent(job=pb.JobSummary(id="b", state=pb.JOB_STATE_SUCCEEDED)))
    assert tally.line() == "1 SUCCEEDED, 1 RUNNING"
    assert tally.bar(6) == "\N{BOX DRAWINGS HEAVY HORIZONTAL}" * 3 + "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3 + " 1/2"


def test_a_tally_counts_the_children_of_an_array() -> None:
    """It starts from the array's own counts and goes on with each child's move."""
    states = {"RUNNABLE": pb.JOB_STATE_RUNNABLE, "RUNNING": pb.JOB_STATE_RUNNING, "FAILED": pb.JOB_STATE_FAILED}
    array = pb.JobSummary(
        id="a", state=pb.JOB_STATE_PENDING, array=pb.ArrayProperties(size=3, status_summary={"RUNNABLE": 3})
    )
    tally = Tally(watched=frozenset({"a"}))
    tally.see(pb.JobEvent(job=array))
    lines = [tally.line()]
    for index, before, after in ((0, "RUNNABLE", "RUNNING"), (1, "RUNNABLE", "RUNNING"), (0, "RUNNING", "FAILED")):
        child = pb.JobSummary(id=f"a:{index}", state=states[after])
        tally.see(pb.JobEvent(job=child, previous_state=states[before]))
        lines.append(tally.line())
    assert lines == [
        "3 RUNNABLE",
        "1 RUNNING, 2 RUNNABLE",
        "2 RUNNING, 1 RUNNABLE",
        "1 FAILED, 1 RUNNING, 1 RUNNABLE",
    ]
    assert tally.bar(6).endswith("\N{BOX DRAWINGS LIGHT HORIZONTAL} 1/3")


def test_a_single_job_has_no_bar() -> None:
    tally = Tally(watched=frozenset({"a"}))
    tally.see(pb.JobEvent(job=pb.JobSummary(id="a", state=pb.JOB_STATE_RUNNING)))
    assert (tally.line(), tally.bar(20)) == ("RUNNING", "")


def test_a_watched_list_is_shown_again_until_it_is_interrupted(yard: Yard) -> None:
    yard.submit(name="first")
    here, there = pty.openpty()
    command = [sys.executable, "-m", "batchyard", "--address", yard.address, "jobs", "--watch"]
    with running(command, stdout=there, stderr=there, stdin=there, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(there)
        written = b""
        while b"first" not in written:
            written += os.read(here, 4096)
        yard.submit(name="second")
        while b"second" not in written:
            written += os.read(here, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=100) == 130
    os.close(here)
    assert written.count(b"\x1b[2J") >= 2


def test_nothing_but_tables_is_watched(run: Run) -> None:
    answer = run("jobs", "--watch", "-o", "json")
    assert (answer.code, "--watch is for a person: it cannot write json" in answer.err) == (2, True)
