"""
What the controller needs of a store: to lead, to load, to commit.

A store is a flat map from key to value, both of them written by ``keys.py`` and
``codec.py`` above it. One leader writes at a time. The guard is the
transaction: a commit succeeds only while ``epoch`` is the current leadership.
A store never repeats a write by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from batchyard.errors import WorldError


@dataclass(frozen=True, slots=True)
class Put:
    """Set *key* to *value*."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove *key*; no error if it is not there."""

    key: str


Change = Put | Delete
Atom = tuple[Change, ...]
"""Changes that take effect together or not at all."""


class StoreError(WorldError):
    """Root of what a store raises."""


class DeposedError(StoreError):
    """The epoch is no longer (or never was) the current leadership; nothing was written."""


class UnknownOutcomeError(StoreError):
    """
    The store did not answer, or a fault cut the commit short.

    Some prefix of the atoms may have been written. The caller must stop, load
    again, and believe only what it then reads.
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
        the same data. Waits for as long as another candidate leads.

        Raises:
            StoreUnavailableError: the store cannot be reached.
            UnsupportedServerError: see there.
        """

    async def deposed(self) -> None:
        """Return once leadership is lost or can no longer be relied upon."""

    async def resign(self) -> None:
        """Give up leadership, if held, so that the next candidate need not wait."""

    def load(self, prefix: str = "") -> AsyncIterator[list[tuple[str, bytes]]]:
        """
        Read all pairs whose key starts with *prefix*, as of one moment.

        Pages come in key order, at most a few thousand pairs each.

        Raises:
            StoreUnavailableError: the store cannot be reached.
        """

    async def commit(self, atoms: Sequence[Atom], epoch: int) -> None:
        """
        Write all atoms, in order, durably; each atom takes effect as a whole.

        If the call fails, what took effect is a prefix of the atoms (perhaps
        none, perhaps all).

        Raises:
            DeposedError: *epoch* does not lead; this call's remaining atoms were not written.
            UnknownOutcomeError: see there.
        """

    async def close(self) -> None:
        """Resign and let go of files and connections. Idempotent."""
