"""
Codec: records to bytes and back, as JSON that an operator can read.

This is the only place that knows how records are stored. A record's fields go by
their own names; those at their defaults are left out; fields that a reader does not
know are ignored, so that neighbouring versions understand each other. What earlier
versions wrote otherwise is brought up to date by `upgrade`.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields
from functools import cache, lru_cache, partial
from typing import Any, TypeVar, get_type_hints
from weakref import WeakValueDictionary

import msgspec

from batchyard.ids import AttemptId, HostId, JobId
from batchyard_controller.core.model.attempts import Attempt
from batchyard_controller.core.model.chunks import CHUNK, STATES, Chunk
from batchyard_controller.core.model.consumables import ConsumableResource
from batchyard_controller.core.model.enrolment import JoinToken, Member
from batchyard_controller.core.model.hosts import HostRecord
from batchyard_controller.core.model.identities import Binding, Token
from batchyard_controller.core.model.jobs import Job, JobDefinition, JobSpec
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.model.past import Left
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.model.restores import Restore
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.model.sinks import Sink
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.reactor.recovery import Records, StoredState
from batchyard_controller.core.world.ledger import Touch
from batchyard_controller.core.world.world import World

from .keys import KINDS, key_of, name_of
from .protocol import Atom, Change, Delete, Put, Store
from .upgrade import OLD_CHUNK, upgrade, upgrade_children

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
"""Bare: for records all of whose fields are given."""

_SUBMISSION = (
    "name",
    "seq",
    "created_at_ms",
    "kind",
    "size",
    "concurrency",
    "values",
    "max_fails",
    "depends_on",
    "request_id",
)
"""Fields of a job that are written once; with the spec they are its submission."""

_UNSETTLED = bytes(code if state.is_final else 0 for code, state in enumerate(STATES)).ljust(256, b"\0")
"""States that are not final are worked out again, and stored as one."""


class CorruptRecordError(Exception):
    """A stored record cannot be read; the text names its key."""


# Writing --------------------------------------------------------------------------


def encode_touched(world: World, touched: dict[str, dict[Touch, None]]) -> list[Atom]:
    """Encode what changed, one atom a group: what is gone from the world is deleted."""
    return [tuple(_change(world, kind, name) for kind, name in group) for group in touched.values()]


def _change(world: World, kind: str, name: str) -> Change:
    value = encode_record(world, kind, name)
    key = key_of(kind, name)
    return Delete(key) if value is None else Put(key, value)


def encode_record(world: World, kind: str, name: str) -> bytes | None:
    """Encode what the world holds under a kind and a name; None when it is gone."""
    return _ENCODERS[kind](world, name)


def _encode_job(world: World, name: str) -> bytes | None:
    job = world.jobs.get(JobId(name))
    if job is None:
        return None
    submission = {name: value for name, new in _SUBMISSION_DEFAULTS if (value := getattr(job, name)) != new}
    submission["spec"] = msgspec.Raw(_encode_spec(job.spec))
    return _encode(submission)


@lru_cache(maxsize=1024)
def _encode_spec(spec: JobSpec) -> bytes:
    return _encode_sparse(spec)


def _encode_state(world: World, name: str) -> bytes | None:
    job = world.jobs.get(JobId(name))
    return None if job is None else _encode_sparse(StoredState.of(job))


def _encode_attempt(world: World, name: str) -> bytes | None:
    attempt = world.attempts.get(AttemptId(name))
    return None if attempt is None else _encode(attempt)


def _encode_definition(world: World, name: str) -> bytes | None:
    definition = world.find_definition(name)
    return None if definition is None else _encode_sparse(definition)


def _encode_children(world: World, name: str) -> bytes | None:
    job_id, _, number = name.partition("/")
    job = world.jobs.get(JobId(job_id))
    return None if job is None else _encode(_chunk_columns(job.children.chunks[int(number)]))


def _chunk_columns(chunk: Chunk) -> dict[str, Any]:
    """Return a chunk's columns in base 64 and the rest sparse, what is as in a new chunk left out."""
    columns: dict[str, Any] = {"states": _text(chunk.states.translate(_UNSETTLED))}
    for name, new in _NEW_CHUNK.items():
        value = getattr(chunk, name)
        if value != new:
            columns[name] = _text(value) if isinstance(value, bytearray | array) else _sparse(value)
    return columns


def _encode_host(world: World, name: str) -> bytes | None:
    host = world.hosts.get(HostId(name))
    record = host.record if host is not None else world.gone_hosts.get(HostId(name))
    return None if record is None else _encode_sparse(record)


def _encode_setting(mapping: str) -> Callable[[World, str], bytes | None]:
    def encode(world: World, name: str) -> bytes | None:
        record = getattr(world, mapping).get(name)
        return None if record is None else _encode_sparse(record)

    return encode


_ENCODERS: dict[str, Callable[[World, str], bytes | None]] = {
    "restore": _encode_setting("restores"),
    "environment": _encode_setting("environments"),
    "queue": _encode_setting("queues"),
    "scheduling_policy": _encode_setting("policies"),
    "quota_share": _encode_setting("quota_shares"),
    "consumable": _encode_setting("consumables"),
    "definition": _encode_definition,
    "secret": _encode_setting("secrets"),
    "access_key": _encode_setting("access_keys"),
    "binding": _encode_setting("bindings"),
    "token": _encode_setting("tokens"),
    "join_token": _encode_setting("join_tokens"),
    "member": _encode_setting("members"),
    "sink": _encode_setting("sinks"),
    "host": _encode_host,
    "launch": _encode_setting("launches"),
    "job": _encode_job,
    "state": _encode_state,
    "children": _encode_children,
    "attempt": _encode_attempt,
    "left": lambda world, _: _encode_sparse(world.left),
    "usage": _encode_setting("past"),
}


def _encode_sparse(record: object) -> bytes:
    return _encode(_sparse(record))


def _sparse(value: Any) -> Any:
    """Turn a record into a map without the fields that are at their defaults."""
    kind = value.__class__
    if kind in _BARE or issubclass(kind, str):
        return value
    if kind is tuple:
        return [_sparse(each) for each in value]
    if kind is dict:
        return {key: _sparse(each) for key, each in value.items()}
    return {name: _sparse(v) for name, default in _fields(kind) if (v := getattr(value, name)) != default}


@cache
def _fields(record: type) -> tuple[tuple[str, object], ...]:
    return tuple((f.name, _default(f)) for f in fields(record) if f.init)  # what is worked out is not stored


def _default(f: Field[Any]) -> object:
    return f.default_factory() if f.default_factory is not MISSING else f.default


_BARE = frozenset({str, int, float, bool, bytes, list, type(None)})
"""Types that are written as they are, as enums are, being texts."""
_JOB_DEFAULTS = {f.name: f.default for f in fields(Job)}
_SUBMISSION_DEFAULTS = tuple((name, _JOB_DEFAULTS[name]) for name in _SUBMISSION)
_NEW_CHUNK = {f.name: _default(f) for f in fields(Chunk) if f.name != "states"}


def _text(column: bytes | bytearray | array[int]) -> str:
    # Not base 85, which Python encodes in Python: a chunk is written at every child's end.
    return base64.b64encode(column).decode()


# Reading --------------------------------------------------------------------------


async def load_records(store: Store) -> Records:
    """
    Read and decode all that a store holds.

    Raises:
        CorruptRecordError: a record cannot be read.
        StoreError: the store cannot be reached.
    """
    decoder = Decoder()
    async for page in store.load():
        decoder.take(page)
    return decoder.finish()


class Decoder:
    """Sorts pairs into records, and keeps up with what becomes of them."""

    def __init__(self) -> None:
        self._records = Records()
        self._decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
        self._specs: WeakValueDictionary[bytes, JobSpec] = WeakValueDictionary()
        self._old_chunks: dict[str, bytes] = {}
        """Of an earlier form; what they mean hangs on their arrays."""

    def take(self, pairs: Iterable[tuple[str, bytes]]) -> None:
        """
        Read pairs; what was read of their keys before goes.

        Raises:
            CorruptRecordError: a record cannot be read.
        """
        for key, value in pairs:
            kind = key.partition("/")[0]
            if kind not in KINDS:
                continue
            if kind == "children" and OLD_CHUNK in value:
                self._old_chunks[key] = value
            else:
                self._old_chunks.pop(key, None)
                self._try_one(kind, key, value, partial(upgrade, kind))

    def drop(self, keys: Iterable[str]) -> None:
        """Forget pairs; those that are not there, too."""
        for key in keys:
            kind = key.partition("/")[0]
            if kind in KINDS:
                self._old_chunks.pop(key, None)
                self._all_of(kind).pop(name_of(kind, key), None)

    def finish(self) -> Records:
        """
        Read what had to wait for other records, and give away all; they keep up no longer.

        Raises:
            CorruptRecordError: a record cannot be read.
        """
        for key, value in self._old_chunks.items():
            job_id = name_of("children", key).partition("/")[0]
            array = self._records.states.get(job_id, StoredState())
            self._try_one("children", key, value, partial(upgrade_children, terminate_reason=array.terminate_reason))
        return self._records

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._old_chunks) + sum(len(self._all_of(kind)) for kind in KINDS)

    def _all_of(self, kind: str) -> dict[str, Any]:
        """Return the records of a kind by their names."""
        of_kind: dict[str, Any] = getattr(self._records, _PLACES[kind])
        return of_kind

    def _try_one(self, kind: str, key: str, value: bytes, bring_up_to_date: Callable[[bytes], bytes]) -> None:
        try:
            self._take_one(kind, name_of(kind, key), bring_up_to_date(value))
        except (msgspec.DecodeError, ValueError) as err:
            raise CorruptRecordError(f"stored record {key} cannot be read: {err}") from err

    def _take_one(self, kind: str, name: str, value: bytes) -> None:
        record: Any
        match kind:
            case "job":
                record = self._job(JobId(name), value)
            case "children":
                record = _decode_chunk(value)
            case _:
                record = self._decode(_TYPES[kind], value)
        self._all_of(kind)[name] = record

    def _decode(self, type_: type[T], value: bytes) -> T:
        decoder = self._decoders.get(type_)
        if decoder is None:
            decoder = self._decoders[type_] = msgspec.json.Decoder(type_)
        record: T = decoder.decode(value)
        return record

    def _job(self, job_id: JobId, value: bytes) -> Job:
        stored = self._decode(_StoredJob, value)
        raw = bytes(stored.spec)
        spec = self._specs.get(raw)
        if spec is None:
            spec = self._specs[raw] = self._decode(JobSpec, upgrade("spec", raw))
        return Job(id=job_id, spec=spec, **{name: getattr(stored, name) for name in _SUBMISSION})


_TYPES: dict[str, type] = {
    "restore": Restore,
    "environment": ComputeEnvironment,
    "queue": JobQueue,
    "scheduling_policy": SchedulingPolicy,
    "quota_share": QuotaShare,
    "consumable": ConsumableResource,
    "definition": JobDefinition,
    "secret": StoredSecret,
    "access_key": AccessKey,
    "binding": Binding,
    "token": Token,
    "join_token": JoinToken,
    "member": Member,
    "sink": Sink,
    "host": HostRecord,
    "launch": Launch,
    "state": StoredState,
    "attempt": Attempt,
    "left": Left,
    "usage": UsageSum,
}
_PLACES_OF_THEIR_OWN = ("scheduling_policy", "children", "launch", "left", "usage")
_PLACES = {
    "scheduling_policy": "policies",
    "children": "chunks",
    "launch": "launches",
    "left": "left",
    "usage": "usage",
} | {kind: f"{kind}s" for kind in KINDS if kind not in _PLACES_OF_THEIR_OWN}
"""Where ``Records`` has each kind."""


def _decode_chunk(value: bytes) -> Chunk:
    """Read what is kept of some children; columns that are left out are as in a new chunk."""
    stored: dict[str, Any] = msgspec.json.decode(value)
    chunk = Chunk(states=bytearray(CHUNK))
    for name in stored.keys() & _CHUNK_TYPES.keys():
        column = getattr(chunk, name)
        if isinstance(column, bytearray):
            column[:] = _bytes(stored[name])
        elif isinstance(column, array):
            setattr(chunk, name, array(column.typecode, _bytes(stored[name])))
        else:
            setattr(chunk, name, msgspec.convert(stored[name], _CHUNK_TYPES[name], str_keys=True))
    return chunk


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_CHUNK_TYPES = get_type_hints(Chunk, localns={"array": list})  # no array[int] before Python 3.12
_JOB_TYPES = get_type_hints(Job)
_StoredJob: Any = msgspec.defstruct(
    "StoredJob",
    [
        *((name, _JOB_TYPES[name]) for name in _SUBMISSION if _JOB_DEFAULTS[name] is MISSING),
        *((name, _JOB_TYPES[name], _JOB_DEFAULTS[name]) for name in _SUBMISSION if _JOB_DEFAULTS[name] is not MISSING),
        ("spec", msgspec.Raw),
    ],
    kw_only=True,
)
