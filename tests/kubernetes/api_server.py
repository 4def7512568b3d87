"""
A private kube-apiserver for tests, with an etcd of its own: loopback only, RBAC on, nothing else.

    server = ApiServer(tmp_path, binary)
    server.start()
    client = lightkube.Client(lightkube.KubeConfig.from_file(server.admin))

No controller manager stands behind it: nobody makes service accounts, collects pods or tells
that a node is lost. What a test needs of that it does itself (cluster.py). Data and address
outlive ``kill`` and ``start``.
"""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract.etcd_server import EtcdServer
from tests.kubernetes.certificates import Authority, Identity, write_key
from tests.ports import hold_address

START_LIMIT_S = 90.0
STOP_LIMIT_S = 30.0
POLL_S = 0.1
ISSUER = "https://kubernetes.default.svc.cluster.local"


class ApiServer:
    """
    One API server; needs the binary ``etcd`` on PATH.

    Args:
        folder: Where its keys, its data and its log go.
        binary: The program of ``scripts/kubernetes.sh``.
        flags: More of kube-apiserver's flags.
    """

    def __init__(self, folder: Path, binary: Path, *flags: str) -> None:
        self.folder, self.binary = folder, binary
        self.authority = Authority(folder / "keys")
        self.etcd = EtcdServer(folder / "etcd")
        self.address = hold_address()
        self.url = f"https://{self.address}"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self._serving = self.authority.issue("kube-apiserver", hosts=("127.0.0.1", "localhost", "kubernetes"))
        self._to_kubelets = self.authority.issue("to-kubelets", group="system:masters")
        self._accounts_key = write_key(folder / "keys" / "accounts.key")
        self._admin = self.authority.issue("admin", group="system:masters")
        self.admin = self.write_kubeconfig("admin", self._admin)
        """A kubeconfig that may do everything."""

    def write_kubeconfig(self, name: str, who: Identity | str) -> Path:
        """Write a kubeconfig of who has a certificate or a token, and return where it lies."""
        if isinstance(who, Identity):
            user = {"client-certificate": str(who.certificate), "client-key": str(who.key)}
        else:
            user = {"token": who}
        return write_kubeconfig(self.folder / f"{name}.kubeconfig", self._cluster, user)

    def start(self) -> None:
        """Start both and wait until the server is ready."""
        self.etcd.start()
        try:
            self.start_server()
        except BaseException:
            self.kill()
            raise

    def start_server(self) -> None:
        """Start the server beside its etcd, which runs."""
        assert self._process is None, "the API server is running already"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API server did not start:\n{self._log_path.read_text()[-3000:]}")
            time.sleep(POLL_S)

    def kill_server(self) -> None:
        """Kill the server, and so every watch, but not its etcd. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)
            self._process = None

    def forget_history(self) -> None:
        """Break all watches, and remember nothing before now: who asks for it is told 410 Gone."""
        self.kill_server()
        revision = self.etcd.post("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        self.etcd.post("/v3/kv/compaction", {"revision": revision, "physical": True})
        self.start_server()

    def pause(self) -> None:
        """Let it hang: connections stay, answers do not come."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill both on the spot. Idempotent."""
        self.kill_server()
        self.etcd.kill()

    @property
    def _cluster(self) -> dict[str, str]:
        return {"server": self.url, "certificate-authority": str(self.authority.certificate)}

    @property
    def _log_path(self) -> Path:
        return self.folder / "kube-apiserver.log"

    def _command(self) -> list[str]:
        host, port = self.address.rsplit(":", 1)
        flags = {
            "etcd-servers": f"http://{self.etcd.endpoint}",
            "bind-address": host,
            "secure-port": port,
            "tls-cert-file": self._serving.certificate,
            "tls-private-key-file": self._serving.key,
            "cert-dir": self.folder / "keys",
            "client-ca-file": self.authority.certificate,
            "anonymous-auth": "false",
            "authorization-mode": "Node,RBAC",
            "service-account-issuer": ISSUER,
            "service-account-key-file": self._accounts_key,
            "service-account-signing-key-file": self._accounts_key,
            "service-cluster-ip-range": "10.96.0.0/24",
            "endpoint-reconciler-type": "none",
            "kubelet-certificate-authority": self.authority.certificate,
            "kubelet-client-certificate": self._to_kubelets.certificate,
            "kubelet-client-key": self._to_kubelets.key,
            "kubelet-preferred-address-types": "InternalIP",
            # It taints new nodes, and nobody here would take that off when they are ready.
            "disable-admission-plugins": "TaintNodesByCondition",
        }
        line = [str(self.binary), "kube-apiserver", *(f"--{name}={value}" for name, value in flags.items())]
        return [*line, *self._flags]

    def _is_ready(self) -> bool:
        try:
            return bool(self.get("/readyz") == "ok")
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str) -> str:
        """Return what the server answers an administrator at a path."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self._admin.certificate, self._admin.key)
        place = urlsplit(self.url)
        connection = http.client.HTTPSConnection(place.hostname or "", place.port, context=context, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def write_kubeconfig(path: Path, cluster: dict[str, str], user: dict[str, str]) -> Path:
    """Write a kubeconfig with one user of one cluster (JSON, which is YAML too)."""
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2))
    return path
