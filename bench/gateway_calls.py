"""Calls through boto3 and the AWS gateway beside the same through gRPC, and what the gateway adds to one call.

boto3 itself is Python too and shares the machine; what it costs a call is not taken off.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import boto3
from bench.figures import Figure, median, spread
from bench.scale import Scale
from bench.yard import QUEUE, Program, Yard, open_yard, small_job, timed
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from tests.ports import hold_address

from batchyard import AsyncClient, Client

THREADS = 16
DEFINITION = "bench"
REGION = "us-east-1"


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Alternate between the two ways in, so that both see the same machine."""
    async with open_yard() as yard:
        address = hold_address()
        arguments = ("batchyard_gateway", "--listen", address, "--controller", yard.socket, "--log-level", "error")
        yard.programs.append(Program("gateway", yard.folder, *arguments))
        await yard.client.register_job_definition(DEFINITION, container=small_job("fake://"))
        await asyncio.to_thread(_until_answers, address)
        async with AsyncClient(yard.socket) as owner:
            made = await owner.create_access_key()
        credentials = Credentials(made.access_key.id, made.secret)
        with Client(yard.address) as grpc_client:
            # A thread of its own: the yard's loop must not stand still meanwhile.
            for figure in await asyncio.to_thread(_measure, scale, yard, address, grpc_client, credentials):
                yield figure


def _measure(scale: Scale, yard: Yard, address: str, grpc_client: Client, credentials: Credentials) -> list[Figure]:
    config = Config(max_pool_connections=THREADS, retries={"total_max_attempts": 1})
    batch = boto3.client(
        "batch",
        endpoint_url=f"http://{address}",
        config=config,
        region_name=REGION,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
    )
    submit = {"jobName": "bench", "jobQueue": QUEUE, "jobDefinition": DEFINITION}
    job_id = batch.submit_job(**submit)["jobId"]
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "submits": (
            lambda: batch.submit_job(**submit),
            lambda: grpc_client.submit_job(name="bench", queue=QUEUE, job_definition=DEFINITION),
        ),
        "describes": (lambda: batch.describe_jobs(jobs=[job_id]), lambda: grpc_client.describe_jobs([job_id])),
    }
    figures = [_rates(scale, yard, name, *calls) for name, calls in pairs.items()]
    return [*figures, _added(scale, address, job_id, grpc_client, credentials)]


def _rates(scale: Scale, yard: Yard, name: str, through: Callable[[], object], direct: Callable[[], object]) -> Figure:
    rounds, seconds = scale.pick(5, 2), scale.pick(3, 1)
    ours: list[float] = []
    bare: list[float] = []
    gateway, used_s = yard.programs[-1], 0.0
    for _ in range(rounds):
        bare.append(_calls_per_s(direct, seconds))
        before_s = gateway.cpu_s()
        ours.append(_calls_per_s(through, seconds))
        used_s += gateway.cpu_s() - before_s
    cpu_ms = 1000 * used_s / (sum(ours) * seconds)
    return Figure(
        name=f"{name} by boto3, {THREADS} threads",
        value=median(ours),
        unit="/s",
        baseline=median(bare),
        baseline_name="the same by gRPC",
        note=f"{spread(ours)}; CPU a call: gateway {cpu_ms:.2f} ms",
    )


def _calls_per_s(call: Callable[[], object], seconds: float) -> float:
    began = time.perf_counter()

    def repeat() -> int:
        for made in itertools.count(1):
            call()
            if time.perf_counter() - began > seconds:
                return made
        raise AssertionError

    with ThreadPoolExecutor(THREADS) as threads:
        made = sum(future.result() for future in [threads.submit(repeat) for _ in range(THREADS)])
    return made / (time.perf_counter() - began)


def _added(scale: Scale, address: str, job_id: str, grpc_client: Client, credentials: Credentials) -> Figure:
    """Measure one call at a time, over bare HTTP and signed before: what boto3 costs is no part of it."""
    count = scale.pick(1_000, 200)
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port))
    body = json.dumps({"jobs": [job_id]}).encode()
    url = f"http://{address}/v1/describejobs"
    signed = AWSRequest(method="POST", url=url, data=body, headers={"Content-Type": "application/json"})
    SigV4Auth(credentials, "batch", REGION).add_auth(signed)

    def over_http() -> None:
        connection.request("POST", "/v1/describejobs", body, dict(signed.headers))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    ours = timed([over_http] * count)
    bare = timed([lambda: grpc_client.describe_jobs([job_id])] * count)
    connection.close()
    added_ms = 1000 * (median(ours) - median(bare))
    return Figure(
        name="one DescribeJobs over HTTP",
        value=1000 * median(ours),
        unit="ms",
        baseline=1000 * median(bare),
        baseline_name="the same by gRPC",
        note=f"the gateway adds {added_ms:.2f} ms",
    )


def _until_answers(address: str) -> None:
    give_up_at = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("POST", "/v1/describejobqueues", "{}")
            connection.getresponse().read()
            connection.close()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)
        else:
            return
