"""
The forms of compute environments and job queues: the tables of AWS's first steps.

Pure. Members that own machines have no use for are taken and shown again; they stand in
one fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard_gateway.batch import environments, members, queues
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from .fields import Answers, Choice, Column, Field, Lines, Number, Rows
from .forms import Draft, Form, Section, read

EC2, FARGATE = "EC2", "FARGATE"
KEPT = "Kept for AWS, not used by your own machines"

_RESOURCES = "computeResources."
_TAGS = (Column(name="key", label="Key"), Column(name="value", label="Value"))
_STRATEGIES = ("BEST_FIT", "BEST_FIT_PROGRESSIVE", "BEST_FIT_PROGRESSIVE_ORDERED")
_SPOT_STRATEGIES = (
    "SPOT_CAPACITY_OPTIMIZED",
    "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
    "SPOT_PRICE_CAPACITY_OPTIMIZED",
)
_PRESET = {"EC2": "BEST_FIT_PROGRESSIVE", "SPOT": "SPOT_CAPACITY_OPTIMIZED"}
_ROLE = "ecsInstanceRole"
_OF_SPOT = ("bidPercentage", "spotIamFleetRole")
_CHOICES = {
    EC2: (("EC2", "On-demand hosts"), ("SPOT", "Spot hosts, which may be reclaimed")),
    FARGATE: (("FARGATE", "On-demand hosts"), ("FARGATE_SPOT", "Spot hosts, which may be reclaimed")),
}

PRESETS: Mapping[str, str] = {
    "computeEnvironmentName": "own-hosts",
    f"{_RESOURCES}minvCpus": "0",
    f"{_RESOURCES}maxvCpus": "256",
    f"{_RESOURCES}instanceTypes": "optimal",
    "jobQueueName": "first-queue",
    "priority": "1",
}
"""What stands in a form that nobody has filled in yet."""

NAME = Field(
    name="computeEnvironmentName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
    called=("Compute environment name", "Object already exists", "name"),
)  # fmt: skip
TAGS = Rows(name="tags", label="Tags", hint="For people, at most 50.", columns=_TAGS, is_map=True)


def environment(orchestration: str, host_types: Mapping[str, int] | None = None, spot_hosts: int = 0) -> Form:
    """
    Return the form of a new compute environment.

    Args:
        orchestration: ``EC2`` for the yard's own hosts, or ``FARGATE``.
        host_types: Those that the yard has, and how many hosts of each.
        spot_hosts: How many of its hosts may be reclaimed.
    """
    known = f"{spot_hosts} spot hosts are known." if spot_hosts != 1 else "1 spot host is known."
    purchase = Choice(
        name=f"{_RESOURCES}type", label="Hosts", hint=known, options=_CHOICES[orchestration],
        called=("compute_resources.type",),
    )  # fmt: skip
    most = Number(
        name=f"{_RESOURCES}maxvCpus", label="Maximum vCPUs", hint="Jobs hold no more at once.", is_required=True,
        called=("compute_resources.max_vcpus",),
    )  # fmt: skip
    network = (
        Lines(name=f"{_RESOURCES}subnets", label="Subnets", hint="One a line."),
        Lines(name=f"{_RESOURCES}securityGroupIds", label="Security groups", hint="One a line."),
        Field(name="serviceRole", label="Service role", hint="An ARN.", called=("Service role",)),
    )
    if orchestration == FARGATE:
        return (
            Section(title="Environment", fields=(NAME, purchase, most, TAGS)),
            Section(title=KEPT, fields=network, is_fold=True),
        )
    return (
        Section(title="Environment", fields=(NAME, purchase, *_bounds(most), _types(host_types or {}), TAGS)),
        Section(title="Additional configuration", fields=(_strategy(),), is_fold=True),
        Section(title=KEPT, fields=(*_kept(), *network), is_fold=True),
    )


def _bounds(most: Field) -> tuple[Field, ...]:
    provider = "Matters where a provider launches hosts."
    return (
        Number(
            name=f"{_RESOURCES}minvCpus", label="Minimum vCPUs", hint=provider, called=("compute_resources.min_vcpus",)
        ),
        Number(
            name=f"{_RESOURCES}desiredvCpus", label="Desired vCPUs", hint=f"{provider} May be left out.",
            called=("compute_resources.desired_vcpus",),
        ),
        most,
    )  # fmt: skip


def _types(host_types: Mapping[str, int]) -> Field:
    known = ", ".join(f"{name} ({count})" for name, count in sorted(host_types.items()))
    hint = "Types and families, one a line; optimal is every host."
    return Lines(
        name=f"{_RESOURCES}instanceTypes", label="Allowed instance types",
        hint=f"{hint} Hosts here: {known}." if known else hint,
    )  # fmt: skip


def _strategy() -> Field:
    preset = ("", f"Preset: {_PRESET['EC2']}, of spot hosts {_PRESET['SPOT']}")
    return Choice(
        name=f"{_RESOURCES}allocationStrategy", label="Allocation strategy", hint="Which hosts come first.",
        options=(preset, *((word, word) for word in (*_STRATEGIES, *_SPOT_STRATEGIES))),
        called=("Allocation strategy",),
    )  # fmt: skip


def _kept() -> tuple[Field, ...]:
    template = f"{_RESOURCES}launchTemplate."
    images = ("imageType", "Image type"), ("imageIdOverride", "Image id"), ("imageKubernetesVersion", "Version")
    return (
        Field(name=f"{_RESOURCES}instanceRole", label="Instance role", hint=f"Empty: {_ROLE}, as AWS wants one."),
        Number(name=f"{_RESOURCES}bidPercentage", label="Maximum % of the on-demand price", hint="Of spot hosts."),
        Field(name=f"{_RESOURCES}spotIamFleetRole", label="Spot fleet role", hint="Of spot hosts."),
        Field(name=f"{_RESOURCES}placementGroup", label="Placement group"),
        Field(name=f"{_RESOURCES}ec2KeyPair", label="EC2 key pair"),
        Rows(
            name=f"{_RESOURCES}ec2Configuration", label="EC2 configuration",
            columns=tuple(Column(name=name, label=label) for name, label in images),
        ),
        Field(name=f"{template}launchTemplateId", label="Launch template's id"),
        Field(name=f"{template}launchTemplateName", label="Launch template's name"),
        Field(name=f"{template}version", label="Launch template's version"),
    )  # fmt: skip


def environment_draft(form: Form, answers: Answers) -> Draft:
    """Return what a form of an environment says: CreateComputeEnvironment's input."""
    draft = read(form, answers)
    resources = draft.members.setdefault("computeResources", {})
    kind = resources.setdefault("type", form[0].fields[1].options[0][0])  # type: ignore[attr-defined]
    if kind in _PRESET:
        resources.setdefault("allocationStrategy", _PRESET[kind])
        resources.setdefault("instanceRole", _ROLE)
    if kind != "SPOT":
        for name in _OF_SPOT:
            resources.pop(name, None)
    return Draft(members={"type": "MANAGED", **draft.members}, faults=draft.faults)


def check_environment(given: Members) -> None:
    """
    Check an environment by AWS's own rules.

    Raises:
        ApiError: it breaks one.
    """
    environments.check_new(members.CREATE_COMPUTE_ENVIRONMENT.check(given, ""))


def resources_of(given: Members) -> pb.ComputeResources | None:
    """Return which hosts an environment asks for, in the contract's words; None while it says nothing right."""
    try:
        check_environment(given)
    except ApiError:
        return None
    request = environments.creation(members.CREATE_COMPUTE_ENVIRONMENT.check(given, ""))
    return request.compute_resources


# Queues ---------------------------------------------------------------------------

ORDER = "computeEnvironmentOrder"


def queue(others: Sequence[str]) -> Form:
    """
    Return the form of a new job queue.

    Args:
        others: Environments that may serve it after the one that is described already.
    """
    options = (("", "None"), *((name, name) for name in others))
    further = Rows(
        name=ORDER, label="Further environments", columns=(Column(name="computeEnvironment", label="Then", options=options),),
        hint=f"Where jobs go when the first has no room; {queues.ENVIRONMENTS_MAX} environments at most.",
        called=("compute environment", "compute environments", "compute_environments"),
    )  # fmt: skip
    name = Field(
        name="jobQueueName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
        called=("Job queue name", "Object already exists", "name"),
    )  # fmt: skip
    priority = Number(
        name="priority", label="Priority", hint="0 to 100; higher is served first.", is_required=True, least=0, most=100
    )
    return (Section(title="Queue", fields=(name, priority, further)),)


def queue_draft(form: Form, answers: Answers, environment: str) -> Draft:
    """Return what a form of a queue says, whose first environment is given: CreateJobQueue's input."""
    draft = read(form, answers)
    further = [row["computeEnvironment"] for row in draft.members.get(ORDER, ())]
    names = dict.fromkeys((environment, *further))
    order = [{"order": i, "computeEnvironment": name} for i, name in enumerate(names, 1)]
    return Draft(members={**draft.members, ORDER: order}, faults=draft.faults)


def check_queue(given: Members) -> None:
    """
    Check a queue by AWS's own rules.

    Raises:
        ApiError: it breaks one.
    """
    queues.check_new(members.CREATE_JOB_QUEUE.check(given, ""))
