"""What becomes of jobs when something of their host fails, and the host goes on."""

from __future__ import annotations

import shutil

import pytest
from tests.agent.runtimes.process_records import keeper, signal_keeper
from tests.disks import fill, mounted
from tests.e2e.programs import until
from tests.e2e.yard import Yard

from batchyard import Client, container, job_state
from batchyard.states import JobState
from batchyard_agent.config import keeper_dir

pytestmark = pytest.mark.timeout(180)


def offers(client: Client) -> tuple[list[str], list[str]]:
    """Return the runtimes that the only host offers now, and its faults."""
    (host,) = client.list_hosts()
    return list(host.facts.runtimes), list(host.facts.faults)


def test_a_host_tells_how_it_keeps_processes_apart(yard: Yard) -> None:
    """As its attempts find it: their limits' cgroup, their user, their privileges and whom they see."""
    yard.start("a")
    script = "id -un; grep -c NoNewPrivs:.1 /proc/self/status; ls -d /proc/[0-9]* 2>/dev/null | wc -l; grep -c batchyard/ /proc/self/cgroup"
    with yard.client() as client:
        told = client.describe_host("a").host.facts.processes
        job_id = client.submit_job(name="say", container=container(["sh", "-c", script], memory=32)).job_id
        client.wait(job_id, timeout_s=60)
        user, privileges, seen, cgroups = b"".join(client.read_logs(job_id)).decode().split()
    assert told.user == user
    assert told.no_new_privileges is (privileges == "1")
    assert told.hides_processes is told.hides_gpus is (int(seen) < 8)
    assert told.enforcement.startswith("cgroup") is (cgroups != "0")


def test_a_full_disk_stops_the_intake_and_nothing_else(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs goes on, and its end is told; the host says why it takes no work, and takes it again with room."""
    monkeypatch.setenv("BATCHYARD_AGENT_KEEP_FREE", "8M")
    with mounted(yard.state_dir("a"), 48) as disk, yard.client() as client:
        yard.start("a")
        gate = yard.folder / "gate"
        script = f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 7"
        running = client.submit_job(name="running", container=container(["sh", "-c", script], memory=32)).job_id
        until(lambda: job_state(client.describe_job(running)) is JobState.RUNNING, "it runs")
        pid = yard.agents["a"].pid
        fill(disk)
        until(lambda: offers(client) == ([], ["less than 8 MiB are free on a disk of the agent's"]), "it says so")
        waiting = client.submit_job(name="waiting", container=container(["true"], memory=32)).job_id
        gate.touch()
        ended = client.wait(running, timeout_s=60)
        assert ended.attempts[0].exit_code == 7
        assert job_state(client.describe_job(waiting)) is JobState.RUNNABLE
        (yard.state_dir("a") / "filler").unlink()
        assert job_state(client.wait(waiting, timeout_s=60)) is JobState.SUCCEEDED
        assert offers(client) == (["process"], [])
        assert yard.agents["a"].pid == pid
        assert yard.agents["a"].is_running


def test_who_fills_the_disk_can_be_stopped_and_gives_it_back(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the journal is on the same disk, and its reserve full too."""
    monkeypatch.setenv("BATCHYARD_AGENT_KEEP_FREE", "1M")
    monkeypatch.setenv("BATCHYARD_AGENT_SCRATCH_DIR", str(yard.state_dir("a") / "work"))
    with mounted(yard.state_dir("a"), 160) as disk, yard.client() as client:
        yard.start("a")
        reserve, script = disk / "reserve", "while :; do cat /dev/zero >>file; sleep 0.05; done 2>/dev/null"
        # What it writes to a tmpfs counts as its memory.
        hog = client.submit_job(name="hog", container=container(["sh", "-c", script], memory=512)).job_id
        until(lambda: offers(client)[0] == [], "the disk is full")
        reserve.unlink()
        until(lambda: shutil.disk_usage(disk).free == 0, "the reserve is full")
        client.terminate_job(hog, "enough")
        assert job_state(client.wait(hog, timeout_s=60)) is JobState.FAILED
        until(lambda: offers(client) == (["process"], []), "there is room again")


def test_attempts_of_a_killed_keeper_go_on(yard: Yard) -> None:
    """Its successor follows them, and their exit codes are learnt."""
    yard.start("a")
    with yard.client() as client:
        gate = yard.folder / "gate"
        script = f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 7"
        job_id = client.submit_job(name="survivor", container=container(["sh", "-c", script], memory=32)).job_id
        until(lambda: job_state(client.describe_job(job_id)) is JobState.RUNNING, "it runs")
        folder = keeper_dir(yard.state_dir("a"))
        before = signal_keeper(folder)
        assert before
        until(lambda: keeper(folder) not in {0, before}, "there is another keeper")
        yard.folder.chmod(0o755)  # the job is another user
        gate.touch()
        assert client.wait(job_id, timeout_s=60).exit_code == 7
