"""
A real gateway over a real controller, both in a thread of this process, on free ports of loopback.

Clients are real too: boto3, whose every answer is checked against botocore's model, and
plain HTTP for what boto3 would not send.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import boto3
import botocore.exceptions
import botocore.session
from botocore.config import Config as ClientConfig
from botocore.model import Shape, StructureShape
from tests.services.controller import MemoryController
from tests.services.hand_agent import HandAgent

from batchyard.client import AsyncClient
from batchyard_gateway.app import Gateway, listen, serving
from batchyard_gateway.batch.operations import SERVICE
from batchyard_gateway.config import Config
from batchyard_gateway.services import Guard, Principal
from batchyard_gateway.wire import Request

R = TypeVar("R")

PATIENCE_S = 30.0
MODEL = botocore.session.get_session().get_service_model("batch")

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ARN = f"arn:aws:batch:{REGION}:{ACCOUNT}:"

NOT_REALLY_REQUIRED = ("JobDetail.startedAt", "ListJobsResponse.jobSummaryList")
"""Members that botocore's model calls required and AWS leaves out, as when a job never ran."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


ANYBODY = "ANYBODY"


class Anybody:
    """Admits whatever comes as one user: for tests of what is behind the door, and of the door's other locks."""

    async def admit_head(self, head: Request, source: str) -> None:
        pass

    async def admit(self, request: Request, is_change: bool) -> Principal:
        return Principal(access_key_id=ANYBODY)


class Endpoint:
    """
    The gateway of one test; a context manager.

    Args:
        guard: Who may call, given the client to ask; default anybody.
        controller: Where the gateway looks for its controller; empty is where it is.
        settings: Of the gateway.
    """

    def __init__(
        self, *, controller: str = "", guard: Callable[[AsyncClient], Guard] | None = None, **settings: Any
    ) -> None:
        self._guard = guard or (lambda _: Anybody())
        self._controller = controller
        self._settings = {"account_id": ACCOUNT, "region": "us-east-1", "listen": "127.0.0.1:0"} | settings
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._is_up = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with MemoryController() as self.yard, AsyncClient(self._controller or self.yard.address) as self.client:
            await self.yard.until_leads()
            await self.yard.know_access_key(ANYBODY)
            config = Config(controller=self.client.address, **self._settings)
            gateway = Gateway(config=config, client=self.client, services=(SERVICE,), guard=self._guard(self.client))
            with listen(config.listen) as listener:
                self.port = listener.getsockname()[1]
                async with serving(gateway) as web:
                    at_work = asyncio.create_task(web._serve(sockets=[listener]))
                    self._is_up.set()
                    await self._stop.wait()
                    web.should_exit = True
                    await at_work

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the loop of controller and gateway."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def agent(self, **fields: Any) -> HandAgent:
        """Connect a host that does what it is told by the test."""

        async def join() -> HandAgent:
            agent = HandAgent(self.yard, **fields)
            await agent.join()
            return agent

        return self.run(join())

    def batch(self, **config: Any) -> Any:
        """Return boto3's client, which checks what it gets."""
        settings = {"retries": {"max_attempts": 0}, "read_timeout": PATIENCE_S} | config
        client = boto3.client(
            "batch",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
            aws_secret_access_key="secret",
            config=ClientConfig(**settings),
        )
        client.meta.events.register("before-parse.batch", _check_answer)
        return client

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send plain HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
        finally:
            connection.close()

    def post(self, operation: str, members: Any) -> Reply:
        """Call an operation as no SDK would."""
        return self.send("POST", f"/v1/{operation.lower()}", json.dumps(members).encode())


class Yard:
    """What most tests begin with, made through the gateway itself."""

    def __init__(self, endpoint: Endpoint, batch: Any) -> None:
        self.endpoint = endpoint
        self.batch = batch
        batch.create_compute_environment(**environment("ce"))
        batch.create_job_queue(**queue("q"))
        batch.register_job_definition(**definition("d"))

    def submit(self, name: str = "j", **members: Any) -> str:
        """Submit a job of ``d`` to ``q`` and return its id."""
        filled = {"jobQueue": "q", "jobDefinition": "d"} | members
        return str(self.batch.submit_job(jobName=name, **filled)["jobId"])

    def job(self, job_id: str) -> Any:
        """Describe one job."""
        (job,) = self.batch.describe_jobs(jobs=[job_id])["jobs"]
        return job


def environment(name: str, **resources: Any) -> dict[str, Any]:
    """Return a right CreateComputeEnvironment."""
    filled: dict[str, Any] = {
        "type": "EC2",
        "allocationStrategy": "BEST_FIT_PROGRESSIVE",
        "minvCpus": 0,
        "maxvCpus": 16,
        "instanceTypes": ["optimal"],
        "subnets": ["subnet-1"],
        "securityGroupIds": ["sg-1"],
        "instanceRole": "ecsInstanceRole",
    } | resources
    return {"computeEnvironmentName": name, "type": "MANAGED", "computeResources": filled}


def queue(name: str, environment: str = "ce", **members: Any) -> dict[str, Any]:
    """Return a right CreateJobQueue."""
    order = [{"order": 1, "computeEnvironment": environment}]
    return {"jobQueueName": name, "priority": 1, "computeEnvironmentOrder": order, **members}


REQUIREMENTS = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "128"}]


def definition(name: str, container: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Return a right RegisterJobDefinition."""
    properties = {"image": "busybox", "command": ["true"], "resourceRequirements": REQUIREMENTS, **(container or {})}
    return {"jobDefinitionName": name, "type": "container", "containerProperties": properties, **members}


def _check_answer(operation_model: Any, response_dict: Any, **_: Any) -> None:
    """Check one answer before botocore reads it: botocore drops what it does not know."""
    assert response_dict["headers"]["x-amzn-requestid"]
    if response_dict["status_code"] == 200:
        value = json.loads(response_dict["body"])
        if operation_model.output_shape is None:
            assert value == {}
        else:
            check_shape(operation_model.output_shape, value, operation_model.name)


def check_shape(shape: Shape, value: Any, at: str) -> None:
    """Check that a value is of a shape: no unknown member, all required ones, right types and words."""
    match shape.type_name:
        case "structure":
            assert isinstance(shape, StructureShape)
            assert isinstance(value, dict), at
            assert value.keys() <= shape.members.keys(), f"{at}: {value.keys() - shape.members.keys()}"
            missing = [name for name in shape.required_members if name not in value]
            assert not [name for name in missing if f"{shape.name}.{name}" not in NOT_REALLY_REQUIRED], (
                f"{at}: {missing}"
            )
            for name, member in value.items():
                check_shape(shape.members[name], member, f"{at}.{name}")
        case "list":
            assert isinstance(value, list), at
            for i, item in enumerate(value):
                check_shape(shape.member, item, f"{at}[{i}]")
        case "map":
            assert isinstance(value, dict), at
            for key, item in value.items():
                check_shape(shape.value, item, f"{at}[{key}]")
        case "string":
            assert isinstance(value, str), at
            words = getattr(shape, "enum", None)
            # AWS stores and tells the action of a rule in lower case, whatever its model says.
            assert not words or (value.upper() if shape.name == "RetryAction" else value) in words, f"{at}: {value}"
        case "integer" | "long":
            assert type(value) is int, at
        case "double" | "float":
            assert type(value) in (int, float), at
        case "boolean":
            assert type(value) is bool, at
        case other:
            raise AssertionError(f"{at}: {other}")


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without what botocore adds."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def error_of(call: Callable[[], Any]) -> tuple[str, str, int]:
    """Return code, message and status of a call that must fail."""
    try:
        answer = call()
    except botocore.exceptions.ClientError as err:
        metadata = err.response["ResponseMetadata"]
        message = str(err.response["Error"]["Message"])
        return (
            str(err.response["Error"]["Code"]),
            message.replace(metadata["RequestId"], "<id>"),
            metadata["HTTPStatusCode"],
        )
    raise AssertionError(f"it was not refused: {answer}")
