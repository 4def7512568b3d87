"""Commands about compute environments: ``compute-environment create|list|describe|update|delete``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import names as offered
from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms

if TYPE_CHECKING:
    from batchyard.v1.compute_environment_pb2 import (
        ComputeEnvironment,
        ComputeResources,
        EnvironmentHost,
        KubernetesCluster,
    )

STRATEGIES = [
    "BEST_FIT",
    "BEST_FIT_PROGRESSIVE",
    "BEST_FIT_PROGRESSIVE_ORDERED",
    "SPOT_CAPACITY_OPTIMIZED",
    "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
    "SPOT_PRICE_CAPACITY_OPTIMIZED",
]
RESOURCE_STATES = ["ENABLED", "DISABLED"]
NAMES_SHOWN = 10
SCALE_DOWN_DELAY_S = 300
"""The contract's default."""


@click.group(name="compute-environment")
def compute_environment() -> None:
    """Compute environments: which hosts a queue may use."""


def _resource_flags(function: options.F) -> options.F:
    for flag in (
        options.pairs("--label", "labels", "Only hosts with this label; all of several."),
        click.option("--instance-type", "instance_types", multiple=True, help="Only hosts of this type or family."),
        click.option(
            "--scale-down-delay",
            "scale_down_delay_s",
            type=options.whole_span,
            metavar="TIME",
            help="With a provider: stop a host when nothing ran on it for so long, such as 30s. Default: 5m.",
        ),
        click.option("--bid-percentage", type=int, help="With a provider: pay at most so much of the on-demand price."),
        click.option("--desired-vcpus", type=int, help="With a provider: launch hosts of so many vCPUs now."),
        click.option("--max-vcpus", type=int, help="Most vCPUs in use at once; 0 is no bound, which a provider needs."),
        click.option("--min-vcpus", type=int, help="With a provider: keep hosts of so many vCPUs, though idle."),
        click.option("--provider", help="Who launches and stops its hosts, as the controller's settings declare."),
        click.option(
            "--strategy",
            "allocation_strategy",
            type=click.Choice(STRATEGIES, case_sensitive=False),
            help="Which hosts come first.",
        ),
        click.option(
            "--capacity",
            "type",
            type=click.Choice(["EC2", "SPOT", "FARGATE", "FARGATE_SPOT"], case_sensitive=False),
            help="EC2: on-demand hosts; SPOT: hosts that may be reclaimed; FARGATE, FARGATE_SPOT: such hosts that "
            "offer Fargate, for jobs of its sizes.",
        ),
    ):
        function = flag(function)
    return function


@compute_environment.command()
@click.argument("name")
@click.option("--type", "kind", type=click.Choice(["MANAGED", "UNMANAGED"], case_sensitive=False), default="MANAGED")
@click.option("--state", type=click.Choice(RESOURCE_STATES, case_sensitive=False), default="ENABLED")
@click.option("--unmanaged-vcpus", type=int, default=0, help="vCPUs of an unmanaged one.")
@click.option("--cluster", help="Its hosts are the nodes of this Kubernetes cluster, as its agents call it.")
@click.option("--namespace", help="With --cluster: where its jobs' pods are.")
@options.pairs("--tag", "tags", "Tag.")
@_resource_flags
@options.shared
@options.session
def create(session: options.Session, /, name: str, kind: str, state: str, unmanaged_vcpus: int, **flags: Any) -> None:
    """Create a compute environment. Default: all on-demand hosts, BEST_FIT_PROGRESSIVE."""
    from batchyard.v1.compute_environment_pb2 import ComputeResources

    tags, kubernetes = options.as_map(flags.pop("tags")), _cluster(flags.pop("cluster"), flags.pop("namespace"))
    chosen = {"type": "EC2", "allocation_strategy": "BEST_FIT_PROGRESSIVE", **_given(flags)}
    with session.client() as client:
        environment = client.create_compute_environment(
            name,
            kind=kind,
            state=state,
            compute_resources=_merged(ComputeResources(), chosen) if kind == "MANAGED" else None,
            unmanaged_vcpus=unmanaged_vcpus,
            tags=tags,
            kubernetes=kubernetes,
        )
    _show_one(session.output, environment, "created")


@compute_environment.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List compute environments."""
    with session.client() as client:
        rows = list(client.list_compute_environments(page_size=1000))
    columns: list[out.Column[ComputeEnvironment]] = [
        out.Column(title="NAME", cell=lambda row: row.name),
        out.Column(title="STATE", cell=_state),
        out.Column(title="STATUS", cell=_status),
        out.Column(title="TYPE", cell=_type),
        out.Column(title="STRATEGY", cell=_strategy),
        out.Column(title="MAX VCPUS", cell=_max_vcpus, is_number=True),
        out.Column(title="HOSTS", cell=lambda row: str(len(row.host_ids)), is_number=True),
        out.Column(title="REASON", cell=lambda row: row.status_reason, is_wide=True, is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


@compute_environment.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=offered.environments)
@options.shared
@options.session
def describe(session: options.Session, names: tuple[str, ...]) -> None:
    """Show all about compute environments. JSON is always a list."""
    with session.client() as client:
        found = {row.name: row for row in client.describe_compute_environments(names)}
        is_shown = session.output in ("table", "wide")
        hosts = {name: list(client.list_environment_hosts(name)) for name in found if is_shown}
    out.show_described(session.output, "compute environment", names, found, lambda row: _fields(row, hosts[row.name]))


@compute_environment.command()
@click.argument("name", shell_complete=offered.environments)
@click.option("--state", type=click.Choice(RESOURCE_STATES, case_sensitive=False))
@click.option("--unmanaged-vcpus", type=int)
@_resource_flags
@options.shared
@options.session
def update(
    session: options.Session, /, name: str, state: str | None, unmanaged_vcpus: int | None, **flags: Any
) -> None:
    """Change what is given; the rest stays."""
    from batchyard.errors import NotFoundError

    changes = _given(flags)
    with session.client() as client:
        resources = None
        if changes:
            present = client.describe_compute_environments([name])
            if not present:
                raise NotFoundError(f"no such compute environment: {name}")
            before = present[0].compute_resources
            if before.provider:
                before.desired_vcpus = 0  # how many there are; only who wants more says so again
            resources = _merged(before, changes)
        environment = client.update_compute_environment(
            name, state=state, compute_resources=resources, unmanaged_vcpus=unmanaged_vcpus
        )
    _show_one(session.output, environment, "updated")


@compute_environment.command()
@click.argument("name", shell_complete=offered.environments)
@options.shared
@options.session
def delete(session: options.Session, name: str) -> None:
    """Delete a DISABLED compute environment that no queue uses."""
    with session.client() as client:
        client.delete_compute_environment(name)
    out.note(f"deleted compute environment {name}")


def _cluster(name: str | None, namespace: str | None) -> KubernetesCluster | None:
    from batchyard import arguments
    from batchyard.v1.compute_environment_pb2 import KubernetesCluster

    if name is None and namespace is None:
        return None
    if name is None or namespace is None:
        raise click.UsageError("--cluster and --namespace go together")
    return KubernetesCluster(name=arguments.text("cluster", name), namespace=arguments.text("namespace", namespace))


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if value not in (None, ())}


def _merged(resources: ComputeResources, changes: Mapping[str, Any]) -> ComputeResources:
    from batchyard import arguments, wording
    from batchyard.v1 import compute_environment_pb2 as pb

    merged = pb.ComputeResources()
    merged.CopyFrom(resources)
    for key, value in changes.items():
        match key:
            case "type":
                merged.type = pb.CapacityType.ValueType(wording.number(pb.CapacityType, "capacity", value))
            case "allocation_strategy":
                strategy = wording.number(pb.AllocationStrategy, "strategy", value)
                merged.allocation_strategy = pb.AllocationStrategy.ValueType(strategy)
            case "instance_types":
                merged.instance_types[:] = arguments.texts(key, value)
            case "labels":
                merged.labels.clear()
                merged.labels.update(arguments.text_map(key, options.as_map(value)))
            case "provider":
                merged.provider = arguments.text(key, value)
            case _:
                setattr(merged, key, arguments.integer(key, value))
    return merged


def _show_one(output: str, environment: ComputeEnvironment, done: str) -> None:
    match output:
        case "json":
            out.write_json(out.to_plain(environment))
        case "name":
            out.show_names([environment.name])
        case _:
            out.note(f"{done} compute environment {environment.name} ({_state(environment)}, {_status(environment)})")


def _fields(row: ComputeEnvironment, hosts: Sequence[EnvironmentHost]) -> Sequence[tuple[str, str]]:
    resources = row.compute_resources
    return [
        ("Name", row.name),
        ("State", _state(row)),
        ("Status", _status(row)),
        ("Reason", row.status_reason),
        ("Type", _type(row)),
        ("Cluster", cluster_line(row)),
        ("Strategy", _strategy(row)),
        ("vCPUs", f"min {resources.min_vcpus}, desired {resources.desired_vcpus}, max {_max_vcpus(row)}"),
        ("Instance types", ", ".join(resources.instance_types) or "any"),
        ("Labels", ", ".join(f"{k}={v}" for k, v in sorted(resources.labels.items()))),
        ("Provider", _provider(resources)),
        ("Scaling", _scaling(row)),
        ("Last failure", _last_failure(row)),
        ("Hosts", _hosts((host.host_name, host.away) for host in hosts if host.is_selected) or "none"),
        ("Not selected", _hosts((host.host_name, host.reason) for host in hosts if not host.is_selected)),
        ("Tags", " ".join(f"{k}={v}" for k, v in sorted(row.tags.items()))),
        ("Created", spans.moment(row.created_at_ms, now_ms())),
    ]


def _hosts(named: Iterable[tuple[str, str]]) -> str:
    """Write names of hosts, those of which the same is told together."""
    told: dict[str, list[str]] = {}
    for name, text in named:
        told.setdefault(text, []).append(name)
    return "; ".join(_few(names) + (f" ({text})" if text else "") for text, names in told.items())


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _provider(resources: ComputeResources) -> str:
    if not resources.provider:
        return ""
    delay_s = resources.scale_down_delay_s if resources.HasField("scale_down_delay_s") else SCALE_DOWN_DELAY_S
    bid = f", bids {resources.bid_percentage} %" if resources.bid_percentage else ""
    return f"{resources.provider}{bid}, stops hosts that are idle for {spans.whole(delay_s)}"


def _scaling(row: ComputeEnvironment) -> str:
    it = row.scaling
    if not row.compute_resources.provider:
        return ""
    running, launching = spans.millis(it.running_cpu_millis), spans.millis(it.launching_cpu_millis)
    return (
        f"{it.running_hosts} running ({running} vCPUs), {it.launching_hosts} launching ({launching} vCPUs), "
        f"{it.stopping_hosts} stopping"
    )


def _last_failure(row: ComputeEnvironment) -> str:
    it, now = row.scaling, now_ms()
    if not it.last_failure:
        return ""
    return f"{it.last_failure} ({spans.age(it.last_failure_at_ms, now)} ago; next try in {spans.span(it.next_try_at_ms - now)})"


def _enum(name: str) -> Callable[[int], str]:
    from batchyard import wording
    from batchyard.v1 import compute_environment_pb2 as pb

    return lambda value: wording.word(getattr(pb, name), value)


def _state(row: ComputeEnvironment) -> str:
    return _enum("ResourceState")(row.state)


def _status(row: ComputeEnvironment) -> str:
    return _enum("ResourceStatus")(row.status)


def _type(row: ComputeEnvironment) -> str:
    kind = _enum("ComputeEnvironmentType")(row.type)
    capacity = _enum("CapacityType")(row.compute_resources.type)
    return f"{kind} {capacity}{' EKS' if row.HasField('kubernetes') else ''}".strip()


def cluster_line(row: ComputeEnvironment) -> str:
    """Say of which cluster an environment's hosts are nodes."""
    return f"{row.kubernetes.name}, namespace {row.kubernetes.namespace}" if row.HasField("kubernetes") else ""


def _strategy(row: ComputeEnvironment) -> str:
    return _enum("AllocationStrategy")(row.compute_resources.allocation_strategy) or "-"


def _max_vcpus(row: ComputeEnvironment) -> str:
    return str(row.compute_resources.max_vcpus or "unbounded")
