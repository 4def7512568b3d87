"""AWS Batch's rules on real runtimes: dependencies, arrays, retries, timeouts, cancelling, definitions."""

from __future__ import annotations

import itertools
import signal

import pytest
from tests.agent.runtimes.docker_registry import Registry
from tests.conftest import why_missing
from tests.e2e.programs import until
from tests.e2e.test_endings import RUNTIMES, TIMED_OUT, image_for
from tests.e2e.yard import Yard

from batchyard import Client, JobState, NotFoundError, container, job_state
from batchyard.v1.job_definition_pb2 import (
    EVALUATE_ON_EXIT_ACTION_EXIT,
    EVALUATE_ON_EXIT_ACTION_RETRY,
    ContainerProperties,
    EvaluateOnExit,
)
from batchyard.v1.job_pb2 import (
    DEPENDENCY_TYPE_AFTER_ANY,
    DEPENDENCY_TYPE_AFTER_FAILURE,
    DEPENDENCY_TYPE_N_TO_N,
    DEPENDENCY_TYPE_SEQUENTIAL,
    Dependency,
    Job,
)

pytestmark = pytest.mark.timeout(300)

END_LIMIT_S = 240.0
SUCCEEDED, FAILED = JobState.SUCCEEDED, JobState.FAILED


def small(*command: str, image: str = "", vcpus: float = 0.25) -> ContainerProperties:
    """Describe a job of which eight fit on the host of a test."""
    return container(command, image=image, vcpus=vcpus, memory=16)


def submit(client: Client, what: ContainerProperties, name: str = "job", **fields: object) -> str:
    return client.submit_job(name=name, container=what, **fields).job_id  # type: ignore[arg-type]  # as the test names them


def children(client: Client, job_id: str, size: int) -> list[Job]:
    return client.describe_jobs([f"{job_id}:{index}" for index in range(size)])


def ran_before(earlier: Job, later: Job) -> bool:
    """Say whether one job had stopped when the other began, by their host's clock."""
    return 0 < earlier.stopped_at_ms <= later.started_at_ms


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_jobs_wait_for_what_they_depend_on(yard: Yard, runtime: str) -> None:
    """A diamond, N_TO_N of 50, SEQUENTIAL of 10, and after any end or failure: in order, each child after its own."""
    yard.start("a", runtimes=runtime)
    true, false = (small(word, image=image_for(runtime)) for word in ("true", "false"))
    with yard.client() as client:
        top = submit(client, true)
        left, right = (submit(client, true, depends_on=[top]) for _ in range(2))
        bottom = submit(client, true, depends_on=[left, right])
        first = submit(client, true, array_size=50)
        second = submit(client, true, array_size=50, depends_on=[Dependency(job_id=first, type=DEPENDENCY_TYPE_N_TO_N)])
        chain = submit(client, true, array_size=10, depends_on=[Dependency(type=DEPENDENCY_TYPE_SEQUENTIAL)])
        broken = submit(client, false)
        anyway = submit(client, true, depends_on=[Dependency(job_id=broken, type=DEPENDENCY_TYPE_AFTER_ANY)])
        mended = submit(client, true, depends_on=[Dependency(job_id=broken, type=DEPENDENCY_TYPE_AFTER_FAILURE)])
        spared = submit(client, true, depends_on=[broken])
        never = submit(client, true, depends_on=[Dependency(job_id=top, type=DEPENDENCY_TYPE_AFTER_FAILURE)])
        ids = [top, left, right, bottom, first, second, chain, anyway, mended, broken, spared, never]
        jobs = dict(zip(ids, client.wait_all(ids, timeout_s=END_LIMIT_S), strict=True))
        assert [job_state(jobs[i]) for i in ids] == [SUCCEEDED] * 9 + [FAILED] * 3
        assert jobs[spared].status_reason == "Dependent Job failed"
        assert (len(jobs[spared].attempts), len(jobs[never].attempts)) == (0, 0)
        for middle in (left, right):
            assert ran_before(jobs[top], jobs[middle])
            assert ran_before(jobs[middle], jobs[bottom])
        pairs = zip(children(client, first, 50), children(client, second, 50), strict=True)
        assert all(ran_before(one, other) for one, other in pairs)
        links = children(client, chain, 10)
        assert all(ran_before(one, other) for one, other in itertools.pairwise(links))
        assert ran_before(jobs[broken], jobs[anyway])


@pytest.mark.timeout(600)
def test_an_array_of_two_thousand_ends(yard: Yard) -> None:
    """Two thousand children that do nothing, at most eight at once, on processes."""
    yard.start("a", cpus=8)
    with yard.client() as client:
        job_id = submit(client, small("true", vcpus=0.1), array_size=2_000, array_concurrency=8)
        job = client.wait(job_id, timeout_s=540)
        assert job_state(job) is SUCCEEDED
        assert {state: count for state, count in job.array.status_summary.items() if count} == {"SUCCEEDED": 2_000}
        last = children(client, job_id, 1_000) + client.describe_jobs([f"{job_id}:1999"])
        assert {(job_state(child), child.exit_code, len(child.attempts)) for child in last} == {(SUCCEEDED, 0, 1)}
    times = [(span.started_at_ms, 1) for span in yard.spans("a")] + [
        (span.stopped_at_ms, -1) for span in yard.spans("a")
    ]
    at_once = most = 0
    for _, change in sorted(times):
        at_once += change
        most = max(most, at_once)
    assert 1 < most <= 8


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_failed_attempts_are_retried_as_the_rules_say(yard: Yard, runtime: str) -> None:
    """Attempts are counted; the first rule that matches decides, by exit code, reason or status reason; else retry."""
    yard.start("a", runtimes=runtime)
    image = image_for(runtime)
    exit_on = EVALUATE_ON_EXIT_ACTION_EXIT
    fails = small("sh", "-c", 'echo "try $AWS_BATCH_JOB_ATTEMPT"; exit 41', image=image)
    third = small("sh", "-c", 'test "$AWS_BATCH_JOB_ATTEMPT $BATCHYARD_FENCE_TOKEN" = "3 3"', image=image)
    missing = small("no-such-command", image=image)
    with yard.client() as client:
        ids = [
            submit(client, third, attempts=5),
            submit(client, fails, attempts=2),
            submit(
                client, fails, attempts=5,
                evaluate_on_exit=[EvaluateOnExit(action=exit_on, on_exit_code="4*")],
            ),
            submit(
                client, missing, attempts=5,
                evaluate_on_exit=[EvaluateOnExit(action=exit_on, on_reason="CannotStartContainerError:*")],
            ),
            submit(
                client, missing, attempts=5,
                evaluate_on_exit=[EvaluateOnExit(action=exit_on, on_status_reason="Task failed to*")],
            ),
            submit(
                client, fails, attempts=3,
                evaluate_on_exit=[
                    EvaluateOnExit(action=EVALUATE_ON_EXIT_ACTION_RETRY, on_exit_code="41"),
                    EvaluateOnExit(action=exit_on, on_reason="*"),
                ],
            ),
        ]  # fmt: skip
        jobs = client.wait_all(ids, timeout_s=END_LIMIT_S)
        ends = [(job_state(job), len(job.attempts)) for job in jobs]
        assert ends == [(SUCCEEDED, 3), (FAILED, 2), (FAILED, 1), (FAILED, 1), (FAILED, 1), (FAILED, 3)]
        assert [attempt.exit_code for attempt in jobs[1].attempts] == [41, 41]
        assert len({attempt.log_stream_name for attempt in jobs[1].attempts}) == 2
        assert [b"".join(client.read_logs(ids[1], attempt=n)) for n in (1, 2)] == [b"try 1\n", b"try 2\n"]


def test_a_timeout_that_ignores_its_termination_is_killed(yard: Yard) -> None:
    """SIGTERM when the time is up, SIGKILL 30 s later, never retried; on all runtimes of this machine."""
    runtimes = ["process"] if why_missing("docker") else ["process", "docker"]
    yard.start("a", runtimes=",".join(runtimes))
    script = "trap 'echo no' TERM; while :; do sleep 0.1; done"
    with yard.client() as client:
        ids = [
            submit(client, small("sh", "-c", script, image=image_for(runtime)), timeout_s=2, attempts=3)
            for runtime in runtimes
        ]
        for job in client.wait_all(ids, timeout_s=END_LIMIT_S):
            (attempt,) = job.attempts
            assert (job_state(job), attempt.exit_code, job.status_reason) == (FAILED, 137, TIMED_OUT)
            assert 31 <= (job.stopped_at_ms - job.started_at_ms) / 1000 < 60
            assert b"no\n" in b"".join(client.read_logs(job.id))


def test_cancel_and_terminate_in_every_state(yard: Yard) -> None:
    """Cancelling ends what waits and leaves the rest alone; terminating ends everything, never to be retried."""
    yard.start("a")
    asleep, done, broken = small("sleep", "600", vcpus=0.1), small("true"), small("false")
    with yard.client() as client:
        blocker = submit(client, small("sleep", "600", vcpus=1))
        ended = [submit(client, done), submit(client, broken)]
        client.wait_all(ended, timeout_s=60)
        running = [submit(client, asleep, attempts=3) for _ in range(2)]
        until(lambda: states(client, running) == {JobState.RUNNING}, "both run")
        yard.agents["a"].send(signal.SIGSTOP)
        starting = [submit(client, asleep, attempts=3) for _ in range(2)]
        until(lambda: states(client, starting) == {JobState.STARTING}, "both are claimed")
        runnable = [submit(client, small("true", vcpus=64)) for _ in range(2)]
        pending = [submit(client, done, depends_on=[blocker]) for _ in range(2)]
        assert states(client, runnable) == {JobState.RUNNABLE}
        assert states(client, pending) == {JobState.PENDING}
        for cancelled, terminated in (running, starting, runnable, pending):
            client.cancel_job(cancelled, "changed my mind")
            client.terminate_job(terminated, "enough of it")
        for job_id in ended:
            client.cancel_job(job_id, "too late")
            client.terminate_job(job_id, "too late")
        yard.agents["a"].send(signal.SIGCONT)
        gone = [running[1], starting[1], *runnable, *pending]
        jobs = client.wait_all(gone, timeout_s=60)
        assert [(job_state(j), j.status_reason) for j in jobs] == [
            (FAILED, "enough of it"), (FAILED, "enough of it"),
            (FAILED, "changed my mind"), (FAILED, "enough of it"),
            (FAILED, "changed my mind"), (FAILED, "enough of it"),
        ]  # fmt: skip
        assert [(j.is_cancelled, j.is_terminated) for j in jobs] == [
            (False, True), (False, True), (True, False), (False, True), (True, False), (False, True),
        ]  # fmt: skip
        assert max(len(job.attempts) for job in jobs) == 1
        until(lambda: states(client, [running[0], starting[0]]) == {JobState.RUNNING}, "the cancelled ones go on")
        assert [j.status_reason for j in client.describe_jobs(ended)] == ["Essential container in task exited"] * 2


@pytest.mark.docker
def test_a_job_may_be_terminated_while_its_image_is_pulled(yard: Yard) -> None:
    """STARTING may take long; the wish to end it does not wait for the registry."""
    yard.start("a", runtimes="docker")
    registry = Registry(b"")
    registry.hold.clear()
    try:
        with yard.client() as client:
            job_id = submit(client, small("true", image=registry.image))
            assert registry.asked.wait(60)
            assert states(client, [job_id]) == {JobState.STARTING}
            client.terminate_job(job_id, "too slow")
            job = client.wait(job_id, timeout_s=60)
            assert (job_state(job), job.status_reason) == (FAILED, "too slow")
    finally:
        registry.hold.set()
        registry.close()


def test_jobs_outlive_their_definition(yard: Yard) -> None:
    """A revision that is deregistered takes no new jobs; those it has, running or waiting, end as they would."""
    yard.start("a")
    with yard.client() as client:
        script = 'read -r word < "$0"; echo "Ref::word $word"'
        gate = yard.folder / "gate"
        gate.unlink(missing_ok=True)
        made = client.register_job_definition(
            "keep",
            container=small("sh", "-c", f"until [ -e {gate} ]; do sleep 0.1; done; {script}", str(gate)),
            parameters={"word": "said"},
        )
        running = client.submit_job(name="running", job_definition="keep").job_id
        waiting = client.submit_job(name="waiting", job_definition="keep:1", depends_on=[running]).job_id
        until(lambda: states(client, [running]) == {JobState.RUNNING}, "it runs")
        client.deregister_job_definition(f"{made.name}:{made.revision}")
        with pytest.raises(NotFoundError, match="JobDefinition name keep does not exist or is not in ACTIVE status"):
            client.submit_job(name="late", job_definition="keep")
        gate.write_text("open\n")
        jobs = client.wait_all([running, waiting], timeout_s=60)
        assert [(job_state(job), job.job_definition) for job in jobs] == [(SUCCEEDED, "keep:1")] * 2
        assert b"".join(client.read_logs(waiting)) == b"said open\n"


def states(client: Client, ids: list[str]) -> set[JobState]:
    return {job_state(job) for job in client.describe_jobs(ids)}
