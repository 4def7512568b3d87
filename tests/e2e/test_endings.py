"""How attempts end on real runtimes: by themselves, by their limits, on request, or before they began."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.agent.runtimes.docker_registry import Registry
from tests.agent.runtimes.engine import ensure_image
from tests.conftest import why_missing
from tests.e2e.conftest import OpenYard
from tests.e2e.programs import until
from tests.e2e.yard import Yard

from batchyard import Client, JobState, container, job_state
from batchyard.v1 import attempt_pb2
from batchyard.v1.job_pb2 import Job

pytestmark = pytest.mark.timeout(180)

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
TIMED_OUT = "Job attempt duration exceeded timeout"
GRACE_S = 30
END_LIMIT_S = 120.0

RUNTIMES = [pytest.param("process"), pytest.param("docker", marks=pytest.mark.docker)]


def image_for(runtime: str) -> str:
    return ensure_image() if runtime == "docker" else ""


def run(client: Client, *command: str, image: str = "", memory: int = 32, timeout_s: int = 0) -> Job:
    """Submit a job, wait for its end and return it."""
    what = container(command, image=image, memory=memory)
    answer = client.submit_job(name="job", container=what, timeout_s=timeout_s)
    return client.wait(answer.job_id, timeout_s=END_LIMIT_S)


def ending(job: Job) -> tuple[str, int | None, str, str]:
    """Return how a job's only attempt ended: state, exit code, runtime's word, status reason."""
    (attempt,) = job.attempts
    code = attempt.exit_code if attempt.HasField("exit_code") else None
    return job_state(job).value, code, attempt.reason, job.status_reason


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_takes_too_much_memory_is_killed(yard: Yard, runtime: str) -> None:
    """137, and AWS's reason to the letter; a neighbour that keeps within its own limit goes on."""
    image = image_for(runtime)
    # One line without an end, which tail keeps in memory: far more than 32 MiB, far less than the host has.
    # It keeps it long enough to be seen where there is no cgroup and memory is looked at twice a second.
    glutton = ["sh", "-c", "(head -c 300000000 /dev/zero; sleep 5) | tail -n 1 >/dev/null"]
    yard.start("a", runtimes=runtime)
    with yard.client() as client:
        neighbour = client.submit_job(name="neighbour", container=container(["sleep", "600"], image=image, memory=32))
        assert ending(run(client, *glutton, image=image)) == (
            JobState.FAILED.value, 137, OUT_OF_MEMORY, "Essential container in task exited",
        )  # fmt: skip
        assert job_state(client.describe_job(neighbour.job_id)) is JobState.RUNNING


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_killed_child_does_not_hide_the_jobs_own_exit_code(yard: Yard, runtime: str) -> None:
    """Whether it then fails with a code of its own or gets along without that child."""
    # It takes memory alone. Of a pipe both ends do, and where the second asks before what the first
    # had is counted back, the kernel kills another: the shell, whose exit code is 137 then.
    child = "(x=x; while [ ${#x} -lt 200000000 ]; do x=$x$x; done; sleep 5)"
    yard.start("a", runtimes=runtime)
    with yard.client() as client:
        image = image_for(runtime)
        assert ending(run(client, "sh", "-c", f"{child}; exit 5", image=image)) == (
            JobState.FAILED.value, 5, OUT_OF_MEMORY, "Essential container in task exited",
        )  # fmt: skip
        survivor = ending(run(client, "sh", "-c", f"{child}; exit 0", image=image))
        assert survivor[:2] == (JobState.SUCCEEDED.value, 0)
        assert survivor[2].startswith("OutOfMemoryError: a process of the job was killed")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_cause_in_the_last_line_of_a_long_log_is_kept(yard: Yard, runtime: str) -> None:
    """As is the beginning; the log of another job is untouched."""
    yard.start("a", runtimes=runtime)
    with yard.client() as client:
        image = image_for(runtime)
        other = run(client, "echo", "of another job", image=image)
        line = "chatter" * 100
        script = f"echo begun; yes {line} | head -c 40000000; echo; echo ERROR: cause; exit 4"
        job = run(client, "sh", "-c", script, image=image)
        assert b"".join(client.read_logs(job.id, tail_lines=1)) == b"ERROR: cause\n"
        whole = b"".join(client.read_logs(job.id))
        assert whole.startswith(b"begun\nchatter")
        assert len(whole) < 11 << 20
        assert b"".join(client.read_logs(other.id)) == b"of another job\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_job_that_runs_too_long_is_ended(yard: Yard, runtime: str) -> None:
    """By SIGTERM, to which it may listen, with AWS's status reason; its last words are in the log."""
    yard.start("a", runtimes=runtime)
    # Not a child in the foreground: the shell would tell of its end, which is the whole group's.
    script = "trap 'echo going; exit 9' TERM; echo here; sleep 600 & wait"
    with yard.client() as client:
        job = run(client, "sh", "-c", script, image=image_for(runtime), timeout_s=2)
        state, code, _, reason = ending(job)
        assert (state, code, reason) == (JobState.FAILED.value, 9, TIMED_OUT)
        assert b"".join(client.read_logs(job.id)) == b"here\ngoing\n"


def test_jobs_that_ignore_their_termination_are_killed(yard: Yard) -> None:
    """SIGKILL comes 30 s after SIGTERM, also when the agent was killed in between; on all runtimes of this machine."""
    runtimes = ["process"] if why_missing("docker") else ["process", "docker"]
    yard.start("a", runtimes=",".join(runtimes))
    script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    with yard.client() as client:
        whats = [container(["sh", "-c", script], image=image_for(runtime), memory=32) for runtime in runtimes]
        ids = [client.submit_job(name="deaf", container=what).job_id for what in whats]
        until(lambda: {job_state(job) for job in client.describe_jobs(ids)} == {JobState.RUNNING}, "they run")
        until(lambda: {b"".join(client.read_logs(job_id)) for job_id in ids} == {b"deaf\n"}, "their traps are set")
        for job_id in ids:
            client.terminate_job(job_id, "no longer wanted")
        until(lambda: stops_begun(yard) == len(ids), "the agent has sent SIGTERM")
        yard.agents["a"].kill()
        yard.agents["a"].start()
        for job in client.wait_all(ids, timeout_s=END_LIMIT_S):
            state, code, _, reason = ending(job)
            assert (state, code, reason) == (JobState.FAILED.value, 137, "no longer wanted")
            ran_s = (job.stopped_at_ms - job.started_at_ms) / 1000
            assert GRACE_S <= ran_s < GRACE_S + 15


def stops_begun(yard: Yard) -> int:
    """Return how many attempts the agent's journal has on their way from SIGTERM to SIGKILL."""
    with yard.journal("a") as journal:
        return int(journal.execute("SELECT count(*) FROM attempts WHERE stop_kill_at_ms IS NOT NULL").fetchone()[0])


def test_a_command_that_is_not_there_as_a_process(yard: Yard, tmp_path: Path) -> None:
    """127 for one that is missing, 126 for one that may not be called, each with its name."""
    plain = tmp_path / "not-executable"
    plain.write_text("echo never\n")
    yard.start("a")
    with yard.client() as client:
        assert ending(run(client, "no-such-command", "--flag")) == (
            JobState.FAILED.value, 127,
            'CannotStartContainerError: exec: "no-such-command": executable file not found in $PATH',
            "Task failed to start",
        )  # fmt: skip
        assert ending(run(client, str(plain))) == (
            JobState.FAILED.value, 126,
            f'CannotStartContainerError: exec: "{plain}": permission denied',
            "Task failed to start",
        )  # fmt: skip


@pytest.mark.docker
def test_a_command_or_an_image_that_is_not_there_in_docker(yard: Yard) -> None:
    """127 for a missing command; no exit code for a missing image, and the reason tells which it is."""
    image = ensure_image()
    yard.start("a", runtimes="docker")
    with yard.client() as client, closing(Registry(b"")) as registry:
        missing = registry.image.replace("box:latest", "no-such-image:1")
        state, code, word, reason = ending(run(client, "no-such-command", image=image))
        assert (state, code, reason) == (JobState.FAILED.value, 127, "Task failed to start")
        assert word.startswith("CannotStartContainerError: ")
        assert "no-such-command" in word
        state, code, word, reason = ending(run(client, "true", image=missing))
        assert (state, code, reason) == (JobState.FAILED.value, None, "Task failed to start")
        assert word.startswith("CannotPullContainerError: ")
        assert "manifest unknown" in word
        until(lambda: not yard.kept_containers("a"), "no container is kept")


def test_a_job_no_host_can_run_waits_and_says_why(yards: OpenYard) -> None:
    """An image on a host without an engine: it waits, with the reason; cancelled, it ends without an attempt."""
    yard = yards()
    yard.start("a", runtimes="process")
    with yard.client() as client:
        job_id = client.submit_job(name="job", container=container(["true"], image="busybox:latest")).job_id
        answer = client.explain_job(job_id)
        assert "docker" in answer.summary
        assert answer.eligible_hosts == 0
        client.cancel_job(job_id, "not here")
        job = client.wait(job_id, timeout_s=10)
        assert (job_state(job), job.status_reason, len(job.attempts)) == (JobState.FAILED, "not here", 0)


USES = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; head -c 60000000 /dev/zero | tail -c 60000000 >/dev/null; sleep 2"
"""Sixty million bytes at once, some tenths of a second of a processor, and time to look at what was used."""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_attempts_used_is_told_and_kept(yard: Yard, runtime: str) -> None:
    """Of jobs and of children, also by a controller that was started again; most of it is memory and user time."""
    yard.start("a", runtimes=runtime)
    with yard.client() as client:
        what = container(["sh", "-c", USES], memory=256, image=image_for(runtime))
        single = client.submit_job(name="single", container=what).job_id
        array = client.submit_job(name="array", container=what, array_size=2).job_id
        for job_id in (single, array):
            assert job_state(client.wait(job_id, timeout_s=90)) is JobState.SUCCEEDED

        def told() -> list[attempt_pb2.Usage]:
            return [client.describe_job(job_id).attempts[0].usage for job_id in (single, f"{array}:1")]

        before = told()
        for usage in before:
            assert 60_000_000 >> 10 < usage.peak_memory_kib < 256 << 10
            assert usage.user_cpu_ms > 50
        yard.controller.kill()
        yard.controller.start()
        until(lambda: told() == before, "it is told again")
