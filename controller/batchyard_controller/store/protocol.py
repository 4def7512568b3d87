"""
What the controller needs of a store: to lead, to load, to commit.

A store is a flat map from key to value, both of them written by ``keys.py`` and
``codec.py`` above it. One leader writes at a time. The guard is the
transaction: a commit succeeds only while ``epoch`` is the current leadership.
A store never repeats a write by itself.

Keys are not empty, and ``leader`` is the store's own. Key order is that of the
keys' UTF-8 bytes, which is also that of Python's strings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from batchyard.errors import WorldError
from batchyard_controller.core.model.room import Room


class Put(NamedTuple):
    """Set *key* to *value*."""

    key: str
    value: bytes


class Delete(NamedTuple):
    """Remove *key*; no error if it is not there."""

    key: str


Change = Put | Delete
Atom = tuple[Change, ...]
"""
Changes that take effect together or not at all; the last of one key wins.

At most 100 changes and 1 MiB of keys and values (``packing.py``).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """
    What became of a store, told by ``Store.follow``.

    Attributes:
        is_anew: All that was told before is void; what is in the store follows, from nothing on.
        changes: In the order of their commits.
        epoch: Of whoever leads since these changes: they and those before are all that its
            predecessors committed. 0: as before.
        leader: What that one calls itself, as its ``campaign`` was told.
    """

    is_anew: bool = False
    changes: Sequence[Change] = ()
    epoch: int = 0
    leader: str = ""


class StoreError(WorldError):
    """Root of what a store raises."""


class DeposedError(StoreError):
    """The epoch is no longer (or never was) the current leadership; nothing was written."""


class UnknownOutcomeError(StoreError):
    """
    The store did not answer, or a fault cut the commit short.

    Some prefix of the atoms may have been written, or may yet be: only the next
    epoch shuts a late write out. The caller must stop, campaign again, then load,
    and believe only what it then reads.
    """


class StoreUnavailableError(StoreError):
    """The store cannot be reached; nothing was written by this call."""


class UnsupportedServerError(StoreError):
    """The server is of a version that loses acknowledged writes."""


class Store(Protocol):
    """
    Where the controller's memory lives.

    Implementations: memory (tests), sqlite (one machine), etcd (production).
    """

    async def campaign(self, candidate: str) -> int:
        """
        Wait until this candidate leads and return its epoch.

        The epoch is a positive integer, greater than any epoch given before on
        the same data. Waits for as long as another candidate leads; one that died
        without resigning leads at most the store's lease longer. A candidate that
        led already gives up that term first, whatever became of it.

        Args:
            candidate: Who leads, for people to read.

        Raises:
            StoreUnavailableError: the store cannot be reached.
            UnsupportedServerError: see there.
        """

    def leads(self, epoch: int) -> bool:
        """
        Say whether nobody else can lead now, as far as *epoch* and the clock tell.

        True is no licence to write, which only ``commit`` gives: it is for what must not be
        said by one that was overtaken, such as that a host was heard. Never waits.
        """

    async def deposed(self) -> None:
        """
        Return once leadership is lost or can no longer be relied upon.

        Returns at once if this candidate does not lead. A store that finds out
        by its commit alone (sqlite: its lock cannot be taken away) returns then.
        """

    async def resign(self) -> None:
        """
        Give up leadership, if held, so that the next candidate need not wait.

        Never fails for a store that cannot be reached: that leadership then ends
        as a dead candidate's does.
        """

    def load(self, prefix: str = "") -> AsyncIterator[list[tuple[str, bytes]]]:
        """
        Read all pairs whose key starts with *prefix*, as of one moment.

        Pages come in key order, at most a few thousand pairs each, none empty. The
        moment is when the first page is asked for.

        Raises:
            StoreUnavailableError: the store cannot be reached.
        """

    def follow(self) -> AsyncIterator[News] | None:
        """
        Tell what is in the store and then all that becomes of it, for ever, for a candidate that waits.

        None where a store is of one machine, on which no other waits for the first to die
        (sqlite): who leads there next loads.

        The first news are anew. Changes that are told are committed, in their order; news
        with an epoch come behind all that was committed before it led.

        Raises:
            StoreUnavailableError: the store cannot be reached; follow anew.
        """

    async def commit(self, atoms: Sequence[Atom], epoch: int) -> None:
        """
        Write all atoms, in order, durably; each atom takes effect as a whole.

        If the call fails, what took effect is a prefix of the atoms (perhaps
        none, perhaps all). No atoms at all still ask whether *epoch* leads. Either
        error ends the term: *epoch* never commits again. One commit at a time.

        Raises:
            DeposedError: *epoch* does not lead; this call's remaining atoms were not written.
            UnknownOutcomeError: see there.
            AssertionError: an atom is over its limits; nothing was written.
        """

    async def tend(self, tell: Callable[[Room], None]) -> None:
        """
        Keep the store in order for ever, whether this candidate leads or waits, and *tell* what room there is.

        What cannot be put right is the room's fault. A store that cannot be reached is not told of.
        """

    async def close(self) -> None:
        """Resign and let go of files and connections. Idempotent."""
