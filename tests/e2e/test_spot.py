"""Spot hosts that are taken away, by whatever word, with what ran on them."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from tests.e2e.programs import until
from tests.e2e.yard import Yard, host_named

from batchyard import Client, container, job_state
from batchyard.arns import instance_id
from batchyard.states import JobState
from batchyard.v1 import attempt_pb2, host_pb2
from batchyard.v1 import compute_environment_pb2 as environment_pb

pytestmark = pytest.mark.timeout(180)

SIZE = 12


def utc_in(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def furnish(client: Client) -> None:
    """Make a queue of spot hosts first and on-demand ones second."""
    client.create_compute_environment(
        "spot", compute_resources=environment_pb.ComputeResources(type=environment_pb.CAPACITY_TYPE_SPOT)
    )
    client.create_job_queue("mixed", compute_environments=["spot", "default"])


def start(yard: Yard, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Start a spot host ``s`` with these settings, and an on-demand one ``d``."""
    yard.start("d")
    with monkeypatch.context() as patched:
        for name, value in (variables | {"PURCHASE_OPTION": "spot"}).items():
            patched.setenv(f"BATCHYARD_AGENT_{name}", value)
        yard.add_agent("s").start()
    with yard.client() as client:
        until(lambda: yard.is_ready(client, "d", "s"), "both hosts are ready")
        furnish(client)


def is_reclaimed(client: Client) -> bool:
    return host_named(client, "s").state == host_pb2.HOST_STATE_RECLAIMED


def ran_on(client: Client, job_id: str) -> list[str]:
    return [attempt.host_name for attempt in client.describe_job(job_id).attempts]


def test_a_spot_host_goes_in_mid_array_and_every_child_finishes_elsewhere(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a file; the controller is killed between the notice and its time, and starts again."""
    notice = yard.folder / "reclaim"
    start(yard, monkeypatch, RECLAIM_FILE=str(notice))
    with yard.client() as client:
        # The first try of child 0 would last for ever, the others' are over in time.
        first_lasts = "[ $AWS_BATCH_JOB_ARRAY_INDEX$AWS_BATCH_JOB_ATTEMPT = 01 ] && exec sleep 600"
        array = client.submit_job(
            name="children",
            queue="mixed",
            array_size=SIZE,
            container=container(["sh", "-c", f"{first_lasts}; sleep 4"], memory=32),
            spot_attempts=1,
        ).job_id
        long = f"{array}:0"
        until(lambda: host_of(client, long) == "s", "child 0 runs on the spot host")
        until(lambda: host_named(client, "s").attempts == 2, "another child runs there, too")
        notice.write_text(utc_in(20))
        until(lambda: is_reclaimed(client), "the host is reclaimed")
        yard.controller.kill()
        yard.controller.start()
        until(lambda: is_reclaimed(client), "the next leader knows it")
        assert client.describe_job(long).attempts[0].number == 1
        job = client.wait(long, timeout_s=90)
        assert job_state(job) is JobState.SUCCEEDED
        assert ran_on(client, long) == ["s", "d"]
        first = job.attempts[0]
        assert first.cause == attempt_pb2.END_CAUSE_RECLAIMED
        assert first.status_reason == f"Host EC2 (instance {instance_id(yard.host_id('s'))}) terminated."
        assert job_state(client.wait(array, timeout_s=120)) is JobState.SUCCEEDED
        counts = client.describe_job(array).array.status_summary
        assert counts["SUCCEEDED"] == SIZE
        tries = [ran_on(client, f"{array}:{index}") for index in range(1, SIZE)]
        assert all(len(hosts) == 1 for hosts in tries), tries
        assert ["s"] in tries
        last = client.submit_job(name="last", queue="mixed", container=container(["true"], memory=32)).job_id
        client.wait(last, timeout_s=60)
        assert ran_on(client, last) == ["d"]
        notice.unlink()
        until(lambda: yard.is_ready(client, "s"), "the host stays, and is an ordinary one again")
        back = client.submit_job(name="back", queue="mixed", container=container(["true"], memory=32)).job_id
        client.wait(back, timeout_s=60)
        assert ran_on(client, back) == ["s"]


def test_an_agent_that_is_cut_off_stops_in_time_and_the_controller_counts_on_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a command. No controller is there when the time is over."""
    notice = yard.folder / "going"
    start(yard, monkeypatch, RECLAIM_COMMAND=f"cat {notice}")
    with yard.client() as client:
        job_id = client.submit_job(
            name="long", queue="mixed", container=container(["sleep", "600"], memory=32), infrastructure_retries=0
        ).job_id
        until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
        notice.write_text(utc_in(8))
        until(lambda: is_reclaimed(client), "the host is reclaimed")
        yard.controller.kill()
        until(lambda: not yard.processes("s"), "nothing runs on the host any more")
        yard.controller.start()
        job = client.wait(job_id, timeout_s=60)
        assert (job_state(job), job.attempts[0].cause) == (JobState.FAILED, attempt_pb2.END_CAUSE_RECLAIMED)
        assert job.attempts[0].reason == "Stopped as its host was reclaimed"


@contextmanager
def metadata_server(notices: list[str]) -> Iterator[str]:
    """Serve as EC2's metadata does, with the last of the notices, if there are any."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(200, "token")

        def do_GET(self) -> None:
            is_known = self.headers["X-aws-ec2-metadata-token"] == "token"
            is_notice = self.path == "/latest/meta-data/spot/instance-action" and bool(notices)
            self._answer(401 if not is_known else 200 if is_notice else 404, notices[-1] if is_notice else "")

        def _answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_metadata_of_a_real_spot_instance_are_understood(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends by itself in time is what it is; an operator's word alone does it too."""
    notices: list[str] = []
    with metadata_server(notices) as url, yard.client() as client:
        start(yard, monkeypatch, RECLAIM_METADATA=url)
        job_id = client.submit_job(
            name="short", queue="mixed", container=container(["sh", "-c", "sleep 6; exit 3"], memory=32)
        ).job_id
        until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
        notices.append(json.dumps({"action": "terminate", "time": utc_in(120)}))
        until(lambda: is_reclaimed(client), "the host is reclaimed")
        ended = client.wait(job_id, timeout_s=60)
        assert (ended.attempts[0].cause, ended.exit_code) == (attempt_pb2.END_CAUSE_EXITED, 3)
        notices.clear()
        until(lambda: yard.is_ready(client, "s"), "it stays after all")
        held = client.submit_job(
            name="held",
            queue="mixed",
            container=container(["sh", "-c", "[ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] || exec sleep 600"], memory=32),
        ).job_id
        until(lambda: host_of(client, held) == "s", "it runs on the spot host")
        client.reclaim_host("s")
        client.wait(held, timeout_s=60)
        assert ran_on(client, held) == ["s", "d"]


def host_of(client: Client, job_id: str) -> str:
    """Return where a job runs; empty while it does not."""
    job = client.describe_job(job_id)
    return job.attempts[-1].host_name if job_state(job) is JobState.RUNNING else ""
