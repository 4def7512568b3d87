"""
What a person may set of an agent on Kubernetes: flags over ``BATCHYARD_KUBERNETES_*`` over the TOML file over defaults.

It reads values and checks them, and knows nothing of what they do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from batchyard import settings
from batchyard_agent import config as plain
from batchyard_agent.kubernetes.limits import PodLimits
from batchyard_agent.logs import AGE_MAX_S, BYTES_MAX, TOTAL_BYTES_MAX
from batchyard_agent.standing import Applicant

CLUSTER_DEFAULT = "kubernetes"
OTHER_NAMESPACES_MAX = 16
_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
"""AWS: name of an EKS cluster."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_TERM = re.compile(r"(?P<no>!?)(?P<key>[^=!,\s]+)(?:(?P<sign>!=|==?)(?P<value>[^=!,\s]*))?")
_SPAN = re.compile(r"(\d+)(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """
    Which nodes are hosts: all terms hold of their labels.

    Attributes:
        terms: Key, value or None for any, and whether it holds or must not.
    """

    terms: tuple[tuple[str, str | None, bool], ...] = ()

    def chooses(self, labels: Mapping[str, str]) -> bool:
        """Say whether a node with these labels is a host."""
        return all(
            (key in labels if value is None else labels.get(key) == value) is wanted
            for key, value, wanted in self.terms
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """
    How one agent on Kubernetes runs.

    Attributes:
        controller: Address of the controller.
        state_dir: The agent's own folder; each host has one in it.
        limits: What pods may be.
        cluster: What the cluster is called in environments.
        kubeconfig: A file; None: the pod's own service account, else what kubectl takes.
        context: One of that file; empty: its current one.
        selector: Which nodes are hosts.
        labels: Of all hosts, beside their nodes'.
        lost_after_s: After how long a node that is not ready counts as down, with all that it ran; 0: never.
        log_bytes_max: See ``Config``; so the two below.
        release: Take the finalizers off what is left, and be no agent.
        join_token_file: See ``Config``; so the next.
    """

    controller: str
    state_dir: Path
    limits: PodLimits
    cluster: str = CLUSTER_DEFAULT
    kubeconfig: Path | None = None
    context: str = ""
    selector: Selector = Selector()
    labels: Mapping[str, str] = field(default_factory=dict)
    lost_after_s: int = 0
    log_bytes_max: int = BYTES_MAX
    logs_age_max_s: int = AGE_MAX_S
    logs_total_bytes_max: int = TOTAL_BYTES_MAX
    log_level: str = "info"
    release: bool = False
    join_token_file: Path | None = None
    is_insecure: bool = False

    @property
    def applicant(self) -> Applicant:
        """As whom the agent comes to its controller, before it speaks for any node."""
        return Applicant(
            controller=self.controller,
            folder=self.state_dir,
            name=self.cluster,
            join_token_file=self.join_token_file,
            is_insecure=self.is_insecure,
        )


def parse_selector(text: str) -> Selector:
    """
    Read a label selector of equalities, as kubectl takes it: ``a=b,c!=d,e,!f``.

    Raises:
        ValueError: it is none.
    """
    terms: list[tuple[str, str | None, bool]] = []
    for term in filter(None, (each.strip() for each in text.split(","))):
        found = _TERM.fullmatch(term)
        if found is None or (found["no"] and found["sign"]):
            raise ValueError(f"{term!r} is no term of a selector, such as pool=batch, pool!=web, pool or !pool")
        terms.append((found["key"], found["value"], not found["no"] and found["sign"] != "!="))
    return Selector(terms=tuple(terms))


def _namespaces(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not _NAMESPACE.fullmatch(text):
            raise ValueError(f"{text!r} is no name of a namespace: 1 to 63 of a-z, 0-9 and '-'")
    names = tuple(dict.fromkeys(texts))
    if len(names) > OTHER_NAMESPACES_MAX + 1:
        raise ValueError(f"{len(names)} namespaces; there are {OTHER_NAMESPACES_MAX + 1} at most")
    return names


def _cluster(text: str) -> str:
    if not _CLUSTER.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a cluster: up to 100 letters, digits, '-' and '_'")
    return text


def _span(text: str) -> int:
    if text == "never":
        return 0
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError(f"{text!r} is neither never nor a length of time such as 5m")
    return int(found[1]) * _SECONDS[found[2]]


_SHARED = (
    "controller",
    "join_token_file",
    "is_insecure",
    "labels",
    "allow_privileged",
    "allow_volume",
    "log_bytes_max",
    "logs_age_max_s",
)
_SHARED_LAST = ("logs_total_bytes_max", "log_level")


def _plain(names: tuple[str, ...]) -> list[click.Option]:
    """Return options that all agents have."""
    by_name = {option.name: option for option in plain.OPTIONS}
    return [by_name[name] for name in names]


OPTIONS = (
    click.Option(
        ["--namespace"],
        multiple=True,
        required=True,
        callback=plain.reads(_namespaces),
        metavar="NAME",
        help="Where pods are made. Given several times: the first is for jobs that name none, the others for those "
        "that name them. A namespace belongs to one agent.",
    ),
    click.Option(
        ["--cluster"],
        default=CLUSTER_DEFAULT,
        show_default=True,
        callback=plain.reads(_cluster),
        metavar="NAME",
        help="What the cluster is called in compute environments (AWS: the last part of eksClusterArn).",
    ),
    click.Option(
        ["--kubeconfig"],
        type=click.Path(dir_okay=False, exists=True, path_type=Path),
        help="How to reach the cluster. Default: in a pod its service account, else $KUBECONFIG or ~/.kube/config.",
    ),
    click.Option(["--context"], default="", metavar="NAME", help="A context of that file. Default: its current one."),
    click.Option(
        ["--selector"],
        default="",
        callback=plain.reads(parse_selector),
        metavar="KEY=VALUE,...",
        help="Which nodes are hosts, by their labels. Default: all that take ordinary pods.",
    ),
    click.Option(
        ["lost_after_s", "--node-lost-after"],
        default="never",
        show_default=True,
        callback=plain.reads(_span),
        metavar="SPAN|never",
        help="After how long a node that is not ready counts as down, so that its jobs run again elsewhere, such as "
        "10m. Give it only where nodes that do not answer are surely stopped by then.",
    ),
    click.Option(
        ["--state-dir"],
        type=click.Path(file_okay=False, path_type=Path),
        help="The agent's own folder. Default: below the user's home, for root /var/lib/batchyard/kubernetes.",
    ),
    *_plain(_SHARED),
    *_plain(_SHARED_LAST),
    click.Option(
        ["--release"],
        is_flag=True,
        help="Take the finalizers off all pods of these namespaces, so that they can be deleted, and end. "
        "For a cluster that is given up: what became of them is not told any more.",
    ),
)


def config_from(values: Mapping[str, Any]) -> KubernetesConfig:
    """Fill in what depends on this machine and user."""
    chosen = {name: value for name, value in values.items() if value is not None}
    first, *others = chosen.pop("namespace")
    limits = PodLimits(
        namespace=first,
        other_namespaces=tuple(others),
        privileged=chosen.pop("allow_privileged", False),
        volume_paths=chosen.pop("allow_volume", ()),
    )
    here: dict[str, Any] = {"state_dir": settings.state_dir() / "kubernetes", "limits": limits}
    return KubernetesConfig(**here | chosen)
