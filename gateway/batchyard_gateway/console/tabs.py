"""
Tabs: which open page is told what, and when.

Decides and never waits: now is an argument. Law: a tab is told topics, never what changed in
them, and all that is kept for one is a set of topics, however slow its browser is; whoever was
not told of a change is told to look again.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from batchyard.ids import split_job_id

TOPICS = ("counts", "hosts", "jobs", "queues")
"""What pages may ask for: of jobs without ids, whatever changes how many are where."""

TABS_MAX = 200
IDS_MAX = 500
GATHERED_S = 0.5
"""A tab is told of a change so much later, with all that changed meanwhile."""

AGAIN_S = 1.0
"""A tab is told no sooner again: what it fetches is a page's worth of rows, for as many tabs as there are."""

REMEMBERED_MAX = 20_000
"""Jobs whose last change is remembered, for pages that were read a moment ago."""


class FullError(Exception):
    """There are as many tabs as may be: a page has to look again by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a tab is told: a kind of event and its text."""

    event: str
    data: str


@dataclass(slots=True, kw_only=True, eq=False)
class Tab:
    """
    One open page.

    Attributes:
        topics: What it wants to know of.
        ids: Jobs that it shows; a child stands under its array.
        wake: Called when it is to be told something.
        pending: Topics that changed and were not told yet.
        due_s: When they are to be told; None while there are none.
        told_s: When it was told last.
        told_away: Whether it was told that the controller is away.
    """

    topics: frozenset[str]
    ids: frozenset[str]
    wake: Callable[[], None]
    pending: set[str] = field(default_factory=set)
    due_s: float | None = None
    told_s: float = -AGAIN_S
    told_away: bool = False


class Tabs:
    """
    All of them.

    Args:
        boot: Names this life of the gateway: positions of another one mean nothing here.
    """

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._all: set[Tab] = set()
        self._of_job: defaultdict[str, set[Tab]] = defaultdict(set)
        self._turn = 0
        self._changed: dict[str, int] = {}
        self._known_from: dict[str, int] = {}
        self._jobs: OrderedDict[str, int] = OrderedDict()
        self.away_since_ms = 0

    def __len__(self) -> int:
        return len(self._all)

    @property
    def position(self) -> str:
        """What a page that is read now has seen; handed back by its stream."""
        return f"{self._boot}-{self._turn}"

    def wants(self, *topics: str) -> bool:
        """Say whether any tab wants one of these topics."""
        return any(not tab.topics.isdisjoint(topics) for tab in self._all)

    def open(
        self, topics: Iterable[str], ids: Iterable[str], since: str, now_s: float, wake: Callable[[], None]
    ) -> Tab:
        """
        Begin to tell a page.

        Args:
            topics: Those of ``TOPICS``; others are ignored.
            ids: Jobs that it shows.
            since: The position at which the page was read; anything else means that it must look again.
            now_s: The clock that no hand sets.
            wake: Called when there is something to be told.

        Raises:
            FullError: there are ``TABS_MAX`` already.
        """
        if len(self._all) >= TABS_MAX:
            raise FullError
        arrays = frozenset(split_job_id(job_id)[0] for job_id in ids)
        wanted = frozenset(topics) & frozenset(TOPICS) | ({"jobs"} if arrays else frozenset())
        tab = Tab(topics=wanted, ids=arrays, wake=wake)
        self._all.add(tab)
        for job_id in arrays:
            self._of_job[job_id].add(tab)
        self._note(tab, {topic for topic in wanted if self._missed(topic, tab, since)}, now_s)
        return tab

    def close(self, tab: Tab) -> None:
        """Forget a page."""
        self._all.discard(tab)
        for job_id in tab.ids:
            self._of_job[job_id].discard(tab)
            if not self._of_job[job_id]:
                del self._of_job[job_id]

    # What changed -------------------------------------------------------------------

    def begin(self, topic: str) -> None:
        """Note that from here on no change of a topic is missed."""
        self._turn += 1
        self._known_from[topic] = self._turn

    def end(self, topic: str) -> None:
        """Note that changes of a topic may be missed from here on."""
        self._known_from.pop(topic, None)

    def change(self, topic: str, now_s: float) -> None:
        """Note that something of a topic changed, nobody knows what."""
        self._turn += 1
        self._changed[topic] = self._turn
        for tab in self._all:
            # Whoever shows no certain job wants to know of all.
            named = {topic, "jobs"} if topic == "counts" and not tab.ids else {topic}
            self._note(tab, named & tab.topics, now_s)

    def change_jobs(self, job_ids: Iterable[str], now_s: float) -> None:
        """Note that jobs changed."""
        self._turn += 1
        for job_id in job_ids:
            name = split_job_id(job_id)[0]
            self._jobs[name] = self._turn
            self._jobs.move_to_end(name)
            for tab in self._of_job.get(name, ()):
                self._note(tab, {"jobs"}, now_s)
        while len(self._jobs) > REMEMBERED_MAX:
            _, forgotten = self._jobs.popitem(last=False)
            if "jobs" in self._known_from:
                self._known_from["jobs"] = max(self._known_from["jobs"], forgotten)

    def miss_jobs(self, now_s: float) -> None:
        """Note that changes of jobs were missed, and none is from here on."""
        self.begin("jobs")
        for tab in self._all:
            if tab.ids:
                self._note(tab, {"jobs"}, now_s)

    def leave(self, since_ms: int) -> None:
        """Note that the controller does not answer, and since when."""
        if not self.away_since_ms:
            self.away_since_ms = since_ms
            self.wake_all()

    def come_back(self, now_s: float) -> None:
        """Note that the controller answers; after it was away, everything is looked at again."""
        if self.away_since_ms:
            self.away_since_ms = 0
            for tab in self._all:
                self._note(tab, set(tab.topics), now_s)
            self.wake_all()

    # What is told -------------------------------------------------------------------

    def take(self, tab: Tab, now_s: float) -> list[Told]:
        """Return what a tab is to be told now, and count it as told."""
        told: list[Told] = []
        is_away = bool(self.away_since_ms)
        if is_away != tab.told_away:
            tab.told_away = is_away
            told.append(Told(event="stale", data=str(self.away_since_ms)) if is_away else Told(event="fresh", data="-"))
        # Nothing can be read while the controller is away: it is told when it is back.
        if tab.due_s is not None and now_s >= tab.due_s and not is_away:
            told.append(Told(event="look", data=" ".join(sorted(tab.pending))))
            tab.pending.clear()
            tab.due_s, tab.told_s = None, now_s
        return told

    def wait_s(self, tab: Tab, now_s: float) -> float | None:
        """Return how long a tab has nothing to be told; None: until it is woken."""
        if bool(self.away_since_ms) != tab.told_away:
            return 0.0
        return None if tab.due_s is None or self.away_since_ms else max(0.0, tab.due_s - now_s)

    def wake_all(self) -> None:
        """Wake all tabs."""
        for tab in self._all:
            tab.wake()

    def _note(self, tab: Tab, topics: set[str] | frozenset[str], now_s: float) -> None:
        if not topics:
            return
        tab.pending |= topics
        if tab.due_s is None:
            tab.due_s = max(now_s + GATHERED_S, tab.told_s + AGAIN_S)
            tab.wake()

    def _missed(self, topic: str, tab: Tab, since: str) -> bool:
        """Say whether something of a topic may have changed since a page was read."""
        boot, _, text = since.rpartition("-")
        if boot != self._boot or not (text.isascii() and text.isdigit()):
            return True
        turn = int(text[:18])
        source = "counts" if topic == "jobs" and not tab.ids else topic
        if turn < self._known_from.get(source, turn + 1):
            return True
        if source == "jobs":
            return any(self._jobs.get(job_id, 0) > turn for job_id in tab.ids)
        return self._changed.get(source, 0) > turn
