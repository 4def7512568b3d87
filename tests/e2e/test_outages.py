"""Outages longer than the fence, on real processes: what is ended, what is not, what is read meanwhile, who is told."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest
from tests.contract.etcd_server import EtcdServer
from tests.e2e.conftest import OpenYard, etcd_store
from tests.e2e.programs import until
from tests.e2e.yard import Yard

from batchyard import Client, JobState, UnavailableError, container, job_state
from batchyard.states import EndCause
from batchyard.v1.attempt_pb2 import EndCause as EndCauses

pytestmark = pytest.mark.timeout(300)

FENCE_S = 30
BRAKE = "many hosts fell silent at once"


def fenced(yard: Yard) -> Yard:
    yard.controller.arguments += ["--fence", str(FENCE_S)]
    return yard


def submit(client: Client, starts: Path, name: str, then: str = "exec sleep 600", **fields: int) -> str:
    """Submit a job that writes down each of its starts."""
    script = f"echo {name} >> {starts}; {then}"
    what = container(["sh", "-c", script], vcpus=0.25, memory=16)
    return client.submit_job(name=name, container=what, **fields).job_id  # type: ignore[arg-type]


def state(client: Client, job_id: str) -> JobState:
    return job_state(client.describe_job(job_id))


@pytest.mark.etcd
def test_while_the_store_is_away_for_longer_than_the_fence(yards: OpenYard, etcd: EtcdServer, tmp_path: Path) -> None:
    """What has no fence runs on, and ends are told after; what has the ordinary one is ended and tried again later."""
    yard, starts, told = fenced(yards(etcd_store(etcd))), tmp_path / "starts", list[int]()
    yard.start("a")
    with Client(yard.socket, retry_s=1, timeout_s=20, on_stale=told.append) as client:
        ordinary = submit(client, starts, "ordinary")
        never = submit(client, starts, "never", fence_s=-1)
        ends = submit(client, starts, "ends", "sleep 20; exit 7", fence_s=-1)
        until(lambda: len(yard.processes("a")) == 3 and state(client, never) is JobState.RUNNING, "all three run")
        before = {life.attempt_id: life for life in yard.processes("a")}
        etcd.pause()
        until(lambda: state(client, ends) is JobState.RUNNING and told, "reads are answered, and marked")
        with pytest.raises(UnavailableError):
            client.terminate_job(never, reason="nothing can be changed")
        until(lambda: {life.attempt_id for life in yard.processes("a")} == {f"{never}#1"}, "two of three have ended")
        etcd.go_on()
        until(lambda: state(client, ends) is JobState.FAILED, "the end that came meanwhile is told")
        assert client.describe_job(ends).exit_code == 7
        until(
            lambda: f"{ordinary}#2" in {life.attempt_id for life in yard.processes("a")}, "the ordinary one runs again"
        )
        [first] = client.describe_job(ordinary).attempts[:1]
        assert EndCauses.Name(first.cause) == f"END_CAUSE_{EndCause.FENCED}"
        assert before[f"{never}#1"] in yard.processes("a")
        assert state(client, never) is JobState.RUNNING
    wanted = ["ends", "never", "ordinary", "ordinary"]
    until(lambda: sorted(starts.read_text().split()) == wanted, "each start is written down, and no other")


def test_all_agents_are_cut_off_nothing_is_rerun_and_there_is_one_alert(yard: Yard, tmp_path: Path) -> None:
    """Both stand still for longer than the fence and its margin: their keepers end what runs, and nobody reruns it."""
    starts = tmp_path / "starts"
    fenced(yard).start("a", "b", cpus=1)
    with yard.client() as client:
        jobs = [submit(client, starts, name) for name in ("one", "two", "three", "four")]
        until(lambda: all(state(client, job) is JobState.RUNNING for job in jobs), "all run")
        for agent in yard.agents.values():
            agent.send(signal.SIGSTOP)
        until(lambda: not any(map(yard.processes, "ab")), "the keepers have ended all")
        until(lambda: BRAKE in yard.controller.text(), "the operator is told")
        held_since_ms = client.summarize_hosts().brake.since_ms
        until(lambda: client.summarize_hosts().brake.silent == 2 and _past(held_since_ms), "their fences passed")
        assert all(state(client, job) is JobState.RUNNING for job in jobs)
        assert [len(client.describe_job(job).attempts) for job in jobs] == [1, 1, 1, 1]
        assert yard.controller.text().count(BRAKE) == 1
        for agent in yard.agents.values():
            agent.send(signal.SIGCONT)
        until(lambda: len(starts.read_text().split()) == 8, "all run again, each once")
        until(lambda: not client.summarize_hosts().HasField("brake"), "the brake has ended")
    assert yard.controller.text().count(BRAKE) == 1


def test_hosts_whose_state_was_wiped_are_not_waited_for(yard: Yard, tmp_path: Path) -> None:
    """Both join anew, as others: what they ran is tried again after the fence, nobody is alarmed, and two hosts are left."""
    starts = tmp_path / "starts"
    fenced(yard).start("a", "b", cpus=1)
    with yard.client() as client:
        jobs = [submit(client, starts, name, fence_s=FENCE_S) for name in ("one", "two", "three", "four")]
        until(lambda: all(state(client, job) is JobState.RUNNING for job in jobs), "all run")
        former = {host.id for host in client.list_hosts()}
        for name, agent in yard.agents.items():
            agent.kill()
            shutil.rmtree(yard.state_dir(name))
            agent.start()
        until(lambda: len(_replaced(client)[0]) == 2, "they have joined anew")
        new = {host.id for host in client.list_hosts()} - former
        assert _replaced(client) == (former, new)
        assert "joined anew as" in client.explain_job(jobs[0]).summary
        # The former ones count as silent after 45 s, their fences have passed after 66.
        until(lambda: len(starts.read_text().split()) == 8, "all run again")
        until(lambda: {host.id for host in client.list_hosts()} == new, "the former ones are forgotten")
        told = [event.what for event in client.list_events(host=min(former)) if not event.job_id]
        assert told == ["JOINED", "LEFT", "REPLACED", "FORGOTTEN"]
    assert BRAKE not in yard.controller.text()


def _replaced(client: Client) -> tuple[set[str], set[str]]:
    """Return the hosts that were replaced, and by which."""
    pairs = [(host.id, host.replaced_by) for host in client.list_hosts() if host.replaced_by]
    return {former for former, _ in pairs}, {new for _, new in pairs}


def _past(held_since_ms: int) -> bool:
    """Say whether the hosts, silent for 45 s when the brake began, have been so for fence and margin."""
    return time.time_ns() // 10**6 - held_since_ms > (FENCE_S + 36 - 45 + 3) * 1000
