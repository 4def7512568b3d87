"""
Shares: what jobs may have together, and when they may have it, held to what truly ran (S).

The caps of a fair share, and a quota share's own and what it may borrow, are never passed; nothing is
claimed while its environment is known to be shut, and no job is taken into a queue that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchyard.ids import split_attempt_id, split_job_id
from batchyard_controller.core.model.policies import QuotaSharePolicy, ShareWeight
from batchyard_controller.core.model.quota_shares import CapacityLimit, QuotaShare, SharingStrategy
from batchyard_controller.core.model.settings import StateTimeLimit

from .story import FAIR, QUOTA

if TYPE_CHECKING:
    from .witness import Witness

WEIGHTS = (
    ShareWeight(share_identifier="team*", weight_factor=0.5, max_running=3),
    ShareWeight(share_identifier="guest", max_vcpus=2),
)
"""Of the fair queue."""
TIME_LIMITS = (
    StateTimeLimit(reason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", state="RUNNABLE", max_time_s=40, action="CANCEL"),
)
"""Of the fair queue; shorter than users may set, as all is in a world."""
QUOTAS = QuotaSharePolicy()
MOST_VCPUS = {"saver": 2, "borrower": 4}
"""What a quota share may have at most, own and borrowed; that of the lender changes."""


def quota_shares() -> list[QuotaShare]:
    """Return the shares of the queue that has them."""

    def share(name: str, strategy: SharingStrategy, vcpus: int, **more: Any) -> QuotaShare:
        limits = (CapacityLimit(capacity_unit="VCPU", max_capacity=vcpus),)
        return QuotaShare(job_queue=QUOTA, name=name, sharing_strategy=strategy, capacity_limits=limits, **more)

    return [
        share("saver", SharingStrategy.RESERVE, 2),
        share("lender", SharingStrategy.LEND, 3),
        share("borrower", SharingStrategy.LEND_AND_BORROW, 2, borrow_limit=100, in_share_preemption=True),
    ]


class Shares:
    """Of one world, by its witness's eyes."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def look_at_start(self, attempt_id: str) -> None:
        """Look whether those that run are no more than may: who has ended may still count, who runs always does."""
        request = self._request(attempt_id)
        if request is None or not request.share_identifier or self._witness.yard.was_restored:
            return
        runs = self._running(request.queue)
        if request.queue == FAIR:
            for weight in WEIGHTS:
                cpus = [cpu for share, cpu in runs if weight.covers(share)]
                self._hold(weight.share_identifier, "units", len(cpus), weight.max_running)
                self._hold(weight.share_identifier, "vCPU thousandths", sum(cpus), weight.max_vcpus * 1000)
        elif request.queue == QUOTA:
            for name, vcpus in MOST_VCPUS.items():
                cpus = [cpu for share, cpu in runs if share == name]
                self._hold(name, "vCPU thousandths", sum(cpus), vcpus * 1000)

    def _hold(self, share: str, what: str, used: int, most: int) -> None:
        if 0 < most < used:
            self._witness.violated("S", f"share {share} runs {used} {what}, of {most}")

    def _running(self, queue: str) -> list[tuple[str, int]]:
        """Return the share of each that runs, and the vCPU thousandths that it has."""
        found = []
        for machine in self._witness.yard.machines.values():
            for running in machine.running.values():
                request = self._request(running.attempt_id)
                if running.runs and request is not None and request.queue == queue:
                    found.append((request.share_identifier, running.cpu_millis))
        return found

    def look_at_claim(self, attempt_id: str, host_id: str) -> None:
        """Look whether there may be new ones at all."""
        yard = self._witness.yard
        if "environment-off" in yard.operator.changed and not yard.cloud.has(host_id):
            self._witness.violated("S", f"{attempt_id} is claimed, and its environment is shut")

    def look_at_submission(self, label: str, asked_at: float) -> None:
        """Look whether a job was first asked for, and taken, while its queue was known to be shut."""
        shut_at = self._witness.yard.operator.changed.get("queue-off")
        request = self._witness.yard.user.requests[label]
        if shut_at is not None and request.queue == "low" and asked_at > shut_at:
            self._witness.violated("S", f"{label} is taken, and its queue is shut")

    def _request(self, attempt_id: str) -> Any:
        job_id, _ = split_job_id(split_attempt_id(attempt_id)[0])
        return self._witness.yard.user.requests.get(self._witness.labels.get(job_id, ""))
