"""Dependencies: whom a job waits for, as its submitter said it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DependencyType(StrEnum):
    """What part of the other job is waited for."""

    WHOLE = "WHOLE"
    N_TO_N = "N_TO_N"
    SEQUENTIAL = "SEQUENTIAL"
    AFTER_ANY = "AFTER_ANY"
    AFTER_FAILURE = "AFTER_FAILURE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Another job that this one waits for; empty id with SEQUENTIAL."""

    job_id: str = ""
    type: DependencyType = DependencyType.WHOLE
