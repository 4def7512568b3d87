"""
Adoption: what is not known after a restore, while hosts tell it.

Of one term: the next leader is told all of it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from batchyard.ids import AttemptId, HostId
from batchyard_controller.core.attempt_reports import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """An attempt that a host keeps, and of which the yard knows no job, or not all nodes; as the host reported it."""

    host_id: HostId
    report: Report

    @property
    def attempt_id(self) -> AttemptId:
        """Its id."""
        return self.report.attempt_id


@dataclass(slots=True, kw_only=True)
class Adoption:
    """
    What is still to be learnt after a restore.

    Attributes:
        began_boot_ms: When this leader began to listen.
        last_seq: Jobs up to this one take no place in line yet, since they may run; 0: there are none such.
        waits_for: Hosts of the backup that have not told all.
        unheard: Hosts that have not spoken to this leader; strays may run there, long after the restore too.
        asked: Attempts of the backup of which their hosts did not speak, and which they were asked about.
        strays: What runs, and is nobody's.
        fences_s: What those jobs, and their queues, say of fences; None: not looked for yet.
    """

    began_boot_ms: int = 0
    last_seq: int = 0
    waits_for: set[HostId] = field(default_factory=set)
    unheard: set[HostId] = field(default_factory=set)
    asked: set[AttemptId] = field(default_factory=set)
    strays: dict[AttemptId, Stray] = field(default_factory=dict)
    fences_s: set[tuple[int, int]] | None = None

    def forget_host(self, host_id: HostId) -> None:
        """Wait for a host no longer, which is gone, and forget what ran there."""
        self.waits_for.discard(host_id)
        self.unheard.discard(host_id)
        self.strays = {name: stray for name, stray in self.strays.items() if stray.host_id != host_id}

    def of_job(self, job_id: str) -> list[Stray]:
        """Return the strays that are nodes of a job."""
        return [stray for stray in self.strays.values() if stray.attempt_id.startswith(f"{job_id}#")]
