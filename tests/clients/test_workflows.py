"""
Workflow tools whose jobs are containers and hand their data on through S3, unmodified, against a real yard.

S3 is moto's server, Docker an engine of the test's own, and the jobs' image holds this
machine's own Python. All of it is on this machine's network, as the jobs are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.agent.runtimes.own_engine import own_engine
from tests.e2e.programs import until

from .conftest import REGION, Yard, running_yard
from .image import make_image
from .moto_server import moto, server
from .tools import METAFLOW, MOTO, PROGRAMS, SNAKEMAKE

pytestmark = [pytest.mark.pypi, pytest.mark.docker, pytest.mark.netns, pytest.mark.timeout(1200)]

BRIDGE, BRIDGE_ADDRESS = f"tools{os.getpid()}", "198.18.77.1/30"
"""What an engine beside another must have, though no job here is on it; the address is one for tests (RFC 2544)."""
JOB_ROLE = "arn:aws:iam::000000000000:role/any"
BUCKET = "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """
    A yard whose jobs are containers, and where they keep their data.

    Attributes:
        yard: As tools see it.
        image: In which jobs run.
        s3_url: Where S3 is.
        s3: boto3's client of it.
    """

    yard: Yard
    image: str
    s3_url: str
    s3: Any


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    MOTO.install()
    SNAKEMAKE.install()
    folder = tmp_path_factory.mktemp("workshop")
    # Of S3, what Metaflow and Snakemake ask of an image, and what pip does: jobs are told nothing else.
    variables = {
        "AWS_ACCESS_KEY_ID": "jobs",
        "AWS_SECRET_ACCESS_KEY": "jobs",
        "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_FIND_LINKS": str(SNAKEMAKE.wheels),
    }
    settings = {"CONTAINER_NETWORK": "host", "ALLOW_PRIVILEGED": "1", "CPUS": "4"}
    with _engine(folder) as address, pytest.MonkeyPatch.context() as patch, moto(folder) as s3_url:
        patch.setenv("DOCKER_HOST", address)
        for name, value in settings.items():
            patch.setenv(f"BATCHYARD_AGENT_{name}", value)
        image = make_image(SNAKEMAKE, variables, address)
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        s3 = boto3.client("s3", endpoint_url=s3_url, region_name=REGION, **keys)
        s3.create_bucket(Bucket=BUCKET)
        with running_yard(folder, "docker") as yard:
            yield Workshop(yard=yard, image=image, s3_url=s3_url, s3=s3)


@contextlib.contextmanager
def _engine(folder: Path) -> Iterator[str]:
    """Run an engine whose containers may be privileged on any machine, and yield its address."""
    runtime = folder / "bounded"
    runtime.write_text(f'#!/bin/sh\nexec {sys.executable} {PROGRAMS / "bounded_runc.py"} "$@"\n')
    runtime.chmod(0o755)
    flags = ("--add-runtime", f"bounded={runtime}", "--default-runtime=bounded", "--ip-forward=false")
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", BRIDGE_ADDRESS, "dev", BRIDGE], check=True)
        with own_engine(*flags, f"--bridge={BRIDGE}", is_apart=False) as engine, engine.running():
            yield engine.address
    finally:
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


def test_metaflow_runs_branches_retries_and_a_step_of_two_nodes(workshop: Workshop, folder: Path) -> None:
    """The step of two nodes is a multi-node job, whose main node waits until Metaflow's service knows the others' end."""
    METAFLOW.install()
    service = (str(METAFLOW.bin / "python"), str(PROGRAMS / "metaflow_service.py"))
    with server("metaflow-service", folder, *service, more=(str(folder),)) as url:
        variables = {
            **workshop.yard.variables,
            "USERNAME": "tester",
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{BUCKET}/metaflow",
            "METAFLOW_S3_ENDPOINT_URL": workshop.s3_url,
            "METAFLOW_DEFAULT_METADATA": "service",
            "METAFLOW_SERVICE_URL": url,
            "METAFLOW_BATCH_JOB_QUEUE": "default",
            "METAFLOW_BATCH_CONTAINER_IMAGE": workshop.image,
            "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": JOB_ROLE,
        }
        flow = ("python", str(PROGRAMS / "metaflow_flow.py"))
        said = METAFLOW.run([*flow, "run", "--base", "10"], folder, variables)
        assert "ValueError: not the first time" in said
        assert "Essential container in task exited This could be a transient error. Use @retry to retry." in said
        assert "node 0 of 2" in said
        assert "No running AWS Batch jobs found." in METAFLOW.run([*flow, "batch", "list"], folder, variables)
        look = "from metaflow import Flow; run = Flow('YardFlow').latest_run; data = run.data; "
        look += "print(run.successful, data.squares, data.tries, [node[:2] for node in data.nodes])"
        said = METAFLOW.run(["python", "-c", look], folder, variables)
        assert said == "True [11, 14, 19] 2 [(0, 2), (1, 2)]\n"
    assert workshop.yard.endings("tester-YardFlow-*") == [*["SUCCEEDED"] * 3, "FAILED", "SUCCEEDED", "SUCCEEDED"]
    batch, filters = workshop.yard.batch, [{"name": "JOB_NAME", "values": ["tester-YardFlow-*"]}]
    last = batch.list_jobs(jobQueue="default", filters=filters)["jobSummaryList"][0]

    def ended() -> list[int]:
        nodes = batch.list_jobs(multiNodeJobId=last["jobId"], jobStatus="SUCCEEDED")["jobSummaryList"]
        return [node["nodeProperties"]["nodeIndex"] for node in nodes]

    until(lambda: ended() == [0, 1], "the other node's end is told behind the main one's")


def test_snakemake_hands_files_on_through_s3_and_tells_the_rule_that_failed(workshop: Workshop, folder: Path) -> None:
    """Its jobs are privileged, whatever they do."""
    shutil.copy(PROGRAMS / "Snakefile", folder)
    keys = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "any", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "any"}
    variables = {**workshop.yard.variables, **keys}
    batch = ("--aws-batch-region", REGION, "--aws-batch-job-queue", "default", "--aws-batch-job-role", JOB_ROLE)
    storage = ("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{BUCKET}/snakemake")
    access = ("--storage-s3-endpoint-url", workshop.s3_url)
    options = ("--executor", "aws-batch", *batch, "--container-image", workshop.image, "--jobs", "2")
    said = SNAKEMAKE.run(["snakemake", "counted.txt", *options, *storage, *access], folder, variables)
    assert "3 of 3 steps (100%) done" in said
    counted = workshop.s3.get_object(Bucket=BUCKET, Key="snakemake/counted.txt")["Body"].read()
    assert counted == b"3\none\n"
    assert workshop.yard.endings("snakejob-*") == ["SUCCEEDED"] * 3
    said = SNAKEMAKE.run(["snakemake", "never.txt", *options, *storage, *access], folder, variables, code=1)
    assert "Error in rule broken" in said
    assert "AWS Batch job failed. Code: 1, Msg: Essential container in task exited" in said
    assert workshop.yard.endings("snakejob-*") == [*["SUCCEEDED"] * 3, "FAILED"]
    left = workshop.yard.batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    assert not [each for each in left if each["jobDefinitionName"].startswith("snakejob-")]
