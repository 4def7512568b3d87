"""Specs to launch, written flat."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from batchyard.tasks import Container, LinuxParameters
from batchyard_agent.runtimes.protocol import LaunchSpec


def launch_spec(**given: Any) -> LaunchSpec:
    """Build a spec of its own fields, its container's and its Linux parameters'; the nearest of a name counts."""
    own = _take(LaunchSpec, given)
    linux = LinuxParameters(**_take(LinuxParameters, given))
    return LaunchSpec(container=Container(linux_parameters=linux, **given), **own)


def _take(record: type, given: dict[str, Any]) -> dict[str, Any]:
    return {field.name: given.pop(field.name) for field in fields(record) if field.name in given}
