"""An urgent job on a full host: another is stopped for it, and runs again later."""

from __future__ import annotations

import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard

from batchyard import container, job_state
from batchyard.states import JobState
from batchyard.v1 import attempt_pb2

pytestmark = pytest.mark.timeout(120)


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
