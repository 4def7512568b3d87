"""
Changes: which rows of the fleet may have changed, so that who looks again looks at those alone.

Law: whoever has looked at all rows, and since then at those told by ``since``, knows
all of them as they are. A row may be told that is as it was.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

_KEPT_MIN = 16_384
_KEPT_A_HOST = 2
"""With more changes than that it is quicker to look at all hosts."""


class Changes:
    """The latest changed rows, in order; ``count`` rises with each and is what a reader remembers."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0
        """Of those that are kept."""
        self._rows: Rows = np.zeros(_KEPT_MIN, dtype=np.int64)

    def note(self, row: int) -> None:
        """Note that a row may have changed."""
        place = self.count - self._first
        if place == len(self._rows):
            half = place // 2
            self._rows[:half] = self._rows[place - half :]
            self._first, place = self.count - half, half
        self._rows[place] = row
        self.count += 1

    def note_all(self, hosts: int) -> None:
        """Note that everything may have changed, the meaning of rows included, and make room for so many hosts."""
        self.count += 1
        self._first = self.count
        if len(self._rows) < _KEPT_A_HOST * hosts:
            self._rows = np.zeros(_KEPT_A_HOST * hosts, dtype=np.int64)

    def since(self, count: int) -> Rows | None:
        """Return the rows that changed after *count* was read, some of them twice; None for any."""
        if count < self._first:
            return None
        return self._rows[count - self._first : self.count - self._first]
