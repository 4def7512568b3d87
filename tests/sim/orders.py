"""
Orders: whom a job waits for, by what its user asked, held to what truly ran (O).

Nothing starts before all that it waits for has ended as it asked; of a bounded array no more children
run at once than may, and no more licences are held than there are; what runs used up is counted; and
nobody ends for want of another who can still end as was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchyard.ids import JobId, child_id, node_id, split_attempt_id, split_job_id
from batchyard.states import JobState
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.core.model.dependencies import DependencyType
from batchyard_controller.core.model.endings import Trigger
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.units import Unit, units_of
from batchyard_controller.core.world.world import World

from .story import LICENCE, LICENCES, TOKEN

if TYPE_CHECKING:
    from .witness import Witness

_WELL = ("SUCCEEDED", "CHILDREN_SUCCEEDED")
"""Triggers of jobs that end well."""


class Orders:
    """Of one world, by its witness's eyes."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def look_at_start(self, attempt_id: str) -> None:
        """Look whether what starts may: whatever was known when its turn came, those before it have truly ended."""
        job_id, index = split_job_id(split_attempt_id(attempt_id)[0])
        request = self._request(job_id)
        if request is None or self._witness.yard.was_restored:
            return
        for each in request.depends_on:
            if why := self._why_not_yet(each, job_id, index):
                self._witness.violated("O", f"{attempt_id} starts, and {why}")
        running = [unit for unit in _children(job_id, request.array_size) if self._runs(unit)]
        if 0 < request.array_concurrency < len(running):
            self._witness.violated("O", f"of {job_id} {len(running)} run, and {request.array_concurrency} may")
        holders = [unit for unit in self._witness.by_unit if self._takes(unit, LICENCE) and self._runs(unit)]
        if len(holders) > LICENCES:
            self._witness.violated("O", f"{holders} hold a licence each, of {LICENCES}")

    def _why_not_yet(self, dependency: pb.Dependency, job_id: str, index: int | None) -> str:
        match dependency.type:
            case pb.DEPENDENCY_TYPE_SEQUENTIAL:
                awaited = [child_id(job_id, index - 1)] if index else []
            case pb.DEPENDENCY_TYPE_N_TO_N:
                awaited = [] if index is None else [child_id(dependency.job_id, index)]
            case pb.DEPENDENCY_TYPE_AFTER_ANY | pb.DEPENDENCY_TYPE_AFTER_FAILURE:
                ending = self._witness.endings.get(dependency.job_id)
                is_late = ending is None or any(map(self._runs, self._units(dependency.job_id)))
                is_wanted = dependency.type == pb.DEPENDENCY_TYPE_AFTER_ANY or ending["trigger"] not in _WELL
                return f"{dependency.job_id} has not ended so" if is_late or not is_wanted else ""
            case _:
                awaited = self._mains(dependency.job_id)
        late = [unit for unit in awaited if not self._has_succeeded(unit)]
        return f"{late[0]} has not succeeded" if late else ""

    def look_at_end(self, unit: Unit, jobs: Mapping[JobId, Job]) -> None:
        """Look whether one that ended for want of another could no longer have it, unless that may have ended anew."""
        if unit.ending is None or unit.ending.trigger is not Trigger.DEPENDENCY_FAILED:
            return
        if self._witness.yard.was_restored:
            return
        waited_for = unit.ending.waited_for
        assert waited_for is not None, f"{unit.id} waited for nobody"
        match waited_for.type:
            case DependencyType.SEQUENTIAL:
                awaited = Unit(unit.job, (unit.index or 0) - 1)
            case DependencyType.N_TO_N:
                awaited = Unit(jobs[JobId(waited_for.job_id)], unit.index)
            case _:
                awaited = Unit(jobs[JobId(waited_for.job_id)])
        lost = JobState.SUCCEEDED if waited_for.type is DependencyType.AFTER_FAILURE else JobState.FAILED
        if awaited.state is not lost:
            self._witness.violated("O", f"{unit.id} ended for want of {awaited.id}, which is {awaited.state}")

    def look_at_tokens(self, world: World, jobs: Mapping[JobId, Job]) -> None:
        """Look whether what tries used up was counted: a commit that is cut short may count an end twice, none loses one."""
        if TOKEN not in world.consumables or self._witness.yard.was_restored:
            return
        takers = [unit for job in jobs.values() for unit in units_of(job) if TOKEN in dict(unit.consumables)]
        used = sum(ended.started_at_ms > 0 for unit in takers for ended in unit.attempts)
        if (counted := world.consumables[TOKEN].consumed) < used:
            self._witness.violated("O", f"{used} tokens were used up, {counted} are counted")

    # What was asked, and what ran ---------------------------------------------------------

    def _request(self, job_id: str) -> Any:
        return self._witness.yard.user.requests.get(self._witness.labels.get(job_id, ""))

    def _mains(self, job_id: str) -> list[str]:
        """Return whose success is a job's."""
        request = self._request(job_id)
        if request.HasField("nodes"):
            return [node_id(job_id, request.nodes.main_node)]
        return _children(job_id, request.array_size) or [job_id]

    def _takes(self, unit: str, name: str) -> bool:
        """Say whether a unit holds one of a resource while it runs; of nodes the main one does for all."""
        job_id, index = split_job_id(unit)
        request = self._request(job_id)
        if request is None or name not in request.consumables:
            return False
        return not request.HasField("nodes") or index == request.nodes.main_node

    def _units(self, job_id: str) -> list[str]:
        """Return all of a job that may run."""
        return [unit for unit in self._witness.by_unit if split_job_id(unit)[0] == job_id]

    def _runs(self, unit: str) -> bool:
        return any(self._witness.runs[each].ended_at is None for each in self._witness.by_unit.get(unit, ()))

    def _has_succeeded(self, unit: str) -> bool:
        runs = [self._witness.runs[each] for each in self._witness.by_unit.get(unit, ())]
        return any(run.exit_code == 0 for run in runs) and not self._runs(unit)


def _children(job_id: str, size: int) -> list[str]:
    return [child_id(job_id, index) for index in range(size)]
