"""
A yard with a gateway in this process: a real controller, a real agent with processes, HTTP.

boto3 blocks, so its calls are made in threads: ``await around.call(client.operation, Name=...)``.
Each answer is checked against botocore's own model of the service.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from tests.agent.runtimes.process_records import end_attempts
from tests.gateway.endpoint import ANYBODY, Anybody
from tests.services.controller import MemoryController

from batchyard import AsyncClient, container
from batchyard.v1 import host_pb2, job_pb2
from batchyard_agent import clock
from batchyard_agent.app import Agent
from batchyard_agent.config import Config as AgentConfig
from batchyard_agent.journal import Journal
from batchyard_agent.standing import Standing
from batchyard_gateway.app import SERVICES, Gateway, build, listen, server
from batchyard_gateway.config import Config
from batchyard_gateway.services import Guard

REGION = "eu-central-1"
ACCOUNT = "123456789012"
HOST_ID = "019a0000-0000-7000-8000-0123456789ab"
PATIENCE_S = 20.0


class Around:
    """What a test needs of the yard."""

    def __init__(self, client: AsyncClient, url: str) -> None:
        self.client = client
        self.url = url
        self._boto: list[Any] = []

    def boto(self, service: str, key_id: str = "test", secret: str = "test", verify: str | None = None) -> Any:
        """Make a boto3 client that never tries twice."""
        client = boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            verify=verify,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=BotoConfig(retries={"total_max_attempts": 1}, proxies={}),
        )
        self._boto.append(client)
        return client

    async def call(self, method: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        """Call an operation and check the answer against the service's model."""
        answer = await asyncio.to_thread(method, **arguments)
        client = method.__self__  # type: ignore[attr-defined]  # a bound method of boto's client
        name = client.meta.method_to_api_mapping[method.__name__]
        shape = client.meta.service_model.operation_model(name).output_shape
        metadata = answer.pop("ResponseMetadata")
        assert metadata["HTTPHeaders"]["x-amzn-requestid"]
        report = ParamValidator().validate(answer, shape)
        assert not report.has_errors(), report.generate_report()
        return dict(answer)

    async def refused(self, method: Callable[..., Any], **arguments: Any) -> tuple[str, int, str]:
        """Call an operation that must fail; return code, status and message."""
        try:
            answer = await asyncio.to_thread(method, **arguments)
        except ClientError as err:
            error, metadata = err.response["Error"], err.response["ResponseMetadata"]
            return error["Code"], metadata["HTTPStatusCode"], error["Message"]
        raise AssertionError(f"it was answered: {answer}")

    async def run(self, *command: str, definition: str = "", **fields: Any) -> job_pb2.Job:
        """Run a process to its end."""
        return await self.client.wait(
            await self.submit(*command, definition=definition, **fields), timeout_s=PATIENCE_S
        )

    async def submit(self, *command: str, definition: str = "", **fields: Any) -> str:
        """Submit a process, with a definition of that name made for it if one is given."""
        what = container(list(command), image="process://", vcpus=0.25, memory="64M")
        if definition:
            await self.client.register_job_definition(definition, container=what)
            fields["job_definition"] = definition
        else:
            fields["container"] = what
        return (await self.client.submit_job(**{"name": "hello"} | fields)).job_id

    async def running(self, job_id: str) -> job_pb2.Job:
        """Wait until a job runs."""
        async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(self.client.watch_jobs([job_id])) as events:
            async for event in events:
                if event.job.state == job_pb2.JOB_STATE_RUNNING:
                    break
        return await self.client.describe_job(job_id)

    async def host(self) -> host_pb2.Host:
        return (await self.client.describe_host(HOST_ID)).host

    def close(self) -> None:
        for client in self._boto:
            client.close()


@contextlib.asynccontextmanager
async def around(
    folder: Path, *, guard: Callable[[AsyncClient], Guard] = lambda _: Anybody(), **settings: Any
) -> AsyncIterator[Around]:
    """Start a yard; all of it ends with the block."""
    async with MemoryController() as controller:
        await controller.until_leads()
        await controller.know_access_key(ANYBODY)
        await controller.furnish()
        async with (
            AsyncClient(controller.address) as client,
            agent(folder / "agent", controller.address),
            _gateway(client, guard(client), settings) as url,
        ):
            await until_there(client)
            yard = Around(client, url)
            try:
                yield yard
            finally:
                yard.close()


@contextlib.asynccontextmanager
async def agent(folder: Path, address: str) -> AsyncIterator[None]:
    """Run a host that runs processes."""
    config = AgentConfig(
        controller=address,
        state_dir=folder,
        name="alpha",
        runtimes=("process",),
        cpu_millis=4000,
        memory_mib=1024,
        allow_root_jobs=True,  # they look into the tests' own folders
        host_type="m5.large",
        purchase_option="on-demand",
        zone="rack-1",
        labels={"room": "cellar"},
    )
    journal = Journal.open(folder, HOST_ID)
    stop = asyncio.Event()
    standing = Standing(config.applicant, None, clock.read_wall_ms, lambda: 0.0)
    running = asyncio.create_task(Agent(config, journal, standing).run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait({running})
        journal.close()
        await asyncio.to_thread(end_attempts, folder / "process")
        running.result()


@contextlib.asynccontextmanager
async def _gateway(client: AsyncClient, guard: Guard, settings: dict[str, Any]) -> AsyncIterator[str]:
    config = Config(controller=client.address, account_id=ACCOUNT, region=REGION, **settings)
    gateway = Gateway(config=config, client=client, services=SERVICES, guard=guard)
    with listen("127.0.0.1:0") as listener:
        web = server(build(gateway), config)
        serving = asyncio.create_task(web.serve([listener]))
        try:
            yield f"{'https' if config.tls_cert else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            web.should_exit = True
            await serving


async def until_there(client: AsyncClient, *, is_there: bool = True) -> None:
    """Wait until the host is connected, or no longer."""
    async with asyncio.timeout(PATIENCE_S):
        while is_there != any([host.state == host_pb2.HOST_STATE_READY async for host in client.list_hosts()]):
            await asyncio.sleep(0.02)


def texts(answer: Mapping[str, Any]) -> list[str]:
    """Return the messages of an answer's events."""
    return [event["message"] for event in answer["events"]]
