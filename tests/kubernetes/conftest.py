"""
Clusters for tests, of two kinds.

``cluster``, ``own_cluster``: an API server alone. Tests say what happens on nodes and to pods.
``kubelet_cluster``: one with a scheduler and ``node``, where pods run for real.

They last for a module: a server that waits for nothing costs the other tests a tenth of a core.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.node import Node, scheduling

SCRIPT = Path(__file__).parents[2] / "scripts" / "kubernetes.sh"


@pytest.fixture(scope="session")
def kubernetes_binary() -> Path:
    """Where kube-apiserver, kube-scheduler and kubelet are, as one program."""
    return Path(subprocess.run(["bash", SCRIPT, "find"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster in which each test makes a namespace of its own: one of ours, or that of BATCHYARD_TEST_KUBERNETES."""
    folder = tmp_path_factory.mktemp("cluster")
    if given := os.environ.get("BATCHYARD_TEST_KUBERNETES"):
        cluster = Cluster(Path(given).resolve(), folder)
    else:
        server: ApiServer = request.getfixturevalue("api_server")
        cluster = Cluster(server.admin, folder, ca=server.authority.certificate)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def api_server(kubernetes_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of ours that tests leave as it is."""
    server = ApiServer(tmp_path_factory.mktemp("kubernetes"), kubernetes_binary)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_api_server(kubernetes_binary: Path, tmp_path: Path) -> Iterator[ApiServer]:
    """An API server that the test may kill, pause and have forget."""
    server = ApiServer(tmp_path / "kubernetes", kubernetes_binary)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_cluster(own_api_server: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    """The cluster of the test's own API server."""
    cluster = Cluster(own_api_server.admin, tmp_path, ca=own_api_server.authority.certificate)
    yield cluster
    cluster.client.close()


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A namespace of the test's own."""
    return cluster.make_namespace()


@pytest.fixture(scope="module")
def kubelet_server(kubernetes_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of ours whose pods are scheduled."""
    server = ApiServer(tmp_path_factory.mktemp("kubernetes"), kubernetes_binary)
    server.start()
    with scheduling(server):
        yield server
    server.kill()


@pytest.fixture(scope="module")
def kubelet_cluster(kubelet_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster in which nodes are real."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(kubelet_server.admin, folder, ca=kubelet_server.authority.certificate)
    yield cluster
    cluster.client.close()


@pytest.fixture(scope="module")
def node(kubelet_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that runs pods, for all tests that leave it running."""
    with Node(kubelet_server, tmp_path_factory.mktemp("node"), "node") as node:
        yield node
