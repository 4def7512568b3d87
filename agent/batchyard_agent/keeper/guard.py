"""
The guard: until when this host's attempts may run without a word from a controller, and their end then.

The agent says so with each contact and ends them itself; the guard is for an agent that does
not. It keeps what it was told in a file, over this program's death. Law: it counts
CLOCK_BOOTTIME alone; and once a deadline has passed, nothing may start before a later one is told.
"""

from __future__ import annotations

import os
import sys

NAME = "deadline"
REPEAT_S = 5.0
"""Time between the guard's rounds, as long as no controller is in touch: an engine may hang, or start late."""

_ENGINE_LIMIT_S = 20.0
_ANSWER_BYTES_MAX = 64 << 20


class Guard:
    """
    What the agent has told last.

    Attributes:
        deadline_ms: CLOCK_BOOTTIME; 0: none.
        containers: How many containers the agent runs, as far as it knows.
        engine: Path of the engine's socket; empty: it has none.
        query: What to ask the engine for to be told of this agent's containers.
    """

    def __init__(self, folder: str, boot_id: str) -> None:
        self._path = f"{folder}/{NAME}"
        self._boot_id = boot_id
        self._next_round_s = 0.0
        self.deadline_ms = 0
        self.containers = 0
        self.engine = ""
        self.query = ""

    def load(self) -> None:
        """Read what a former keeper was told in this boot of the machine."""
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                boot_id, deadline_ms, containers, self.engine, self.query = file.read().split("\n")
            if boot_id == self._boot_id:
                self.deadline_ms, self.containers = int(deadline_ms), int(containers)
        except (FileNotFoundError, ValueError):
            return

    def tell(self, deadline_ms: int, containers: int, engine: str, query: str) -> None:
        """Take what the agent tells."""
        self.deadline_ms, self.containers = deadline_ms, containers
        self.engine, self.query = engine, query
        text = "\n".join([self._boot_id, str(deadline_ms), str(containers), engine, query])
        try:
            fd = os.open(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
            os.replace(self._path + ".new", self._path)
        except OSError:
            return  # a full disk; a successor would go by what was told before, and end things too early

    def has_passed(self, now_s: float) -> bool:
        """Say whether nothing may run."""
        return 0 < self.deadline_ms <= now_s * 1000

    def is_needed(self, now_s: float) -> bool:
        """Say whether there is anything to guard beside this program's own attempts."""
        return self.containers > 0 and self.deadline_ms > 0

    def is_due(self, now_s: float) -> bool:
        """Say whether a round is due, and count it."""
        if not self.has_passed(now_s) or now_s < self._next_round_s:
            return False
        self._next_round_s = now_s + REPEAT_S
        return True

    def kill_containers(self) -> None:
        """
        Have the engine kill this agent's containers. Blocks, for as long as the engine does.

        Raises:
            OSError: it could not be asked.
        """
        if not (self.engine and self.query):
            return
        import json  # noqa: PLC0415  # in a child of this program alone, which ends then

        head, _, body = self._ask("GET", self.query).partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise OSError(f"the engine says {head[:200]!r}")
        for container in json.loads(body):
            self._ask("POST", f"/containers/{container['Id']}/kill")
            sys.stderr.write(f"batchyard keeper: killed container {container['Id']}: the fence has passed\n")

    def _ask(self, method: str, path: str) -> bytes:
        import socket  # noqa: PLC0415

        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(_ENGINE_LIMIT_S)
            engine.connect(self.engine)
            # Of HTTP's first version: the answer ends with the connection.
            engine.sendall(f"{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: 0\r\n\r\n".encode())
            answer = bytearray()
            while (data := engine.recv(1 << 16)) and len(answer) < _ANSWER_BYTES_MAX:
                answer += data
        return bytes(answer)
