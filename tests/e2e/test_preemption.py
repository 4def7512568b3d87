"""An urgent job on a full host: another is stopped for it, and runs again later."""

from __future__ import annotations

import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard

from batchyard import container, job_state, nodes
from batchyard.states import JobState
from batchyard.v1 import attempt_pb2

pytestmark = pytest.mark.timeout(240)


def test_an_urgent_job_has_another_stopped_though_the_controller_dies_meanwhile(yard: Yard) -> None:
    """It is killed between the stop and the end; a third, which is short, does not take the room."""
    again, told, done = (yard.folder / name for name in ("again", "told", "done"))
    # The first try lasts until it is told to stop, and then a while; the second is quick.
    first = f"touch {again}; trap 'touch {told}; sleep 5; touch {done}; exit 9' TERM; while :; do sleep 0.1; done"
    yard.start("h")
    with yard.client() as client:
        client.create_job_queue("low", priority=1, preemptible=True)
        client.create_job_queue("urgent", priority=5, preemption="LOWER_PRIORITY")
        low = client.submit_job(
            name="low",
            queue="low",
            container=container(["sh", "-c", f"[ -e {again} ] && exit 0; {first}"], vcpus=2, memory=32),
        ).job_id
        until(lambda: job_state(client.describe_job(low)) is JobState.RUNNING, "the host is full")
        until(again.exists, "the first try has set its trap")
        urgent = client.submit_job(
            name="urgent", queue="urgent", container=container(["sleep", "1"], vcpus=2, memory=32)
        )
        third = client.submit_job(
            name="third", queue="low", container=container(["true"], vcpus=1, memory=32), timeout_s=1
        ).job_id
        until(told.exists, "it is told to stop")
        yard.controller.kill()
        assert not done.exists(), "it has ended before the controller"
        yard.controller.start()
        jobs = client.wait_all([low, urgent.job_id, third], timeout_s=60)
        assert [job_state(job) for job in jobs] == [JobState.SUCCEEDED] * 3
        stopped, second = jobs[0].attempts
        assert (stopped.cause, stopped.exit_code) == (attempt_pb2.END_CAUSE_PREEMPTED, 9)
        assert stopped.status_reason == f"Preempted by job {urgent.job_id}"
        assert done.exists()
        one = jobs[1].attempts[0]
        assert stopped.stopped_at_ms <= one.started_at_ms
        assert one.stopped_at_ms <= min(second.started_at_ms, jobs[2].attempts[0].started_at_ms)


def test_a_gang_has_others_stopped_on_three_hosts_though_the_controller_dies_meanwhile(yard: Yard) -> None:
    """It is killed between stop and end: all hosts are kept for the gang, which starts when the last has ended."""
    again, told, done = ({name: yard.folder / f"{what}-{name}" for name in "012"} for what in ("again", "told", "done"))
    first = (
        f"i=$AWS_BATCH_JOB_ARRAY_INDEX; [ -e {yard.folder}/again-$i ] && exit 0; touch {yard.folder}/again-$i; "
        f"trap 'touch {yard.folder}/told-$i; sleep 4; touch {yard.folder}/done-$i; exit 9' TERM; while :; do sleep 0.1; done"
    )
    yard.start("a", "b", "c")
    with yard.client() as client:
        client.create_job_queue("low", priority=1, preemptible=True)
        client.create_job_queue("urgent", priority=5, preemption="LOWER_PRIORITY")
        what = container(["sh", "-c", first], vcpus=2, memory=32)
        low = client.submit_job(name="low", queue="low", container=what, array_size=3).job_id
        until(lambda: all(path.exists() for path in again.values()), "all hosts are full, each job has set its trap")
        asked = nodes(3, container(["sleep", "1"], vcpus=2, memory=32), one_host_each=True)
        urgent = client.submit_job(name="urgent", queue="urgent", nodes=asked).job_id
        quick = container(["true"], vcpus=1, memory=32)
        third = client.submit_job(name="third", queue="low", container=quick, timeout_s=1).job_id
        until(lambda: all(path.exists() for path in told.values()), "all three are told to stop")
        yard.controller.kill()
        assert not any(path.exists() for path in done.values()), "one has ended before the controller"
        yard.controller.start()
        jobs = client.wait_all([low, urgent, third], timeout_s=90)
        assert [job_state(job) for job in jobs] == [JobState.SUCCEEDED] * 3
        assert all(path.exists() for path in done.values())
        until(lambda: all(job_state(client.describe_job(f"{urgent}#{i}")).is_final for i in range(3)), "all nodes end")
        gang = [client.describe_job(f"{urgent}#{i}").attempts for i in range(3)]
        assert [len(attempts) for attempts in gang] == [1] * 3
        assert {attempts[0].host_name for attempts in gang} == {"a", "b", "c"}
        began = min(attempts[0].started_at_ms for attempts in gang)
        for index in range(3):
            stopped, second = client.describe_job(f"{low}:{index}").attempts
            assert (stopped.cause, stopped.exit_code) == (attempt_pb2.END_CAUSE_PREEMPTED, 9)
            assert stopped.status_reason == f"Preempted by job {urgent}"
            assert stopped.stopped_at_ms <= began <= second.started_at_ms
        assert jobs[2].attempts[0].started_at_ms >= began, "a third took the room"


def test_a_gang_is_preempted_as_a_whole_and_runs_again(yard: Yard) -> None:
    """For one job on one of its hosts; its try does not count, and its nodes all run once more."""
    mark = yard.folder / "again"
    script = f"touch {mark}-$AWS_BATCH_JOB_NODE_INDEX-$AWS_BATCH_JOB_ATTEMPT; "
    script += "[ $AWS_BATCH_JOB_ATTEMPT = 1 ] && exec sleep 600; exit 0"
    yard.start("a", "b", "c")
    with yard.client() as client:
        client.create_job_queue("low", priority=1, preemptible=True)
        client.create_job_queue("urgent", priority=5, preemption="LOWER_PRIORITY")
        asked = nodes(3, container(["sh", "-c", script], vcpus=2, memory=32))
        low = client.submit_job(name="low", queue="low", nodes=asked).job_id
        marks = [yard.folder / f"again-{i}-1" for i in range(3)]
        until(lambda: all(path.exists() for path in marks), "all nodes run")
        what = container(["sleep", "1"], vcpus=2, memory=32)
        urgent = client.submit_job(name="urgent", queue="urgent", container=what).job_id
        ended, job = client.wait_all([urgent, low], timeout_s=90)
        assert (job_state(ended), job_state(job)) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
        assert job.retry_strategy.attempts == 1
        until(lambda: all(job_state(client.describe_job(f"{low}#{i}")).is_final for i in range(3)), "all nodes end")
        for index in range(3):
            stopped, second = client.describe_job(f"{low}#{index}").attempts
            assert stopped.cause == attempt_pb2.END_CAUSE_PREEMPTED
            assert stopped.status_reason == f"Preempted by job {urgent}"
            assert second.started_at_ms >= ended.attempts[0].stopped_at_ms
