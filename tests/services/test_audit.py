"""The audit log: each change and each refusal has its line before it is answered, and tampering is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from batchyard.audit_log import BrokenChainError, Link, files_of, verify
from batchyard.cli.app import app
from batchyard.v1 import access_pb2 as access_pb
from batchyard.v1 import job_pb2, secret_pb2
from batchyard_controller.audit import FILES_MAX, Audit
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR
from batchyard_controller.core.access.table import ROWS
from batchyard_controller.doors import Door, Peer, PeerKind
from batchyard_controller.throttles import Throttles

from .controller import MemoryController, refusal, submission

CANARY = "canary-6d1f"


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "audit", lambda: 1_700_000_000_000)


@pytest.fixture
async def audited(audit: Audit) -> AsyncIterator[MemoryController]:
    async with MemoryController(audit=audit, other=Door(PeerKind.TLS), throttles=Throttles()) as controller:
        await controller.until_leads()
        await controller.furnish()
        yield controller


def told(audit: Audit) -> list[dict[str, Any]]:
    assert audit.folder is not None
    return [json.loads(line) for path in files_of(audit.folder) for line in path.read_text().splitlines()]


async def test_changes_and_refusals_are_written_and_no_secret(audited: MemoryController, audit: Audit) -> None:
    token = (await audited.access.CreateToken(access_pb.CreateTokenRequest(user="ann"))).token
    await audited.secrets.PutSecret(secret_pb2.PutSecretRequest(name="db", value=CANARY))
    await audited.jobs.ListJobs(job_pb2.ListJobsRequest())
    async with grpc.aio.insecure_channel(audited.other_address) as channel:
        submit = channel.unary_unary(
            "/batchyard.v1.JobService/SubmitJob",
            request_serializer=job_pb2.SubmitJobRequest.SerializeToString,
            response_deserializer=job_pb2.SubmitJobResponse.FromString,
        )
        bearer = (("authorization", f"Bearer {token}"),)
        assert (await refusal(submit(submission(), metadata=bearer))).reason == "PERMISSION_DENIED"
        forged = (("authorization", f"Bearer {token[:-1]}!"),)
        assert (await refusal(submit(submission(), metadata=forged))).reason == "BAD_CREDENTIALS"
        await audited.access.BindRole(access_pb.BindRoleRequest(user="ann", role="submitter"))
        await submit(submission("hers"), metadata=bearer)
    lines = told(audit)[2:]
    assert [(line["who"], line["call"], line["thing"], line["outcome"]) for line in lines] == [
        ("administrator", "CreateToken", "ann", "OK"),
        ("administrator", "PutSecret", "db", "OK"),
        ("ann", "SubmitJob", "default", "PERMISSION_DENIED"),
        ("nobody", "SubmitJob", "", "BAD_CREDENTIALS"),
        ("administrator", "BindRole", "ann", "OK"),
        ("ann", "SubmitJob", "default", "OK"),
    ]
    assert audit.folder is not None
    assert [verify(audit.folder, audit.head)[0], audit.head.seq] == [1, len(lines) + 2]
    text = "".join(path.read_text() for path in files_of(audit.folder))
    assert CANARY not in text
    assert token.rpartition("_")[2] not in text


async def test_what_cannot_be_written_is_not_answered_well(audited: MemoryController, audit: Audit) -> None:
    audit.close()
    said = await refusal(audited.jobs.SubmitJob(submission()))
    assert (said.code, said.reason) == ("UNAVAILABLE", "AUDIT_FAILED")


async def test_verify_asks_where_the_log_has_come_to(audited: MemoryController, audit: Audit) -> None:
    def verified() -> tuple[int, str]:
        result = CliRunner().invoke(app, ["--address", audited.address, "audit", "verify"], standalone_mode=False)
        return result.return_value, result.output

    assert await asyncio.to_thread(verified) == (0, "lines 1 to 2 are as they were written\n")
    assert audit.folder is not None
    (path,) = files_of(audit.folder)
    whole = path.read_text()
    path.write_text(whole.splitlines()[0] + "\n")
    code, text = await asyncio.to_thread(verified)
    assert code == 3
    assert "it ends with line 1; the controller has written 2" in text
    path.write_text(whole.replace("CreateJobQueue", "DeleteJobQueue"))
    code, text = await asyncio.to_thread(verified)
    assert code == 3
    assert "line 2 is another than the controller wrote" in text


# Files ----------------------------------------------------------------------------

ROW = ROWS["/batchyard.v1.JobService/CancelJob"]
PEER = Peer(kind=PeerKind.LOCAL)


def write(audit: Audit, job_id: str) -> None:
    audit.write("/s/CancelJob", ROW, PEER, THE_ADMINISTRATOR, job_pb2.CancelJobRequest(job_id=job_id))


def test_files_are_bounded_and_the_chain_goes_on(tmp_path: Path) -> None:
    audit = Audit(tmp_path, lambda: 0, file_bytes_max=1000)
    for i in range(200):
        write(audit, f"job-{i}")
    paths = files_of(tmp_path)
    assert len(paths) == FILES_MAX
    assert max(path.stat().st_size for path in paths) <= 1000
    first, last = verify(tmp_path, audit.head)
    assert first > 1
    assert last == audit.head == Link(200, audit.head.sha256)
    audit.close()
    again = Audit(tmp_path, lambda: 0, file_bytes_max=1000)
    assert again.head == last
    write(again, "job-200")
    assert verify(tmp_path)[1].seq == 201
    again.close()
    paths[3].unlink()
    with pytest.raises(BrokenChainError, match="follows line"):
        verify(tmp_path)


def test_a_line_that_was_cut_short_is_taken_off(tmp_path: Path) -> None:
    audit = Audit(tmp_path, lambda: 0)
    write(audit, "a")
    audit.close()
    with files_of(tmp_path)[0].open("a") as file:
        file.write('{"seq":2,"prev":"')
    again = Audit(tmp_path, lambda: 0)
    write(again, "b")
    assert verify(tmp_path)[1] == again.head == Link(2, again.head.sha256)
    again.close()


def test_a_file_that_is_no_log_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "audit-00000001.jsonl").write_text("hello\n")
    with pytest.raises(BrokenChainError):
        Audit(tmp_path, lambda: 0)
