"""Scale: how much is measured, so that a quick look takes less than a minute."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Full or quick, or with every case of what has very many."""

    is_quick: bool
    is_all: bool = False

    def pick(self, full: int, quick: int) -> int:
        """Return one of two amounts."""
        return quick if self.is_quick else full
