"""Metrics: what an operator watches, in Prometheus' terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """The controller's own registry, so that two in one process do not clash."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._commits = Histogram("batchyard_commit_seconds", "Duration of one group commit", registry=self.registry)
        self._records = Counter("batchyard_commit_groups", "Groups of records written", registry=self.registry)
        self._plans = Histogram("batchyard_plan_seconds", "Duration of one placement pass", registry=self.registry)

    @contextmanager
    def committing(self, groups: int) -> Iterator[None]:
        """Time a commit."""
        with self._commits.time():
            yield
        self._records.inc(groups)

    def planning(self) -> AbstractContextManager[object]:
        """Time a placement pass."""
        return self._plans.time()
