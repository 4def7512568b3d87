"""The space that a simulated etcd's data take in its file: what it is held to, and what is done for it."""

from __future__ import annotations

from dataclasses import dataclass

MEMBER = 1
"""The id of the one member."""
DEFRAGMENT_S = 2.0
"""For so long it answers nothing then."""


@dataclass(slots=True)
class Space:
    """
    Of one member.

    Attributes:
        quota_bytes: Size that the file may reach; 0: any.
        used_bytes: What is kept, with all that was overwritten or deleted since it was last compacted.
        file_bytes: Size of the file, which shrinks by defragmentation alone.
        is_full: The alarm NOSPACE is on: nothing is written that takes room.
    """

    quota_bytes: int = 0
    used_bytes: int = 0
    file_bytes: int = 0
    is_full: bool = False

    def take(self, size: int) -> None:
        """Write so much."""
        self.used_bytes += size
        self.file_bytes = max(self.file_bytes, self.used_bytes)

    def admits(self) -> bool:
        """Say whether a write that takes room is let in; where there is none, the alarm goes on and stays."""
        self.is_full |= 0 < self.quota_bytes <= self.file_bytes
        return not self.is_full

    def compact(self, used_bytes: int) -> None:
        """Keep no more than so much; what that frees is used before the file grows again."""
        self.used_bytes = used_bytes

    def defragment(self) -> None:
        """Write the file anew."""
        self.file_bytes = self.used_bytes
