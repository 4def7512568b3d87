"""Streams to users: state changes that resume, logs that come as they are written; and hosts taken out of service."""

from __future__ import annotations

from contextlib import closing

import grpc
import pytest
from tests.e2e.programs import until
from tests.e2e.witness import Witness
from tests.e2e.yard import Yard, host_named

from batchyard import Client, JobState, container, job_state
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.host_pb2 import HOST_STATE_DRAINED, HOST_STATE_DRAINING
from batchyard.v1.job_pb2_grpc import JobServiceStub

pytestmark = pytest.mark.timeout(180)

STREAM_LIMIT_S = 90.0
WAY = [JobState.RUNNABLE, JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED]


class Watch:
    """One WatchJobs stream through the raw stubs, read message by message."""

    def __init__(self, address: str, job_id: str, cursor: str = "") -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        request = pb.WatchJobsRequest(job_ids=[job_id], cursor=cursor)
        self._call = JobServiceStub(self._channel).WatchJobs(request, timeout=STREAM_LIMIT_S)

    def next(self) -> pb.WatchJobsResponse:
        """Return the next message."""
        response: pb.WatchJobsResponse = next(self._call)
        return response

    def until(self, state: JobState) -> tuple[list[JobState], str]:
        """Return the states of all changes up to *state*, and the cursor after it."""
        seen: list[JobState] = []
        while state not in seen:
            response = self.next()
            assert not response.snapshot
            seen += [job_state(event.job) for event in response.events]
        assert seen[-1] is state
        return seen, response.cursor

    def break_off(self) -> None:
        """Drop the connection without a word to the other side."""
        self._channel.close()


def submit(client: Client, witness: Witness, name: str) -> str:
    """Submit a job that runs until it is released."""
    return client.submit_job(name=name, container=container(witness.held(name), memory=32)).job_id


def test_a_watch_resumes_where_it_broke_off(yard: Yard, witness: Witness) -> None:
    """With the last cursor come exactly the changes since, none twice; after a restart, too."""
    yard.start("a")
    with yard.client() as client:
        yard.agents["a"].stop()  # so that the job waits until the first watch has been opened
        until(lambda: not yard.is_ready(client, "a"), "the host has left")
        job_id = submit(client, witness, "job")
        first = Watch(yard.socket, job_id)
        present = first.next()
        assert (present.snapshot, [job_state(event.job) for event in present.events]) == (True, [JobState.RUNNABLE])
        yard.agents["a"].start()
        begun, cursor = first.until(JobState.RUNNING)
        assert [JobState.RUNNABLE, *begun] == WAY[:3]
        first.break_off()

        witness.release()
        assert client.wait(job_id, timeout_s=90).exit_code == 0
        second = Watch(yard.socket, job_id, cursor)
        ended, _ = second.until(JobState.SUCCEEDED)
        assert ended == WAY[3:]
        second.break_off()

        yard.controller.kill()
        yard.controller.start()
        until(lambda: yard.is_ready(client, "a"), "the controller is back")
        third = Watch(yard.socket, job_id, cursor)
        assert third.until(JobState.SUCCEEDED)[0] == ended
        third.break_off()


def test_the_sdk_watches_over_a_restart(yard: Yard, witness: Witness) -> None:
    """Killed with -9 in the middle: the iterator goes on and ends with the job."""
    yard.start("a")
    with yard.client() as client:
        job_id = submit(client, witness, "job")
        seen: list[JobState] = []
        with closing(client.watch_jobs([job_id])) as events:
            for event in events:
                seen.append(job_state(event.job))
                if seen[-1] is JobState.RUNNING and seen.count(JobState.RUNNING) == 1:
                    yard.controller.kill()
                    yard.controller.start()
                    witness.release()
                if seen[-1].is_final:
                    break
        assert seen[-1] is JobState.SUCCEEDED
        order = [WAY.index(state) for state in seen if state in WAY]
        assert order == sorted(order), seen


def test_no_end_is_missed_over_a_killed_controller(yard: Yard, witness: Witness) -> None:
    """Jobs, arrays and children that end while the watcher of all is away are told when it is back."""
    yard.start("a", cpus=8)
    with yard.client() as client, yard.client() as other:
        singles = [submit(client, witness, f"job-{n}") for n in range(2)]
        array = client.submit_job(name="array", container=container(witness.held("child"), memory=32), array_size=4)
        ends = {*singles, array.job_id, *(f"{array.job_id}:{i}" for i in range(4))}
        until(lambda: witness.count("start") == 6, "all run")
        seen: dict[str, JobState] = {}
        with closing(client.watch_jobs()) as events:
            assert not job_state(next(events).job).is_final
            yard.controller.kill()
            yard.controller.start()
            witness.release()
            # All is over before the watcher, who reads nothing meanwhile, comes back.
            other.wait_all([*singles, array.job_id], timeout_s=90)
            for event in events:
                state = job_state(event.job)
                if state.is_final:
                    seen[event.job.id] = state
                if seen.keys() >= ends:
                    break
        assert seen == dict.fromkeys(ends, JobState.SUCCEEDED)


def test_many_submits_go_on_over_a_killed_controller(yard: Yard) -> None:
    """Killed with -9 in the middle of a stream: all are answered, in order, and none is made twice."""
    yard.start("a")
    count = 5000
    # More than the host has, so that nothing but the submits takes time.
    wanted = container(["true"], vcpus=64, memory=32)
    jobs = (pb.SubmitJobRequest(name=f"job-{i}", container=wanted) for i in range(count))
    with yard.client() as client:
        ids: list[str] = []
        for result in client.submit_jobs(jobs):
            assert result.job.name == f"job-{len(ids)}"
            ids.append(result.job.job_id)
            if len(ids) in (1, count // 2):
                yard.controller.kill()
                yard.controller.start()
        listed = [job.id for job in client.list_jobs(page_size=1000)]
        assert ids == listed[::-1]
        assert len(ids) == len(set(ids)) == count


def test_a_log_comes_as_it_is_written(yard: Yard, witness: Witness) -> None:
    """Lines arrive while the job runs, on over a kill of the controller, to the last one; none twice."""
    yard.start("a")
    with yard.client() as client:
        job_id = submit(client, witness, "job")
        text = ""
        with closing(client.read_logs(job_id, follow=True)) as chunks:
            for chunk in chunks:
                text += chunk.decode()
                if "line 5\n" in text and "line 10\n" not in text and not text.count("killed"):
                    assert job_state(client.describe_job(job_id)) is JobState.RUNNING
                    yard.controller.kill()
                    yard.controller.start()
                    until(lambda: yard.is_ready(client, "a"), "the agent is back")
                    witness.release()
        first, *lines, last = text.splitlines()
        assert (first, last) == ("begin job", "finish job")
        assert len(lines) >= 5
        assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
        assert b"".join(client.read_logs(job_id)).decode() == text
        assert b"".join(client.read_logs(job_id, tail_lines=1)) == b"finish job\n"


def test_a_drained_host_gets_no_work(yard: Yard, witness: Witness) -> None:
    """What runs there goes on, then it is DRAINED, over restarts of all; uncordoned, it works again."""
    yard.start("a", "b", cpus=1)
    with yard.client() as client:
        first = [submit(client, witness, f"first-{n}") for n in range(2)]
        until(lambda: {job_state(job) for job in client.describe_jobs(first)} == {JobState.RUNNING}, "both hosts work")
        assert client.drain_host("a").state == HOST_STATE_DRAINING
        yard.controller.kill()
        yard.controller.start()
        yard.agents["a"].kill()
        yard.agents["a"].start()
        until(lambda: host_named(client, "a").state == HOST_STATE_DRAINING, "it is still draining")
        witness.release()
        assert [job.exit_code for job in client.wait_all(first, timeout_s=90)] == [0, 0]
        until(lambda: host_named(client, "a").state == HOST_STATE_DRAINED, "it is drained")
        second = [submit(client, witness, f"second-{n}") for n in range(6)]
        ended = client.wait_all(second, timeout_s=90)
        assert {job.attempts[0].host_name for job in ended} == {"b"}
        client.uncordon_host("a")
        client.cordon_host("b")
        third = client.wait(submit(client, witness, "third"), timeout_s=90)
        assert third.attempts[0].host_name == "a"
