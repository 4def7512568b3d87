"""
Ledger: which stored records changed since the last commit.

Only `records` writes into it, so that nobody else can change what is stored, or
forget to say so.
"""

from __future__ import annotations

from collections.abc import Iterable

Touch = tuple[str, str]
"""Kind of a record (see the store's keys) and its name."""


class Ledger:
    """Changes by group, in order; the records of one group are written together."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[Touch, None]] = {}

    def note(self, group: str, kind: str, name: str) -> None:
        """Note that a record was made, changed or dropped."""
        self._groups.setdefault(group, {})[kind, name] = None

    def note_all(self, group: str, kind: str, names: Iterable[str]) -> None:
        """Note the same of several."""
        self._groups.setdefault(group, {}).update(((kind, name), None) for name in names)

    def take(self) -> dict[str, dict[Touch, None]]:
        """Hand over what changed and start afresh."""
        groups, self._groups = self._groups, {}
        return groups
