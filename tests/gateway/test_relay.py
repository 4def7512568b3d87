"""The relay: how events are written, and what each kind of receiver does with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from batchyard.arns import Account
from batchyard.v1 import event_pb2 as pb
from batchyard.v1 import job_pb2
from batchyard_gateway.batch.names import Names
from batchyard_gateway.relay.bodies import Body, at_the_time, bodies_of, lost_body
from batchyard_gateway.relay.files import FileReceiver
from batchyard_gateway.relay.programs import ProgramReceiver
from batchyard_gateway.relay.receivers import BATCH_MAX, DeliveryError, batches
from batchyard_gateway.relay.webhook import WebhookReceiver

NAMES = Names(Account(region="eu-west-1", account_id="123456789012"))
JOB_ID = "01a218e7-6f5d-7a3c-9d3e-0a8f0c7d1a54"
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def body(number: int, about: str = "", text: str = "x") -> Body:
    members = {"n": number, "text": text}
    return Body(id=f"id-{number}", cursor=f"1-{number}-0", about=about or f"job-{number}", members=members)


def move(job_id: str = JOB_ID, **fields: Any) -> pb.Event:
    given = {"previous_state": job_pb2.JOB_STATE_STARTING, "state": job_pb2.JOB_STATE_RUNNING, **fields}
    return pb.Event(cursor="7-12-1000", at_ms=1_700_000_000_123, subject=pb.SUBJECT_JOB, job_id=job_id, **given)


def test_a_move_is_what_aws_sends() -> None:
    """Source: AWS Batch User Guide, "AWS Batch events"."""
    job = job_pb2.Job(id=JOB_ID, name="n", queue="q", state=job_pb2.JOB_STATE_RUNNING, created_at_ms=1)
    (told,) = bodies_of(move(), {JOB_ID: job}, NAMES)
    members = json.loads(told.text())
    detail = members.pop("detail")
    assert members == {
        "version": "0",
        "id": told.id,
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": "123456789012",
        "time": "2023-11-14T22:13:20Z",
        "region": "eu-west-1",
        "resources": [f"arn:aws:batch:eu-west-1:123456789012:job/{JOB_ID}"],
    }
    assert (detail["jobName"], detail["jobId"], detail["status"]) == ("n", JOB_ID, "RUNNING")
    assert detail["jobQueue"] == "arn:aws:batch:eu-west-1:123456789012:job-queue/q"
    assert next(bodies_of(move(), {}, NAMES)).id == told.id, "delivered again it has the same id"
    assert next(bodies_of(move(), {}, NAMES)).members["detail"] == {
        "jobArn": f"arn:aws:batch:eu-west-1:123456789012:job/{JOB_ID}",
        "jobId": JOB_ID,
        "status": "RUNNING",
    }


def test_a_job_that_went_on_is_told_as_it_was() -> None:
    attempts = [
        job_pb2.Attempt(number=1, stopped_at_ms=1_600_000_000_000),
        job_pb2.Attempt(number=2, stopped_at_ms=1 << 42),
    ]
    job = job_pb2.Job(
        state=job_pb2.JOB_STATE_FAILED, status_reason="why", stopped_at_ms=5, started_at_ms=4, attempts=attempts
    )  # fmt: skip
    then = at_the_time(job, move())
    assert (then.state, then.status_reason, then.stopped_at_ms, then.started_at_ms) == (move().state, "", 0, 4)
    assert [attempt.number for attempt in then.attempts] == [1]
    assert at_the_time(job, move(state=job_pb2.JOB_STATE_RUNNABLE)).started_at_ms == 0
    assert at_the_time(job, move(state=job_pb2.JOB_STATE_FAILED)) == job


def test_children_that_moved_together_are_told_one_by_one() -> None:
    told = list(bodies_of(move(f"{JOB_ID}:3", children=3), {}, NAMES))
    assert [each.members["detail"]["jobId"] for each in told] == [f"{JOB_ID}:{i}" for i in (3, 4, 5)]
    assert len({each.id for each in told}) == 3
    assert [bool(each.cursor) for each in told] == [False, False, True], "all or nothing"
    assert {each.about for each in told} == {JOB_ID}


def test_hosts_queues_and_losses_have_kinds_of_their_own() -> None:
    host = pb.Event(cursor="1-1-0", subject=pb.SUBJECT_HOST, host_id="h", host_name="one", what="CORDONED", text="why")
    (told,) = bodies_of(host, {}, NAMES)
    assert (told.members["detail-type"], told.members["detail"]["host"]) == ("Batchyard Host State Change", "one")
    queue = pb.Event(cursor="1-1-0", subject=pb.SUBJECT_QUEUE, queue="q", by_job_id=JOB_ID, words="CAPACITY:X - why")
    (told,) = bodies_of(queue, {}, NAMES)
    assert told.members["detail-type"] == "Batch Job Queue Blocked"
    assert told.members["detail"]["statusReason"] == "CAPACITY:X - why"
    lost = lost_body("1-2-0", "1-9-0", 5, NAMES)
    assert lost.members["detail"] == {"from": "1-2-0", "to": "1-9-0"}


def test_batches_hold_nothing_twice_about_the_same() -> None:
    about = ["a", "b", "a", "c", "d", *(f"e{i}" for i in range(20))]
    cut = list(batches([body(i, each) for i, each in enumerate(about)]))
    assert [len(each) for each in cut[:2]] == [2, BATCH_MAX]
    assert [each.id for part in cut for each in part] == [f"id-{i}" for i in range(len(about))]
    assert [len(part) for part in batches([body(i, text="x" * 150_000) for i in range(3)])] == [1, 1, 1]


def test_a_file_is_cut_by_time_followed_by_name_and_mended(tmp_path: Path) -> None:
    now = datetime(2026, 11, 26, 17, tzinfo=UTC)
    receiver = FileReceiver(tmp_path, "e-%H.jsonl", lambda: now)
    receiver.deliver([body(1), body(2)], "")
    path = tmp_path / "e-17.jsonl"
    with path.open("a") as file:
        file.write('{"cut sho')
    receiver.deliver([body(3)], "")
    assert [line[:6] for line in path.read_text().splitlines()] == ['{"n":1', '{"n":2', '{"cut ', '{"n":3']
    path.rename(tmp_path / "old")
    receiver.deliver([body(4)], "")
    assert path.read_text().count("\n") == 1, "a file that was moved away is left"
    now = now.replace(hour=18)
    receiver.deliver([body(5)], "")
    receiver.close()
    assert (tmp_path / "e-18.jsonl").exists()
    (tmp_path / "dir").mkdir()
    with pytest.raises(DeliveryError, match="Is a directory"):
        FileReceiver(tmp_path, "dir", lambda: now).deliver([body(1)], "")


def test_a_program_gets_lines_and_says_whether_it_took_them(tmp_path: Path) -> None:
    program = tmp_path / "take"
    program.write_text(
        f'#!/bin/sh\ncat >> {tmp_path}/taken; test -e {tmp_path}/bad || exit 0; echo "no disk" >&2; exit 7\n'
    )
    program.chmod(0o755)
    receiver = ProgramReceiver(program)
    receiver.deliver([body(1), body(2)], "")
    assert (tmp_path / "taken").read_text().count("\n") == 2
    (tmp_path / "bad").touch()
    with pytest.raises(DeliveryError, match="take exited with 7: no disk"):
        receiver.deliver([body(3)], "")
    with pytest.raises(DeliveryError, match="none cannot be run"):
        ProgramReceiver(tmp_path / "none").deliver([body(3)], "")


class Receiver(BaseHTTPRequestHandler):
    """Notes what it is told, and answers as it is to."""

    protocol_version = "HTTP/1.1"
    heard: list[tuple[dict[str, str], bytes]]
    answers: list[int]

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append((dict(self.headers), data))
        self.send_response(self.answers.pop(0))
        self.send_header("location", "http://127.0.0.1:1/")
        self.send_header("content-length", "0")
        self.end_headers()


@contextmanager
def listening(*answers: int) -> Iterator[tuple[str, type[Receiver]]]:
    kind = type("Told", (Receiver,), {"heard": [], "answers": list(answers)})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/in?a=b", kind
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_webhooks_are_signed_in_order_and_stop_at_the_first_that_fails() -> None:
    with listening(204, 200, 500) as (url, told):
        receiver = WebhookReceiver(url, lambda: 1_700_000_000.9, allows_loopback=True)
        with pytest.raises(DeliveryError, match="it answered 500") as failed:
            receiver.deliver([body(i) for i in range(5)], SECRET)
        receiver.close()
    assert (failed.value.delivered, failed.value.is_gone) == (2, False)
    assert [json.loads(data)["n"] for _, data in told.heard] == [0, 1, 2]
    headers, data = told.heard[0]
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("id-0", "1700000000")
    right = hmac.new(b"k" * 32, b"id-0.1700000000." + data, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(right).decode()}"


@pytest.mark.parametrize("status", [302, 410])
def test_no_redirect_is_followed_and_gone_is_for_ever(status: int) -> None:
    with listening(status) as (url, told):
        receiver = WebhookReceiver(url, lambda: 0.0, allows_loopback=True)
        with pytest.raises(DeliveryError) as failed:
            receiver.deliver([body(1)], SECRET)
        receiver.close()
    assert failed.value.is_gone == (status == 410)
    assert len(told.heard) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:169.254.1.1]"]
)
def test_addresses_that_are_nobodys_business_are_not_called(host: str) -> None:
    receiver = WebhookReceiver(f"http://{host}:9/", lambda: 0.0, allows_loopback=False)
    with pytest.raises(DeliveryError, match="an address that the relay does not call"):
        receiver.deliver([body(1)], SECRET)
