"""A real host for the console's tests: an agent with processes, in the loop of the endpoint's controller."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.e2e.programs import until
from tests.gateway.endpoint import Endpoint
from tests.gateway.surroundings import agent, until_there

from batchyard import container


@dataclass(slots=True)
class Host:
    """
    What a test needs of it.

    Attributes:
        endpoint: The gateway.
        folder: For what jobs read.
    """

    endpoint: Endpoint
    folder: Path

    def submit(self, *command: str, name: str = "hello", attempts: int = 1, log_size_mib: int = 0) -> str:
        """Submit a process and return the job's id."""
        what = container(list(command), image="process://", vcpus=0.25, memory="64M")
        what.log_size_mib = log_size_mib
        client = self.endpoint.client
        return str(self.endpoint.run(client.submit_job(name=name, container=what, attempts=attempts)).job_id)

    def run(self, *command: str, name: str = "hello", attempts: int = 1, log_size_mib: int = 0) -> str:
        """Run a process to its end and return the job's id."""
        job_id = self.submit(*command, name=name, attempts=attempts, log_size_mib=log_size_mib)
        self.wait(job_id)
        return job_id

    def wait(self, job_id: str) -> None:
        """Wait for a job's end."""
        self.endpoint.run(self.endpoint.client.wait(job_id, timeout_s=60))

    @contextlib.contextmanager
    def talker(self, *, end: str = "true", attempts: int = 1) -> Iterator[Talker]:
        """Submit a job each of whose attempts writes what the test tells it, then does *end*; it ends with the block."""
        talker = Talker(
            self.folder, self.submit("sh", "-c", talking(self.folder, end), name="talker", attempts=attempts)
        )
        try:
            yield talker
        finally:
            talker.hang_up()
            self.wait(talker.job_id)


def talking(folder: Path, end: str) -> str:
    """Return a script that makes a pipe of its own attempt and writes what comes by it."""
    return f"P={folder}/$AWS_BATCH_JOB_ATTEMPT; mkfifo $P.new; mv $P.new $P; cat $P; {end}"


class Talker:
    """
    A job that writes what it is told.

    Attributes:
        job_id: Of the job.
    """

    def __init__(self, folder: Path, job_id: str) -> None:
        self.job_id = job_id
        self._folder = folder
        self._attempt = 1
        self._mouth: BinaryIO | None = None

    def say(self, data: bytes) -> None:
        """Write to the log of the attempt that runs."""
        if self._mouth is None:
            pipe = self._folder / str(self._attempt)
            until(pipe.exists, "the attempt listens")
            self._mouth = pipe.open("wb", buffering=0)
        self._mouth.write(data)

    def hang_up(self) -> None:
        """End the attempt."""
        self.say(b"")
        assert self._mouth is not None
        self._mouth.close()
        self._mouth = None
        self._attempt += 1


@contextlib.contextmanager
def host(endpoint: Endpoint, folder: Path) -> Iterator[Host]:
    """Connect a host; within the block it is there, after it is away, and its attempts have ended."""
    work = folder / "work"
    work.mkdir()
    running = agent(folder / "agent", endpoint.yard.address)
    endpoint.run(running.__aenter__())
    try:
        endpoint.run(until_there(endpoint.client))
        yield Host(endpoint, work)
    finally:
        endpoint.run(running.__aexit__(None, None, None))
        endpoint.run(until_there(endpoint.client, is_there=False))
