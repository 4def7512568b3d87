"""
Packing: what one commit may hold, and how it is cut into transactions.

Pure. The limits are those of the narrowest store, etcd (128 operations and
1.5 MiB per request as it comes), and hold for all, so that what passes on one
store passes on every other. Law: an atom is never split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchyard_controller.store.protocol import Atom, Change, Put

ATOM_CHANGES_MAX = 100
"""Most changes in one atom, and most keys in one transaction."""

ATOM_BYTES_MAX = 1 << 20
"""Most bytes of keys and values in one atom."""

TRANSACTION_BYTES = 512 << 10
"""A transaction takes no further atom beyond this; a larger atom goes alone."""

LEADER_KEY = "leader"
"""The one key that is the store's own."""


def check(atoms: Sequence[Atom]) -> None:
    """
    Assert that *atoms* keep to the limits.

    Raises:
        AssertionError: they do not, which is a mistake in the caller.
    """
    for atom in atoms:
        assert len(atom) <= ATOM_CHANGES_MAX, f"an atom of {len(atom)} changes; at most {ATOM_CHANGES_MAX}"
        size = weigh(atom)
        assert size <= ATOM_BYTES_MAX, f"an atom of {size} bytes; at most {ATOM_BYTES_MAX}"
        for change in atom:
            assert change.key not in ("", LEADER_KEY), f"key {change.key!r} is not for records"


def merge(atoms: Iterable[Atom]) -> list[Change]:
    """
    Return what *atoms* amount to when they take effect at one moment.

    The last change of a key wins. etcd refuses a transaction that names a key
    twice, and nobody could see the values in between.
    """
    return list({change.key: change for atom in atoms for change in atom}.values())


def pack(atoms: Sequence[Atom]) -> list[list[Atom]]:
    """
    Cut *atoms*, in order, into groups that each fit one transaction.

    There is at least one group, so that a commit of nothing still asks whether
    the epoch leads.
    """
    groups: list[list[Atom]] = [[]]
    changes = size = 0
    for atom in atoms:
        atom_size = weigh(atom)
        is_full = changes + len(atom) > ATOM_CHANGES_MAX or size + atom_size > TRANSACTION_BYTES
        if groups[-1] and is_full:
            groups.append([])
            changes = size = 0
        groups[-1].append(atom)
        changes += len(atom)
        size += atom_size
    return groups


def weigh(atom: Atom) -> int:
    """Return the bytes of all keys and values in *atom*."""
    # A plain loop: this runs for every key of every commit.
    size = 0
    for change in atom:
        size += len(change.key.encode())
        if isinstance(change, Put):
            size += len(change.value)
    return size
