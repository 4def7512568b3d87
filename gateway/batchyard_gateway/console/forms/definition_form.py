"""
The form of a job definition: AWS's third step, and what a revision is made from.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from batchyard.fargate import MEMORY_MIB
from batchyard_gateway.batch import definitions, members, pods
from batchyard_gateway.services import Members

from .environment_form import FARGATE, KEPT, TAGS
from .fields import Amounts, Answers, Choice, Column, Field, Flag, Number, Rows
from .tables import Draft, Form, Section, read, rest
from .words import Words

PROCESS = "process://"
"""The image of a plain process on the host."""

CONTAINER = "containerProperties."
COMMAND = f"{CONTAINER}command"
REQUIREMENTS = f"{CONTAINER}resourceRequirements"
SIZES = tuple(
    (f"{millis / 1000:g}:{memory}", f"{millis / 1000:g} vCPU, {memory} MiB")
    for millis, memories in MEMORY_MIB.items()
    for memory in memories
)
"""What AWS Fargate has."""

PRESETS: Mapping[str, str] = {
    "jobDefinitionName": "hello",
    f"{REQUIREMENTS}.VCPU": "1",
    f"{REQUIREMENTS}.MEMORY": "128",
    f"{REQUIREMENTS}.size": SIZES[0][0],
}

_KEY_VALUE = (Column(name="key", label="Name"), Column(name="value", label="Value"))
_NAME_VALUE = (Column(name="name", label="Name"), Column(name="value", label="Value", is_always=True))
_REFERENCE = re.compile(r"Ref::([A-Za-z0-9_-]+)")
_ON_EXIT = (
    Column(name="onStatusReason", label="Status reason"),
    Column(name="onReason", label="Reason"),
    Column(name="onExitCode", label="Exit code"),
    Column(name="action", label="Then", options=(("", "-"), ("retry", "Retry"), ("exit", "Exit"))),
)

PARAMETERS = Rows(
    name="parameters", label="Parameters", hint="Values for each Ref::name of the command.", columns=_KEY_VALUE,
    is_map=True, called=("Unable to substitute value",),
)  # fmt: skip
PROPAGATE = Flag(name="propagateTags", label="Give the tags to containers", called=("propagate_tags",))
TIMEOUT = Number(
    name="timeout.attemptDurationSeconds", label="Execution timeout in seconds",
    hint="At least 60: so long may a try run.", called=("timeout", "timeout_s"),
)  # fmt: skip
RETRY = (
    Number(
        name="retryStrategy.attempts", label="Attempts", hint="1 to 10: tries, not retries.",
        called=("RetryAttempts", "RetryAttempts must be provided"),
    ),
    Rows(
        name="retryStrategy.evaluateOnExit", label="Evaluate on exit", columns=_ON_EXIT,
        hint="At most 5 rows, each with a pattern; the first that matches decides. A * at the end matches any rest.",
        called=("EvaluateOnExit", "onStatusReason", "onReason", "onExitCode", "retry_strategy.evaluate_on_exit"),
    ),
)  # fmt: skip


def variables(name: str) -> Rows:
    """Return the field of environment variables."""
    return Rows(
        name=name, label="Variables", columns=_NAME_VALUE,
        called=("Environment variable", "Environment variables", "container.environment", "overrides.environment"),
    )  # fmt: skip


def amounts(name: str, hint: str = "", *, fargate: bool = False) -> Amounts:
    """Return the field of vCPUs, memory and GPUs."""
    return Amounts(
        name=name, label="Resources", hint=hint, sizes=SIZES if fargate else (),
        called=(
            "vCPU", "VCPU", "Memory", "MEMORY", "GPU", "Fargate resource requirements", "resourceRequirement",
            "container.resources", "container.gpu_memory_mib", "overrides.cpu_millis", "overrides.memory_mib",
            "overrides.gpu_millis",
        ),
    )  # fmt: skip


def command(name: str) -> Words:
    """Return the field of a command."""
    return Words(
        name=name, label="Command", hint="As in a shell: words, and quotes around those with spaces. No shell runs it.",
        called=("Container overrides command", "Container Overrides length", "container.command", "overrides.command"),
    )  # fmt: skip


def image(name: str = f"{CONTAINER}image") -> Field:
    """Return the field of an image."""
    return Field(
        name=name, label="Image", hint="Of a container; process:// is a plain process on the host.",
        suggestions=(PROCESS, "busybox:latest"), called=("Image", "container.image"),
    )  # fmt: skip


def definition(*, fargate: bool, secrets: Sequence[str] = (), is_platform_open: bool = False) -> Form:
    """
    Return the form of a job definition.

    Args:
        fargate: Whether only Fargate's sizes are offered.
        secrets: Names of those that the yard has.
        is_platform_open: Whether the form asks for the platform; else who shows it knows.
    """
    platform = Choice(
        name="platformCapabilities", label="Platform", options=(("", "Not said"), ("EC2", "EC2"), (FARGATE, "Fargate")),
        is_listed=True,
    )  # fmt: skip
    name = Field(
        name="jobDefinitionName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
        called=("Job definition name", "name"),
    )  # fmt: skip
    secret = Rows(
        name=f"{CONTAINER}secrets", label="Secrets", hint="A variable gets the value of a secret of the yard.",
        columns=(Column(name="name", label="Variable"), Column(name="valueFrom", label="Secret", suggestions=tuple(secrets))),
        called=("secret", "container.secrets"), makes_secrets=True,
    )  # fmt: skip
    execution = Field(
        name=f"{CONTAINER}executionRoleArn", label="Execution role", hint="Fargate asks for one.",
        called=("container.execution_role_arn",),
    )  # fmt: skip
    role = Field(name=f"{CONTAINER}jobRoleArn", label="Job role", called=("container.job_role_arn",))
    priority = Number(name="schedulingPriority", label="Scheduling priority", hint="0 to 9999, within a share.")
    user = Field(
        name=f"{CONTAINER}user", label="User", hint="Whom it runs as. Default: the image's.",
        called=("User", "container.user"),
    )  # fmt: skip
    return (
        Section(title="Definition", fields=(name, *((platform,) if is_platform_open else ()))),
        Section(
            title="Container", fields=(image(), command(COMMAND), amounts(REQUIREMENTS, fargate=fargate))
        ),
        Section(title="Parameters, variables, secrets", fields=(PARAMETERS, variables(f"{CONTAINER}environment"), secret)),
        Section(title="Timeout, retries, tags", fields=(TIMEOUT, *RETRY, priority, TAGS, PROPAGATE), is_fold=True),
        Section(title="More of the container", fields=(user, rest("RegisterJobDefinition")), is_fold=True),
        Section(title=KEPT, fields=(execution, role), is_fold=True),
    )  # fmt: skip


def definition_draft(form: Form, answers: Answers, *, fargate: bool) -> Draft:
    """Return what a form of a definition says: RegisterJobDefinition's input."""
    draft = read(form, answers)
    platform = {"platformCapabilities": [FARGATE]} if fargate else {}
    return Draft(members={"type": "container", **platform, **draft.members}, faults=draft.faults)


def check_definition(given: Members) -> None:
    """
    Check a definition by AWS's own rules.

    Raises:
        ApiError: it breaks one.
    """
    definitions.check(members.REGISTER_JOB_DEFINITION.check(given, ""))


def remarks(given: Members) -> list[str]:
    """Return sentences on parameters that a command does not use, or lacks."""
    containers = [given.get("containerProperties", {})]
    pod = given.get(pods.EKS, {}).get(pods.POD, {})
    containers += [each for place in pods.PLACES for each in pod.get(place, ())]
    words = [word for each in containers for name in ("command", "args") for word in each.get(name, ())]
    asked = list(dict.fromkeys(name for word in words for name in _REFERENCE.findall(word)))
    known = given.get("parameters", {})
    found = [
        f"The command asks for Ref::{name}, which has no value yet: jobs have to give it."
        for name in asked
        if name not in known
    ]
    return found + [f"No Ref::{name} of the command uses the parameter {name}." for name in known if name not in asked]


def of_definition(described: Members) -> Members:
    """Return the input that would register a described revision again."""
    shown = ("jobDefinitionArn", "revision", "status", "containerOrchestrationType")
    given: Members = said({name: value for name, value in described.items() if name not in shown})
    return given


def said(value: Any) -> Any:
    """Return a value without the lists and structures in it that say nothing."""
    if not isinstance(value, dict):
        return value
    return {name: said(inner) for name, inner in value.items() if said(inner) not in ({}, [])}
