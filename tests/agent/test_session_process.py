"""The agent as a program: started, stopped, killed, started again, while its attempts go on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import pytest

from batchyard.v1 import agent_pb2, job_definition_pb2

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


async def test_an_agent_runs_a_process_and_stops_cleanly(tmp_path, controller):
    async with agent_program(tmp_path, controller, "--name", "here", "--cpus", "2.5", "--label", "a=b") as program:
        stream = await controller.streams.get()
        facts = (await stream.welcome()).facts
        assert (facts.name, facts.capacity.cpu_millis, dict(facts.labels)) == ("here", 2500, {"a": "b"})
        assert (list(facts.runtimes), facts.capacity.memory_mib > 0, bool(facts.boot_id)) == (["process"], True, True)
        script = 'echo $GREETING; echo "gpus:$CUDA_VISIBLE_DEVICES:$NVIDIA_VISIBLE_DEVICES" >&2; exit 7'
        await stream.start(job("job-a#1", script))
        report = await stream.until("job-a#1", ENDED)
        assert (report.exit_code, report.cause) == (7, agent_pb2.END_CAUSE_EXITED)
        await stream.send(log_read=agent_pb2.LogRead(read_id=1, attempt_id="job-a#1"))
        read = await stream.log_slice()
        assert (sorted(read.data.splitlines()), read.end) == ([b"gpus::none", b"hello"], True)
        program.send_signal(signal.SIGTERM)
        assert await program.wait() == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_attempts_outlive_their_agent(tmp_path, controller, ending):
    """One attempt ends while there is no agent, one after the next has come; both keep their exit codes."""
    gate = tmp_path / "gate"
    wait = f"while [ ! -e {gate}$0 ]; do sleep 0.02; done"
    async with agent_program(tmp_path / "state", controller) as program:
        stream = await controller.streams.get()
        host_id = (await stream.welcome()).host_id
        await stream.start(
            job("job-a#1", wait.replace("$0", "1") + "; echo over; exit 3"),
            job("job-b#1", wait.replace("$0", "2") + "; exit 4"),
        )
        await stream.until("job-a#1", RUNNING)
        while not await _runs(controller, stream, "job-b#1"):
            pass
        program.send_signal(ending)
        await program.wait()
    (tmp_path / "gate1").touch()
    async with agent_program(tmp_path / "state", controller):
        stream = await controller.streams.get()
        hello = await stream.welcome()
        assert hello.host_id == host_id
        (tmp_path / "gate2").touch()
        codes = {r.attempt_id: r.exit_code for r in hello.attempts if r.phase == ENDED}
        while len(codes) < 2:
            message = await stream.inbox.get()
            codes |= {r.attempt_id: r.exit_code for r in message.reports.reports if r.phase == ENDED}
        assert codes == {"job-a#1": 3, "job-b#1": 4}


async def _runs(controller, stream, attempt_id) -> bool:
    """Ask for the attempt's truth by starting it again, which never launches it twice."""
    await stream.start(job(attempt_id, "exit 99"))
    message = await stream.inbox.get()
    return any(r.attempt_id == attempt_id and r.phase == RUNNING for r in message.reports.reports)


async def test_a_second_agent_on_the_same_folder_is_refused(tmp_path, controller):
    async with agent_program(tmp_path, controller) as first:
        await (await controller.streams.get()).welcome()
        async with agent_program(tmp_path, controller) as second:
            assert second.stderr is not None
            said = (await second.stderr.read()).decode()
            assert await second.wait() == 1
        assert f"another agent (pid {first.pid}) uses the state folder" in said
        assert first.returncode is None
