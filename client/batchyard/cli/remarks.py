"""
Remarks: what was asked and is likely not meant, told on stderr while it is carried out.

What can never be meant is refused elsewhere. Law: no remark keeps a job from being submitted,
nor changes an exit code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from batchyard.cli import output as out
from batchyard.resources import parse_mib

if TYPE_CHECKING:
    from batchyard.sync import Client
    from batchyard.v1.job_pb2 import Refusal

BARE_MIB_MIN = 100
"""A size below it without a unit is more likely meant as gibibytes."""

_REFERENCE = re.compile(r"Ref::([A-Za-z0-9_-]+)")


def on_sizes(flags: Mapping[str, Any]) -> None:
    """Tell of sizes that were likely meant larger: a bare number is mebibytes, as on AWS."""
    for name in ("memory", "disk"):
        text = (flags[name] or "").strip()
        if _is_number(text) and 0 < (mib := parse_mib(text)) < BARE_MIB_MIN:
            out.note(f"--{name} {text} is {mib} MiB; gibibytes are --{name} {text}G")


def _is_number(text: str) -> bool:
    try:
        Decimal(text)
    except ArithmeticError:
        return False
    return True


def on_parameters(command: Iterable[str], parameters: Iterable[str]) -> None:
    """Tell of parameters that no ``Ref::`` of a command uses."""
    used = {name for word in command for name in _REFERENCE.findall(word)}
    for name in parameters:
        if name not in used:
            out.note(f"parameter {name} is used nowhere: the command has no Ref::{name}")


def on_job(client: Client, job_id: str, command: Sequence[str], parameters: Mapping[str, str]) -> None:
    """
    Tell of a job that was submitted: parameters that it does not use, and why it could never start, if so.

    Args:
        client: A client.
        job_id: The job.
        command: What was given; empty leaves it to the definition.
        parameters: What was given.
    """
    from batchyard.errors import BatchyardError

    try:
        if parameters:
            on_parameters(command or _command_of_definition(client, job_id), parameters)
        explained = client.explain_job(job_id)
        beyond = [r.message for r in explained.refusals if _is_beyond(r, cannot_run=explained.cannot_run)]
        if beyond:
            verdict = "cannot run as this yard is, and waits" if explained.cannot_run else "waits"
            out.note(f"{job_id} {verdict}: {'; '.join(beyond)}")
    except BatchyardError as err:  # the job is submitted; this was only to tell about it
        out.note(f"{job_id} is submitted; what may be wrong with it cannot be told: {err}")


def _is_beyond(refusal: Refusal, *, cannot_run: bool) -> bool:
    """Say whether no end of what runs now takes a refusal away."""
    if refusal.kind == "hosts" and not cannot_run:
        return False  # none is here yet
    return refusal.asked > refusal.largest_capacity or (cannot_run and refusal.kind in ("environments", "scaling"))


def _command_of_definition(client: Client, job_id: str) -> Sequence[str]:
    (definition,) = client.describe_job_definitions([client.describe_job(job_id).job_definition])
    task = definition.task
    containers = (definition.container, *task.containers, *task.init_containers)
    return [word for container in containers for word in (*container.entrypoint, *container.command)]
