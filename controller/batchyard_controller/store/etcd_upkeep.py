"""
When a cluster of etcd is to be compacted and defragmented, and its alarm put out. Pure.

What etcd keeps of the past it forgets by compaction, which frees pages of its file; the
file itself, which is what the quota is held against, shrinks by defragmentation alone. A
member answers nothing while that lasts, so it is done to one after the other, to the one
that leads the cluster last, and only where it is worth it.
Sources: https://etcd.io/docs/v3.5/op-guide/maintenance/ and .../faq/.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

LOOK_S = 5.0
"""Between two looks at a cluster."""

COMPACT_S = 300.0
"""Between two compactions where there is room (Kubernetes' API server does it as often)."""

LAG_S = 60.0
"""How far into the past is left then, for who reads all of a moment: a standby, a loading leader."""

STEPS = 20
"""In so many steps: one that has much to delete holds up who writes, for seconds on a slow disk."""

FILLED = 0.6
"""Share of the quota from which on the past is left since the last look alone; none of it where the reserve is touched."""

RESERVE = 0.2
"""Share of the quota that is kept for what becomes of jobs that are there already."""

WASTE = 0.5
"""Share of a file that is free from which on its defragmentation is worth it."""

WASTE_BYTES = 500 << 20
"""The least that is free then; less where the file is large for its quota."""

DEFRAGMENT_S = 600.0
"""Between two defragmentations, but to put out an alarm."""

HEAL_S = 60.0
"""Between two tries to put out an alarm: where one did not help, another rarely does, and members stand still for it."""

QUICK_BYTES = 256 << 20
"""What a member that leads may hold so that the yard can wait for it: one or two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """
    What a member said of itself.

    Attributes:
        endpoint: ``host:port``.
        id: In the cluster.
        leads: Whether it leads the cluster.
        revision: Newest that it knows.
        size_bytes: Of its file.
        used_bytes: Of that, what is not free.
    """

    endpoint: str
    id: int
    leads: bool
    revision: int
    size_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    A look at a cluster.

    Attributes:
        at_s: When, on a clock that only goes on.
        members: Those that answered, at least one.
        is_whole: Whether all did.
        quota_bytes: Of each member's file.
        full: Ids of the members whose alarm NOSPACE is on.
        is_corrupt: Whether one has the alarm CORRUPT.
    """

    at_s: float
    members: tuple[Member, ...]
    is_whole: bool
    quota_bytes: int
    full: frozenset[int] = frozenset()
    is_corrupt: bool = False

    @property
    def revision(self) -> int:
        """Newest revision that is known."""
        return max(member.revision for member in self.members)

    @property
    def size_bytes(self) -> int:
        """Size of the largest file."""
        return max(member.size_bytes for member in self.members)

    @property
    def used_bytes(self) -> int:
        """What is not free of the file in which the most is not."""
        return max(member.used_bytes for member in self.members)


@dataclass(slots=True)
class Upkeep:
    """What was done to a cluster, as far as what is to be done next depends on it."""

    _looks: deque[tuple[float, int]] = field(default_factory=deque)
    """When which revision was the newest."""
    _compacted_s: float = float("-inf")
    _compacted_to: int = 0
    _left_bytes: int = 0
    """What the last compaction left in use."""
    _defragmented_s: float = float("-inf")
    _healed_s: float = float("-inf")

    def compact_to(self, look: Look) -> int:
        """Return the revision before which all is to be forgotten; 0: it is not time."""
        known, self._looks = list(self._looks), deque(each for each in self._looks if look.at_s - each[0] <= LAG_S * 2)
        self._looks.append((look.at_s, look.revision))
        if look.full:
            return look.revision if self._may_heal(look) else 0
        since_s = look.at_s - self._compacted_s
        has_grown = look.used_bytes - self._left_bytes > look.quota_bytes * (1 - FILLED) / 8
        if look.used_bytes > look.quota_bytes * FILLED and (has_grown or since_s >= LAG_S):
            presses = look.used_bytes > unreserved(look.quota_bytes)
            return self._if_new(look.revision if presses else known[-1][1] if known else 0)
        if since_s >= COMPACT_S:
            return self._if_new(max((rev for at_s, rev in known if look.at_s - at_s >= LAG_S), default=0))
        return 0

    def steps_to(self, revision: int, look: Look) -> list[int]:
        """Return the revisions up to which it is compacted one after the other, the last one being *revision*."""
        if look.full:
            return [revision]
        first = self._compacted_to
        return [first + (revision - first) * step // STEPS for step in range(1, STEPS + 1)]

    def note_compaction(self, look: Look, revision: int) -> None:
        """Note that all before a revision is forgotten, and what is left, by a look since."""
        self._compacted_s, self._compacted_to, self._left_bytes = look.at_s, revision, look.used_bytes

    def note_defragmentation(self, look: Look) -> None:
        """Note that members were defragmented."""
        self._defragmented_s = look.at_s
        if look.full:
            self._healed_s = look.at_s

    def worth_defragmenting(self, look: Look) -> list[Member]:
        """
        Return the members whose files are to be made small, in their order: who leads the cluster last.

        Where one does not answer, none: another that stands still could be one too many.
        """
        followers_first = sorted(look.members, key=lambda member: (member.leads, member.endpoint))
        if look.full:
            return followers_first if self._may_heal(look) else []
        if not look.is_whole or look.at_s - self._defragmented_s < DEFRAGMENT_S:
            return []
        return [member for member in followers_first if _is_worth_it(member, look.quota_bytes)]

    def _may_heal(self, look: Look) -> bool:
        return look.at_s - self._healed_s >= HEAL_S

    def _if_new(self, revision: int) -> int:
        return revision if revision > self._compacted_to else 0


def _is_worth_it(member: Member, quota_bytes: int) -> bool:
    free_bytes = member.size_bytes - member.used_bytes
    is_large = member.size_bytes > quota_bytes * FILLED
    return free_bytes > member.size_bytes * WASTE and (free_bytes > WASTE_BYTES or is_large)


def is_bearable(member: Member, look: Look) -> bool:
    """Say whether a member that leads, and that no other relieves, may stand still for its defragmentation now."""
    presses = member.size_bytes > look.quota_bytes * (1 - RESERVE)
    return bool(look.full) or presses or member.used_bytes <= QUICK_BYTES


def may_disarm(look: Look) -> bool:
    """Say whether the alarm can be put out: all members answer, and their files leave room for writes again."""
    return bool(look.full) and look.is_whole and look.size_bytes < look.quota_bytes * (1 - RESERVE / 4)


def unreserved(quota_bytes: int) -> float:
    """Return how much may be in use before the reserve is touched."""
    return quota_bytes * (1 - RESERVE)


def fault_of(look: Look) -> str:
    """Say what is wrong with a cluster that its upkeep could not put right; nothing: all is well."""
    faults = []
    if look.is_corrupt:
        faults.append("etcd's alarm CORRUPT is on: its members do not hold the same; see etcd's documentation")
    size = f"{mib(look.used_bytes)} of {mib(look.quota_bytes)}"
    if look.full and not look.is_whole:
        faults.append("etcd's alarm NOSPACE is on, and a member does not answer whose file is to be made small")
    elif look.full:
        faults.append(f"etcd is full, with nothing left to forget: {size} are records that are needed; {_ADVICE}")
    elif look.used_bytes > unreserved(look.quota_bytes):
        faults.append(f"etcd is nearly full: {size} are records that are needed; {_ADVICE}")
    return "; ".join(faults)


_ADVICE = (
    "raise --quota-backend-bytes of every member (8 GiB at most), "
    "or keep fewer ended jobs there (--archive, --keep-jobs, --keep-jobs-days)"
)


def mib(size: int) -> str:
    """Write a size in MiB."""
    return f"{size / (1 << 20):,.0f} MiB"
