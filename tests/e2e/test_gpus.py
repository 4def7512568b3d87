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
