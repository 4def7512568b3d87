"""GPUs from the driver to the job: reported by the agent, claimed by the controller, seen by the attempt alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agent.probe.test_nvml import build
from tests.e2e.programs import until
from tests.e2e.yard import Yard

from batchyard import container
from batchyard.v1.job_pb2 import JOB_STATE_RUNNING

SAY_GPUS = ["sh", "-c", "echo gpus=$CUDA_VISIBLE_DEVICES"]


def test_each_job_sees_the_gpus_claimed_for_it_and_no_others(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs: two jobs hold one each, a third waits and says why; a job without sees none."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build(tmp_path)))
    monkeypatch.setenv("FAKE_NVML_GPUS", "2")
    yard.start("a", cpus=8)
    with yard.client() as client:
        host = client.describe_host("a").host
        known = [gpu.uuid for gpu in host.facts.gpus]
        assert known == [f"GPU-00000000-0000-0000-0000-{i:012}" for i in range(2)]

        held = container(["sh", "-c", f"{SAY_GPUS[2]}; sleep 60"], gpus=1)
        holders = [client.submit_job(name="holder", container=held).job_id for _ in range(2)]
        until(lambda: all(job.state == JOB_STATE_RUNNING for job in client.describe_jobs(holders)), "both hold a GPU")
        claimed = [job.attempts[0].gpu_uuids[0] for job in client.describe_jobs(holders)]
        assert sorted(claimed) == known

        third = client.submit_job(name="third", container=container(SAY_GPUS, gpus=1)).job_id
        without = client.submit_job(name="without", container=container(SAY_GPUS)).job_id
        assert client.wait(without, timeout_s=30).exit_code == 0
        assert b"".join(client.read_logs(without)) == b"gpus=\n"
        assert "1 GPU asked, at most 0 free on one host (largest host: 2)" in client.explain_job(third).summary

        client.terminate_job(holders[0], "enough")
        assert client.wait(third, timeout_s=60).exit_code == 0
        assert b"".join(client.read_logs(third)) == f"gpus={claimed[0]}\n".encode()


HALF = "echo gpus=$CUDA_VISIBLE_DEVICES,$NVIDIA_VISIBLE_DEVICES; while [ ! -e {gate} ]; do sleep 0.05; done"


def test_eight_halves_share_four_gpus_in_pairs(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, each seeing the one that it shares; a whole GPU is had when a pair has gone."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build(tmp_path)))
    monkeypatch.setenv("FAKE_NVML_GPUS", "4")
    yard.start("a", cpus=10)
    gate = tmp_path / "gate"
    with yard.client() as client:
        known = [gpu.uuid for gpu in client.describe_host("a").host.facts.gpus]
        half = container(["sh", "-c", HALF.format(gate=gate)], vcpus=1, gpus=0.5)
        halves = [client.submit_job(name="half", container=half).job_id for _ in range(8)]
        until(lambda: all(job.state == JOB_STATE_RUNNING for job in client.describe_jobs(halves)), "all eight run")
        held = {job.id: list(job.attempts[0].gpu_uuids) for job in client.describe_jobs(halves)}
        assert sorted(uuid for uuids in held.values() for uuid in uuids) == sorted([*known, *known])
        assert {gpu.uuid: gpu.allocated_millis for gpu in client.describe_host("a").host.facts.gpus} == dict.fromkeys(
            known, 1000
        )
        ninth = client.submit_job(name="ninth", container=half).job_id
        assert "0.5 GPU asked, at most 0 free on one host" in client.explain_job(ninth).summary
        gate.touch()
        for job_id, (uuid,) in held.items():
            assert client.wait(job_id, timeout_s=60).exit_code == 0
            assert b"".join(client.read_logs(job_id)) == f"gpus={uuid},{uuid}\n".encode()
        assert client.wait(ninth, timeout_s=60).exit_code == 0


def test_a_model_is_had_where_it_is_and_a_critical_xid_takes_it_out_of_service(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four mixed GPUs two are of the model; one that falls off the bus is given to nobody, and fails no job's tries."""
    xids = tmp_path / "xids"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build(tmp_path)))
    monkeypatch.setenv("FAKE_NVML_GPUS", "4")
    monkeypatch.setenv("FAKE_NVML_MODELS", "Tesla T4|NVIDIA A100-SXM4-40GB|Tesla T4|NVIDIA A100-SXM4-40GB")
    monkeypatch.setenv("FAKE_NVML_XIDS", str(xids))
    yard.start("a", cpus=8)
    with yard.client() as client:
        known = [gpu.uuid for gpu in client.describe_host("a").host.facts.gpus]
        # The first try ends when the driver has told of its GPU.
        script = f"[ $AWS_BATCH_JOB_ATTEMPT -gt 1 ] || while [ ! -e {tmp_path}/seen ]; do sleep 0.05; done; exit $((2 - $AWS_BATCH_JOB_ATTEMPT))"
        wanted = container(["sh", "-c", script], gpus=1, gpu_models=["a100"], gpu_memory="40G")
        job_id = client.submit_job(name="picky", container=wanted, attempts=1).job_id
        until(lambda: client.describe_job(job_id).state == JOB_STATE_RUNNING, "it runs")
        assert list(client.describe_job(job_id).attempts[0].gpu_uuids) == [known[1]]
        two = client.submit_job(name="two", container=container(["true"], gpus=2, gpu_models=["A100"])).job_id
        assert "only GPUs of model a100 count" in client.explain_job(two).summary
        xids.write_text("0 13\n1 79\n")
        until(lambda: client.describe_host("a").host.facts.gpus[1].fault != "", "the GPU is out of service")
        gpus = client.describe_host("a").host.facts.gpus
        assert [gpu.fault for gpu in gpus] == ["", "XID 79: GPU has fallen off the bus", "", ""]
        (tmp_path / "seen").touch()
        job = client.wait(job_id, timeout_s=60)
        assert [list(attempt.gpu_uuids) for attempt in job.attempts] == [[known[1]], [known[3]]]
        assert job.attempts[0].reason == f"GPU {known[1]}: XID 79: GPU has fallen off the bus"
        assert job.exit_code == 0
        client.terminate_job(two, "enough")
