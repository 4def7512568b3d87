"""
Output paths: where a copy of a log goes, with what differs from attempt to attempt put in.

The letters are those of Slurm's ``--output``, as far as they mean something here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from batchyard.tasks import Task
from batchyard_controller.core.model.units import Unit

LETTERS = "ajnNtx%"
"""What may stand behind a ``%``."""

_MARK = re.compile(r"%(.?)", re.DOTALL)
_AWKWARD = re.compile(r"[/\0]")


def unknown_marks(path: str) -> list[str]:
    """Return what stands in a path as a mark and is none, such as ``%q``."""
    return [mark[0] for mark in _MARK.finditer(path) if not mark[1] or mark[1] not in LETTERS]


def with_output_paths(task: Task, unit: Unit, number: int, attempt_number: int, host: str) -> Task:
    """
    Return a task with the paths of one attempt in it; the same where it has none.

    Args:
        task: What the unit runs.
        unit: Whose attempt it is.
        number: A child's number in its array; 0 of others.
        attempt_number: From 1.
        host: Its name.
    """
    if not any(container.output_path for container in task.containers):
        return task
    values = {
        "j": str(unit.job.id),
        "a": str(number),
        "n": str(unit.index) if unit.is_node else "0",
        "t": str(attempt_number),
        "x": unit.job.name,
        "N": _AWKWARD.sub("_", host),
        "%": "%",
    }
    containers = (replace(each, output_path=_filled(each.output_path, values)) for each in task.containers)
    return replace(task, containers=tuple(containers))


def _filled(path: str, values: Mapping[str, str]) -> str:
    return _MARK.sub(lambda mark: values[mark[1]], path)
