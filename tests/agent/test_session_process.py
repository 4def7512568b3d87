"""The agent as a program: started, stopped, killed, started again, while its attempts go on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import uuid

import pytest

from batchyard.v1 import agent_pb2, attempt_pb2, job_definition_pb2
from batchyard_agent.config import keeper_dir
from batchyard_agent.runtimes.log_limit import used_bytes

from .runtimes.process_records import kept
from .session_controller import ENDED, RUNNING, serving


@pytest.fixture
async def controller():
    async with serving() as controller:
        yield controller


@contextlib.asynccontextmanager
async def agent_program(folder, controller, *options: str):
    """Run the agent with its process runtime; it is dead afterwards."""
    command = [sys.executable, "-m", "batchyard_agent", "--controller", controller.target, "--state-dir", folder]
    program = await asyncio.create_subprocess_exec(
        *command, "--runtimes", "process", *options, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield program
    finally:
        if program.returncode is None:
            program.kill()
        await program.communicate()


def job(attempt_id: str, script: str) -> agent_pb2.AttemptSpec:
    container = job_definition_pb2.ContainerProperties(command=["sh", "-c", script])
    container.resources.memory_mib = 64
    return agent_pb2.AttemptSpec(
        attempt_id=attempt_id, job_id="job-a", container=container, environment={"GREETING": "hello"}
    )


@pytest.fixture
def ids():
    """Two attempts that were never heard of on this machine: cgroups are named after attempts."""
    return [f"{uuid.uuid4()}#1" for _ in range(2)]


async def bury(stream, ids, state_dir) -> None:
    """Acknowledge the attempts' ends and wait until the process runtime has let go of them."""
    await stream.send(ack=agent_pb2.AckAttempts(attempt_ids=ids))
    while kept(keeper_dir(state_dir)):
        await asyncio.sleep(0.01)


async def test_an_agent_runs_a_process_and_stops_cleanly(tmp_path, controller, ids):
    attempt_id = ids[0]
    async with agent_program(tmp_path, controller, "--name", "here", "--cpus", "2.5", "--label", "a=b") as program:
        stream = await controller.streams.get()
        facts = (await stream.welcome()).facts
        assert (facts.name, facts.capacity.cpu_millis, dict(facts.labels)) == ("here", 2500, {"a": "b"})
        assert (list(facts.runtimes), facts.capacity.memory_mib > 0, bool(facts.boot_id)) == (["process"], True, True)
        script = 'echo $GREETING; echo "gpus:$CUDA_VISIBLE_DEVICES:$NVIDIA_VISIBLE_DEVICES" >&2; exit 7'
        await stream.start(job(attempt_id, script))
        report = await stream.until(attempt_id, ENDED)
        assert (report.exit_code, report.cause) == (7, attempt_pb2.END_CAUSE_EXITED)
        await stream.send(log_read=agent_pb2.LogRead(read_id=1, attempt_id=attempt_id))
        read = await stream.log_slice()
        assert (sorted(read.data.splitlines()), read.end) == ([b"gpus::none", b"hello"], True)
        await bury(stream, ids, tmp_path)
        program.send_signal(signal.SIGTERM)
        assert await program.wait() == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_attempts_outlive_their_agent(tmp_path, controller, ids, ending):
    """One attempt ends while there is no agent, one after the next has come; both keep their exit codes."""
    first, second = ids
    gates = [tmp_path / "gate1", tmp_path / "gate2"]
    waits = [f"while [ ! -e {gate} ]; do sleep 0.02; done; exit" for gate in gates]
    async with agent_program(tmp_path / "state", controller) as program:
        stream = await controller.streams.get()
        host_id = (await stream.welcome()).host_id
        await stream.start(job(first, f"{waits[0]} 3"))
        await stream.until(first, RUNNING)
        await stream.start(job(second, f"{waits[1]} 4"))
        await stream.until(second, RUNNING)
        program.send_signal(ending)
        assert await program.wait() == (0 if ending is signal.SIGTERM else -signal.SIGKILL)
    gates[0].touch()
    async with agent_program(tmp_path / "state", controller):
        stream = await controller.streams.get()
        hello = await stream.welcome()
        assert hello.host_id == host_id
        codes = {r.attempt_id: r.exit_code for r in hello.attempts if r.phase == ENDED}
        while first not in codes:
            message = await stream.inbox.get()
            codes |= {r.attempt_id: r.exit_code for r in message.reports.reports if r.phase == ENDED}
        gates[1].touch()
        while second not in codes:
            message = await stream.inbox.get()
            codes |= {r.attempt_id: r.exit_code for r in message.reports.reports if r.phase == ENDED}
        assert codes == {first: 3, second: 4}
        await bury(stream, ids, tmp_path / "state")


async def test_a_second_agent_on_the_same_folder_is_refused(tmp_path, controller):
    async with agent_program(tmp_path, controller) as first:
        await (await controller.streams.get()).welcome()
        async with agent_program(tmp_path, controller) as second:
            assert second.stderr is not None
            said = (await second.stderr.read()).decode()
            assert await second.wait() == 1
        assert f"another agent (pid {first.pid}) uses the state folder" in said
        assert first.returncode is None


async def test_the_agents_own_limit_of_logs_is_the_attempts(tmp_path, controller, ids):
    """Of a job that says none itself."""
    async with agent_program(tmp_path, controller, "--log-size", "1M"):
        stream = await controller.streams.get()
        await stream.welcome()
        await stream.start(job(ids[0], "yes chatter | head -c 3000000"))
        await stream.until(ids[0], ENDED)
        (log,) = (tmp_path / "logs").iterdir()
        assert 1 << 19 < used_bytes(log) < 2 << 20
        await bury(stream, ids, tmp_path)
