"""Scale: how much is measured, so that a quick look takes minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scale:
    """Full or quick, with every case of what has very many, or with a trace."""

    is_quick: bool
    is_all: bool = False
    trace: tuple[Path, Path] | None = None
    """Hosts and tasks of a trace, for what needs one."""

    def pick(self, full: int, quick: int) -> int:
        """Return one of two amounts."""
        return quick if self.is_quick else full
