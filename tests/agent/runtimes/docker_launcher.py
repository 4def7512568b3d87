"""
An agent as far as Docker goes, to be killed: launches attempts and tells what it sees.

Usage: python -m tests.agent.runtimes.docker_launcher SCOPE NETWORK FOLDER NAME=SCRIPT...
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.agent.runtimes.engine import container_spec

from batchyard_agent.runtimes.docker import DockerRuntime


async def main() -> None:
    scope, network, folder, *attempts = sys.argv[1:]
    runtime = DockerRuntime(scope, network=network)
    await runtime.open(lambda observation: print(observation, flush=True))
    for attempt in attempts:
        attempt_id, _, script = attempt.partition("=")
        runtime.launch(container_spec(Path(folder), attempt_id, "sh", "-c", script))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
