"""The whole program: health, reflection, what each listener serves, and an end on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from batchyard.errors import Reason
from batchyard.v1 import access_key_pb2 as ak
from batchyard.v1.access_key_pb2_grpc import AccessKeyServiceStub
from batchyard_controller.app import SERVICES, serve
from batchyard_controller.config import Config
from batchyard_controller.store.sqlite import SqliteStore

from .controller import PATIENCE_S, refusal

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
async def former(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Return a leader of the store that the program is to use."""
    store = SqliteStore(tmp_path / "controller.db")
    await store.campaign("former")
    yield store
    await store.close()


@pytest.fixture
async def channel(former: SqliteStore, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """Run the program as ``batchyard controller`` does, and end it by SIGTERM."""
    address = _free_address()
    program = asyncio.create_task(
        serve(
            Config(
                socket=tmp_path / "controller.sock",
                listen=address,
                is_insecure=True,
                store=f"sqlite://{tmp_path / 'controller.db'}",
            )
        )
    )
    async with grpc.aio.insecure_channel(address) as opened:
        yield opened
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        await program


async def test_health_is_serving_while_the_controller_leads_and_only_then(
    channel: grpc.aio.Channel, former: SqliteStore
) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(PATIENCE_S):
        for service in ("", *SERVICES):
            request = health_pb2.HealthCheckRequest(service=service)
            assert (await health.Check(request, wait_for_ready=True)).status == NOT_SERVING
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watched.read()).status == NOT_SERVING
        await former.close()
        assert (await watched.read()).status == SERVING
        watched.cancel()
    for service in ("", *SERVICES):
        request = health_pb2.HealthCheckRequest(service=service)
        async with asyncio.timeout(PATIENCE_S):
            while (await health.Check(request)).status != SERVING:
                await asyncio.sleep(0.01)


async def test_reflection_names_every_service_and_gives_its_file(channel: grpc.aio.Channel) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(wait_for_ready=True)
    async with asyncio.timeout(PATIENCE_S):
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert {*SERVICES, "grpc.health.v1.Health"} <= names
        for name in SERVICES:
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
            assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()
        call.cancel()


async def test_access_keys_are_served_on_the_programs_socket_and_not_on_its_port(
    channel: grpc.aio.Channel, former: SqliteStore, tmp_path: Path
) -> None:
    """Nor are the keys that sign for their owners."""
    await former.close()
    derive = ak.DeriveSigningKeyRequest()
    async with asyncio.timeout(PATIENCE_S), grpc.aio.insecure_channel(f"unix:{tmp_path}/controller.sock") as own:
        served = AccessKeyServiceStub(own)
        watched = health_pb2_grpc.HealthStub(own).Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        while (await watched.read()).status != SERVING:
            pass
        watched.cancel()
        made = await served.CreateAccessKey(ak.CreateAccessKeyRequest())
        assert list((await served.ListAccessKeys(ak.ListAccessKeysRequest())).access_keys) == [made.access_key]
        assert (await served.DeriveSigningKey(derive)).any_keys
    elsewhere = AccessKeyServiceStub(channel)
    for call in (elsewhere.ListAccessKeys(ak.ListAccessKeysRequest()), elsewhere.DeriveSigningKey(derive)):
        assert (await refusal(call)).reason == Reason.SOCKET_ONLY
