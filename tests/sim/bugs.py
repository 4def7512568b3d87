"""
Planted bugs: mistakes that were made once, or nearly, put back into the programs, to see that they are found.

Each is the smallest patch that brings the mistake back. Names such as B2 are those of findings in
docs/reliability.md. What a bug needs besides is a kind of fault that no seed draws by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import patches


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """
    One mistake.

    Attributes:
        text: What is wrong.
        patches: What brings it back.
        needs: Kinds of faults that it shows under.
    """

    text: str
    patches: Callable[[], patches.Patches]
    needs: tuple[str, ...] = ()

    @contextlib.contextmanager
    def plant(self) -> Iterator[None]:
        """Have it in the programs for a while."""
        former = []
        for owner, name, value in self.patches():
            former.append((owner, name, vars(owner)[name]))
            setattr(owner, name, value)
        try:
            yield
        finally:
            for owner, name, value in reversed(former):
                setattr(owner, name, value)


BUGS = {
    "A11": Bug(text="a timeout is counted by the wall clock", patches=patches.wall_clock),
    "B2": Bug(
        text="a fenced agent carries out a start that waited in a dead session (its keeper lets it)",
        patches=patches.late_starts,
    ),
    "B3": Bug(text="a host that is silent keeps its session, and gets work", patches=patches.silent_hosts),
    "B4": Bug(text="what runs beside an empty state folder runs on", patches=patches.orphans),
    "B5": Bug(text="a copied state folder puts the true agent out", patches=patches.twins),
    "B6": Bug(
        text="after a restored backup agents refuse the controller", patches=patches.bare_epochs, needs=("restore",)
    ),
    "B7": Bug(text="after a restored backup attempt ids are used again", patches=patches.bare_ids, needs=("restore",)),
    "B8": Bug(
        text="the loop renews the lease, and a restore holds it up for longer than that", patches=patches.long_restores
    ),
    "answers-first": Bug(text="an answer is given before the commit", patches=patches.answers_first),
    "blind-commits": Bug(text="a commit whose outcome is unknown counts as written", patches=patches.blind_commits),
    "no-fence": Bug(text="a host's attempts count as lost once it cannot be reached", patches=patches.no_fence),
    "forgets-requests": Bug(text="request ids are forgotten with a leader", patches=patches.forgets_requests),
    "no-tombstones": Bug(
        text="an acknowledged attempt is forgotten at once", patches=patches.no_tombstones, needs=("restore",)
    ),
    "old-epochs": Bug(text="an agent obeys a deposed leader", patches=patches.unfenced_epochs),
    "no-brake": Bug(text="the brake does not hold", patches=patches.no_brake),
    "short-fences": Bug(
        text="the controller counts all attempts by their host's fence", patches=patches.short_fences, needs=("fences",)
    ),
    "trusts-old-agents": Bug(
        text="the controller believes that every agent keeps an attempt's own fence",
        patches=patches.trusts_old_agents,
        needs=("old-agent",),
    ),
    "deletes-first": Bug(
        text="a job is deleted in the store before it is in the archive",
        patches=patches.deletes_first,
        needs=("archive",),
    ),
    "forgets-archived": Bug(
        text="the request ids of archived jobs are forgotten",
        patches=patches.forgets_archived_requests,
        needs=("archive",),
    ),
    "sums-twice": Bug(
        text="jobs that were summed before a crash are summed again",
        patches=patches.sums_twice,
        needs=("archive", "narrow"),
    ),
    "places-early": Bug(
        text="after a restored backup jobs are placed before hosts have told",
        patches=patches.places_early,
        needs=("restore",),
    ),
    "follows-on": Bug(
        text="a standby goes on behind what was compacted before it had read it",
        patches=patches.follows_on,
        needs=("compact",),
    ),
    "gives-up-again": Bug(
        text="a gang that cannot have its hosts gives them up with each plan",
        patches=patches.gives_up_again,
        needs=("crowd",),
    ),
    "ignores-failures": Bug(
        text="who waited for one that failed has its turn all the same",
        patches=patches.ignores_failures,
        needs=("orders",),
    ),
    "forgets-marks": Bug(
        text="that a host is cordoned or drained is forgotten with a leader",
        patches=patches.forgets_marks,
        needs=("marks",),
    ),
    "opens-again": Bug(
        text="that an environment is shut is forgotten with a leader",
        patches=patches.opens_again,
        needs=("shares", "changes"),
    ),
    "counts-no-shares": Bug(
        text="of shares those that run do not count", patches=patches.counts_no_shares, needs=("shares",)
    ),
    "borrows-on": Bug(text="a share borrows beyond its limit", patches=patches.borrows_on, needs=("shares",)),
    "stops-strays": Bug(
        text="after a restored backup launched hosts are stopped that run what it does not know",
        patches=patches.stops_strays,
        needs=("cloud", "restore"),
    ),
    "launches-on": Bug(
        text="more hosts are launched than their environment may have", patches=patches.launches_on, needs=("cloud",)
    ),
    "uses-up-nothing": Bug(
        text="what tries use up is not counted when they end", patches=patches.uses_up_nothing, needs=("orders",)
    ),
    "counts-no-runners": Bug(
        text="of a bounded array those that run do not count, nor nodes that are left of a try",
        patches=patches.counts_no_runners,
        needs=("orders",),
    ),
}
