"""What TLS, certificates and tokens add: submits, describes and start-up over users' port, beside plain text."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Figure, median, spread
from bench.scale import Scale
from bench.submits import calls_per_s
from bench.yard import CALLERS, Program, Yard, open_yard, small_job, sqlite_url, submission, temporary_folder
from tests.ports import hold_address

from batchyard.credentials import Credentials, write_credentials
from batchyard.settings import SOCKET_NAME
from batchyard.v1 import job_pb2
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard_controller.administrator import Administrator, split_token, write_administrator, write_token
from batchyard_controller.authority import Authority, make_authority

YARD = "019a0000-0000-7000-8000-00000000be9c"
TOKEN = write_token("0123456789abcdef", "b" * 43)
AIM = "within 15 %"


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Alternate between two yards, so that both see the same machine."""
    rounds, seconds = scale.pick(20, 2), 1
    job = small_job("fake://")
    rates: dict[str, dict[str, list[float]]] = {"submits": {}, "describes": {}}
    cpu_ms: dict[str, dict[str, list[float]]] = {"submits": {}, "describes": {}}
    starts: dict[str, list[float]] = {"plain": [], "secured": []}
    for _ in range(scale.pick(5, 1)):
        for kind, opened in (("plain", open_yard), ("secured", open_secured)):
            began = time.perf_counter()
            async with opened() as yard:
                await yard.add_agent("fake", 4)
                starts[kind].append(time.perf_counter() - began)
    async with open_yard() as plain, open_secured() as secured:
        yards = {"plain": plain, "secured": secured}
        known = {kind: [await _submit(yard, job) for _ in range(50)] for kind, yard in yards.items()}
        for _ in range(rounds):
            for kind, yard in yards.items():

                async def submit(yard: Yard = yard) -> None:
                    await _submit(yard, job)

                async def describe(yard: Yard = yard, ids: list[str] = known[kind]) -> None:  # read alone
                    await yard.client.calls.describe_jobs(job_pb2.DescribeJobsRequest(job_ids=ids[:10]))

                for what, call in (("submits", submit), ("describes", describe)):
                    used_s, began = yard.controller.cpu_s(), time.perf_counter()
                    rate = await calls_per_s(call, seconds)
                    made = rate * (time.perf_counter() - began)
                    rates[what].setdefault(kind, []).append(rate)
                    cpu_ms[what].setdefault(kind, []).append(1000 * (yard.controller.cpu_s() - used_s) / made)
    for what, found in rates.items():
        yield Figure(
            name=f"{what} over TLS, {CALLERS} callers, sqlite",
            value=median(found["secured"]),
            unit="/s",
            baseline=median(found["plain"]),
            baseline_name="plain text",
            aim=AIM,
            note=spread(found["secured"]),
        )
        yield Figure(
            name=f"controller's CPU for one of them, {what}",
            value=median(cpu_ms[what]["secured"]),
            unit="ms",
            baseline=median(cpu_ms[what]["plain"]),
            baseline_name="plain text",
            aim=AIM,
            note=spread(cpu_ms[what]["secured"]),
        )
    yield Figure(
        name="start-up of controller and a host that joins",
        value=median(starts["secured"]),
        unit="s",
        baseline=median(starts["plain"]),
        baseline_name="plain text",
        aim=AIM,
        note=spread(starts["secured"]),
    )


async def _submit(yard: Yard, job: ContainerProperties) -> str:
    return (await yard.client.calls.submit_job(submission(job))).job_id


class SecuredYard(Yard):
    """A yard whose client and hosts come over TLS."""

    agent_flags = ()

    async def add_agent(self, runtime: str, cpus: int, *arguments: str, name: str = "", address: str = "") -> Program:
        """Start an agent that joins first."""
        file = self.folder / "join-token"
        file.write_text((await self.client.create_join_token()).token)
        more = ("--join-token-file", str(file), *arguments)
        return await super().add_agent(runtime, cpus, *more, name=name, address=address)


@contextlib.asynccontextmanager
async def open_secured() -> AsyncIterator[Yard]:
    """Start a controller with all its doors, and stop everything in the end."""
    with temporary_folder() as folder:
        users, agents, ca = hold_address(), hold_address(), folder / "ca.pem"
        make_authority(ca, YARD, datetime.now(UTC))
        token_id, secret_hash = split_token(TOKEN)
        known = Administrator(token_id=token_id, token_sha256=secret_hash, created_at_ms=0, expires_at_ms=2**53)
        write_administrator(folder / "administrator.json", known)
        trusted = Authority(ca, time.time).bundle
        credentials = Credentials(address=users, yard=YARD, token=TOKEN, ca=trusted)
        write_credentials(folder / "credentials.toml", credentials)
        controller = Program(
            "controller",
            folder,
            "batchyard_controller",
            *("--listen", users, "--listen-agents", agents, "--ca", str(ca)),
            *("--socket", str(folder / SOCKET_NAME), "--store", sqlite_url(folder), "--log-level", "warning"),
        )
        with with_credentials(folder):
            yard = SecuredYard(folder, users, controller)
        try:
            await yard.prepare()
            yield yard
        finally:
            await yard.close()


@contextlib.contextmanager
def with_credentials(folder: Path) -> Iterator[None]:
    """Have a client that is made meanwhile find its credentials, and speak no plain text."""
    over = {"BATCHYARD_CREDENTIALS": str(folder / "credentials.toml"), "BATCHYARD_INSECURE_LOOPBACK_ONLY": "0"}
    before = {name: os.environ.get(name) for name in over}
    os.environ.update(over)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
