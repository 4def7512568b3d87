"""Inside attempts, with real programs and a person at a terminal; and what a kill -9 of agent or controller costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.e2e.person import Person
from tests.e2e.programs import until
from tests.e2e.witness import Witness
from tests.e2e.yard import Yard

from batchyard import Client, JobState, UnavailableError, container, job_state
from batchyard.entry_calls import ExecResult

pytestmark = pytest.mark.timeout(300)


def run_job(client: Client, witness: Witness, name: str = "held") -> str:
    job_id = client.submit_job(name=name, container=container(witness.held(name), memory=64)).job_id
    until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "the job runs")
    return job_id


def test_a_shell_is_used_and_a_kill_of_either_side_costs_it_alone(yard: Yard, witness: Witness) -> None:
    """Typed into, resized, interrupted, left with its code; the attempt goes on, whoever dies, and takes it along."""
    yard.start("a")
    with yard.client() as client:
        job_id = run_job(client, witness)
        (attempt,) = yard.processes("a")
        with client.exec(job_id, ["sh", "-c", "cat; echo e >&2; exit 3"]) as execution:
            said = ExecResult(stdout=b"in", stderr=b"e\n", exit_code=3)
            assert (execution.host, execution.communicate(b"in")) == ("a", said)
        with client.exec(job_id, ["sh", "-c", "seq 100000 & seq 100000 >&2; wait"]) as execution:
            numbers = "".join(f"{i}\n" for i in range(1, 100_001)).encode()
            both = ExecResult(stdout=numbers, stderr=numbers, exit_code=0)
            assert execution.communicate() == both, "two streams at once"

        with Person(yard.socket, "exec", "-it", job_id, "--", "env", "PS1=$ ", "sh") as person:
            person.see(b"$ ")
            person.press(b"stty size; echo $TERM d''one\r")
            person.see(b"33 99\r\nvt100 done\r\n")
            person.resize(44, 111)
            person.press(b"sleep 1; stty size\r")
            person.see(b"44 111")
            # Said by what is to be interrupted: shells lose an interrupt that finds them about to fork.
            person.press(b"sh -c 'echo be\\gun; exec sleep 1000'\r")
            person.see(b"begun")
            person.press(b"\x03")
            person.see(b"$ ")
            person.press(b"exit 5\r")
            assert person.end() == 5

        with Person(yard.socket, "exec", "-it", job_id, "--", "env", "PS1=$ ", "sh") as person:
            person.see(b"$ ")
            yard.agents["a"].kill()
            person.see(b"ended its stream")
            assert person.end() == 4
        yard.agents["a"].start()
        until(lambda: yard.is_ready(client, "a", attempts=1), "the host is back")
        assert yard.processes("a") == {attempt}, "the attempt was not hurt"

        with Person(yard.socket, "exec", "-it", job_id, "--", "env", "PS1=$ ", "sh") as person:
            person.see(b"$ ")
            yard.controller.kill()
            assert person.end() == 4
        yard.controller.start()
        until(lambda: yard.is_ready(client, "a", attempts=1), "the host is back")
        assert yard.processes("a") == {attempt}

        with client.exec(job_id, ["sh", "-c", "trap '' HUP TERM; echo on; sleep 1000; :"]) as execution:
            first = execution.read()
            assert first is not None
            assert first.data == b"on\n"
            client.terminate_job(job_id, "enough")
            assert execution.read() is None
            assert execution.exit_code == 137, "it does not outlive the attempt"
        assert job_state(client.wait(job_id)) is JobState.FAILED


def test_a_job_at_a_terminal_goes_on_over_breaks_and_ends_with_its_code(yard: Yard) -> None:
    """Over a controller that is killed, and a person who leaves and comes back; not over its grace."""
    yard.start("a")
    command = ("run", "--pty", "--grace", "30", "--memory", "64M", "--", "env", "PS1=$ ", "sh")
    with yard.client() as client:
        with Person(yard.socket, *command) as person:
            person.see(b"$ ")
            (job_id,) = (job.id for job in client.list_jobs())
            person.press(b"A=77; stty size\r")
            person.see(b"33 99")
            yard.controller.kill()
            yard.controller.start()
            person.see(b"attaching again")
            person.ask(b"echo B''ACK\r", b"BACK")
            with Person(yard.socket, "attach", job_id) as other:
                person.see(b"somebody else is at the job's terminal")
                other.ask(b"echo A is $A\r", b"A is 77")
                other.press(b"\r~.")
                other.see(b"left")
                assert other.end() == 130
        with Person(yard.socket, "attach", job_id) as person:
            person.ask(b"echo B''ACK\r", b"BACK")
            person.press(b"exit 6\r")
            assert person.end() == 6
        ended = client.wait(job_id)
        assert (job_state(ended), ended.exit_code) == (JobState.FAILED, 6)

        left = subprocess.run(
            [sys.executable, "-m", "batchyard", "--address", yard.socket, *command[:3], "5", *command[4:-1], "cat"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert left.returncode == 0, "what it reads had an end"

        with Person(yard.socket, *command[:3], "5", *command[4:]) as person:
            person.see(b"$ ")
        gone = client.wait(next(iter(client.list_jobs())).id)
        assert (job_state(gone), gone.exit_code) == (JobState.FAILED, 129)
        assert gone.attempts[-1].reason == "nobody was at its terminal for 5 s"


def test_an_entry_of_a_host_that_is_away_is_refused_by_name(yard: Yard, witness: Witness) -> None:
    yard.start("a")
    with yard.client() as client:
        job_id = run_job(client, witness)
        yard.agents["a"].kill()
        until(lambda: not yard.is_ready(client, "a"), "the host is missed")
        with pytest.raises(UnavailableError, match="host a "):
            client.exec(job_id, ["true"])
