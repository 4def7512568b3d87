"""Whatever is sent to whatever call: an answer, or a refusal that says why; never a bug's story, never a dead controller."""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import Awaitable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import batchyard.v1
from batchyard.v1 import job_pb2

from .bad_requests import DIGITS
from .controller import MemoryController, definition
from .hand_agent import HandAgent
from .rpcs import RPCS, Rpc

ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
ANSWERS |= {"UNAUTHENTICATED"}


def test_every_service_of_the_contract_is_served() -> None:
    modules = {
        m.name.removesuffix("_pb2_grpc") for m in pkgutil.iter_modules(batchyard.v1.__path__) if "_grpc" in m.name
    }
    served = {rpc.path.split("/")[1].rpartition(".")[2] for rpc in RPCS.values()}
    with_services = {"".join(part.title() for part in name.split("_")) + "Service" for name in modules}
    # protoc writes an empty module for a file without a service
    assert served == with_services - {"ResourcesService", "AttemptService", "SecurityService", "EntryService"}


NEEDS_NOTHING = {"CreateAccessKey"}
"""Calls that an empty request asks for something."""


async def _code(yard: MemoryController, rpc: Rpc, request: Message) -> str:
    try:
        await rpc.ask(yard.channel, request)
    except grpc.aio.AioRpcError as err:
        return err.code().name
    return "OK"


@pytest.mark.parametrize("name", RPCS)
async def test_empty_request_is_answered_or_refused(yard: MemoryController, name: str) -> None:
    before = yard.stored()
    assert await _code(yard, RPCS[name], RPCS[name].request()) in ANSWERS
    assert name in NEEDS_NOTHING or yard.stored() == before


# Random requests ------------------------------------------------------------------

WORDS = ("", "default", "train", "train:1", "alpha", "x", "nobody", "<job>", "<array>", "<array>:0", "<array>:999")
NASTY = ("\0", "\n", "\N{PILE OF POO}", "\u0661", "a" * 129, "train:" + DIGITS, "<array>:" + DIGITS, "1-" + DIGITS)
TOKENS = ("MTo=", "MTox", "MTrCsg==", "MTphOmI=", "MTphOg==", "MTo6")
NUMBERS = (0, 1, -1, 2, 100, 1000, 1001, 2**31 - 1, -(2**31))
LARGE = (2**63 - 1, -(2**63), 2**53)

KINDS = FieldDescriptor


def _scalar(field: FieldDescriptor) -> SearchStrategy[Any]:
    match field.cpp_type:
        case KINDS.CPPTYPE_STRING if field.type == KINDS.TYPE_BYTES:
            return st.binary(max_size=20)
        case KINDS.CPPTYPE_STRING:
            return st.one_of(st.sampled_from(WORDS), st.sampled_from(NASTY + TOKENS), st.text(max_size=8))
        case KINDS.CPPTYPE_BOOL:
            return st.booleans()
        case KINDS.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return st.one_of(st.sampled_from([v.number for v in field.enum_type.values]), st.sampled_from((99, -1)))
        case KINDS.CPPTYPE_INT64:
            return st.sampled_from(NUMBERS + LARGE)
        case KINDS.CPPTYPE_INT32:
            return st.sampled_from(NUMBERS)
        case KINDS.CPPTYPE_DOUBLE:
            return st.floats()
        case _:
            raise AssertionError(f"the contract has no such field: {field.full_name}")


def _value(field: FieldDescriptor, depth: int) -> SearchStrategy[Any]:
    if field.cpp_type == KINDS.CPPTYPE_MESSAGE:
        return _fields(field.message_type, depth + 1)
    return _scalar(field)


def _fields(descriptor: Any, depth: int = 0) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for a message as keyword arguments; each field is set or not."""
    wanted: dict[str, SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            keys, values = field.message_type.fields
            wanted[field.name] = st.dictionaries(_scalar(keys), _value(values, depth), max_size=2)
        elif field.label == KINDS.LABEL_REPEATED:
            wanted[field.name] = st.lists(_value(field, depth), max_size=3)
        else:
            wanted[field.name] = _value(field, depth)
    return st.fixed_dictionaries({}, optional=wanted)


def _with_ids(value: Any, job_id: str, array_id: str) -> Any:
    """Put ids of jobs that exist in the place of their stand-ins."""
    match value:
        case str():
            return value.replace("<job>", job_id).replace("<array>", array_id)
        case list():
            return [_with_ids(each, job_id, array_id) for each in value]
        case dict():
            return {_with_ids(k, job_id, array_id): _with_ids(v, job_id, array_id) for k, v in value.items()}
        case _:
            return value


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """Return a loop that one test keeps over all its examples."""
    with asyncio.Runner() as runner:
        yield runner


class Swept:
    """A controller that lives through all examples of a test."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def run(self, work: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await work

        return self._runner.run(wait())

    async def open(self) -> None:
        self.yard = await MemoryController().__aenter__()
        await self.yard.until_leads()
        await self.yard.furnish()
        await self.yard.definitions.RegisterJobDefinition(definition("train"))
        await HandAgent(self.yard).join()
        self.job = await self.yard.submit()
        self.array = await self.yard.submit(array_size=1000)

    async def check(self, rpc: Rpc, fields: dict[str, Any]) -> None:
        request = rpc.request(**_with_ids(fields, self.job, self.array))
        before, epoch = self.yard.stored(), self.yard.data.epoch
        code = await _code(self.yard, rpc, request)
        assert code in ANSWERS, (code, rpc.name, request)
        if code != "OK":
            assert self.yard.stored() == before, "what is refused changes nothing"
        assert (self.yard.data.epoch, self.yard.leadership.leads) == (epoch, True), "the term goes on"


@pytest.fixture
def swept(loop: asyncio.Runner) -> Iterator[Swept]:
    swept = Swept(loop)
    swept.run(swept.open())
    yield swept
    swept.run(swept.yard.__aexit__())


@pytest.mark.parametrize("name", [rpc.name for rpc in RPCS.values() if not rpc.streams_out])
def test_random_request_is_answered_or_refused(swept: Swept, name: str) -> None:
    rpc = RPCS[name]

    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(_fields(rpc.request.DESCRIPTOR))
    def check(fields: dict[str, Any]) -> None:
        swept.run(swept.check(rpc, fields))

    check()


def test_random_submits_of_a_stream_are_answered_or_refused(swept: Swept) -> None:
    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(_fields(job_pb2.SubmitJobsRequest.DESCRIPTOR))
    def check(fields: dict[str, Any]) -> None:
        swept.run(swept.check(RPCS["SubmitJobs"], fields))

    check()


def test_random_watch_begins_or_is_refused(swept: Swept) -> None:
    @settings(max_examples=40, derandomize=True, database=None)
    @given(_fields(job_pb2.WatchJobsRequest.DESCRIPTOR))
    def check(fields: dict[str, Any]) -> None:
        fields.pop("cursor", None)  # a cursor that is known waits for changes, and none come
        swept.run(swept.check(RPCS["WatchJobs"], fields))

    check()
