"""The sweep of bad input through the SDK: each mistake is its own error, with field and rule, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.house import reasons

import batchyard
from batchyard import errors
from batchyard.v1 import compute_environment_pb2 as ce
from batchyard.v1 import job_pb2

from .controller import MemoryController, container, definition, environment, queue

Call = Callable[[batchyard.AsyncClient], Awaitable[Any]]

TRUE = container("true")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ADDRESS", "CONFIG", "OUTPUT", "QUEUE", "TIMEOUT_S", "RETRY_S"):
        monkeypatch.delenv(f"BATCHYARD_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
async def client(yard: MemoryController) -> AsyncIterator[batchyard.AsyncClient]:
    await yard.environments.CreateComputeEnvironment(environment("idle"))
    await yard.queues.CreateJobQueue(queue("closed", state=ce.RESOURCE_STATE_DISABLED))
    await yard.definitions.RegisterJobDefinition(definition("train"))
    async with batchyard.AsyncClient(yard.address) as opened:
        yield opened


def _submit(**fields: Any) -> Call:
    if "job_definition" not in fields:
        fields.setdefault("container", TRUE)
    return lambda client: client.submit_job(**({"name": "j"} | fields))


def _drain(listing: Callable[[batchyard.AsyncClient], Any]) -> Call:
    async def read(client: batchyard.AsyncClient) -> None:
        async for _ in listing(client):
            pass

    return read


def _make(maker: Callable[..., Any], *args: Any, **fields: Any) -> Call:
    async def make(client: batchyard.AsyncClient) -> Any:
        return await client.submit_job(name="j", container=maker(*args, **fields))

    return make


INVALID, NOT_FOUND, EXISTS, STATE = (
    errors.InvalidArgumentError,
    errors.NotFoundError,
    errors.AlreadyExistsError,
    errors.FailedPreconditionError,
)

CASES: dict[str, tuple[Call, type[errors.RequestError], str]] = {
    # Wrong types: refused before any call.
    "name of bytes": (_submit(name=b"j"), INVALID, "name: must be a str, not bytes"),
    "name of None": (_submit(name=None), INVALID, "name: must be a str, not NoneType"),
    "queue of a number": (_submit(queue=7), INVALID, "queue: must be a str, not int"),
    "container of a dict": (_submit(container={"a": 1}), INVALID, "container: must be a ContainerProperties, not dict"),
    "array of a float": (_submit(array_size=2.0), INVALID, "array_size: must be an int, not float"),
    "array of a bool": (_submit(array_size=True), INVALID, "array_size: must be an int, not bool"),
    "array of 2**63": (
        _submit(array_size=2**63),
        INVALID,
        "array_size: must be from -9223372036854775808 to 9223372036854775807",
    ),
    "attempts of a text": (_submit(attempts="3"), INVALID, "attempts: must be an int, not str"),
    "depends on one text": (
        _submit(depends_on="abc"),
        INVALID,
        "depends_on: must be a list of job ids or Dependency, not str",
    ),
    "tags of a list": (_submit(tags=["a"]), INVALID, "tags: must be a mapping of str to str, not list"),
    "tags of numbers": (_submit(tags={"a": 1}), INVALID, "tags['a']: must be a str, not int"),
    "lone surrogate": (_submit(name="a\ud800"), INVALID, "name: is not valid UTF-8: 'a\\ud800'"),
    "surrogate in a command": (
        _make(batchyard.container, ["echo", "\udcff"]),
        INVALID,
        "container.command[1]: is not valid UTF-8: '\\udcff'",
    ),
    "command of one text": (
        _make(batchyard.container, "echo hello"),
        INVALID,
        "container.command: must be a list of str, not str",
    ),
    "vCPUs of nonsense": (
        _make(batchyard.container, ["x"], vcpus="many"),
        INVALID,
        "container.vcpus: 'many' is not a number",
    ),
    "memory of nonsense": (
        _make(batchyard.container, ["x"], memory="lots"),
        INVALID,
        "container.memory: 'lots' is not a size such as 512M or 4G",
    ),
    "timeout of a float": (_submit(timeout_s=1.5), INVALID, "timeout_s: must be an int, not float"),
    "page of a text": (
        _drain(lambda c: c.list_jobs(page_size=cast("int", "9"))),
        INVALID,
        "page_size: must be an int, not str",
    ),
    # Rules of the service.
    "name of 129": (
        _submit(name="n" * 129),
        INVALID,
        "name: Job name should match valid pattern: 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...' has 129 characters; at most 128 are allowed",
    ),
    "name with a dot": (
        _submit(name="a.b"),
        INVALID,
        "name: Job name should match valid pattern: 'a.b' may hold only letters, digits, '-' and '_'",
    ),
    "name with a NUL": (
        _submit(name="a\0"),
        INVALID,
        "name: Job name should match valid pattern: 'a\\x00' may hold only letters, digits, '-' and '_'",
    ),
    "no vCPUs": (
        _make(batchyard.container, ["x"], vcpus=0),
        INVALID,
        "container.resources.cpu_millis: vCPU is not provided. At least 1 thousandth of a vCPU is required",
    ),
    "negative memory": (
        _make(batchyard.container, ["x"], memory=-5),
        INVALID,
        "container.resources.memory_mib: -5 MiB is not between 4 and 1073741824",
    ),
    "huge GPUs": (
        _make(batchyard.container, ["x"], gpus=10**15),
        INVALID,
        f"container.resources.gpu_millis: {10**18} thousandths of a GPU is not between 0 and 1000000",
    ),
    "empty command": (
        _make(batchyard.container, []),
        INVALID,
        "container.command: a command is required when there is no image",
    ),
    "image of 256": (
        _make(batchyard.container, ["x"], image="i" * 256),
        INVALID,
        "container.image: 256 characters; at most 255 are allowed",
    ),
    "array of 1": (_submit(array_size=1), INVALID, "array_size: 1 is not between 2 and 1000000"),
    "11 attempts": (_submit(attempts=11), INVALID, "retry_strategy.attempts: 11 is not between 1 and 10"),
    "unknown queue": (_submit(queue="nobody"), NOT_FOUND, "JobQueue nobody not found."),
    "disabled queue": (_submit(queue="closed"), STATE, "JobQueue closed is DISABLED and takes no new jobs"),
    "unknown definition": (
        _submit(job_definition="nobody"),
        NOT_FOUND,
        "JobDefinition name nobody does not exist or is not in ACTIVE status",
    ),
    "definition over 24 KiB": (
        lambda c: c.register_job_definition("d", container=TRUE, parameters={"p": "x" * 24 * 1024}),
        INVALID,
        "job_definition: the payload has 24608 bytes; at most 24576 are allowed",
    ),
    "submit over 30 KiB": (
        _submit(parameters={"p": "x" * 30 * 1024}, request_id="r"),
        INVALID,
        "request: the payload has 30762 bytes; at most 30720 are allowed",
    ),
    "environment twice": (
        lambda c: c.create_compute_environment("default"),
        EXISTS,
        "compute environment default exists already",
    ),
    "queue twice": (lambda c: c.create_job_queue("default"), EXISTS, "job queue default exists already"),
    "environment in use": (
        lambda c: c.delete_compute_environment("default"),
        STATE,
        "Cannot delete, found existing JobQueue relationship: closed, default",
    ),
    "queue that is enabled": (
        lambda c: c.delete_job_queue("default"),
        STATE,
        "job queue default is ENABLED; disable it before you delete it",
    ),
    "environment that is enabled": (
        lambda c: c.delete_compute_environment("idle"),
        STATE,
        "compute environment idle is ENABLED; disable it before you delete it",
    ),
    "cancel of nobody": (lambda c: c.cancel_job("nobody", "r"), NOT_FOUND, "job 'nobody' not found"),
    "terminate without a reason": (lambda c: c.terminate_job("nobody", ""), INVALID, "reason: a reason is required"),
    "explain of nobody": (lambda c: c.explain_job("nobody"), NOT_FOUND, "job 'nobody' not found"),
    "wait for nobody": (lambda c: c.wait("nobody"), NOT_FOUND, "no such job: nobody"),
    "log of nobody": (_drain(lambda c: c.read_logs("nobody")), NOT_FOUND, "job 'nobody' not found"),
    "page of 1001": (
        _drain(lambda c: c.list_jobs(page_size=1001)),
        INVALID,
        "page_size: 1001 is not between 0 and 1000",
    ),
    "list of an unknown queue": (
        _drain(lambda c: c.list_jobs(queue="nobody")),
        NOT_FOUND,
        "JobQueue 'nobody' not found.",
    ),
    "watch of an unknown queue": (
        _drain(lambda c: c.watch_jobs(queue="nobody")),
        NOT_FOUND,
        "JobQueue 'nobody' not found.",
    ),
    "host nobody": (lambda c: c.describe_host("nobody"), NOT_FOUND, "host 'nobody' not found"),
    "cordon of nobody": (lambda c: c.cordon_host("nobody"), NOT_FOUND, "host 'nobody' not found"),
}


@pytest.mark.parametrize("name", CASES)
async def test_mistake_is_told_by_its_own_error(
    yard: MemoryController, client: batchyard.AsyncClient, name: str
) -> None:
    call, kind, text = CASES[name]
    before = yard.stored()
    with pytest.raises(errors.RequestError) as caught:
        await call(client)
    assert (type(caught.value), str(caught.value)) == (kind, text)
    if isinstance(caught.value, errors.InvalidArgumentError):
        assert [str(v) for v in caught.value.violations] == [text]
        assert {v.reason for v in caught.value.violations} <= reasons.OF_VIOLATIONS - {errors.Reason.INVALID_VALUE}
    else:
        assert caught.value.metadata.keys() == reasons.METADATA[caught.value.reason]
    assert yard.stored() == before


async def test_every_broken_rule_is_told_at_once(client: batchyard.AsyncClient) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await client.submit_job(name="a.b", queue="", container=TRUE, array_size=1, timeout_s=-1)
    assert [v.field for v in caught.value.violations] == ["name", "queue", "array_size", "timeout_s"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a.b", "array_size": 1},
        {"queue": "nobody"},
        {"queue": "closed"},
        {"job_definition": "nobody", "container": None},
        {"depends_on": ["00000000-0000-7000-8000-000000000000"]},
        {"depends_on": ["request:nobody"]},
    ],
)
async def test_job_of_many_gets_the_error_that_it_would_get_alone(
    client: batchyard.AsyncClient, wrong: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"name": "j", "queue": "default", "container": TRUE} | wrong
    with pytest.raises(errors.RequestError) as alone:
        await client.submit_job(**fields)
    fields["depends_on"] = [job_pb2.Dependency(job_id=job_id) for job_id in wrong.get("depends_on", ())]
    requests = [job_pb2.SubmitJobRequest(**fields), job_pb2.SubmitJobRequest(name="good", container=TRUE)]
    refused, taken = [batchyard.submit_error(result) async for result in client.submit_jobs(requests)]
    assert taken is None
    assert refused is not None
    assert (type(refused), str(refused)) == (alone.type, str(alone.value))
    assert vars(refused) == vars(alone.value), "reason, metadata, and violations with theirs"


async def test_address_where_nobody_answers_is_told_from_a_controller_that_cannot() -> None:
    async with batchyard.AsyncClient("127.0.0.1:1", retry_s=0.1) as nobody:
        with pytest.raises(errors.UnavailableError) as caught:
            await nobody.describe_jobs(["x"])
    assert caught.value.reason == errors.Reason.CONTROLLER_UNREACHABLE


async def test_request_of_10_mib_is_refused(yard: MemoryController, client: batchyard.AsyncClient) -> None:
    before = yard.stored()
    with pytest.raises(errors.ResourceExhaustedError):
        await client.submit_job(name="j", container=TRUE, parameters={"p": "x" * (10 << 20)})
    assert yard.stored() == before


async def test_sync_client_tells_the_same(yard: MemoryController) -> None:
    def submit() -> str:
        with batchyard.Client(yard.address) as client, pytest.raises(errors.NotFoundError) as caught:
            client.submit_job(name="j", queue="nobody", container=TRUE)
        return str(caught.value)

    assert await asyncio.to_thread(submit) == "JobQueue nobody not found."
