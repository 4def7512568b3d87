"""The console over a real cluster, in a real browser: from an empty yard to what a pod wrote."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.console.conftest import chromium, launched, watched
from tests.console.test_wizard_browser import at, press, see_the_log
from tests.console.visitor import console_link
from tests.e2e.programs import until
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.images import BUSYBOX
from tests.kubernetes.node import Node
from tests.kubernetes.yard import CLUSTER, KubernetesYard
from tests.ports import hold_address

from batchyard import JobState, job_state
from batchyard.pods import pod_name

__all__ = ["chromium", "launched"]

pytestmark = [
    pytest.mark.kubelet,
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("eks"),
]


@pytest.fixture
def yard(kubelet_cluster: Cluster, node: Node, tmp_path: Path) -> Iterator[KubernetesYard]:
    """A controller and an agent whose host is a node that runs pods: no environment, no queue, no definition."""
    namespace = kubelet_cluster.make_namespace()
    yard = KubernetesYard(tmp_path, kubelet_cluster, namespace, selector=f"kubernetes.io/hostname={node.name}")
    try:
        yard.start_controller(speaks_for="*")
        yard.agent.start()
        with yard.client() as client:
            until(lambda: yard.is_ready(client, node.name), "the node is a host")
        yield yard
    finally:
        yard.sweep()


@pytest.fixture
def window(yard: KubernetesYard, chromium: Browser) -> Iterator[Page]:
    """A tab of a browser that is signed in to the yard's console; what it complains of fails the test."""
    http = hold_address()
    gateway = yard.add_program("gateway", "batchyard_gateway", "--listen", http, "--controller", yard.socket)
    gateway.start()
    until(lambda: "listening" in gateway.tail(), "the gateway listens")
    with yard.client() as client:
        made = client.create_access_key(description="console")
    faults: list[str] = []
    context = chromium.new_context(base_url=f"http://{http}")
    page = watched(context, f"http://{http}", faults)
    page.set_default_timeout(30_000)
    page.goto(console_link(f"http://{http}", made.access_key.id, made.secret, time.time_ns() // 1_000_000))
    yield page
    context.close()
    assert not faults, faults


def test_from_an_empty_yard_to_the_log_of_a_pod(yard: KubernetesYard, window: Page, node: Node) -> None:
    at(window, "orchestration type")
    window.get_by_role("radio", name="EKS").check()
    press(window, "Next")
    at(window, "compute environment")
    expect(window.get_by_label("Name", exact=True)).to_have_value("cluster")
    expect(window.get_by_label("Cluster")).to_have_value(re.compile(f"^arn:aws:eks:.*:cluster/{CLUSTER}$"))
    expect(window.get_by_label("Namespace")).to_have_value(yard.namespace)
    expect(window.get_by_role("complementary")).to_contain_text("Selects 1 of 1 hosts")
    press(window, "Next")
    at(window, "job queue")
    press(window, "Next")
    at(window, "job definition")
    window.get_by_label("Image", exact=True).fill(BUSYBOX)
    expect(window.get_by_role("complementary")).to_contain_text("1 of 1 ready hosts could hold it now")
    press(window, "Next")
    at(window, "job")
    press(window, "Next")
    at(window, "review")
    press(window, "Create resources")
    window.wait_for_url("**/console/jobs/*")
    job_id = window.url.rpartition("/")[2]
    with yard.client() as client:
        assert job_state(client.wait(job_id, timeout_s=60)) is JobState.SUCCEEDED
    expect(window.get_by_text(f"{pod_name(job_id)} in namespace {yard.namespace} of cluster {CLUSTER}")).to_be_visible()
    expect(window.get_by_role("link", name=node.name, exact=True).first).to_be_visible()
    see_the_log(window)
