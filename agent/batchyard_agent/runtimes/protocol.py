"""
What the agent needs of a runtime: prepare, launch, signal, adopt, remove.

A runtime carries out; it decides nothing. It must keep two promises across its
own death and the agent's: an attempt is launched at most once, and its exit
code stays learnable until ``remove``. All methods are called from one event loop;
blocking work goes to threads inside the runtime.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from batchyard.records import replace
from batchyard.resources import NO_USAGE, Usage
from batchyard.security import SecurityLevel
from batchyard.tasks import Container, ContainerEnd, SecretDelivery, Task

HOLDER = ("sleep", "2147483647")
"""What keeps the place of a job with a terminal, whose own command is let in (``enter``)."""


class StopSignal(enum.IntEnum):
    """What ``signal`` may send."""

    TERM = 15
    KILL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """
    A file or folder inside the container.

    Attributes:
        host_path: Where it is on the host; empty: an empty folder that lives as long
            as the attempt.
        volume: Of several containers: which of such folders, as they share them.
    """

    container_path: str
    host_path: str = ""
    volume: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """
    A device of the host inside the container.

    Attributes:
        permissions: Of ``r``, ``w`` and ``m`` (mknod).
    """

    host_path: str
    container_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """
    Everything a runtime needs to launch one attempt.

    Attributes:
        attempt_id: Never reused. Contains ``:`` and ``#``; runtimes that need a
            plainer name derive one.
        container: What is to run, as the contract says it; CPU and memory are enforced,
            memory is a hard limit. What of it is resolved for this host stands beside it
            and counts instead: its environment, mount points, devices and secrets.
        environment: Complete, the agent's additions included, but for secrets.
        secrets: Variables that go into the environment too, and nowhere else: into no
            file, argument, log or error.
        secret_files: Of secrets as files, by name what is in them; likewise nowhere but in those.
        secrets_folder: Where on the host these files are; empty: they have not been written, or there are none.
        gpu_uuids: Devices that the attempt may see, no others.
        log_path: File that receives stdout and stderr, appended as they come.
        log_bytes_max: What the log may take of the disk. Beyond it both ends are kept,
            with a marker line between (``log_limit``).
        labels: Of the container; processes have none.
        is_fargate: It is of a Fargate environment, so it is sandboxed where the host has a sandbox.
        part: Of one of several containers of an attempt: its name; empty of all else.
        parts: Of an attempt of several: each of them. What stands beside is about no container then, but
            what holds them together.
        pid_mode: Of several, see ``Task``; so ``ipc_mode``.
        holder: Of one of several: the container that it shares its network with.
        node_address: Of a node of a multi-node job: where others reach this host, empty where that is not
            known; None of all else.
        task: Of pods: all that it says of them.
        compute_environment: Of pods: an id of the environment that it is of.
        security_level: That of its queue.
        job_queue: Its queue, of whose network its containers are where the level is not PRIVILEGED.
        owner: The user whose job it is, as the controller says; empty: the administrator's.
        fence_ms: Its own fence, for who guards it; 0: never; None: that of its host.
    """

    attempt_id: str
    job_id: str
    container: Container
    environment: Mapping[str, str]
    gpu_uuids: tuple[str, ...] = ()
    log_path: Path
    log_bytes_max: int
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_files: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets_folder: str = ""
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    is_fargate: bool = False
    part: str = ""
    parts: tuple[LaunchSpec, ...] = ()
    pid_mode: str = ""
    ipc_mode: str = ""
    holder: str = ""
    node_address: str | None = None
    task: Task | None = None
    compute_environment: str = ""
    security_level: SecurityLevel = SecurityLevel.PRIVILEGED
    job_queue: str = ""
    owner: str = ""
    fence_ms: int | None = None

    def with_secrets(self, secrets: Mapping[str, Mapping[str, str]]) -> LaunchSpec:
        """Return it with secrets for its containers, by their names; its own have none."""
        parts = tuple(part.with_secrets({"": secrets.get(part.part, {})}) for part in self.parts)
        own = secrets.get("", {})
        files = {each.name for each in self.container.secrets if each.delivery is SecretDelivery.FILE}
        return replace(
            self,
            secrets={name: value for name, value in own.items() if name not in files},
            secret_files={name: value for name, value in own.items() if name in files},
            parts=parts,
        )

    def with_variables(self, part: str, secrets: Mapping[str, str]) -> LaunchSpec:
        """Return it with secrets for one of its containers that are variables."""
        parts = tuple(each.with_variables("", secrets) if each.part == part else each for each in self.parts)
        return replace(self, parts=parts) if parts else replace(self, secrets=secrets)

    def with_environment(self, more: Mapping[str, Mapping[str, str]]) -> LaunchSpec:
        """Return it with more variables for its containers, by their names; its own have none."""
        parts = tuple(part.with_environment({"": more.get(part.part, {})}) for part in self.parts)
        return replace(self, environment={**self.environment, **more.get("", {})}, parts=parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """
    The attempt's command runs.

    Attributes:
        started_at_ms: Wall clock.
        image_digest: Which image it runs, ``sha256:...``; empty where there is none, and where it is not known.
    """

    attempt_id: str
    started_at_ms: int
    image_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersChanged:
    """How the several containers of an attempt are by now, in their order; told when one has started or ended."""

    attempt_id: str
    containers: tuple[ContainerEnd, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindered:
    """
    What keeps an attempt from starting, which may pass.

    Attributes:
        reason: At most 255 characters; empty: nothing does any more.
    """

    attempt_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """
    The attempt's command has ended, and all its output is in the log.

    Attributes:
        exit_code: As a shell gives it: 128 + n after signal n.
        out_of_memory: The kernel killed a process of it for its memory limit; the
            command itself may have gone on, so any exit code can stand beside it.
        reason: What the runtime says beyond the code; empty mostly.
        host_failed: The host ended it and not the job, as when its engine was restarted.
        is_fenced: The guard ended it, as no controller was in touch.
        containers: How each of several ended.
    """

    attempt_id: str
    exit_code: int
    stopped_at_ms: int
    out_of_memory: bool = False
    reason: str = ""
    host_failed: bool = False
    is_fenced: bool = False
    usage: Usage = NO_USAGE
    containers: tuple[ContainerEnd, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """
    The attempt never ran and never will; of several containers some may have.

    Attributes:
        reason: AWS's text where it has one: ``CannotPullContainerError: ...``,
            ``CannotStartContainerError: ...``; at most 255 characters.
        exit_code: 127 or 126 when the command was missing or not executable, as
            a shell and Docker say it; None when there is none to tell.
        host_failed: The host is why: its engine does not answer, its disk is full.
        image_missing: The image could not be had here; of other hosts this says nothing.
        containers: See ``Exited``.
    """

    attempt_id: str
    reason: str
    exit_code: int | None = None
    stopped_at_ms: int = 0
    host_failed: bool = False
    image_missing: bool = False
    containers: tuple[ContainerEnd, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanished:
    """
    No trace is left from which an exit code could be learnt.

    For instance after a reboot of the host, or when somebody removed the
    container. Also the answer of ``adopt`` for an attempt that was never launched
    is not this but ``NotLaunched``.

    Attributes:
        is_reboot: All of the host went down, and not something of it.
    """

    attempt_id: str
    reason: str
    is_reboot: bool = False


Observation = Started | ContainersChanged | Hindered | Exited | StartFailed | Vanished
Observe = Callable[[Observation], None]
"""Takes observations on the event loop's thread, in the order they happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryEnd:
    """
    How a command in an attempt has ended.

    Attributes:
        exit_code: As a shell gives it; None: nobody knows.
        error: Why it could not be started, with 126 or 127, or why its code is not known.
    """

    exit_code: int | None = None
    error: str = ""


Take = Callable[[bytes, bool], Awaitable[None]]
"""Takes a piece of output, and whether it is of stderr, when there is room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A terminal's size; 0: as the system has it."""

    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What is to be run.

    Attributes:
        stdin: It reads what is sent; without, nothing.
        terminal: It has one of its own, and one output.
        terminal_type: Its TERM.
    """

    command: tuple[str, ...]
    stdin: bool = False
    terminal: bool = False
    window: Window = Window()
    terminal_type: str = "xterm"


class EntryRefusedError(Exception):
    """Nothing can be run there; the text says why."""


class Entry(Protocol):
    """A command that runs."""

    async def pour(self, take: Take) -> EntryEnd:
        """Hand on all output, and return how it has ended."""

    async def write(self, data: bytes) -> None:
        """Have it read this; it waits until there is room. Of no effect once it reads no more."""

    async def end_input(self) -> None:
        """Let it find the end of what it reads."""

    async def resize(self, window: Window) -> None:
        """Let its terminal have another size."""

    async def close(self) -> None:
        """Let go of it; it is hung up on where that can be done. Idempotent."""


class Adoption(enum.Enum):
    """What ``adopt`` found."""

    KNOWN = "known"
    """The attempt was launched: observations follow (Started, then its end)."""

    NOT_LAUNCHED = "not launched"
    """It certainly was never launched; ``launch`` may be called."""


class Runtime(Protocol):
    """Runs attempts. One instance an agent."""

    name: str
    """``docker``, ``process``, ``kubernetes`` or ``fake``."""

    @property
    def fault(self) -> str:
        """Why it can take no new attempts now, such as an engine that does not answer; empty: it can."""

    async def open(self, observe: Observe) -> None:
        """
        Get ready; *observe* is called from now on.

        Raises:
            RuntimeUnavailableError: the engine cannot be used on this host.
        """

    def launch(self, spec: LaunchSpec) -> None:
        """
        Start an attempt that was never launched, without waiting for anything.

        Success and failure arrive as observations: Started then Exited, or StartFailed.
        """

    async def adopt(self, spec: LaunchSpec) -> Adoption:
        """
        Find an attempt again that a former agent may have launched.

        After KNOWN, observations arrive as they would after ``launch``, with
        the true times and exit code, also if it ended in the meantime.
        """

    async def signal(self, attempt_id: str, signal: StopSignal) -> None:
        """Signal the attempt's processes; no error if it has ended."""

    async def enter(self, spec: LaunchSpec, part: str, wanted: Wanted) -> Entry | EntryEnd:
        """
        Run a command in an attempt that runs, of several containers in the one that is named.

        Returns:
            It, or how it ended, if it could not be started there: with 126 or 127.

        Raises:
            EntryRefusedError: nothing can be run there.
            RuntimeUnavailableError: the engine does not answer.
        """

    async def remove(self, attempt_ids: Sequence[str]) -> Mapping[str, Exception]:
        """
        Let go of ended attempts: container, files, cgroup; not their logs. Idempotent.

        Returns:
            Those that could not be let go of, and why.
        """

    async def launched(self) -> list[str]:
        """
        Return ids of all attempts that the runtime still holds and that were launched from this state folder.

        Also by a former agent of another host id, whose journal was wiped; not by one
        that runs from a copy of the folder.
        """

    async def discard(self, attempt_id: str) -> None:
        """Kill an attempt that was launched and never adopted, and let go of it. Idempotent."""

    async def close(self) -> None:
        """Stop observing. Attempts go on."""


class RuntimeUnavailableError(Exception):
    """The runtime cannot be used on this host; the text says why."""
