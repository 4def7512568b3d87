"""
Codec: records to bytes and back, as JSON that an operator can read.

This is the only place that knows how records are stored. Fields at their
defaults are left out; fields that a reader does not know are ignored, so that
neighbouring versions understand each other.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from batchyard.ids import AttemptId, HostId, JobId
from batchyard_controller.core.model.attempts import Attempt, EndedAttempt
from batchyard_controller.core.model.children import CHUNK, Chunk
from batchyard_controller.core.model.hosts import HostRecord
from batchyard_controller.core.model.jobs import Dependency, Job, JobDefinition, JobSpec
from batchyard_controller.core.model.secrets import AccessKey, StoredSecret
from batchyard_controller.core.model.settings import ComputeEnvironment, JobQueue
from batchyard_controller.core.reactor.recovery import Records, StoredState
from batchyard_controller.core.world.world import Touch, World

from .keys import KINDS, key_of, name_of
from .protocol import Atom, Change, Delete, Put, Store

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
"""Bare: for records all of whose fields are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredJob:
    """A submission, written once and never changed."""

    name: str
    seq: int
    created_at_ms: int
    spec: msgspec.Raw
    array_size: int = 0
    array_concurrency: int = 0
    depends_on: tuple[Dependency, ...] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredChunk:
    """A chunk of children: columns in base 64, the rest sparse."""

    states: str
    attempts: str
    exit_codes: str
    claimed: str
    started: str
    stopped: str
    hosts: str
    epochs: str
    host_ids: list[str]
    status_reasons: dict[int, str]
    end_reasons: dict[int, str]
    reasons: dict[int, str]
    gpus: dict[int, tuple[str, ...]]
    earlier: dict[int, tuple[EndedAttempt, ...]]
    cancelled: list[int]
    terminate_reasons: dict[int, str]
    ended: str = ""


class CorruptRecordError(Exception):
    """A stored record cannot be read; the text names its key."""


def encode_touched(world: World, touched: dict[str, dict[Touch, None]]) -> list[Atom]:
    """Encode what changed, one atom a group: what is gone from the world is deleted."""
    return [tuple(_change(world, kind, name) for kind, name in group) for group in touched.values()]


def _change(world: World, kind: str, name: str) -> Change:
    value = _ENCODERS[kind](world, name)
    key = key_of(kind, name)
    return Delete(key) if value is None else Put(key, value)


def _encode_job(world: World, name: str) -> bytes | None:
    job = world.jobs.get(JobId(name))
    if job is None:
        return None
    return _encode(
        _StoredJob(
            name=job.name,
            seq=job.seq,
            created_at_ms=job.created_at_ms,
            spec=msgspec.Raw(_encode_spec(job.spec)),
            array_size=job.array_size,
            array_concurrency=job.array_concurrency,
            depends_on=job.depends_on,
            request_id=job.request_id,
        )
    )


@lru_cache(maxsize=1024)
def _encode_spec(spec: JobSpec) -> bytes:
    return _encode_sparse(spec)


def _encode_state(world: World, name: str) -> bytes | None:
    job = world.jobs.get(JobId(name))
    return None if job is None else _encode_sparse(StoredState.of(job, world.children.get(job.id)))


def _encode_attempt(world: World, name: str) -> bytes | None:
    attempt = world.attempts.get(AttemptId(name))
    return None if attempt is None else _encode(attempt)


def _encode_definition(world: World, name: str) -> bytes | None:
    definition = world.find_definition(name)
    return None if definition is None else _encode_sparse(definition)


def _encode_children(world: World, name: str) -> bytes | None:
    job_id, _, number = name.partition("/")
    children = world.children.get(JobId(job_id))
    if children is None:
        return None
    chunk = children.chunks[int(number)]
    return _encode(
        _StoredChunk(
            states=_text(bytes(chunk.states)),
            attempts=_text(bytes(chunk.attempts)),
            exit_codes=_text(chunk.exit_codes.tobytes()),
            claimed=_text(chunk.claimed.tobytes()),
            started=_text(chunk.started.tobytes()),
            stopped=_text(chunk.stopped.tobytes()),
            hosts=_text(chunk.hosts.tobytes()),
            epochs=_text(chunk.epochs.tobytes()),
            ended=_text(chunk.ended.tobytes()),
            host_ids=chunk.host_ids,
            status_reasons=chunk.status_reasons,
            end_reasons=chunk.end_reasons,
            reasons=chunk.reasons,
            gpus=chunk.gpus,
            earlier=chunk.earlier,
            cancelled=sorted(chunk.cancelled),
            terminate_reasons=chunk.terminate_reasons,
        )
    )


def _encode_host(world: World, name: str) -> bytes | None:
    host = world.hosts.get(HostId(name))
    return None if host is None else _encode_sparse(host.record)


def _encode_setting(mapping: str) -> Callable[[World, str], bytes | None]:
    def encode(world: World, name: str) -> bytes | None:
        record = getattr(world, mapping).get(name)
        return None if record is None else _encode_sparse(record)

    return encode


_ENCODERS: dict[str, Callable[[World, str], bytes | None]] = {
    "environment": _encode_setting("environments"),
    "queue": _encode_setting("queues"),
    "definition": _encode_definition,
    "secret": _encode_setting("secrets"),
    "access_key": _encode_setting("access_keys"),
    "host": _encode_host,
    "job": _encode_job,
    "state": _encode_state,
    "children": _encode_children,
    "attempt": _encode_attempt,
}


def _encode_sparse(record: object) -> bytes:
    return _encode(_sparse(record))


def _sparse(value: Any) -> Any:
    """Turn a record into a map without the fields that are at their defaults."""
    if is_dataclass(value):
        return {f.name: _sparse(v) for f in fields(value) if (v := getattr(value, f.name)) != _default(f)}
    if isinstance(value, tuple):
        return [_sparse(v) for v in value]
    return value


def _default(f: Field[Any]) -> object:
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _text(column: bytes) -> str:
    # Not base 85, which Python encodes in Python: a chunk is written at every child's end.
    return base64.b64encode(column).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _column(type_code: str, text: str) -> array[int]:
    column = array(type_code)
    column.frombytes(_bytes(text))
    return column


async def load_records(store: Store) -> Records:
    """
    Read and decode all that a store holds.

    Raises:
        CorruptRecordError: a record cannot be read.
        StoreError: the store cannot be reached.
    """
    records = Records()
    decoder = _Decoder(records)
    async for page in store.load():
        decoder.take(page)
    return records


class _Decoder:
    """Sorts pairs into records."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._decoders: dict[type, msgspec.json.Decoder[Any]] = {}
        self._specs: dict[bytes, JobSpec] = {}

    def take(self, page: Iterable[tuple[str, bytes]]) -> None:
        for key, value in page:
            kind = key.partition("/")[0]
            if kind not in KINDS:
                continue
            try:
                self._take_one(kind, name_of(kind, key), value)
            except (msgspec.DecodeError, ValueError) as err:
                raise CorruptRecordError(f"stored record {key} cannot be read: {err}") from err

    def _take_one(self, kind: str, name: str, value: bytes) -> None:
        records = self._records
        match kind:
            case "environment":
                records.environments.append(self._decode(ComputeEnvironment, value))
            case "queue":
                records.queues.append(self._decode(JobQueue, value))
            case "definition":
                records.definitions.append(self._decode(JobDefinition, value))
            case "secret":
                records.secrets.append(self._decode(StoredSecret, value))
            case "access_key":
                records.access_keys.append(self._decode(AccessKey, value))
            case "host":
                records.hosts.append(self._decode(HostRecord, value))
            case "job":
                records.jobs.append(self._job(JobId(name), value))
            case "state":
                records.states[JobId(name)] = self._decode(StoredState, value)
            case "attempt":
                records.attempts.append(self._decode(Attempt, value))
            case "children":
                job_id, _, number = name.partition("/")
                records.chunks.append((JobId(job_id), int(number), self._chunk(value)))

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
            spec = self._specs[raw] = self._decode(JobSpec, raw)
        return Job(
            id=job_id,
            name=stored.name,
            spec=spec,
            seq=stored.seq,
            created_at_ms=stored.created_at_ms,
            array_size=stored.array_size,
            array_concurrency=stored.array_concurrency,
            depends_on=stored.depends_on,
            request_id=stored.request_id,
        )

    def _chunk(self, value: bytes) -> Chunk:
        stored = self._decode(_StoredChunk, value)
        return Chunk(
            states=bytearray(_bytes(stored.states)),
            attempts=bytearray(_bytes(stored.attempts)),
            exit_codes=_column("h", stored.exit_codes),
            claimed=_column("q", stored.claimed),
            started=_column("q", stored.started),
            stopped=_column("q", stored.stopped),
            hosts=_column("h", stored.hosts),
            epochs=_column("q", stored.epochs),
            ended=_column("q", stored.ended) if stored.ended else array("q", bytes(8 * CHUNK)),
            host_ids=stored.host_ids,
            status_reasons=stored.status_reasons,
            end_reasons=stored.end_reasons,
            reasons=stored.reasons,
            gpus=stored.gpus,
            earlier=stored.earlier,
            cancelled=set(stored.cancelled),
            terminate_reasons=stored.terminate_reasons,
        )
