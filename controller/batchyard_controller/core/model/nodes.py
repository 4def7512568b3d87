"""
Nodes: what the nodes of a multi-node job run, as plain values.

Ranges say which nodes run what; they may lie in one another, and the inner one holds.
Which task is whose is worked out once, when the record is made.

Source: AWS Batch API reference, NodeProperties and NodeRangeProperty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from batchyard.resources import NOTHING, Resources
from batchyard.tasks import Task

from .consumables import Quantities

_TARGET = re.compile(r"(?P<first>\d{0,9})(?P<colon>:?)(?P<last>\d{0,9})", re.ASCII)


class Spread(StrEnum):
    """On how many hosts the nodes of a job go."""

    IF_POSSIBLE = "IF_POSSIBLE"
    """On one each, where there are hosts enough that could ever take them, and else several on one."""
    HOSTS = "HOSTS"
    """On one each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRange:
    """
    What some nodes run.

    Attributes:
        target_nodes: ``first:last``, both included; either may be left out, and ``n`` is one node. Kept as it was
            written, as overrides name it by its text (AWS).
        instance_types: Kept and shown; hosts are not chosen by it.
        consumables: What the job holds for these nodes together.
    """

    target_nodes: str
    task: Task
    instance_types: tuple[str, ...] = ()
    consumables: Quantities = ()

    def span(self, count: int) -> tuple[int, int] | None:
        """Return [first, stop) among so many nodes; None where the text names no nodes."""
        match = _TARGET.fullmatch(self.target_nodes)
        if match is None or not self.target_nodes:
            return None
        first = int(match["first"] or 0)
        if not match["colon"]:
            return first, first + 1
        return first, int(match["last"]) + 1 if match["last"] else max(count, first + 1)

    @property
    def is_open(self) -> bool:
        """Whether it goes to the last node, however many there are."""
        return self.target_nodes.endswith(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """Nodes [start, stop) that run the same."""

    start: int
    stop: int
    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """
    The nodes of a job.

    Attributes:
        count: How many there are.
        main: Index of the main node, whose life is the job's.
        ranges: What they run, as given.
        fail_together: Any node that fails is the end of the attempt (ours; on AWS only the main node's end is).
        spread: Whether each has to have a host of its own (ours).
        groups: What each runs, without overlap, in order of index; worked out, not stored.
    """

    count: int
    main: int = 0
    ranges: tuple[NodeRange, ...] = ()
    fail_together: bool = False
    spread: Spread = Spread.IF_POSSIBLE
    groups: tuple[NodeGroup, ...] = field(init=False, compare=False, repr=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self._resolve()))

    def _resolve(self) -> Iterator[NodeGroup]:
        """Say who runs what: of ranges that lie in one another the inner one holds; of what no range covers nothing."""
        spans = [(span, each.task) for each in self.ranges if (span := each.span(self.count)) is not None]
        spans.sort(key=lambda pair: pair[0][0] - pair[0][1])
        tasks: list[Task | None] = [None] * max(0, self.count)
        for (start, stop), task in spans:
            stop = min(stop, self.count)  # noqa: PLW2901
            tasks[start:stop] = [task] * max(0, stop - start)
        start = 0
        for runs, same in groupby(tasks):
            stop = start + len([*same])
            if runs is not None:
                yield NodeGroup(start=start, stop=stop, task=runs)
            start = stop

    def task_of(self, index: int) -> Task:
        """Return what a node runs."""
        return next(group.task for group in self.groups if group.start <= index < group.stop)

    @property
    def resources(self) -> Resources:
        """What all of them hold together."""
        return sum((group.task.resources * (group.stop - group.start) for group in self.groups), NOTHING)

    @property
    def consumables(self) -> Quantities:
        """What the ranges add up to."""
        total: dict[str, int] = {}
        for each in self.ranges:
            for name, quantity in each.consumables:
                total[name] = total.get(name, 0) + quantity
        return tuple(sorted(total.items()))
