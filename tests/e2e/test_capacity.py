"""Two hosts share the work, and neither is ever given more than it has."""

from __future__ import annotations

import pytest
from tests.contract.etcd_server import EtcdServer
from tests.e2e.conftest import OpenYard, etcd_store
from tests.e2e.witness import Line, Witness, peak_vcpus
from tests.e2e.yard import Span

from batchyard import JobState, container, job_state

pytestmark = pytest.mark.timeout(180)

HOSTS = ("a", "b")
HOST_VCPUS = 2
SECONDS = 0.3
SHAPES = {"one": (1, 120), "half": (0.5, 60), "both": (2, 20)}
"""vCPUs, and how many jobs; 200 in all."""
FAIR_SHARE = 60
"""Of 200 jobs each host must have run as many."""


@pytest.mark.etcd
def test_two_hundred_jobs_over_two_hosts(yards: OpenYard, etcd: EtcdServer, witness: Witness) -> None:
    """Never over-committed, by what the jobs write themselves and by what the agents' journals say."""
    yard = yards(etcd_store(etcd))
    yard.start(*HOSTS, cpus=HOST_VCPUS)
    vcpus_of = {}
    with yard.client() as client:
        for shape, (vcpus, count) in SHAPES.items():
            for number in range(count):
                name = f"{shape}-{number}"
                command = witness.command(name, seconds=SECONDS, vcpus=vcpus)
                job = client.submit_job(name=name, container=container(command, vcpus=vcpus, memory=32))
                vcpus_of[job.job_id] = (name, vcpus)
        jobs = client.wait_all(list(vcpus_of), timeout_s=90)
    assert {job_state(job) for job in jobs} == {JobState.SUCCEEDED}
    witness.check_once([name for name, _ in vcpus_of.values()])

    # Both hosts did a real share, and every job ran where the controller says.
    folders = {host: f"{yard.state_dir(host)}-scratch" for host in HOSTS}
    by_host = {
        host: [line for line in witness.lines() if line.folder.startswith(f"{folders[host]}/")] for host in HOSTS
    }
    ran = {host: {line.name for line in lines} for host, lines in by_host.items()}
    assert min(len(names) for names in ran.values()) >= FAIR_SHARE
    assert ran == {host: {job.name for job in jobs if job.attempts[0].host_name == host} for host in HOSTS}

    for host in HOSTS:
        assert peak_vcpus(by_host[host]) <= HOST_VCPUS
        spans = yard.spans(host)
        assert len(spans) == len(ran[host])
        recorded = [line for span in spans for line in lines_of(span, vcpus_of)]
        # Full at least once: the check would see too much if there were too much.
        assert peak_vcpus(recorded) == HOST_VCPUS


def lines_of(span: Span, vcpus_of: dict[str, tuple[str, float]]) -> list[Line]:
    """Return an entry of an agent's journal in the ledger's form."""
    name, vcpus = vcpus_of[span.attempt_id.partition("#")[0]]
    return [
        Line(word=word, name=name, at_ns=at_ms * 1_000_000, vcpus=vcpus, folder="")
        for word, at_ms in (("start", span.started_at_ms), ("end", span.stopped_at_ms))
    ]
