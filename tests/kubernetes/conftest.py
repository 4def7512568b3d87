"""Clusters for tests: an API server shared by those that leave it as it is, and one of a test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster

SCRIPT = Path(__file__).parents[2] / "scripts" / "kubernetes.sh"


@pytest.fixture(scope="session")
def kubernetes_binary() -> Path:
    """Where kube-apiserver, kube-scheduler and kubelet are, as one program."""
    return Path(subprocess.run(["bash", SCRIPT, "find"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
