"""``submit``: what becomes of it, what is written, and the exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from tests.cli.conftest import Run
from tests.processes import running
from tests.sdk.host import Host
from tests.sdk.yard import Yard

from batchyard import JobState, container, job_state
from batchyard.cli.progress import Progress
from batchyard.cli.submit import derived_name
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.attempt_pb2 import END_CAUSE_START_FAILED


def started(*arguments: str, **environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run the command line in a process of its own, which ends with the block at the latest."""
    command = [sys.executable, "-m", "batchyard", *arguments]
    return running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment)


def only_job(yard: Yard) -> pb.Job:
    """Return the one job that there is."""
    (job,) = yard.client.list_jobs()
    return yard.client.describe_job(job.id)


def test_submit_writes_the_id_and_nothing_else(run: Run, yard: Yard) -> None:
    result = run("submit", "--", "echo", "hello")
    assert (result.code, result.out, result.err) == (0, f"{only_job(yard).id}\n", "")


def test_defaults_of_a_submit(run: Run, yard: Yard) -> None:
    run("submit", "/usr/bin/env", "-i", "true")
    job = only_job(yard)
    assert (job.name, job.queue, list(job.container.command)) == ("env", "default", ["/usr/bin/env", "-i", "true"])
    resources = job.container.resources
    assert (resources.cpu_millis, resources.memory_mib, resources.gpu_millis) == (1000, 256, 0)
    assert job.container.image == ""


def test_every_flag_reaches_the_job(run: Run, yard: Yard) -> None:
    yard.client.create_job_queue("fast")
    first, array, last = yard.submit(), yard.submit(array_size=20), yard.submit()
    flags = (
        "-q fast --name n --image busybox:latest -c 0.5 -m 4G -g 0.25 --disk 10G --array 20 --attempts 3 --timeout 60"
    )
    more = "--env A=b=c --env E= --param p=1 --tag t=u --request-id r"
    depends = f"--depends-on {first} --depends-on {array},n_to_n --depends-on sequential --depends-on {last},after_any"
    retries = ["--infrastructure-retries", "5", "--spot-attempts", "2", "--on-exit", "exit:exit-code=4*,reason=Out*"]
    retries += ["--on-exit", "RETRY:status-reason=Host EC2*", "--concurrency", "4"]
    arguments = ["submit", *flags.split(), *more.split(), *depends.split(), *retries, "--", "run", "--wait"]
    result = run(*arguments)
    unused = "batchyard: parameter p is used nowhere: the command has no Ref::p\n"
    assert (result.code, result.err) == (0, unused)
    job = yard.client.describe_job(result.out.strip())
    described = MessageToDict(job, preserving_proto_field_name=True)
    for told_by_the_controller in ("id", "state", "created_at_ms", "waiting_reason"):
        del described[told_by_the_controller]
    del described["array"]["status_summary"], described["array"]["status_summary_updated_at_ms"]
    assert described == {
        "name": "n",
        "queue": "fast",
        "container": {
            "image": "busybox:latest",
            "command": ["run", "--wait"],
            "environment": {"A": "b=c", "E": ""},
            "resources": {"cpu_millis": "500", "memory_mib": "4096", "gpu_millis": "250", "disk_mib": "10240"},
        },
        "parameters": {"p": "1"},
        "array": {"size": "20", "concurrency": "4"},
        "depends_on": [
            {"job_id": first},
            {"job_id": array, "type": "DEPENDENCY_TYPE_N_TO_N"},
            {"type": "DEPENDENCY_TYPE_SEQUENTIAL"},
            {"job_id": last, "type": "DEPENDENCY_TYPE_AFTER_ANY"},
        ],
        "retry_strategy": {
            "attempts": 3,
            "evaluate_on_exit": [
                {"action": "EVALUATE_ON_EXIT_ACTION_EXIT", "on_exit_code": "4*", "on_reason": "Out*"},
                {"action": "EVALUATE_ON_EXIT_ACTION_RETRY", "on_status_reason": "Host EC2*"},
            ],
            "infrastructure_retries": 5,
            "spot_attempts": 2,
        },
        "timeout_s": "60",
        "tags": {"t": "u"},
    }
    assert run(*arguments) == result, "of one request id there is one job"


def test_flags_of_a_fair_share_are_sent(run: Run) -> None:
    """No queue has a policy yet, so the controller refuses both, by name."""
    result = run("submit", "--share", "s", "--priority", "7", "true")
    assert result.code == 3
    assert [line.split(":")[0].strip() for line in result.err.splitlines()] == [
        "batchyard",
        "share_identifier",
        "scheduling_priority",
    ]


def test_with_a_definition_flags_become_overrides(run: Run, yard: Yard) -> None:
    for command in ("one", "two", "three"):
        yard.client.register_job_definition(
            "train", container=container([command], memory="1G", environment={"C": "d"})
        )
    assert run("submit", "-d", "train:2", "-c", "2", "--env", "A=b", "--", "other").code == 0
    job = only_job(yard)
    assert (job.name, job.job_definition, list(job.container.command)) == ("train", "train:2", ["other"])
    assert (job.container.resources.cpu_millis, job.container.resources.memory_mib) == (2000, 1024)
    assert dict(job.container.environment) == {"A": "b", "C": "d"}


def test_the_queue_comes_from_the_environment(run: Run, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.client.create_job_queue("fast")
    monkeypatch.setenv("BATCHYARD_QUEUE", "fast")
    assert run("submit", "true").code == 0
    assert run("submit", "-q", "default", "true").code == 0
    assert [job.queue for job in yard.client.list_jobs()] == ["default", "fast"]


def test_submit_as_json_is_one_object(run: Run, yard: Yard) -> None:
    result = run("-o", "json", "submit", "--name", "n", "true")
    assert json.loads(result.out) == {"job_id": only_job(yard).id, "name": "n"}


@pytest.mark.parametrize(
    ("command", "definition", "name"),
    [
        (("echo", "x"), "", "echo"),
        (("/opt/my tool.sh",), "", "my-tool-sh"),
        (("./_x",), "", "x"),
        (("é",), "", "job"),
        (("/",), "", "job"),
        (("",), "", "job"),
        (("a" * 200,), "", "a" * 128),
        ((), "train:3", "train"),
        (("sh",), "train", "train"),
    ],
)
def test_a_name_is_made_from_what_runs(command: tuple[str, ...], definition: str, name: str) -> None:
    assert derived_name(command, definition) == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit"], "say what to run"),
        (["submit", "--"], "say what to run"),
        (["submit", "-d", "train", "--image", "x", "true"], "--image cannot be given with --definition"),
        (["submit", "--follow", "--array", "2", "true"], "--follow cannot be given with --array"),
        (["submit", "-c", "two", "true"], "'two' is not a number"),
        (["submit", "-c", "0.0001", "true"], "'0.0001' is not a multiple of 0.001"),
        (["submit", "-c", "1e999999999", "true"], "Invalid value for '-c' / '--vcpus'"),
        (["submit", "-m", "-1", "true"], "'-1' is not a size"),
        (["submit", "--env", "A", "true"], "'A' is not KEY=VALUE"),
        (["submit", "--env", "=A", "true"], "'=A' is not KEY=VALUE"),
        (["submit", "--array", "x", "true"], "'x' is no number, and no range"),
        (["submit", "--array", "0", "true"], "--array 0: an array has at least 2 children"),
        (["submit", "--attempts", "0", "true"], "0 is not in the range x>=1"),
        (["submit", "--nothing", "true"], "No such option"),
        (["nothing"], "No such command"),
        (["jobs", "--state", "DONE"], "'DONE' is not one of"),
        (["jobs", "-o", "xml"], "'xml' is not one of"),
        (["wait"], "Missing argument"),
        (["wait", "--timeout", "0", "last"], "Invalid value for '--timeout': '0' is not longer than 0s"),
        (["wait", "--timeout", "0m 0s", "last"], "Invalid value for '--timeout': '0m 0s' is not longer than 0s"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_wrong_usage_exits_2(run: Run, yard: Yard, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert list(yard.client.list_jobs()) == []


BAD_NAME = "name: Job name should match valid pattern: 'a b' may hold only letters, digits, '-' and '_'"


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["submit", "-q", "nowhere", "true"], ["batchyard: JobQueue nowhere not found."]),
        (["submit", "--name", "a b", "true"], [f"batchyard: {BAD_NAME}"]),
        (
            ["submit", "--name", "a b", "-m", "3M", "x"],
            [
                "batchyard: 2 rules are broken",
                f"  {BAD_NAME}",
                "  container.resources.memory_mib: 3 MiB is not between 4 and 1073741824",
            ],
        ),
        (
            ["submit", "-c", "1" + "0" * 18, "x"],
            [f"batchyard: container.vcpus: must be from {-(1 << 63)} to {(1 << 63) - 1}"],
        ),
        (
            ["submit", "--depends-on", "j,twice", "x"],
            ["batchyard: depends_on: must be one of N_TO_N, SEQUENTIAL, AFTER_ANY, AFTER_FAILURE, not 'twice'"],
        ),
        (
            ["submit", "--on-exit", "EXIT:code=4", "x"],
            ["batchyard: on_exit: 'code=4' is not KIND=PATTERN, with a kind of exit-code, reason, status-reason"],
        ),
        (["submit", "\udcff"], [r"batchyard: container.command[0]: is not valid UTF-8: '\udcff'"]),
    ],
)
def test_a_refusal_exits_3_with_a_line_for_each_rule(run: Run, arguments: list[str], lines: list[str]) -> None:
    result = run(*arguments)
    assert (result.code, result.out, result.err.splitlines()) == (3, "", lines)


def test_a_disabled_queue_is_refused(run: Run) -> None:
    assert run("queue", "update", "default", "--state", "DISABLED").code == 0
    result = run("submit", "true")
    assert (result.code, result.err) == (3, "batchyard: JobQueue default is DISABLED and takes no new jobs\n")


def test_an_unreachable_controller_exits_4(yard: Yard, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHYARD_RETRY_S", "0.3")
    yard.stop()
    jobs, submitted = run("jobs"), run("submit", "true")
    assert (jobs.code, submitted.code) == (4, 4)
    assert jobs.err.startswith(f"batchyard: cannot reach the controller at {yard.address} (")
    assert submitted.err.splitlines()[0].endswith("; trying again")


def test_a_controller_that_does_not_answer_exits_124(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHYARD_TIMEOUT_S", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert run("--address", f"127.0.0.1:{silent.getsockname()[1]}", "jobs").code == 124


def test_a_controller_that_fails_exits_5(yard: Yard, run: Run) -> None:
    yard.wire.lose("ListJobs", grpc.StatusCode.INTERNAL, times=2)
    result = run("jobs")
    assert (result.code, result.err) == (5, "batchyard: the answer to ListJobs is lost\n")
    assert "Traceback" in run("--debug", "jobs").err


def test_broken_settings_exit_2(run: Run, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.toml").write_text("[client]\nadress = 'x'\n")
    monkeypatch.setenv("BATCHYARD_CONFIG", str(tmp_path / "c.toml"))
    result = run("jobs")
    assert result.code == 2
    assert "client.adress: no such key" in result.err


def test_a_broken_address_exits_2(run: Run) -> None:
    result = run("--address", "a:b", "jobs")
    assert result.code == 2
    assert "must be host:port or unix:/path, not 'a:b'" in result.err


@pytest.mark.parametrize(("exit_code", "code"), [(0, 0), (7, 7), (137, 137), (-9, 255), (256, 255)])
def test_submit_wait_exits_as_the_job(run: Run, exit_code: int, code: int) -> None:
    result = run("submit", "--wait", "--", "sh", "-c", f"exit {exit_code}", meanwhile=lambda host: host.run(exit_code))
    assert result.code == code
    (job_id,) = result.out.splitlines()
    steps = [line.removeprefix(f"batchyard: {job_id}: ") for line in result.err.splitlines()]
    assert steps[:3] == ["RUNNABLE", "STARTING", "RUNNING"]
    state, reason = ("FAILED", ", Essential container in task exited") if code else ("SUCCEEDED", "")
    assert steps[-1] == f"batchyard: {job_id} {state} (exit code {code}{reason})"


def test_a_job_that_failed_without_an_exit_code_exits_1(run: Run) -> None:
    result = run("submit", "--wait", "true", meanwhile=lambda host: host.refuse("no such image"))
    assert result.code == 1
    assert result.err.endswith("FAILED (no such image)\n")


@pytest.mark.parametrize(("codes", "expected"), [([0, 0, 0], 0), ([0, 3, 9], 9), ([0, None, 0], 1), ([2, None, 0], 2)])
def test_an_array_exits_as_its_worst_child(run: Run, codes: list[int | None], expected: int) -> None:
    async def end(host: Host) -> None:
        for spec, code in zip(await host.take(3), codes, strict=True):
            if code is None:
                await host.end(spec.attempt_id, None, cause=END_CAUSE_START_FAILED)
            else:
                await host.end(spec.attempt_id, code)

    result = run("submit", "--wait", "--array", "3", "true", meanwhile=end)
    assert result.code == expected


def test_an_array_shows_how_many_children_are_where(run: Run) -> None:
    async def end(host: Host) -> None:
        for spec, code in zip(await host.take(2), (0, 2), strict=True):
            await host.end(spec.attempt_id, code)

    result = run("submit", "--wait", "--array", "2", "true", meanwhile=end)
    job_id = result.out.strip()
    first, *_, last = result.err.splitlines()
    assert first == f"batchyard: {job_id}: 2 RUNNABLE"
    why = "1 of 2 children failed, the first 1: Essential container in task exited, exit code 2"
    assert last == f"batchyard: {job_id} FAILED (1 FAILED, 1 SUCCEEDED, {why})"


def test_follow_writes_the_logs_of_all_attempts(run: Run) -> None:
    async def run_twice(host: Host) -> None:
        await host.run(1, log=b"first try\n")
        await host.run(4, log=b"second try\n")

    result = run("submit", "--follow", "--attempts", "2", "true", meanwhile=run_twice)
    job_id, *log = result.out.splitlines()
    assert (result.code, log) == (4, ["first try", "second try"])
    assert result.err == f"batchyard: {job_id} FAILED (exit code 4, Essential container in task exited)\n"


def test_follow_goes_on_without_a_log(run: Run) -> None:
    """An attempt that never ran (no such image) has no log; the job's end still counts."""
    result = run("submit", "--follow", "true", meanwhile=lambda host: host.refuse("no such image"))
    assert result.code == 1
    assert f"log of {result.out.strip()}#1: no such log" in result.err


def test_wait_gives_the_highest_exit_code(run: Run, yard: Yard) -> None:
    made = [yard.submit() for _ in range(3)]
    host, codes = yard.join(), dict(zip(made, (2, 5, 0), strict=True))
    for spec in yard.do(host.take(3)):
        yard.do(host.end(spec.attempt_id, codes[spec.job_id]))
    result = run("wait", *made)
    assert (result.code, result.out) == (5, "")
    assert run("wait", made[2]).code == 0
    assert [job["id"] for job in json.loads(run("wait", "-o", "json", *made).out)] == made


def test_wait_goes_on_over_a_restart_and_says_so_once(yard: Yard) -> None:
    """Nothing but our own lines is on stderr, whatever gRPC thinks of a server that goes away."""
    job_id = yard.submit()
    with started("--address", yard.address, "wait", job_id) as process:
        yard.do(yard.wire.until_sent("WatchJobs"))
        yard.stop()
        yard.start()
        yard.do(yard.join().run(6))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 6
    steps = [line.removeprefix("batchyard: ") for line in err.splitlines()]
    assert steps[0] == f"{job_id}: RUNNABLE"
    assert steps[-1] == f"{job_id} FAILED (exit code 6, Essential container in task exited)"
    assert len([step for step in steps if step.endswith("; trying again")]) == 1
    assert all(line.startswith("batchyard: ") for line in err.splitlines())


def test_wait_gives_up_with_124(run: Run, yard: Yard) -> None:
    assert run("wait", "--timeout", "0.2", yard.submit()).code == 124


def test_wait_for_an_unknown_job_exits_3(run: Run) -> None:
    result = run("wait", "nothing")
    assert (result.code, result.err) == (3, "batchyard: no such job: nothing\n")


def test_a_change_that_comes_after_the_waiting_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The client's thread may be about to tell one while an interrupt is answered."""
    event = pb.JobEvent(job=pb.JobSummary(id="j", state=pb.JOB_STATE_RUNNABLE))
    with Progress(["j"]) as shown:
        shown.on_event(event)
    event.job.state = pb.JOB_STATE_RUNNING
    shown.on_event(event)
    assert capsys.readouterr().err == "batchyard: j: RUNNABLE\n"


def test_an_interrupt_leaves_the_job_running(yard: Yard) -> None:
    with started("--address", yard.address, "submit", "--wait", "--", "sleep", "9", PYTHONWARNINGS="error") as process:
        yard.do(yard.wire.until_sent("WatchJobs"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    job_id = out.strip()
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"batchyard: the job goes on; stop it with: batchyard terminate {job_id}"
    assert "Traceback" not in err
    assert job_state(yard.client.describe_job(job_id)) is JobState.RUNNABLE


def test_logs_are_the_jobs_bytes(yard: Yard) -> None:
    job_id = yard.submit()
    yard.do(yard.join().run(log=b"\xff\x00\r\n"))
    command = [sys.executable, "-m", "batchyard", "--address", yard.address, "logs", job_id]
    assert subprocess.run(command, capture_output=True, check=True, timeout=60).stdout == b"\xff\x00\r\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(yard: Yard, unbuffered: str) -> None:
    """``batchyard logs JOB | head -1`` ends without a word."""
    job_id = yard.submit()
    yard.do(yard.join().run(log=b"line\n" * 200_000))
    command = f"{sys.executable} -m batchyard --address {yard.address} logs {job_id} | head -1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert (result.returncode, result.stdout, result.stderr) == (1, "line\n", "")


def test_variables_come_from_files_from_here_and_from_flags(
    run: Run, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_HERE", "taken along")
    file = tmp_path / "job.env"
    file.write_text("# of the training\n\nEPOCHS=5\nMODEL=a = b\nFROM_HERE\n")
    made = run("submit", "--env-file", str(file), "--env", "EPOCHS=6", "--env", "FROM_HERE", "--", "x")
    job = yard.client.describe_job(made.out.strip())
    assert dict(job.container.environment) == {"EPOCHS": "6", "MODEL": "a = b", "FROM_HERE": "taken along"}
    file.write_text("EPOCHS=5\nNOT_SET_HERE\n")
    wrong = run("submit", "--env-file", str(file), "--", "x")
    assert (wrong.code, wrong.out) == (2, "")
    assert f"--env-file {file}, line 2: 'NOT_SET_HERE' is not KEY=VALUE, and not set here" in wrong.err


def test_a_process_starts_where_it_is_told(
    run: Run, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, folder in ((".", tmp_path), ("a/../b", tmp_path / "b"), ("/data", Path("/data"))):
        made = run("submit", "--cwd", given, "--", "x")
        assert yard.client.describe_job(made.out.strip()).container.working_directory == str(folder)
    refused = run("submit", "--definition", "d", "--cwd", ".")
    assert "--cwd cannot be given with --definition: only the definition can say it" in refused.err


def test_a_process_starts_here_unless_it_is_told_where(
    run: Run, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = yard.client.describe_job(run("submit", "--", "x").out.strip()).container
    assert (here.working_directory, here.working_directory_optional) == (str(tmp_path), True)
    there = yard.client.describe_job(run("submit", "--cwd", "/data", "--", "x").out.strip()).container
    assert (there.working_directory, there.working_directory_optional) == ("/data", False)
    image = yard.client.describe_job(run("submit", "--image", "busybox", "--", "x").out.strip()).container
    assert (image.working_directory, image.working_directory_optional) == ("", False)


def test_what_a_process_reads_and_where_its_log_is_copied(
    run: Run, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(b"\0one\n")
    made = run("submit", "--stdin", str(tmp_path / "in"), "--log-file", "logs/%x-%j.out", "--", "cat")
    container = yard.client.describe_job(made.out.strip()).container
    assert (container.stdin, container.output_path) == (b"\0one\n", "logs/%x-%j.out")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    piped = run("submit", "--stdin", "-", "--", "cat")
    assert yard.client.describe_job(piped.out.strip()).container.stdin == b"piped"
    (tmp_path / "in").write_bytes(b"x" * 65537)
    refused = run("submit", "--stdin", str(tmp_path / "in"), "--", "cat")
    assert (refused.code, refused.out) == (3, "")
    assert "container.stdin: 65537 bytes; at most 65536 are allowed" in refused.err
    image = run("submit", "--image", "busybox", "--log-file", "%q", "--", "cat")
    assert "container.output_path: '%q' is not one of %a, %j, %n, %N, %t, %x, %%" in image.err
    assert "only the definition can say it" in run("submit", "--definition", "d", "--stdin", "-").err
