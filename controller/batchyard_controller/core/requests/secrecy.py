"""
Secrecy: admission of secrets and access keys.

Only sealed values come here: neither the world nor an event ever holds one that
can be read. As in `submissions`, nothing changes; the event is returned, or a
`RequestError` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from batchyard.errors import FailedPreconditionError, NotFoundError, Reason, Violation
from batchyard.ids import AttemptId, HostId
from batchyard.tasks import Task
from batchyard_controller.core import limits
from batchyard_controller.core.events import SealedChanged
from batchyard_controller.core.model.secrets import AccessKey, Sealed, StoredSecret
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, check_text, quote, require_room
from .secret_names import is_secret_name, secret_names


def check_secret_name(out: Violations, field: str, name: str) -> None:
    """Check what a secret is to be called."""
    if not name:
        out.append(Violation(field, "a name is required", Reason.REQUIRED))
    elif len(name) > limits.SECRET_NAME_LENGTH_MAX:
        text = f"{len(name)} characters; at most {limits.SECRET_NAME_LENGTH_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_LONG))
    elif not is_secret_name(name):
        text = f"{quote(name)} may hold only letters, digits and '/_+=.@-'"
        out.append(Violation(field, text, Reason.BAD_CHARACTERS))


def check_secret_value(out: Violations, field: str, value: str) -> None:
    """Check a value without ever repeating any of it."""
    size = len(value.encode())
    if size > limits.SECRET_BYTES_MAX:
        text = f"{size} bytes; at most {limits.SECRET_BYTES_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_LONG))
    if "\0" in value:
        out.append(Violation(field, "holds a NUL, which no environment variable can", Reason.BAD_CHARACTERS))


def put_secret(world: World, secret: StoredSecret, now: Instant) -> tuple[SealedChanged, StoredSecret]:
    """Admit a new secret, or a new value of one, which stays its owner's."""
    former = world.secrets.get(secret.name)
    if former is None:
        require_room(len(world.secrets), limits.SECRETS_MAX, "secrets", Reason.TOO_MANY_SECRETS)
    else:
        secret = replace(secret, owner=former.owner)
    created_at_ms = now.wall_ms if former is None else former.created_at_ms
    kept = replace(secret, created_at_ms=created_at_ms, updated_at_ms=now.wall_ms)
    return SealedChanged(kept=(kept,)), kept


def delete_secret(world: World, name: str) -> SealedChanged:
    """Admit that a secret is forgotten, also if jobs that wait name it: they will fail to start."""
    if name not in world.secrets:
        raise no_such_secret(name)
    return SealedChanged(dropped=(world.secrets[name],))


def no_such_secret(name: str) -> NotFoundError:
    """Return the error for a secret that is not there."""
    text = f"secret {quote(name)} not found"
    return NotFoundError(text, reason=Reason.SECRET_NOT_FOUND, metadata={"name": name})


def may_use(secret: StoredSecret, owner: str, queue: str) -> bool:
    """
    Say whether a user's job in a queue may have a secret; the administrator's may have all.

    Asked again whenever a job starts: in between a name may have come to another.
    """
    return not owner or secret.owner == owner or queue in secret.queues


def find_secret(world: World, value_from: str, owner: str, queue: str) -> StoredSecret:
    """Return the secret that ``value_from`` means in a user's job or raise NotFoundError, also for one it may not have."""
    for name in secret_names(value_from):
        if name in world.secrets and may_use(world.secrets[name], owner, queue):
            return world.secrets[name]
    raise no_such_secret(value_from)


def require_secrets(world: World, task: Task, owner: str, queue: str) -> None:
    """Refuse a user's job that asks for a secret which is not there for it."""
    for container in task.all_containers:
        for secret in container.secrets:
            find_secret(world, secret.value_from, owner, queue)


def secrets_of(world: World, attempt_id: AttemptId, host_id: HostId) -> dict[str, dict[str, StoredSecret]]:
    """
    Return the secrets of an attempt that this host is to start, still sealed: by container, empty of a plain task, and variable.

    Raises:
        FailedPreconditionError: it is no such attempt, or has started, with what it needed.
        NotFoundError: a secret is gone.
    """
    attempt = world.attempts.get(attempt_id)
    if attempt is None or attempt.host_id != host_id or attempt.started_at_ms:
        raise FailedPreconditionError(
            "the attempt is not one that this host is to start",
            reason=Reason.ATTEMPT_NOT_CLAIMED,
            metadata={"host_id": host_id, "attempt_id": attempt_id},
        )
    unit = world.unit_of(attempt)
    task, spec = unit.task, unit.job.spec
    return {
        "" if task.is_plain else container.shown_name: {
            secret.name: find_secret(world, secret.value_from, spec.owner, spec.queue) for secret in container.secrets
        }
        for container in task.all_containers
    }


def create_access_key(world: World, access_key: AccessKey, now: Instant) -> tuple[SealedChanged, AccessKey]:
    """Admit a new access key."""
    assert access_key.id not in world.access_keys, "20 characters by dice never repeat"
    require_room(len(world.access_keys), limits.ACCESS_KEYS_MAX, "access keys", Reason.TOO_MANY_ACCESS_KEYS)
    made = replace(access_key, created_at_ms=now.wall_ms)
    return SealedChanged(kept=(made,)), made


def rotate_access_key(
    world: World, made: AccessKey, former: AccessKey, keep_s: int, now: Instant
) -> tuple[SealedChanged, tuple[AccessKey, AccessKey]]:
    """
    Admit a key in another's place, which ends a while after.

    AWS's practice: a second key is made, clients take it over while both are good, then the first ends.

    Returns:
        With the event the new key, and the former as it is now.

    Raises:
        FailedPreconditionError: another took its place before.
        ResourceExhaustedError: there are too many.
    """
    if former.expires_at_ms:
        text = f"access key {former.id} was rotated before; rotate the one that took its place"
        metadata = {"access_key_id": former.id}
        raise FailedPreconditionError(text, reason=Reason.ACCESS_KEY_ROTATED, metadata=metadata)
    _, made = create_access_key(world, made, now)
    made = replace(made, owner=former.owner, description=former.description)
    both = (made, replace(former, expires_at_ms=now.wall_ms + keep_s * 1000))
    return SealedChanged(kept=both), both


def sealed_otherwise(world: World, key_id: str, count: int) -> list[StoredSecret | AccessKey | Sink]:
    """Return some of the secrets, access keys and sinks that sign, at most *count*, that are not encrypted with this key."""
    every: tuple[StoredSecret | AccessKey | Sink, ...] = (
        *world.secrets.values(),
        *world.access_keys.values(),
        *world.sinks.values(),
    )
    return [record for record in every if record.sealed is not None and record.sealed.key_id != key_id][:count]


def seal_anew(world: World, sealed: Sequence[tuple[StoredSecret | AccessKey | Sink, Sealed]]) -> SealedChanged:
    """Admit the same values encrypted with another key, but of what was changed or deleted meanwhile."""
    kept: list[StoredSecret | AccessKey | Sink] = []
    for record, anew in sealed:
        present: StoredSecret | AccessKey | Sink | None
        match record:
            case StoredSecret():
                present = world.secrets.get(record.name)
            case Sink():
                present = world.sinks.get(record.name)
            case _:
                present = world.access_keys.get(record.id)
        if present is not None and present.sealed == record.sealed:
            kept.append(replace(present, sealed=anew))
    return SealedChanged(kept=tuple(kept))


def revoke_access_key(world: World, key_id: str) -> SealedChanged:
    """Admit the end of an access key."""
    if key_id not in world.access_keys:
        raise no_such_access_key(key_id)
    return SealedChanged(dropped=(world.access_keys[key_id],))


def no_such_access_key(key_id: str) -> NotFoundError:
    """Return the error for an access key that is not there."""
    text = f"access key {quote(key_id)} not found"
    return NotFoundError(text, reason=Reason.ACCESS_KEY_NOT_FOUND, metadata={"access_key_id": key_id})


def check_signing_scope(out: Violations, now_ms: int, date: str, region: str, service: str) -> None:
    """Check for what a signing key is derived (AWS Signature Version 4): keys of other days sign nothing now."""
    if not (len(date) == 8 and date.isascii() and date.isdigit()):
        out.append(Violation("date", f"{quote(date)} does not have the form YYYYMMDD", Reason.MALFORMED))
    elif date not in _days_around(now_ms):
        text = f"{date} is not within a day of {_days_around(now_ms)[1]}"
        out.append(Violation("date", text, Reason.OUT_OF_RANGE))
    for field, value in (("region", region), ("service", service)):
        if not value:
            out.append(Violation(field, "is required", Reason.REQUIRED))
        check_text(out, field, value, limits.SIGNING_SCOPE_LENGTH_MAX)


def _days_around(now_ms: int) -> tuple[str, str, str]:
    """Return yesterday, today and tomorrow."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    yesterday, today, tomorrow = ((now + timedelta(days=days)).strftime("%Y%m%d") for days in (-1, 0, 1))
    return yesterday, today, tomorrow
