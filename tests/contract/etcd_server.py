"""
A private etcd for tests: its own folder, its own ports, its own process.

    server = EtcdServer(tmp_path)
    server.start()
    store = open_store(server.url)

It keeps its data and ports over ``kill`` and ``start``, as a server does that
crashes and comes back.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.ports import hold_address

START_TIMEOUT_S = 90.0
POLL_S = 0.05


class EtcdServer:
    """
    One etcd that is a cluster by itself; needs the binary ``etcd`` on PATH.

    Args:
        folder: Where its data and its log go.
        arguments: More flags, such as those for TLS.
        scheme: ``https`` if *arguments* make it so.
    """

    def __init__(self, folder: Path, arguments: Sequence[str] = (), scheme: str = "http", name: str = "test") -> None:
        self.folder = folder
        self._name = name
        self.endpoint, self.health_endpoint, self._peer_endpoint = (hold_address() for _ in range(3))
        self.arguments = tuple(arguments)
        self._scheme = scheme
        self._process: subprocess.Popen[bytes] | None = None
        self._initial_cluster = f"{name}=http://{self._peer_endpoint}"

    @classmethod
    def cluster(cls, folder: Path, count: int, arguments: Sequence[str] = ()) -> list[EtcdServer]:
        """Return servers that are to be one cluster; start them together, each in a thread of its own."""
        timing = ("--heartbeat-interval", "50", "--election-timeout", "500")
        servers = [cls(folder / f"m{i}", (*timing, *arguments), name=f"m{i}") for i in range(count)]
        initial_cluster = ",".join(server._initial_cluster for server in servers)
        for server in servers:
            server._initial_cluster = initial_cluster
        return servers

    @property
    def url(self) -> str:
        """What ``open_store`` takes; a prefix and options can be put behind it."""
        return f"etcd://{self.endpoint}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "etcd is running already"
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"etcd did not start:\n{self._log_path.read_text()[-2000:]}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Stop it in an orderly way. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it on the spot. Idempotent."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stay, answers do not come."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Call the server's JSON gateway (without TLS), for what our client cannot do."""
        connection = http.client.HTTPConnection(self.endpoint, timeout=60.0)
        try:
            connection.request("POST", path, json.dumps(body))
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert "error" not in answer, answer
        return answer

    @property
    def _log_path(self) -> Path:
        return self.folder / "etcd.log"

    def _command(self) -> list[str]:
        client_url = f"{self._scheme}://{self.endpoint}"
        peer_url = f"http://{self._peer_endpoint}"
        return [
            "etcd",
            *("--name", self._name, "--data-dir", str(self.folder / "data")),
            *("--listen-client-urls", client_url, "--advertise-client-urls", client_url),
            *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
            *("--initial-cluster", self._initial_cluster),
            *("--listen-metrics-urls", f"http://{self.health_endpoint}"),
            # Alone in its cluster, it need not wait a second before it elects itself.
            *("--heartbeat-interval", "10", "--election-timeout", "100"),
            *self.arguments,
        ]

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(self.health_endpoint, timeout=1.0)
        try:
            connection.request("GET", "/health")
            return bool(json.loads(connection.getresponse().read()).get("health") == "true")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)  # a paused process acts on nothing but SIGKILL
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None
