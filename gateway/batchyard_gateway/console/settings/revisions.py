"""
Revisions: job definitions as lists and comparisons show them.

Pure.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batchyard.v1 import job_definition_pb2 as pb
from batchyard_gateway.console.forms.definition_form import PROCESS, of_definition
from batchyard_gateway.services import Members


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of a list of definitions; *asks* is what a job of it is given."""

    key: str
    image: str
    command: str
    asks: str
    created_at_ms: int


def newest(found: Iterable[pb.JobDefinition], *, after: str = "") -> list[Line]:
    """
    Return a row for the newest revision of each name.

    Args:
        found: By name, newest first.
        after: A name whose newest revision stood on the page before.
    """
    firsts: dict[str, pb.JobDefinition] = {}
    for each in found:
        firsts.setdefault(each.name, each)
    return [_line(each) for name, each in firsts.items() if name != after]


def _line(definition: pb.JobDefinition) -> Line:
    containers = definition.task.containers or [definition.container]
    cpu, memory, gpus = (
        sum(getattr(each.resources, kind) for each in containers) for kind in ("cpu_millis", "memory_mib", "gpu_millis")
    )
    amounts = [f"{cpu / 1000:g} vCPU", f"{memory} MiB"]
    amounts += [f"{gpus / 1000:g} GPU"] if gpus else []
    several = ", ".join(each.name for each in definition.task.containers)
    return Line(
        key=f"{definition.name}:{definition.revision}",
        image=", ".join(dict.fromkeys(each.image or PROCESS for each in containers)),
        command=_what(definition) if several else shlex.join(definition.container.command),
        asks=", ".join(amounts),
        created_at_ms=definition.created_at_ms,
    )


def _what(definition: pb.JobDefinition) -> str:
    names = ", ".join(each.name for each in definition.task.containers)
    return f"{'a pod of' if definition.task.HasField('pod') else 'containers'} {names}"


def paths(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield each value of some members with its path, as text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, f"{at}.{name}" if at else name)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for i, inner in enumerate(value):
            yield from paths(inner, f"{at}[{_key(inner, i)}]")
    else:
        yield at, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _key(item: Any, index: int) -> str:
    """Return what an item of a list is called: its name or kind where it has one, so that likes are compared."""
    named = item.get("name") or item.get("type") if isinstance(item, dict) else ""
    return str(named or index)


def compare(left: Members, right: Members) -> Sequence[tuple[str, str | None, str | None]]:
    """Return the paths at which two revisions differ, with both values; None where one has none."""
    ours, theirs = dict(paths(of_definition(left))), dict(paths(of_definition(right)))
    every = dict.fromkeys((*ours, *theirs))
    return [(path, ours.get(path), theirs.get(path)) for path in every if ours.get(path) != theirs.get(path)]
