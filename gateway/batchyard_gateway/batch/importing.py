"""
Importing: what ``aws batch describe-*`` wrote of an account, as requests that make the same here.

Pure. Each thing goes the way of the operation that makes one, with the members that it
takes: so a definition that is imported is one that was registered through the gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from . import definitions, environments, members, policies, queues
from .shapes import Structure


@dataclass(frozen=True, slots=True)
class _Kind:
    """
    A kind of things.

    Attributes:
        section: Name of the kind in files of a yard.
        list: Member of a describe's output that holds them.
        name: Member that names one.
        takes: Shape of the input that makes one.
        make: Checks such an input and makes a request of it.
    """

    section: str
    list: str
    name: str
    takes: Structure
    make: Callable[[Members], Any]


def _environment(given: Members) -> Any:
    environments.check_new(given)
    return environments.creation(given)


def _policy(given: Members) -> Any:
    policies.check(given)
    return policies.creation(given)


def _queue(given: Members) -> Any:
    queues.check_new(given)
    return queues.creation(given)


def _definition(given: Members) -> Any:
    definitions.check(given)
    return definitions.registration(given)


_KINDS = (
    _Kind(
        "compute_environments", "computeEnvironments", "computeEnvironmentName",
        members.CREATE_COMPUTE_ENVIRONMENT, _environment,
    ),
    _Kind("scheduling_policies", "schedulingPolicies", "name", members.CREATE_SCHEDULING_POLICY, _policy),
    _Kind("job_queues", "jobQueues", "jobQueueName", members.CREATE_JOB_QUEUE, _queue),
    _Kind("job_definitions", "jobDefinitions", "jobDefinitionName", members.REGISTER_JOB_DEFINITION, _definition),
)  # fmt: skip


def requests_of(document: object) -> tuple[list[tuple[str, Any]], list[str]]:
    """
    Return the requests of a document, each with its section, and what of it cannot be made here, each with why.

    Args:
        document: Output of a describe, or input of a create or register.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object as `aws batch describe-...` writes it")  # noqa: TRY004  # as all that is wrong with a file
    found: list[tuple[str, Any]] = []
    refused: list[str] = []
    kinds = [(kind, rows) for kind in _KINDS if (rows := _rows(kind, document)) is not None]
    if not kinds:
        known = ", ".join([*(kind.list for kind in _KINDS), *(kind.name for kind in _KINDS)])
        raise ValueError(f"it has none of the members {known}")
    for kind, rows in kinds:
        for row in rows:
            try:
                found.append((kind.section, kind.make(kind.takes.check(_taken(kind.takes, row), ""))))
            except ApiError as err:
                refused.append(f"{kind.list}, {row.get(kind.name, 'one without a name')}: {err.message}")
    return found, refused


def _rows(kind: _Kind, document: Members) -> list[Members] | None:
    """Return what a document has of a kind; None: nothing is said of it."""
    if kind.list in document:
        rows = document[kind.list]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{kind.list} is no list of objects")
        return _latest(rows) if kind.section == "job_definitions" else rows
    is_one = kind.name in document and (kind.name != "name" or "fairsharePolicy" in document)
    return [document] if is_one else None


def _latest(rows: list[Members]) -> list[Members]:
    """Return of each definition the latest revision that is ACTIVE."""
    latest: dict[str, Members] = {}
    for row in rows:
        name = str(row.get("jobDefinitionName"))
        is_later = name not in latest or row.get("revision", 0) > latest[name].get("revision", 0)
        if row.get("status", "ACTIVE") == "ACTIVE" and is_later:
            latest[name] = row
    return list(latest.values())


def _taken(takes: Structure, row: Members) -> Members:
    """Return a thing without what only AWS says of it, such as its ARN and state."""
    return {name: value for name, value in row.items() if name in takes.members}
