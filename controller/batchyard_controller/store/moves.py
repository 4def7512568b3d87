"""
Moves: how the trail is kept, some hundred moves and notices a record, each stored with what it rests on.

Pure. A record of the trail is written in the transaction of the changes that it tells of, so that neither is there
without the other. Children that moved alike are kept as one move with their indices, and told each by itself.
Law: of one unit the moves stand in their order; and where what one end sets free is more than a transaction
holds, it is told before that end rather than perhaps never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from batchyard_controller.core.commands import Published, PublishMove, PublishNotice

from .packing import ATOM_BYTES_MAX, ATOM_CHANGES_MAX, TRANSACTION_BYTES, weigh
from .protocol import Atom, Change, Put

PREFIX = "moves/"
LOST_KEY = "moves/lost"
"""Where it is kept up to which place the trail was trimmed; behind all others in order."""

TOLD_TOGETHER = 500
"""Most moves and notices in one record."""
RECORD_BYTES_MAX = 256 << 10

Place = tuple[int, int]
"""Where in the trail: an epoch, in its generation, and a number from 1 in it; what a backup did not know comes behind it."""
START: Place = (0, 0)


class Batch(NamedTuple):
    """
    One record of the trail: *size* moves and notices, from number *first* of an epoch on.

    Attributes:
        at_ms: When the last of them happened.
        raw: As they are stored.
    """

    epoch: int
    first: int
    size: int
    at_ms: int
    raw: bytes

    @property
    def start(self) -> Place:
        """The place of its first."""
        return self.epoch, self.first

    @property
    def end(self) -> Place:
        """The place of its last."""
        return self.epoch, self.first + self.size - 1

    @property
    def key(self) -> str:
        """Where it is stored: the order of keys is that of places."""
        return f"{PREFIX}{self.epoch:016x}/{self.first:010x}"


class _Told(msgspec.Struct, omit_defaults=True):
    """A record as it is stored; its moves and notices stand in their order, *notices* at the places named there."""

    count: int
    at_ms: int
    moves: list[PublishMove] = []
    notices: dict[int, PublishNotice] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Told).decode


def make_batch(epoch: int, first: int, told: Sequence[Published]) -> Batch:
    """Encode what is told."""
    moves = [each[:-1] for each in told if each.__class__ is PublishMove]  # on which records it rests is over
    notices: dict[str, object] = {}
    count = 0
    for each in told:
        if each.__class__ is PublishNotice:
            notices[str(count)] = each[:-1]
        count += size_of(each)
    record: dict[str, object] = {"count": count, "at_ms": told[-1].at_ms, "moves": moves}
    if notices:
        record["notices"] = notices
    return Batch(epoch, first, count, told[-1].at_ms, _encode(record))


def size_of(told: Published) -> int:
    """Return as how many moves and notices something is told."""
    return told.size if isinstance(told, PublishMove) else 1


def read_batch(key: str, raw: bytes) -> Batch:
    """
    Read a stored record, what it tells of left as it is.

    Raises:
        ValueError: it is none.
    """
    epoch, _, first = key.removeprefix(PREFIX).partition("/")
    told = _decode(raw)
    return Batch(int(epoch, 16), int(first, 16), told.count, told.at_ms, raw)


def told_by(batch: Batch) -> tuple[Published, ...]:
    """Return the moves and notices of a record."""
    record = _decode(batch.raw)
    moves = (each for move in record.moves for each in move.each())
    if not record.notices:
        return tuple(moves)
    return tuple(record.notices[i] if i in record.notices else next(moves) for i in range(record.count))


def join(
    groups: Sequence[tuple[str, Atom]], published: Sequence[Published], epoch: int, first: int
) -> tuple[list[Atom], list[Batch]]:
    """
    Put what is told into the atoms of what it rests on, which are made larger for it.

    Args:
        groups: What changes, by groups of the ledger.
        published: What is told of it, in order.
        epoch: Whose it is.
        first: The number of the first.
    """
    writing = _Writing(epoch, first)
    for (_, atom), told in zip(groups or [("", ())], _rest_on(groups, published), strict=True):
        writing.take(atom, told)
    writing.flush()
    return writing.atoms, writing.batches


def _rest_on(groups: Sequence[tuple[str, Atom]], published: Sequence[Published]) -> list[list[Published]]:
    """
    Return what is told with each group.

    What rests on none of them follows from what was told before it. A unit's earlier move goes with its
    later one where that comes first.
    """
    where = {group: place for place, (group, _) in enumerate(groups)}
    places: list[int] = []
    place = 0
    for each in published:
        place = where.get(each.group, place)
        places.append(place)
    if places != sorted(places):
        _put_in_order(places, published)
    found: list[list[Published]] = [[] for _ in groups or (None,)]
    for place, each in zip(places, published, strict=True):
        found[place].append(each)
    return found


def _put_in_order(places: list[int], published: Sequence[Published]) -> None:
    """Let what is told of a unit first stand no later than what is told of it next."""
    latest: dict[tuple[str, int | None], int] = {}
    for i in range(len(published) - 1, -1, -1):
        each = published[i]
        units: list[tuple[str, int | None]] = [(each.id, None)] if isinstance(each, PublishNotice) else []
        if isinstance(each, PublishMove):
            units = [(each.job_id, index) for index in (each.index, *each.others)]
        places[i] = min(places[i], *(latest.get(unit, places[i]) for unit in units))
        latest.update(dict.fromkeys(units, places[i]))


class _Writing:
    """Atoms and the records of the trail, as they come."""

    def __init__(self, epoch: int, first: int) -> None:
        self.atoms: list[Atom] = []
        self.batches: list[Batch] = []
        self._epoch, self._next = epoch, first
        self._changes: list[Change] = []
        self._told: list[Published] = []
        self._number_told = 0
        self._size = 0

    def take(self, atom: Atom, told: Sequence[Published]) -> None:
        """Take a group and what is told with it."""
        size, number = weigh(atom), sum(map(size_of, told))
        is_full = (
            len(self._changes) + len(atom) >= ATOM_CHANGES_MAX
            or self._size + size > TRANSACTION_BYTES - RECORD_BYTES_MAX
            or self._number_told + number > TOLD_TOGETHER
        )
        if is_full:
            self.flush()
        self._changes += atom
        self._told += told
        self._number_told += number
        self._size += size

    def flush(self) -> None:
        """Write what was taken as one atom, which has the last record of what is told; others go before it."""
        batches = [self._number(told) for told in _parts(self._told)]
        changes = tuple(self._changes)
        if batches and len(changes) < ATOM_CHANGES_MAX and self._size + len(batches[-1].raw) < ATOM_BYTES_MAX - 100:
            last = batches.pop()
            changes = (*changes, Put(last.key, last.raw))
        self.atoms += [(Put(batch.key, batch.raw),) for batch in batches]
        if changes:
            self.atoms.append(changes)
        self._changes, self._told, self._number_told, self._size = [], [], 0, 0

    def _number(self, told: Sequence[Published]) -> Batch:
        batch = make_batch(self._epoch, self._next, told)
        self._next += batch.size
        self.batches.append(batch)
        return batch


def _parts(told: Sequence[Published]) -> Iterator[Sequence[Published]]:
    """Cut what is told into records."""
    size = number = start = 0
    for i, each in enumerate(told):
        more = 250 + 4 * len(each.why.words if isinstance(each, PublishMove) else each.words) + 10 * size_of(each)
        if i > start and (size + more > RECORD_BYTES_MAX or number + size_of(each) > TOLD_TOGETHER):
            yield told[start:i]
            size = number = 0
            start = i
        size, number = size + more, number + size_of(each)
    if told:
        yield told[start:]
