"""Submits per second, one job a call; bounded by the cost of a unary call in grpc.aio and by group commits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Self

import grpc.aio
from bench.figures import Figure, median, spread
from bench.scale import Scale
from bench.yard import CALLERS, QUEUE, Yard, open_yard, small_job, submission

ECHO = "/bench.Echo/Echo"
ANSWER = b"\0" * 45
"""As long as a SubmitJobResponse."""


async def measure(scale: Scale) -> AsyncIterator[Figure]:
    """Alternate between the controller and the bare server, so that both see the same machine."""
    rounds, seconds = scale.pick(5, 2), scale.pick(3, 1)
    job = small_job("fake://")
    message = submission(job).SerializeToString()
    ours: list[float] = []
    bare: list[float] = []
    async with open_yard() as yard:

        async def submit() -> None:
            await yard.submit(job)

        with _EchoServer() as server:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ECHO)

                async def call_echo() -> None:
                    await echo(message)

                used_s = yard.controller.cpu_s()
                for _ in range(rounds):
                    bare.append(await calls_per_s(call_echo, seconds))
                    ours.append(await calls_per_s(submit, seconds))
        cpu_ms = 1000 * (yard.controller.cpu_s() - used_s) / await _stored(yard)
    yield Figure(
        name=f"submits, {CALLERS} callers, sqlite",
        value=median(ours),
        unit="/s",
        baseline=median(bare),
        baseline_name="bare grpc.aio unary echo",
        note=f"{spread(ours)}; CPU a submit: controller {cpu_ms:.2f} ms",
    )


async def calls_per_s(call: Callable[[], Awaitable[None]], seconds: float) -> float:
    """Return the rate of calls by ``CALLERS`` callers, each with one under way."""
    made = 0
    stop_at = time.perf_counter() + seconds

    async def repeat() -> None:
        nonlocal made
        while time.perf_counter() < stop_at:
            await call()
            made += 1

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(repeat())
    return made / (time.perf_counter() - began)


async def _stored(yard: Yard) -> int:
    """Return how many jobs the controller has kept."""
    counts = (await yard.client.describe_job_queues([QUEUE]))[0].job_counts
    return sum(counts.values())


class _EchoServer:
    """A grpc.aio server in its own process that does nothing but answer."""

    def __enter__(self) -> Self:
        context = get_context("spawn")
        mine, its = context.Pipe()
        self._process = context.Process(target=_serve_echo, args=(its,), daemon=True)
        self._process.start()
        its.close()  # so that its death is the end of the pipe
        self.port: int = mine.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve_echo(pipe: Connection) -> None:
    asyncio.run(_run_echo(pipe))


async def _run_echo(pipe: Connection) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        return ANSWER

    server = grpc.aio.server()
    service, _, method = ECHO[1:].partition("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await server.wait_for_termination()
