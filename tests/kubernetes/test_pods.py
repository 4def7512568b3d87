"""Jobs as pods, from the yard to the API server and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lightkube.resources.core_v1 import Pod
from tests.e2e.programs import until
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hand import Hand, hand
from tests.kubernetes.yard import KubernetesYard

from batchyard import JobState, container, job_state

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


@pytest.fixture
def yard(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[KubernetesYard]:
    """A yard whose hosts are nodes of a cluster."""
    yard = KubernetesYard(tmp_path, cluster, namespace)
    yield yard
    yard.sweep()


@pytest.fixture
def nodes(cluster: Cluster, namespace: str) -> Iterator[Hand]:
    """Somebody who plays its nodes."""
    with hand(cluster, namespace) as playing:
        yield playing


def test_an_ordinary_job_with_an_image_is_a_pod(yard: KubernetesYard, nodes: Hand) -> None:
    node = yard.add_node()
    yard.begin(node)
    with yard.client() as client:
        what = container(["exit", "3", "after", "0.5"], image="busybox:1", vcpus=1, memory=64)
        job = client.wait(client.submit_job(name="hello", container=what).job_id, timeout_s=60)
        assert (job_state(job), job.attempts[0].exit_code) == (JobState.FAILED, 3), job
    until(lambda: not list(yard.cluster.client.list(Pod, namespace=yard.namespace)), "the pod is gone")
