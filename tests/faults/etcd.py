"""An etcd of three members, each in a space of its own, with what its JSON gateway is asked for."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.programs import Program, until

from .spaces import Space

CLIENT_PORT, PEER_PORT = 2379, 2380
CALL_LIMIT_S = 5.0


class Member:
    """One member; it keeps its data over deaths."""

    def __init__(self, name: str, space: Space, folder: Path, cluster: str) -> None:
        self.name = name
        self.space = space
        client_url = f"http://{space.address}:{CLIENT_PORT}"
        peer_url = f"http://{space.address}:{PEER_PORT}"
        arguments = [
            *(*space.prefix, "etcd", "--name", name, "--data-dir", str(folder / name)),
            *("--listen-client-urls", client_url, "--advertise-client-urls", client_url),
            *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
            *("--initial-cluster", cluster, "--log-level", "warn"),
        ]
        self.program = Program(f"etcd {name}", arguments, folder / f"{name}.log")
        self._strace: subprocess.Popen[bytes] | None = None

    def slow_down(self, delay_s: float) -> None:
        """Let each of its writes to the disk take so much longer; needs ``strace``."""
        inject = f"inject=fdatasync:delay_exit={int(delay_s * 1e6)}"
        line = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync", "-e", inject, "-p"]
        self._strace = subprocess.Popen([*line, str(self.program.pid)], stdin=subprocess.DEVNULL)

    def speed_up(self) -> None:
        """Let its disk be as fast as it is."""
        assert self._strace is not None
        self._strace.terminate()
        self._strace.wait()
        self._strace = None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """
        Call its JSON gateway.

        Raises:
            OSError: it does not answer, or with an error.
        """

        def call() -> dict[str, Any]:
            connection = http.client.HTTPConnection(self.space.address, CLIENT_PORT, timeout=CALL_LIMIT_S)
            try:
                connection.request("POST", path, json.dumps(body))
                answer: dict[str, Any] = json.loads(connection.getresponse().read())
            except (http.client.HTTPException, ValueError) as error:
                raise OSError(str(error)) from error
            finally:
                connection.close()
            if "error" in answer:
                raise OSError(str(answer["error"]))
            return answer

        return self.space.call(call)

    def leads(self) -> bool:
        """Say whether it is its cluster's leader, as far as it knows."""
        with contextlib.suppress(OSError):
            answer = self.post("/v3/maintenance/status", {})
            return bool(answer.get("leader")) and answer["leader"] == answer["header"]["member_id"]
        return False


class Cluster:
    """Three members."""

    def __init__(self, spaces: list[Space], folder: Path) -> None:
        named = {f"e{number}": space for number, space in enumerate(spaces)}
        cluster = ",".join(f"{name}=http://{space.address}:{PEER_PORT}" for name, space in named.items())
        self.members = [Member(name, space, folder, cluster) for name, space in named.items()]

    @property
    def endpoints(self) -> str:
        return ",".join(f"{member.space.address}:{CLIENT_PORT}" for member in self.members)

    def start(self) -> None:
        """Start all, and wait until one leads."""
        for member in self.members:
            member.program.start()
        until(lambda: any(member.leads() for member in self.members), "etcd has a leader")

    def compact(self) -> None:
        """
        Forget all history.

        Raises:
            OSError: no member answers.
        """
        member = next((each for each in self.members if each.leads()), self.members[0])
        revision = member.post("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        member.post("/v3/kv/compaction", {"revision": revision})
