"""
The guard: for how long this host's attempts may run without a word from a controller, and their end then.

The agent says so with each contact and ends them itself; the guard is for an agent that does
not. It keeps what it was told in a file, over this program's death. Law: it counts
CLOCK_BOOTTIME alone; and once an attempt's fence has passed, it may not start before a later contact is told.
"""

from __future__ import annotations

import os
import sys
import time

from batchyard_agent.keeper.record import FENCE_OF_HOST

NAME = "contact"
FENCE_LABEL = "batchyard.fence"
"""Of containers that have a fence of their own: its milliseconds; 0: never."""
LOOK_S = 0.5
"""Time between looks, as long as no controller is in touch."""
REPEAT_S = 5.0
"""Time between rounds of the same containers: an engine may hang, or start late."""

_ENGINE_LIMIT_S = 20.0
_ANSWER_BYTES_MAX = 64 << 20


class Guard:
    """
    What the agent has told last.

    Attributes:
        since_ms: From when on the silence counts, by CLOCK_BOOTTIME; 0: nothing was told.
        fence_ms: After how long an attempt is ended that has no fence of its own; 0: never.
        containers: The fences of the containers that the agent runs, as far as it knows.
        engine: Path of the engine's socket; empty: it has none.
        query: What to ask the engine for to be told of this agent's containers.
    """

    def __init__(self, folder: str, boot_id: str) -> None:
        self._path = f"{folder}/{NAME}"
        self._boot_id = boot_id
        self._next_look_s = self._next_round_s = 0.0
        self._ended: set[int] = set()
        """The fences of the containers that the last round ended."""
        self.since_ms = 0
        self.fence_ms = 0
        self.containers: list[int] = []
        self.engine = ""
        self.query = ""

    def load(self) -> None:
        """Read what a former keeper was told in this boot of the machine."""
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                boot_id, since_ms, fence_ms, containers, engine, query = file.read().split("\n")
            if boot_id == self._boot_id:
                self._take(int(since_ms), int(fence_ms), containers, engine, query)
        except (FileNotFoundError, ValueError):
            return

    def _take(self, since_ms: int, fence_ms: int, containers: str, engine: str, query: str) -> None:
        self.containers = [int(each) for each in containers.split(",") if each]
        self.since_ms, self.fence_ms = since_ms, fence_ms
        self.engine, self.query = engine, query

    def tell(self, since_ms: int, fence_ms: int, containers: str, engine: str, query: str) -> None:
        """Take what the agent tells; *containers* are their fences, with commas between."""
        self._take(since_ms, fence_ms, containers, engine, query)
        text = "\n".join([self._boot_id, str(since_ms), str(fence_ms), containers, engine, query])
        try:
            fd = os.open(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
            os.replace(self._path + ".new", self._path)
        except OSError:
            return  # a full disk; a successor would go by what was told before, and end things too early

    def has_passed(self, fence_ms: int, now_s: float) -> bool:
        """Say whether nothing with this fence may run; see ``record.Kept``."""
        if fence_ms == FENCE_OF_HOST:
            fence_ms = self.fence_ms
        return self.since_ms > 0 and fence_ms > 0 and self.since_ms + fence_ms <= now_s * 1000

    def is_needed(self) -> bool:
        """Say whether there is anything to guard beside this program's own attempts."""
        return any(self.containers)

    def is_due(self, now_s: float) -> bool:
        """Say whether it is time to look whose fence has passed, and count it."""
        if not self.since_ms or now_s * 1000 < self.since_ms or now_s < self._next_look_s:
            return False
        self._next_look_s = now_s + LOOK_S
        return True

    def begins_round(self, now_s: float) -> bool:
        """Say whether containers are to be ended now, and count it: at once, and again as long as they are told of."""
        passed = {fence_ms for fence_ms in self.containers if self.has_passed(fence_ms, now_s)}
        if passed <= self._ended and (not passed or now_s < self._next_round_s):
            self._ended &= passed
            return False
        self._ended = passed
        self._next_round_s = now_s + REPEAT_S
        return True

    def kill_containers(self) -> None:
        """
        Have the engine kill this agent's containers whose fence has passed. Blocks, for as long as the engine does.

        Raises:
            OSError: it could not be asked.
        """
        if not (self.engine and self.query):
            return
        import json  # noqa: PLC0415  # in a child of this program alone, which ends then

        head, _, body = self._ask("GET", self.query).partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise OSError(f"the engine says {head[:200]!r}")
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        for container in json.loads(body):
            if not self.has_passed(int((container.get("Labels") or {}).get(FENCE_LABEL, FENCE_OF_HOST)), now_s):
                continue
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
