"""
What the Docker Engine's answers mean.

Pure: JSON and bytes of the engine in, facts and texts out. It must never talk
to the engine. Law: the reason texts are those of AWS (Amazon ECS, "Stopped
tasks error messages"), with the engine's own words after the colon.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from batchyard_agent.runtimes.docker_spec import ATTEMPT_LABEL, HOME_LABEL, HOST_LABEL, PART_LABEL
from batchyard_agent.runtimes.engine_words import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, reason

EXIT_KILLED = 137
EXIT_TERMINATED = 143

_FRAME_HEADER = struct.Struct(">BxxxL")

_FINAL_PULL_TEXTS = (
    "not found",
    "manifest unknown",
    "name unknown",
    "denied",
    "unauthorized",
    "no basic auth credentials",
    "no matching manifest",
    "invalid reference format",
    # The resolver answered that there is no such registry: a typing error, not an outage.
    "no such host",
)

_SHORTAGES = (
    "no space left on device",
    "disk quota exceeded",
    "too many open files",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "read-only file system",
    "input/output error",
    "could not select device driver",
)
"""What the engine says of its host, whatever the job asked; the last: it has no runtime for GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """
    What the engine knows of one container.

    Attributes:
        started_at_ms: None iff it was never started.
        finished_at_ms: None until it has ended.
        exit_code: Meaningful once it has ended.
        out_of_memory: The engine saw the kernel kill in it for its memory limit.
        pid: Of its first process, as the engine's machine counts; 0 unless it runs.
    """

    container_id: str
    scope: str
    attempt_id: str
    is_running: bool
    started_at_ms: int | None
    finished_at_ms: int | None
    exit_code: int
    out_of_memory: bool
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedContainer:
    """
    One line of the engine's list of containers.

    Attributes:
        home: Empty for what the first versions launched, which knew no such label.
        part: Which of several containers of the attempt; empty: its only one, or what holds them together.
    """

    attempt_id: str
    home: str
    is_running: bool
    part: str = ""
    container_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerDied:
    """A container has ended; ``at_ms`` is the engine's clock."""

    attempt_id: str
    exit_code: int
    at_ms: int
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOutOfMemory:
    """The kernel killed a process of the container for its memory limit."""

    attempt_id: str
    part: str = ""


ContainerEvent = ContainerDied | ContainerOutOfMemory


def facts_from_inspect(answer: Mapping[str, Any]) -> ContainerFacts:
    """Read the answer to ``GET /containers/{id}/json``."""
    state = answer["State"]
    labels = answer["Config"]["Labels"] or {}
    return ContainerFacts(
        container_id=answer["Id"],
        scope=labels.get(HOST_LABEL, ""),
        attempt_id=labels.get(ATTEMPT_LABEL, ""),
        is_running=bool(state["Running"]),
        started_at_ms=time_ms(state["StartedAt"]),
        finished_at_ms=time_ms(state["FinishedAt"]),
        exit_code=int(state["ExitCode"]),
        out_of_memory=bool(state["OOMKilled"]),
        pid=int(state.get("Pid") or 0),
    )


def bounds_disk(info: Mapping[str, Any], mounts: str) -> bool:
    """
    Say whether an engine can bound what a container writes into its own layer.

    Args:
        info: Its answer to ``GET /info``.
        mounts: /proc/self/mounts of its machine.

    Source: Docker, "docker run --storage-opt": btrfs, zfs and overlay2 over xfs with pquota.
    """
    if info.get("Driver") != "overlay2":
        return info.get("Driver") in ("btrfs", "zfs")
    root = PurePosixPath(info.get("DockerRootDir", "/"))
    lines = [line.split() for line in mounts.splitlines()]
    above = [(len(line[1]), line[2], line[3].split(",")) for line in lines if root.is_relative_to(line[1])]
    _, kind, options = max(above, default=(0, "", []))
    return kind == "xfs" and not {"pquota", "prjquota"}.isdisjoint(options)


def listed_from_list(answer: Iterable[Mapping[str, Any]]) -> list[ListedContainer]:
    """Read the answer to ``GET /containers/json``, filtered by our host label."""
    return [
        ListedContainer(
            attempt_id=container["Labels"].get(ATTEMPT_LABEL, ""),
            home=container["Labels"].get(HOME_LABEL, ""),
            is_running=container["State"] in {"running", "paused"},
            part=container["Labels"].get(PART_LABEL, ""),
            container_id=container["Id"],
        )
        for container in answer
    ]


def events_from_chunks(chunks: Iterable[bytes]) -> Iterator[ContainerEvent]:
    """Read the stream of ``GET /events``: one JSON object a line, cut anywhere into *chunks*."""
    buffer = b""
    for chunk in chunks:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if line.strip() and (event := _event(json.loads(line))):
                yield event


def _event(message: Mapping[str, Any]) -> ContainerEvent | None:
    attributes = message["Actor"]["Attributes"]
    attempt_id, part = attributes.get(ATTEMPT_LABEL, ""), attributes.get(PART_LABEL, "")
    match message["Action"]:
        case "die":
            return ContainerDied(
                attempt_id=attempt_id,
                exit_code=int(attributes["exitCode"]),
                at_ms=int(message["timeNano"]) // 1_000_000,
                part=part,
            )
        case "oom":
            return ContainerOutOfMemory(attempt_id=attempt_id, part=part)
        case _:
            return None


def payloads(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Take the engine's frame headers out of a log stream.

    Each frame is one byte for the stream, three zeros, four bytes of length, and
    that many bytes of output (Docker Engine API, "Attach to a container").
    Frames may be cut anywhere between *chunks*. A frame that the end of the
    stream cuts off is not returned.
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        start, found = 0, []
        while len(buffer) - start >= _FRAME_HEADER.size:
            _, length = _FRAME_HEADER.unpack_from(buffer, start)
            end = start + _FRAME_HEADER.size + length
            if end > len(buffer):
                break
            found.append(bytes(buffer[start + _FRAME_HEADER.size : end]))
            start = end
        del buffer[:start]
        if found:
            yield b"".join(found)


def is_final_pull_failure(message: str, status: int) -> bool:
    """Say whether pulling again could not help: no such image, no right to it, no such registry."""
    text = message.lower()
    return status in {400, 401, 403, 404} or any(fragment in text for fragment in _FINAL_PULL_TEXTS)


def is_shortage(message: str) -> bool:
    """Say whether the engine failed for what its host lacks."""
    text = message.lower()
    return any(fragment in text for fragment in _SHORTAGES)


def is_malformed_image(message: str) -> bool:
    """Say whether no host can have an image, as its name is none."""
    return "invalid reference format" in message.lower()


def init_failure(exit_code: int, log_tail: bytes) -> str:
    """
    Say why the container's init process could not execute the command; mostly empty.

    With an init process the engine has started the container before the command
    is looked for. The init then writes one line and exits as a shell does, so
    that line is the only place where the cause is told.
    """
    if exit_code not in {EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE}:
        return ""
    last_line = log_tail.rstrip().rpartition(b"\n")[2].decode("utf-8", "replace")
    prefix, bracket, text = last_line.partition("] ")
    if not (bracket and prefix.startswith("[FATAL tini") and text.startswith("exec ")):
        return ""
    return reason("CannotStartContainerError", text)


def time_ms(text: str) -> int | None:
    """Read an RFC 3339 time; the engine's year 1 means never."""
    moment = datetime.fromisoformat(text)
    if moment.year <= 1:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    since = moment - epoch
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
