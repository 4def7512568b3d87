"""A yard with jobs in every state, whose one host is played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.gateway.endpoint import Endpoint, Yard
from tests.services.hand_agent import HandAgent, ended, running

from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import attempt_pb2

HOSTILE = '"><script>x()</script>'

Reports = Callable[[str], list[pb.AttemptReport]]
"""What the host says of an attempt."""


def fails(exit_code: int | None, **fields: Any) -> Reports:
    """Return what says that an attempt ran and ended so."""
    return lambda attempt_id: [running(attempt_id), ended(attempt_id, exit_code, **fields)]


SUCCEEDS = fails(0)
RUNS: Reports = lambda attempt_id: [running(attempt_id)]  # noqa: E731  # beside its likes
OUT_OF_MEMORY = fails(137, cause=attempt_pb2.END_CAUSE_OUT_OF_MEMORY, reason="OutOfMemoryError: killed")


@dataclass(slots=True)
class Scene:
    """A yard of one host and what was submitted there."""

    endpoint: Endpoint
    yard: Yard = field(init=False)
    agent: HandAgent = field(init=False)

    def __post_init__(self) -> None:
        self.yard = Yard(self.endpoint, self.endpoint.batch())
        self.agent = self.endpoint.agent()

    def play(self, count: int, reports: Callable[[int], Reports]) -> list[str]:
        """Let the host take so many attempts and say of each what its index (of a single job 0) asks for."""
        return self.endpoint.run(self._play(count, reports))

    async def _play(self, count: int, reports: Callable[[int], Reports]) -> list[str]:
        taken: list[str] = []
        while len(taken) < count:
            message = await self.agent.read()
            assert message is not None
            for attempt in message.start.attempts:
                taken.append(attempt.attempt_id)
                index = attempt.attempt_id.partition("#")[0].partition(":")[2]
                await self.agent.report(*reports(int(index or 0))(attempt.attempt_id))
        return taken

    def ended(self, name: str, reports: Reports = SUCCEEDS, **members: Any) -> str:
        """Submit a job that the host takes at once; return its id."""
        job_id = self.yard.submit(name, **members)
        self.play(1, lambda _: reports)
        self.settle(job_id, {"SUCCEEDED", "FAILED", "RUNNING"})
        return job_id

    def array(self, size: int, failing: set[int], name: str = "grid", reports: Reports = OUT_OF_MEMORY) -> str:
        """Submit an array, let it run and these children fail; return its id."""
        job_id = self.yard.submit(name, arrayProperties={"size": size})
        self.play(size, lambda index: reports if index in failing else SUCCEEDS)
        self.settle(job_id, {"SUCCEEDED", "FAILED"})
        return job_id

    def waiting(self, name: str, vcpus: int = 9, **members: Any) -> str:
        """Submit a job that no host can take; return its id."""
        amounts = [{"type": "VCPU", "value": str(vcpus)}, {"type": "MEMORY", "value": "128"}]
        return self.yard.submit(name, containerOverrides={"resourceRequirements": amounts}, **members)

    def answers_logs(self, data: bytes) -> None:
        """Let the host send this to the next who reads a log."""

        async def answer() -> None:
            while True:
                message = await self.agent.read()
                assert message is not None
                if message.WhichOneof("message") == "log_read":
                    return await self.agent.answer_log(message.log_read.read_id, data, next_offset=len(data), end=True)

        asyncio.run_coroutine_threadsafe(answer(), self.endpoint._loop)

    def settle(self, job_id: str, states: set[str]) -> None:
        """Wait until a job is in one of these states."""
        while self.yard.job(job_id)["status"] not in states:
            pass
