"""
Which keys are asked for next, so that all below a prefix are read at a cost that grows with their number.

Pure. etcd looks at every key of a range to count them, however few are wanted (``limit``), so that
pages of an open range cost the square of how many keys there are: a million took a quarter of an
hour. Here each range but the first has an end, guessed by how far apart the keys of the last page lay.
"""

from __future__ import annotations

_WIDTH = 64
"""So many bytes behind the prefix say how far apart two keys lie."""
_GROWTH_EMPTY = 16
_GROWTH = 2


class Ranges:
    """
    The ranges of one reading, one after the other.

    Attributes:
        start: The first key of the range that is asked for next.
        end: The key behind it.
    """

    def __init__(self, prefix: bytes, end: bytes) -> None:
        self.start = prefix
        self.end = end
        self._prefix = prefix
        self._all = end
        self._span = 1

    @property
    def is_wide(self) -> bool:
        """Whether the range may hold all that there is."""
        return self.end == self._all

    def pass_on(self, last: bytes, *, is_more: bool) -> bool:
        """
        Go on to the next range; say whether there is one.

        Args:
            last: The last key of the answer; empty if there was none.
            is_more: Whether the range holds more than was answered.
        """
        if is_more:
            self._span = max(1, _GROWTH * (self._number(last) - self._number(self.start)))
            self.start = last + b"\0"
        elif self.is_wide:
            return False
        else:
            self._span *= _GROWTH if last else _GROWTH_EMPTY
            self.start = self.end
        self.end = self._guess()
        return True

    def _guess(self) -> bytes:
        bound = self._number(self.start) + self._span
        if bound >= 256**_WIDTH:
            return self._all
        return min(self._all, self._prefix + bound.to_bytes(_WIDTH, "big"))

    def _number(self, key: bytes) -> int:
        return int.from_bytes(key[len(self._prefix) :][:_WIDTH].ljust(_WIDTH, b"\0"), "big")
