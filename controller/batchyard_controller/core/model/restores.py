"""
Restores: that a store was put back from a backup, and the numbers that rise with it.

A backup knows neither which epochs nor which attempts there were after it. So each restore
begins a generation, and both carry it: an epoch, as hosts compare it, has the generation in
its upper half, and an attempt's id has that of its epoch. Law: generations rise, whatever
backup is put back, and how often; so they are moments and not counted on from the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_EPOCH_BITS = 32
"""
An epoch of the store below this many bits leaves the generation as it is.

A higher one, as of an etcd of so many revisions, counts for later seconds: ids stay unique, and
epochs rise, as long as no two restores are so few seconds apart.
"""
FIRST_S = 1_767_225_600
"""The moment of generation 0, in seconds since 1970: the beginning of 2026 (UTC). 31 bits of seconds last until 2094."""
LAST_RESTORE = "last"
"""Its name in the store."""
UNLEARNT_MAX = 10_000
"""Most attempts that are listed by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """
    The last restore of a store, and what became of what the backup did not know.

    Attributes:
        generation: Of all that is handed out since.
        at_ms: When, by the wall clock of whoever did it.
        newest_ms: The newest date in the backup, which was made then or later; 0: it has none.
        last_seq: The last job that the backup knows, in the order of submission.
        waits_whole_fence: Its jobs wait for a whole fence, for hosts that joined after the backup and cannot be reached.
        is_over: All hosts have been heard, or their fences have passed.
        adopted: Attempts that ran on a host, and that the backup did not know.
        ended: Attempts that had ended since, of which a host told how.
        unlearnt: Attempts of the backup of which no host could tell, with that of their host.
    """

    generation: int
    at_ms: int
    newest_ms: int = 0
    last_seq: int = 0
    waits_whole_fence: bool = False
    is_over: bool = False
    adopted: int = 0
    ended: int = 0
    unlearnt: tuple[str, ...] = ()

    def with_adopted(self, *, has_ended: bool) -> Restore:
        """Count an attempt of which a host told that the backup did not know."""
        return replace(self, adopted=self.adopted + (not has_ended), ended=self.ended + has_ended)

    def with_unlearnt(self, attempt_id: str, host: str) -> Restore:
        """Name an attempt of which no host could tell what became of it."""
        if len(self.unlearnt) >= UNLEARNT_MAX:
            return self
        return replace(self, unlearnt=(*self.unlearnt, f"{attempt_id} on {host}"))


def generation_at(wall_ms: int) -> int:
    """Return the generation of a restore at a moment."""
    return wall_ms // 1000 - FIRST_S


def in_generation(generation: int, epoch: int) -> int:
    """Return as what an epoch of the store is told and kept."""
    return (generation << _EPOCH_BITS) + epoch


def generation_of(epoch: int) -> int:
    """Return the generation of an epoch that was told or kept."""
    return epoch >> _EPOCH_BITS
