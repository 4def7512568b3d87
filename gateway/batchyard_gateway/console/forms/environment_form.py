"""
The form of a compute environment: a new one, or one that is there.

Pure. Members that own machines have no use for are taken and shown again; they stand in one
fold. What AWS has no members for, labels and no bound of vCPUs, is in the contract's one
request with all the rest, see `amend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard_gateway.batch import environments, members
from batchyard_gateway.batch.environments import FARGATE_TYPES, PROVIDER_TAG
from batchyard_gateway.batch.names import Names
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from .fields import Answers, Choice, Column, Field, Flag, Lines, Number, Rows
from .tables import NATIVE, Draft, Form, Section, fill, read, rest

EC2, FARGATE, EKS, UNMANAGED = "EC2", "FARGATE", "EKS", "UNMANAGED"
"""Kinds of environments: each has its own form."""

KEPT = "Kept for AWS, not used by your own machines"

_RESOURCES = "computeResources."
_PAIRS = (Column(name="key", label="Key"), Column(name="value", label="Value"))
_STRATEGIES = ("BEST_FIT", "BEST_FIT_PROGRESSIVE", "BEST_FIT_PROGRESSIVE_ORDERED")
_SPOT_STRATEGIES = (
    "SPOT_CAPACITY_OPTIMIZED",
    "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
    "SPOT_PRICE_CAPACITY_OPTIMIZED",
)
_PRESET = {"EC2": "BEST_FIT_PROGRESSIVE", "SPOT": "SPOT_CAPACITY_OPTIMIZED"}
_ROLE = "ecsInstanceRole"
_OF_SPOT = ("bidPercentage", "spotIamFleetRole")
_OWN_HOSTS = (("EC2", "On-demand hosts"), ("SPOT", "Spot hosts, which may be reclaimed"))
_CHOICES = {
    EC2: _OWN_HOSTS,
    EKS: _OWN_HOSTS,
    FARGATE: (("FARGATE", "On-demand hosts"), ("FARGATE_SPOT", "Spot hosts, which may be reclaimed")),
}
_MOST = (1 << 31) - 1
"""What AWS is told of an environment without a bound; the contract says none."""

_SHOWN_ONLY = (
    "computeEnvironmentArn", "computeEnvironmentName", "containerOrchestrationType", "ecsClusterArn",
    "eksConfiguration", "status", "statusReason", "tags", "type", "uuid",
)  # fmt: skip

CLUSTER, NAMESPACE = "eksConfiguration.eksClusterArn", "eksConfiguration.kubernetesNamespace"

PRESETS: Mapping[str, str] = {
    "computeEnvironmentName": "own-hosts",
    f"{_RESOURCES}minvCpus": "0",
    f"{_RESOURCES}maxvCpus": "256",
    f"{_RESOURCES}instanceTypes": "optimal",
}
"""What stands in a form that nobody has filled in yet."""

NAME = Field(
    name="computeEnvironmentName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
    called=("Compute environment name", "Object already exists", "name"),
)  # fmt: skip
TAGS = Rows(name="tags", label="Tags", hint="For people, at most 50.", columns=_PAIRS, is_map=True)
STATE = Choice(
    name="state", label="State", options=(("ENABLED", "ENABLED: takes jobs"), ("DISABLED", "DISABLED: no new jobs"))
)
_VCPUS = Number(
    name="unmanagedvCpus", label="vCPUs", hint="It has no hosts here; these count for fair share alone.",
    called=("unmanaged_vcpus",),
)  # fmt: skip


_UNBOUNDED = Flag(
    name=f"{NATIVE}.is_unbounded", label="Without a bound", options=(("", "No"), ("yes", "Yes: no maximum counts")),
    hint="Of vCPUs; a provider has to have one. Not of AWS.",
)  # fmt: skip


def environment(
    kind: str,
    host_types: Mapping[str, int] | None = None,
    spot_hosts: int = 0,
    clusters: Sequence[tuple[str, str]] = (),
    *,
    is_new: bool = True,
) -> Form:
    """
    Return the form of a compute environment.

    Args:
        kind: ``EC2`` for the yard's own hosts, ``FARGATE``, ``EKS`` or ``UNMANAGED``.
        host_types: Those that the yard has, and how many hosts of each.
        spot_hosts: How many of its hosts may be reclaimed.
        clusters: Those that its hosts are nodes of: ARNs and namespaces.
        is_new: It gets a name and tags.
    """
    head, tail = ((NAME,), (TAGS,)) if is_new else ((), ())
    if kind == UNMANAGED:
        return (Section(title="Environment", fields=(*head, _VCPUS, STATE, *tail)),)
    known = f"{spot_hosts} spot hosts are known." if spot_hosts != 1 else "1 spot host is known."
    purchase = Choice(
        name=f"{_RESOURCES}type", label="Hosts", hint=known, options=_CHOICES[kind], called=("compute_resources.type",)
    )
    if kind == EKS and is_new:
        head = (*head, *_cluster(clusters))
    all_others = rest("CreateComputeEnvironment" if is_new else "UpdateComputeEnvironment")
    network = (
        Lines(name=f"{_RESOURCES}subnets", label="Subnets", hint="One a line."),
        Lines(name=f"{_RESOURCES}securityGroupIds", label="Security groups", hint="One a line."),
        Field(name="serviceRole", label="Service role", hint="An ARN.", called=("Service role",)),
    )
    kept = network if kind == FARGATE else (*_kept(is_new=is_new), *network)
    bounds = (_most(),) if kind == FARGATE else (*_bounds(), _types(host_types or {}))
    more = (_UNBOUNDED,) if kind == FARGATE else (_strategy(), _labels(), _UNBOUNDED, *_provider())
    return (
        Section(title="Environment", fields=(*head, purchase, *bounds, STATE, *tail)),
        Section(title="Additional configuration", fields=more, is_fold=True),
        Section(title=KEPT, fields=(*kept, all_others), is_fold=True),
    )


def _cluster(clusters: Sequence[tuple[str, str]]) -> tuple[Field, ...]:
    arns, namespaces = (tuple(dict.fromkeys(each)) for each in (zip(*clusters, strict=True) if clusters else ((), ())))
    return (
        Field(
            name=CLUSTER, label="Cluster", hint="ARN of an EKS cluster; its name is what its nodes' agents call it.",
            suggestions=arns, is_required=True, called=("kubernetes.name",),
        ),
        Field(
            name=NAMESPACE, label="Namespace", hint="Where pods are: neither default nor kube-...",
            suggestions=namespaces, is_required=True, called=("kubernetes.namespace",),
        ),
    )  # fmt: skip


def _most() -> Field:
    return Number(
        name=f"{_RESOURCES}maxvCpus", label="Maximum vCPUs", called=("compute_resources.max_vcpus",),
        hint="Jobs hold no more at once.",
    )  # fmt: skip


def _bounds() -> tuple[Field, ...]:
    provider = "Matters where a provider launches hosts."
    return (
        Number(
            name=f"{_RESOURCES}minvCpus", label="Minimum vCPUs", hint=provider, called=("compute_resources.min_vcpus",)
        ),
        Number(
            name=f"{_RESOURCES}desiredvCpus", label="Desired vCPUs", hint=f"{provider} Empty: as what waits needs.",
            called=("compute_resources.desired_vcpus", "scaling down"),
        ),
        _most(),
    )  # fmt: skip


def _types(host_types: Mapping[str, int]) -> Field:
    known = ", ".join(f"{name} ({count})" for name, count in sorted(host_types.items()))
    hint = "Types and families, one a line; optimal is every host."
    return Lines(
        name=f"{_RESOURCES}instanceTypes", label="Allowed instance types", called=("compute_resources.instance_types",),
        hint=f"{hint} Hosts here: {known}." if known else hint,
    )  # fmt: skip


def _strategy() -> Field:
    preset = ("", f"Preset: {_PRESET['EC2']}, of spot hosts {_PRESET['SPOT']}")
    return Choice(
        name=f"{_RESOURCES}allocationStrategy", label="Allocation strategy", hint="Which hosts come first.",
        options=(preset, *((word, word) for word in (*_STRATEGIES, *_SPOT_STRATEGIES))),
        called=("Allocation strategy", "compute_resources.allocation_strategy"),
    )  # fmt: skip


def _labels() -> Field:
    return Rows(
        name=f"{NATIVE}.labels", label="Labels", columns=_PAIRS, is_map=True, called=("compute_resources.labels",),
        hint="Hosts without all of these are not selected. Not of AWS.",
    )  # fmt: skip


def _provider() -> tuple[Field, ...]:
    return (
        Field(
            name=f"{_RESOURCES}tags.{PROVIDER_TAG}", label="Provider", called=("compute_resources.provider",),
            hint="Who launches and stops its hosts, as the controller's settings name it. Empty: hosts that are there.",
        ),
        Number(
            name=f"{NATIVE}.scale_down_delay_s", label="Idle hosts are stopped after, in seconds",
            hint="With a provider. Empty: 300.", called=("compute_resources.scale_down_delay_s",), least=0, most=_MOST,
        ),
        Number(
            name=f"{_RESOURCES}bidPercentage", label="Maximum % of the on-demand price",
            hint="Of spot hosts, with a provider. Empty: 100.", called=("compute_resources.bid_percentage",),
        ),
    )  # fmt: skip


def _kept(*, is_new: bool) -> tuple[Field, ...]:
    template = f"{_RESOURCES}launchTemplate."
    images = ("imageType", "Image type"), ("imageIdOverride", "Image id"), ("imageKubernetesVersion", "Version")
    return (
        Field(name=f"{_RESOURCES}instanceRole", label="Instance role", hint=f"Empty: {_ROLE}, as AWS wants one."),
        *((Field(name=f"{_RESOURCES}spotIamFleetRole", label="Spot fleet role", hint="Of spot hosts."),) if is_new else ()),
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


# To the operation ------------------------------------------------------------------


def environment_draft(kind: str, form: Form, answers: Answers) -> Draft:
    """Return what a form of an environment of some kind says: CreateComputeEnvironment's input."""
    draft = read(form, answers)
    if kind == UNMANAGED:
        return Draft(members={"type": "UNMANAGED", **draft.members}, faults=draft.faults)
    resources = draft.members.setdefault("computeResources", {})
    purchase = resources.setdefault("type", EC2 if kind == EKS else kind)
    if purchase in _PRESET:
        resources.setdefault("allocationStrategy", _PRESET[purchase])
        resources.setdefault("instanceRole", _ROLE)
    if purchase != "SPOT":
        for name in _OF_SPOT:
            resources.pop(name, None)
    if draft.members.get(NATIVE, {}).get("is_unbounded"):
        resources["maxvCpus"] = _MOST
    return Draft(members={"type": "MANAGED", **draft.members}, faults=draft.faults)


def check_environment(given: Members) -> None:
    """
    Check an environment by AWS's own rules.

    Raises:
        ApiError: it breaks one.
    """
    environments.check_new(members.CREATE_COMPUTE_ENVIRONMENT.check(given, ""))


def amend(given: Members) -> Callable[[Any], None]:
    """Return what adds to the contract's request what AWS has no members for; None of a value takes it away."""
    native: Members = given.get(NATIVE, {})

    def add(request: pb.CreateComputeEnvironmentRequest | pb.UpdateComputeEnvironmentRequest) -> None:
        resources = request.compute_resources
        if "labels" in native:
            resources.labels.clear()
            resources.labels.update(native["labels"] or {})
        if "is_unbounded" in native:
            resources.max_vcpus = 0
        if native.get("scale_down_delay_s") is not None:
            resources.scale_down_delay_s = native["scale_down_delay_s"]
        elif "scale_down_delay_s" in native:
            resources.ClearField("scale_down_delay_s")

    return add


def creation_of(given: Members) -> pb.CreateComputeEnvironmentRequest | None:
    """Return which environment is asked for, in the contract's words; None while it says nothing right."""
    try:
        check_environment(given)
    except ApiError:
        return None
    request = environments.creation(members.CREATE_COMPUTE_ENVIRONMENT.check(given, ""))
    amend(given)(request)
    return request


# From an environment, and back -----------------------------------------------------


def kind_of(environment: pb.ComputeEnvironment, names: Names) -> str:
    """Return which form an environment has."""
    if environment.type == pb.COMPUTE_ENVIRONMENT_TYPE_UNMANAGED:
        return UNMANAGED
    if environment.HasField("kubernetes"):
        return EKS
    kind = environments.members_of(environment, names)["computeResources"]["type"]
    return FARGATE if kind in FARGATE_TYPES else EC2


def filled(environment: pb.ComputeEnvironment, form: Form, names: Names) -> dict[str, list[str]]:
    """Return the answers by which a form says an environment that is there."""
    described = environments.members_of(environment, names)
    given = {name: value for name, value in described.items() if name not in _SHOWN_ONLY}
    it = environment.compute_resources
    if environment.type == pb.COMPUTE_ENVIRONMENT_TYPE_UNMANAGED:
        del given["computeResources"]
        return fill(form, given)
    resources: Members = given["computeResources"]
    if not it.max_vcpus:
        del resources["maxvCpus"]
    native: Members = {"labels": dict(it.labels)} if it.labels else {}
    native |= {} if it.max_vcpus else {"is_unbounded": True}
    if it.provider:  # what is desired follows what waits meanwhile
        resources.pop("desiredvCpus", None)
        resources.pop("scalingPolicy", None)
        native |= {"scale_down_delay_s": it.scale_down_delay_s} if it.HasField("scale_down_delay_s") else {}
    return fill(form, {**given, NATIVE: native} if native else given)


def changes(said: Members, present: Members, name: str) -> Members:
    """
    Return UpdateComputeEnvironment's input.

    Args:
        said: What the form says.
        present: What it would say of the environment as it is.
        name: Of the environment.
    """
    changed = _changed(said, present)
    changed.pop("type", None)
    if "computeResources" in said:  # always given, so that what AWS has no members for goes with it
        resources = _changed(said["computeResources"], present["computeResources"])
        bound = {name: value for name, value in said["computeResources"].items() if name == "maxvCpus"}
        changed["computeResources"] = {**bound, **resources}
        gone = {name: None for name in present.get(NATIVE, {}) if name != "is_unbounded"}
        changed[NATIVE] = {**gone, **said.get(NATIVE, {})}
    return {"computeEnvironment": name, **changed}


def _changed(said: Members, present: Members) -> Members:
    """Return what differs; what is no longer said becomes empty, but for numbers, which then stay."""
    empty: Sequence[type] = (str, list, dict)
    gone = {name: type(value)() for name, value in present.items() if name not in said and type(value) in empty}
    return {**gone, **{name: value for name, value in said.items() if value != present.get(name)}}
