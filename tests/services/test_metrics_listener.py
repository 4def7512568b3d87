"""Metrics beyond loopback: over TLS of the yard's CA, to who has the role, and to nobody else."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.ports import hold_address

from batchyard.v1 import access_pb2
from batchyard.yard_names import controller_name
from batchyard_controller.app import _identifier
from batchyard_controller.core.access.directory import Credentials
from batchyard_controller.core.access.roles import Principal
from batchyard_controller.metrics_listener import serve_metrics

from .secured import TOKEN, YARD, Secured, secured


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Secured]:
    async with secured(tmp_path / "controller") as doors:
        yield doors


@asynccontextmanager
async def listening(doors: Secured) -> AsyncIterator[str]:
    """Yield where metrics are served to other machines, of which this one plays the part."""
    port = hold_address().rpartition(":")[2]
    identify = _identifier(doors.yard.leadership, doors.trust)
    server = serve_metrics(f"0.0.0.0:{port}", doors.yard.metrics.registry, doors.authority, identify)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()


def scrape(address: str, bundle: str, token: str = "", yard: str = YARD) -> tuple[int, str]:
    """Ask as Prometheus does with ``tls_config: {ca_file, server_name}`` and ``authorization``."""
    context = ssl.create_default_context(cadata=bundle)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        secured = context.wrap_socket(plain, server_hostname=controller_name(yard))
        with secured:
            assert secured.version() == "TLSv1.3"
            connection = http.client.HTTPConnection(host)
            connection.sock = secured
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


async def _token(doors: Secured, user: str, role: str) -> str:
    if role:
        await doors.yard.access.BindRole(access_pb2.BindRoleRequest(user=user, role=role))
    return str((await doors.yard.access.CreateToken(access_pb2.CreateTokenRequest(user=user))).token)


async def test_metrics_are_told_to_who_has_the_role(doors: Secured) -> None:
    tokens = {role: await _token(doors, f"u-{role}", role) for role in ("metrics", "operator", "security-admin")}
    asked = {
        "": 401,
        "by_pat_0123456789abcdef_" + "A" * 43: 401,
        tokens["operator"]: 403,
        tokens["security-admin"]: 403,
        tokens["metrics"]: 200,
        TOKEN: 200,
    }
    async with listening(doors) as address:
        for token, status in asked.items():
            told = await asyncio.to_thread(scrape, address, doors.authority.bundle, token)
            assert (told[0], "batchyard_plan_seconds" in told[1]) == (status, status == 200), told[1][:200]


async def test_who_speaks_no_tls_or_nothing_holds_up_nobody(doors: Secured) -> None:
    async with listening(doors) as address:
        host, _, port = address.rpartition(":")
        silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(20)]
        plain = http.client.HTTPConnection(address, timeout=10)
        plain.request("GET", "/metrics")
        with pytest.raises((http.client.HTTPException, OSError)):
            await asyncio.to_thread(plain.getresponse)
        plain.close()
        assert (await asyncio.to_thread(scrape, address, doors.authority.bundle, TOKEN))[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(scrape, address, doors.authority.bundle, TOKEN, "other")
        for each in silent:
            each.close()


def test_beyond_loopback_nothing_is_served_without_a_ca(tmp_path: Path) -> None:
    def nobody(_: Credentials) -> Principal:
        raise AssertionError("nobody is asked")

    with pytest.raises(OSError, match="need the yard's CA"):
        serve_metrics("0.0.0.0:0", CollectorRegistry(), None, nobody)
