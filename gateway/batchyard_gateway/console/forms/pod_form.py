"""
The form of a definition of Amazon EKS: a pod of one container, and JSON for whatever else pods have.

Pure. Fields stand below ``pod``, as AWS has a container only in a list; `of_form` makes
eksProperties of them, and `to_form` the other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchyard_gateway.batch import pod_amounts
from batchyard_gateway.batch.pods import CONTAINERS, EKS, POD
from batchyard_gateway.services import Members

from . import definition_form
from .environment_form import TAGS
from .fields import Answers, Field, Flag, Number
from .tables import Draft, Form, Section, read, rest
from .words import Words

OWN = "pod"
_AT = f"{OWN}."
REQUIREMENTS = f"{_AT}resources"
COMMAND = f"{_AT}args"
_KINDS = {"VCPU": pod_amounts.CPU, "MEMORY": pod_amounts.MEMORY, "GPU": pod_amounts.GPU}
_OF_CONTAINER = ("image", "command", "args", "env", "resources")
_OF_POD = ("serviceAccountName", "hostNetwork")

PRESETS: Mapping[str, str] = {
    "jobDefinitionName": "hello",
    f"{_AT}image": "busybox:latest",
    f"{REQUIREMENTS}.VCPU": "1",
    f"{REQUIREMENTS}.MEMORY": "128",
}


def definition() -> Form:
    """Return the form of a definition that is a pod."""
    name = Field(
        name="jobDefinitionName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
        called=("Job definition name", "name"),
    )  # fmt: skip
    image = Field(
        name=f"{_AT}image", label="Image", hint="Of the pod's container. More containers: as JSON, below.",
        suggestions=("busybox:latest",), called=("Image", "image", "task.containers[0].image", EKS),
    )  # fmt: skip
    amounts = definition_form.amounts(REQUIREMENTS, "vCPUs in steps of 0.25, whole GPUs; bounds of what it gets.")
    entrypoint = Words(
        name=f"{_AT}command", label="Entrypoint", hint="In place of the image's; Kubernetes and AWS call it command.",
        called=("task.containers[0].entrypoint",),
    )  # fmt: skip
    arguments = Words(
        name=COMMAND, label="Command", hint="What the entrypoint gets; Kubernetes and AWS call it args.",
        called=("args", "task.containers[0].command"),
    )  # fmt: skip
    account = Field(
        name=f"{_AT}serviceAccountName", label="Service account", hint="Of the cluster. Empty: the pod has no credentials.",
        called=("task.pod.service_account", "serviceAccountName"),
    )  # fmt: skip
    network = Flag(
        name=f"{_AT}hostNetwork", label="On its host's network",
        options=(("", "Not said: yes, as on AWS"), ("yes", "Yes"), ("no", "No: the cluster's")),
    )  # fmt: skip
    priority = Number(name="schedulingPriority", label="Scheduling priority", hint="0 to 9999, within a share.")
    return (
        Section(title="Definition", fields=(name,)),
        Section(title="Pod", fields=(image, arguments, amounts, entrypoint)),
        Section(title="Parameters, variables", fields=(definition_form.PARAMETERS, definition_form.variables(f"{_AT}env"))),
        Section(title="Timeout, retries, tags", fields=(definition_form.TIMEOUT, *definition_form.RETRY, priority, TAGS), is_fold=True),
        Section(title="More of the pod", fields=(account, network, rest("RegisterJobDefinition")), is_fold=True),
    )  # fmt: skip


def definition_draft(form: Form, answers: Answers) -> Draft:
    """Return what a form of a pod says: RegisterJobDefinition's input."""
    draft = read(form, answers)
    return Draft(members={"type": "container", **of_form(draft.members)}, faults=draft.faults)


def of_form(given: Members) -> Members:
    """Return members with eksProperties in the place of the form's own; of JSON, containers come after the form's."""
    own, said = given.get(OWN, {}), given.get(EKS, {}).get(POD, {})
    container = {name: own[name] for name in _OF_CONTAINER if name in own}
    if "resources" in container:
        container["resources"] = {"limits": _limits(container["resources"])}
    first = [container] if "image" in container else []
    pod = {**{name: own[name] for name in _OF_POD if name in own}, **said}
    pod[CONTAINERS] = [*first, *said.get(CONTAINERS, ())]
    others = {name: value for name, value in given.items() if name not in (OWN, EKS)}
    return {**others, EKS: {POD: pod}}


def _limits(asked: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {_KINDS[each["type"]]: f"{each['value']}Mi" if each["type"] == "MEMORY" else each["value"] for each in asked}


def to_form(given: Members) -> Members:
    """Return members with the form's own in the place of eksProperties, as far as it can say them."""
    pod: Members = dict(given.get(EKS, {}).get(POD, {}))
    containers = pod.get(CONTAINERS, ())
    if len(containers) != 1 or set(containers[0]) - set(_OF_CONTAINER):
        return given
    container = dict(containers[0])
    if "resources" in container:
        if set(container["resources"]) != {"limits"}:
            return given
        container["resources"] = _asked(container["resources"]["limits"])
    del pod[CONTAINERS]
    own = container | {name: pod.pop(name) for name in _OF_POD if name in pod}
    others = {name: value for name, value in given.items() if name != EKS}
    return {**others, OWN: own, **({EKS: {POD: pod}} if pod else {})}


def _asked(limits: Mapping[str, str]) -> list[dict[str, str]]:
    words = {kind: word for word, kind in _KINDS.items()}
    return [{"type": words[kind], "value": text.removesuffix("Mi")} for kind, text in limits.items() if kind in words]
