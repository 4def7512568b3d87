"""
Entering: may a command be run in an attempt, in which one, and which two streams belong together.

A user's stream and one of the host's are joined by a key that is made for one entry. It must never
know what goes through. Laws: a key opens once, for the host that it was sent to, and within
seconds; and of entries there are never more than a user, a host and a controller may have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from batchyard.errors import FailedPreconditionError, NotFoundError, Reason, ResourceExhaustedError, Violation
from batchyard.features import ENTRIES
from batchyard.ids import AttemptId, HostId
from batchyard.runtimes import PROCESS
from batchyard.states import JobState
from batchyard.tasks import SecretDelivery
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Principal, Verb
from batchyard_controller.core.model.jobs import JobKind
from batchyard_controller.core.model.secrets import StoredSecret
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.world.world import World

from .checks import Violations, check_range, check_text, quote, refuse
from .names import check_job_id
from .permission import find_unit
from .secrecy import find_secret


def check_opening(
    job_id: str,
    container: str,
    command: Sequence[str],
    window: tuple[int, int],
    terminal_type: str,
    *,
    is_attach: bool = False,
) -> None:
    """
    Check what an entry asks for, by itself.

    Args:
        job_id: Of a job, a child or a node.
        container: Which of several; empty: the only one.
        command: Program and arguments.
        window: Rows and columns; 0: as the system has it.
        terminal_type: The command's TERM.
        is_attach: It asks for the terminal that the job has, and no command.

    Raises:
        InvalidArgumentError: naming what is wrong.
    """
    out: Violations = []
    check_job_id(out, "open.job_id", job_id)
    check_text(out, "open.container", container, limits.CONTAINER_NAME_LENGTH_MAX)
    if is_attach and command:
        out.append(Violation("open.command.command", "who attaches runs the job's own command", Reason.CONFLICT))
    if not is_attach and not (command and command[0]):
        out.append(Violation("open.command.command", "say what to run", Reason.REQUIRED))
    size = sum(len(word.encode()) + 1 for word in command)
    if size > limits.ENTRY_COMMAND_BYTES_MAX:
        text = f"{size} bytes; at most {limits.ENTRY_COMMAND_BYTES_MAX} are allowed"
        out.append(Violation("open.command.command", text, Reason.TOO_LONG))
    if any("\0" in word for word in command):
        out.append(Violation("open.command.command", "a word holds a NUL", Reason.BAD_CHARACTERS))
    for name, value in zip(("rows", "columns"), window, strict=True):
        check_range(out, f"open.command.size.{name}", value, 0, limits.WINDOW_SIDE_MAX)
    check_text(out, "open.command.terminal_type", terminal_type, limits.TERMINAL_TYPE_LENGTH_MAX)
    refuse(out)


def check_piece(size: int) -> None:
    """
    Check one piece of what goes through.

    Raises:
        InvalidArgumentError: it is too long.
    """
    if size > limits.ENTRY_PIECE_BYTES_MAX:
        text = f"{size} bytes; at most {limits.ENTRY_PIECE_BYTES_MAX} are taken at once"
        refuse([Violation("input.data", text, Reason.TOO_LONG)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a command is to be run.

    Attributes:
        container: Which of several; empty of a plain task.
        secrets: Of a plain process: those that are variables, still sealed, by the variable.
    """

    attempt_id: AttemptId
    host_id: HostId
    host_name: str
    container: str
    secrets: dict[str, StoredSecret]


def find_place(world: World, caller: Principal, job_id: str, container: str) -> Place:
    """
    Return where a command is run that a caller wants to have in a job.

    Raises:
        NotFoundError: there is no such job, or none that they may see; or a secret of it is gone.
        PermissionDeniedError: they may see it, and not enter it.
        FailedPreconditionError: nothing of it runs now, or its host cannot do this.
        InvalidArgumentError: the container is none of its own, or it has several and none is said.
    """
    unit = find_unit(world, caller, Verb.ENTER, job_id)
    metadata = {"job_id": unit.id}
    if unit.is_parent and unit.job.kind is JobKind.ARRAY:
        text = f"{unit.id} is an array; name a child, such as {unit.id}:0"
        raise FailedPreconditionError(text, reason=Reason.JOB_IS_ARRAY, metadata=metadata)
    if unit.is_parent:
        unit = unit.main
    part = container_of(unit, container)
    if unit.state.is_final:
        text = f"job {job_id} has ended ({unit.state}), so nothing of it runs"
        raise FailedPreconditionError(text, reason=Reason.JOB_HAS_ENDED, metadata=metadata)
    attempt = world.live_attempt(unit) if unit.state is JobState.RUNNING else None
    if attempt is None:
        text = f"job {job_id} does not run yet: it is {unit.state}; batchyard explain {job_id} says why"
        raise FailedPreconditionError(text, reason=Reason.JOB_NOT_STARTED, metadata=metadata)
    facts = world.hosts[attempt.host_id].record.facts
    if ENTRIES not in facts.features:
        where = "it is a pod: use kubectl exec" if facts.kubernetes is not None else "its agent is of an older version"
        text = f"host {facts.name} runs no commands in attempts; {where}"
        told = {"host_id": attempt.host_id}
        raise FailedPreconditionError(text, reason=Reason.ENTRY_NOT_POSSIBLE, metadata=told)
    return Place(
        attempt_id=attempt.id,
        host_id=attempt.host_id,
        host_name=facts.name,
        container=part,
        secrets=_secrets(world, unit, part),
    )


def container_of(unit: Unit, name: str) -> str:
    """
    Return which of several containers is meant, or nothing of a plain task.

    Raises:
        InvalidArgumentError: the job has no such container, or several and none is said.
    """
    names = [container.shown_name for container in unit.task.all_containers]
    if name and name not in names:
        text = f"{quote(name)} is none of the job's containers: {', '.join(names)}"
        refuse([Violation("container", text, Reason.UNKNOWN_VALUE)])
    if not name and len(unit.task.containers) > 1:
        refuse([Violation("container", f"the job has several containers: {', '.join(names)}", Reason.REQUIRED)])
    return "" if unit.task.is_plain else name or names[0]


def _secrets(world: World, unit: Unit, part: str) -> dict[str, StoredSecret]:
    """Return what a plain process has in its environment; an engine hands on by itself what a container has."""
    if unit.task.runtime != PROCESS:
        return {}
    spec = unit.job.spec
    (container,) = (each for each in unit.task.all_containers if not part or each.shown_name == part)
    return {
        secret.name: find_secret(world, secret.value_from, spec.owner, spec.queue)
        for secret in container.secrets
        if secret.delivery is SecretDelivery.VARIABLE
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    user: str
    host_id: HostId
    key_until_ms: int | None
    """None: it was used."""


class Register:
    """
    The entries of one controller: what they are counted by, and the keys that were not used yet.

    Times are of any clock that only rises.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._users: Counter[str] = Counter()
        self._hosts: Counter[HostId] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, key: str, user: str, host_id: HostId, now_ms: int) -> None:
        """
        Begin an entry, whose key is good for ``limits.ENTRY_KEY_MS``.

        Raises:
            ResourceExhaustedError: there are as many as are allowed.
        """
        for count, most, whose in (
            (len(self._entries), limits.ENTRIES_MAX, "this controller's"),
            (self._users[user], limits.ENTRIES_OF_USER_MAX, f"{user}'s"),
            (self._hosts[host_id], limits.ENTRIES_OF_HOST_MAX, "the host's"),
        ):
            if count >= most:
                text = f"{count} commands run in attempts already, which is all of {whose}; end one first"
                raise ResourceExhaustedError(text, reason=Reason.TOO_MANY_ENTRIES, metadata={"limit": str(most)})
        assert key not in self._entries, "random keys never repeat"
        self._entries[key] = _Entry(user=user, host_id=host_id, key_until_ms=now_ms + limits.ENTRY_KEY_MS)
        self._users[user] += 1
        self._hosts[host_id] += 1

    def use(self, key: str, host_id: HostId | None, now_ms: int) -> None:
        """
        Let a host come to the entry that its key is of; None: one of this machine, which proves nothing more.

        Raises:
            NotFoundError: there is no such key, or it was used, is over, or is another host's; all in the same words.
        """
        entry = self._entries.get(key)
        if (
            entry is None
            or entry.key_until_ms is None
            or now_ms > entry.key_until_ms
            or host_id not in (None, entry.host_id)
        ):
            raise NotFoundError("no such entry is waited for", reason=Reason.ENTRY_NOT_FOUND)
        self._entries[key] = _Entry(user=entry.user, host_id=entry.host_id, key_until_ms=None)

    def close(self, key: str) -> None:
        """End an entry. Idempotent."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._users -= Counter({entry.user: 1})  # which forgets zeros
            self._hosts -= Counter({entry.host_id: 1})
