"""
The stage: plays the commands of a transcript over the pure core and tells what follows.

Jobs, hosts and attempts go by the labels of the transcript (``a``, ``arr:3``, ``a#1``),
never by ids. After each command the stage tells every move of a job or child, with the
reason of a final one, and every message to a host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.core.law import Shelf
from tests.core.yard import Yard, container, facts, task

from batchyard.arguments import exit_rule
from batchyard.errors import RequestError
from batchyard.ids import AttemptId, HostId, JobId, LaunchId, split_job_id, unit_id
from batchyard.pairs import pairs
from batchyard.pods import Pod
from batchyard.resources import Resources
from batchyard.runtimes import KUBERNETES
from batchyard.states import EndCause, JobState
from batchyard.tasks import Condition, Container, ContainerDependency, ContainerEnd, Task
from batchyard.v1.job_definition_pb2 import EvaluateOnExitAction
from batchyard.v1.job_pb2 import ContainerState
from batchyard.wording import word
from batchyard_controller.core.access.roles import THE_ADMINISTRATOR
from batchyard_controller.core.attempt_reports import Phase, Report
from batchyard_controller.core.commands import (
    Command,
    EndSession,
    PublishMove,
    PublishNotice,
    SendAck,
    SendRevoke,
    SendStart,
    SendStop,
)
from batchyard_controller.core.events import (
    EnvironmentDeleted,
    FrontAsked,
    HostHeard,
    HostLeft,
    HostMarked,
    ProviderAnswered,
    ProviderListed,
    QueueDeleted,
    Ticked,
)
from batchyard_controller.core.jobs.ends import OUT_OF_MEMORY
from batchyard_controller.core.jobs.resolution import Overrides, Submission
from batchyard_controller.core.jobs.retention import DAY_MS, Retention
from batchyard_controller.core.jobs.variables import common_variables, own_variables
from batchyard_controller.core.model.attempts import AttemptEnd
from batchyard_controller.core.model.consumables import (
    ConsumableOperation,
    ConsumableResource,
    ConsumableType,
    Quantities,
)
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.hosts import GpuFacts, Host, HostFacts, KubernetesFacts
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, JobDefinition, JobKind, RetryStrategy
from batchyard_controller.core.model.launches import ENVIRONMENT_LABEL, LAUNCH_LABEL, Launch
from batchyard_controller.core.model.nodes import NodeRange, Nodes, Spread
from batchyard_controller.core.model.policies import (
    FairsharePolicy,
    QuotaSharePolicy,
    SchedulingPolicy,
    ShareWeight,
)
from batchyard_controller.core.model.quota_shares import CapacityLimit, QuotaShare, SharingStrategy
from batchyard_controller.core.model.settings import (
    AllocationStrategy,
    CapacityType,
    ComputeResources,
    DispatchOrder,
    KubernetesCluster,
    Preemption,
    ResourceState,
)
from batchyard_controller.core.model.units import Unit
from batchyard_controller.core.model.values import Instant, utc
from batchyard_controller.core.reactor.nodes import is_told
from batchyard_controller.core.requests import consumables, policies, quota_shares, settings
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.hosts import reclaim_host, remove_host
from batchyard_controller.core.requests.job_rules import check_submission
from batchyard_controller.core.requests.quota_shares import check_quota_share
from batchyard_controller.core.requests.sharing_rules import check_policy
from batchyard_controller.core.requests.submissions import update_job
from batchyard_controller.core.scaling.catalogue import Catalogue, LaunchType
from batchyard_controller.core.scaling.orders import Operation, orders
from batchyard_controller.core.scaling.outlook import standing
from batchyard_controller.core.views.causes import ending_cause
from batchyard_controller.core.views.suspicion import held_against
from batchyard_controller.core.views.words import ending_reason, verdict
from batchyard_controller.services.consumables import view as consumable_view
from batchyard_controller.services.job_view import explain_message, job_message

_KINDS = {
    "after": DependencyType.WHOLE,
    "n_to_n": DependencyType.N_TO_N,
    "after_any": DependencyType.AFTER_ANY,
    "after_failure": DependencyType.AFTER_FAILURE,
}
_REASONS = {
    EndCause.OUT_OF_MEMORY: OUT_OF_MEMORY,
    EndCause.HOST_ERROR: "CannotStartContainerError: no space left on device",
    EndCause.IMAGE_UNAVAILABLE: "CannotPullContainerError: not found",
}
_AMOUNTS = {"cpu": "cpu_millis", "memory": "memory_mib", "gpu": "gpu_millis"}
_OPTION = re.compile(r"[\w.]+=")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def _place(text: str, name: str) -> dict[str, str]:
    """Read ``cluster/namespace``."""
    cluster, _, namespace = text.partition("/")
    return {name: cluster, "namespace": namespace}


class Stage:
    """One transcript's yard: a compute environment ``ce`` and a queue ``q`` to begin with."""

    def __init__(self) -> None:
        self.yard = Yard()
        self.yard.environment()
        self.yard.queue()
        self.yard.moves.clear()
        self._ids: dict[str, str] = {}
        self._sessions: dict[str, int] = {}
        self._clocks: dict[str, int] = {}
        self._facts: dict[str, HostFacts] = {}
        """What hosts said of themselves last."""
        self._shelf = Shelf()
        self._launches: dict[str, Launch] = {}
        self._launch_labels: dict[str, str] = {}
        """``ce/2`` is the second launch of environment ``ce``, and its host."""

    def play(self, line: str) -> list[str]:
        """Carry out one command and tell what followed."""
        verb, *words = map(self._launch_id, shlex.split(line))
        options = dict(word.partition("=")[::2] for word in words if _OPTION.match(word))
        names = [word for word in words if not _OPTION.match(word)]
        self._rules = [word.partition("=")[2] for word in words if word.startswith("on_exit=")]
        try:
            told = self._do(verb.replace("-", "_"))(*names, **options) or []
        except RequestError as error:
            told = [f"refused: {error}"]
        self._shelf.check(self.yard.world, self.yard.now)
        lines = [*self._moved(), *self._scaled(), *told]
        return [self._label(text) for text in lines] or ["nothing"]

    def _do(self, verb: str) -> Callable[..., list[str] | None]:
        do: Callable[..., list[str] | None] = getattr(self, f"do_{verb}")
        return do

    # Settings -------------------------------------------------------------------

    def do_environment(self, name: str, **options: str) -> None:
        state = ResourceState(options.pop("state", "ENABLED"))
        words: dict[str, Any] = {
            "type": CapacityType(options.pop("type", "EC2")),
            "allocation_strategy": AllocationStrategy(options.pop("strategy", "BEST_FIT_PROGRESSIVE")),
            "provider": options.pop("provider", ""),
            "instance_types": tuple(filter(None, options.pop("types", "").split(","))),
        }
        cluster = options.pop("cluster", "")
        kubernetes = KubernetesCluster(**_place(cluster, "name")) if cluster else None
        numbers = {key: int(value) for key, value in options.items()}
        resources = ComputeResources(**words, **numbers)
        self.yard.environment(name, state=state, compute_resources=resources, kubernetes=kubernetes)

    def do_delete_environment(self, name: str) -> list[str]:
        return self._sent(self.yard.apply(EnvironmentDeleted(name=name)))

    def do_provider(self, name: str, *types: str, join: str = "600") -> None:
        """Offer types of hosts, ``NAME:VCPUS:PRICE[:SPOT PRICE[:COUNT]]`` each."""
        offered = {}
        for text in types:
            host_type, vcpus, price, *more = text.split(":")
            offered[host_type] = LaunchType(
                facts=facts("", cpu=int(vcpus) * 1000, host_type=host_type),
                price=float(price),
                spot_price=float(more[0]) if more and more[0] else None,
                count=int(more[1]) if len(more) > 1 else 0,
            )
        catalogue = Catalogue(provider=name, types=offered, join_limit_s=int(join))
        self.yard.world.scaling.catalogues = {**self.yard.world.scaling.catalogues, name: catalogue}

    # Launches ---------------------------------------------------------------------

    def do_orders(self) -> list[str]:
        """Tell what providers have to do now."""
        world = self.yard.world
        found = orders(world.launches.values(), world.hosts, world.scaling, world.spared)
        return [f"{each.launch.provider}: {each.operation} {each.launch.id}" for each in found]

    def do_launched(self, *names: str, error: str = "") -> list[str]:
        return [line for name in names for line in self._answered(name, Operation.LAUNCH, error)]

    def do_stopped(self, *names: str, error: str = "") -> list[str]:
        return [line for name in names for line in self._answered(name, Operation.STOP, error)]

    def _answered(self, name: str, operation: Operation, error: str) -> list[str]:
        return self._sent(self.yard.apply(ProviderAnswered(launch_id=LaunchId(name), operation=operation, error=error)))

    def do_missing(self, *names: str) -> list[str]:
        return self._sent(self.yard.apply(ProviderListed(missing=frozenset(map(LaunchId, names)))))

    def do_joined(self, *names: str) -> list[str]:
        """Let the hosts of launches join, each called like its launch."""
        told = []
        for name in names:
            launch = self.yard.world.launches[LaunchId(name)]
            labels = {LAUNCH_LABEL: name, ENVIRONMENT_LABEL: launch.environment, **dict(launch.labels)}
            fields = {"host_type": launch.host_type, "purchase_option": launch.purchase_option}
            self._facts[name] = facts(name, cpu=launch.cpu_millis, labels=pairs(labels), **fields)
            told += self._join(name)
        return told

    def do_late(self, name: str, environment: str, host_type: str) -> list[str]:
        """Let a host join of a launch that is over."""
        labels = pairs({LAUNCH_LABEL: name, ENVIRONMENT_LABEL: environment})
        return self._sent(self.yard.host(name, session=9, host_type=host_type, labels=labels))

    def _launch_id(self, word: str) -> str:
        return next((launch_id for launch_id, label in self._launch_labels.items() if label == word), word)

    def _scaled(self) -> Iterator[str]:
        """Tell what became of launches."""
        before, self._launches = self._launches, {str(name): each for name, each in self.yard.world.launches.items()}
        for name in {**before, **self._launches}:
            launch = self._launches.get(name)
            if name not in self._launch_labels:
                of = name.split("-")[0]
                number = sum(label.startswith(f"{of}/") for label in self._launch_labels.values()) + 1
                self._launch_labels[name] = f"{of}/{number}"
            if launch is None:
                yield f"{name}: is over"
            elif launch != before.get(name):
                yield f"{name}: {launch.host_type} {launch.state}" + (
                    f", to be stopped: {launch.stop_reason}" if launch.stop_reason else ""
                )

    def do_stands(self, name: str) -> list[str]:
        """Tell how an environment stands."""
        world = self.yard.world
        it = standing(world.environments[name], world.launches.values(), world.scaling)
        text = (
            f"{name}: {it.running_hosts} running, {it.launching_hosts} launching, {it.stopping_hosts} stopping; "
            f"desired {world.environments[name].compute_resources.desired_vcpus}"
        )
        return [text] + ([f"{name}: {it.last_failure}"] if it.last_failure else [])

    def do_queue(
        self,
        name: str,
        *environments: str,
        priority: str = "0",
        policy: str = "",
        running: str = "0",
        vcpus: str = "0",
        order: str = "DUE_TIME",
        preempts: str = "",
        preemptible: str = "",
    ) -> None:
        """Make a queue anew; *running* and *vcpus* are its caps."""
        fields: dict[str, Any] = {"max_running": int(running), "max_vcpus": int(vcpus)}
        fields["dispatch_order"] = DispatchOrder(order)
        fields["preemption"] = Preemption.LOWER_PRIORITY if preempts else Preemption.NEVER
        fields["preemptible"] = bool(preemptible)
        self.yard.queue(name, *environments, priority=int(priority), scheduling_policy=policy, **fields)

    def do_update_queue(self, name: str, **options: str) -> None:
        """Change a queue as a user asks for it: ``policy``, ``priority``, ``running``, ``vcpus``."""
        fields = {"policy": "scheduling_policy", "running": "max_running", "vcpus": "max_vcpus"}
        changes = {fields.get(k, k): v if k == "policy" else int(v) for k, v in options.items()}
        self.yard.apply(settings.update_queue(self.yard.world, name, changes))

    def do_policy(self, name: str, *shares: str) -> None:
        """Make a scheduling policy: ``ID:WEIGHT[:RUNNING[:VCPUS]]`` each."""
        fairshare = FairsharePolicy(share_distribution=tuple(map(_weight, shares)))
        refuse(check_policy(SchedulingPolicy(name=name, fairshare=fairshare)))
        world, now = self.yard.world, self.yard.now
        if name in world.policies:
            self.yard.apply(policies.update_policy(world, name, {"fairshare": fairshare}))
        else:
            self.yard.apply(policies.create_policy(world, SchedulingPolicy(name=name, fairshare=fairshare), now))

    def do_quota_policy(self, name: str) -> None:
        """Make a scheduling policy of quota shares."""
        policy = SchedulingPolicy(name=name, quota_share=QuotaSharePolicy())
        refuse(check_policy(policy))
        self.yard.apply(policies.create_policy(self.yard.world, policy, self.yard.now))

    def do_share(self, queue: str, name: str, strategy: str = "RESERVE", **options: str) -> None:
        """Make a quota share: ``UNIT=CAPACITY`` each, and *strategy*, *borrow*, *preempts*, *state*."""
        share = QuotaShare(job_queue=queue, name=name, sharing_strategy=SharingStrategy(strategy), **_share(options))
        refuse(check_quota_share(share))
        self.yard.apply(quota_shares.create_quota_share(self.yard.world, share, self.yard.now))

    def do_update_share(self, queue: str, name: str, **options: str) -> None:
        changes = {"sharing_strategy": SharingStrategy(options.pop("strategy"))} if "strategy" in options else {}
        changed = {key: value for key, value in _share(options).items() if value != ()}
        self.yard.apply(quota_shares.update_quota_share(self.yard.world, queue, name, {**changes, **changed}))

    def do_delete_share(self, queue: str, name: str) -> list[str]:
        return self._sent(self.yard.apply(quota_shares.delete_quota_share(self.yard.world, queue, name)))

    def do_shares(self, queue: str) -> list[str]:
        """Tell how the quota shares of a queue stand."""
        quota = self.yard.world.fleet.quotas.of(queue)
        assert quota is not None, f"{queue} has no quota shares"
        told = []
        for name in quota.ledger.shares:
            accounts = [quota.ledger.account(name, unit) for unit in quota.ledger.limits]
            parts = [f"{a.unit} {a.used} of {a.limit}, borrowed {a.borrowed}, lent {a.lent}" for a in accounts]
            told.append(f"{name}: {'; '.join(parts)}")
        return told

    def do_delete_policy(self, name: str) -> None:
        self.yard.apply(policies.delete_policy(self.yard.world, name))

    def do_consumable(self, name: str, total: str, once: str = "") -> list[str]:
        """Make a consumable resource; with *once* what is taken is used up."""
        kind = ConsumableType.NON_REPLENISHABLE if once else ConsumableType.REPLENISHABLE
        resource = ConsumableResource(name=name, type=kind, total=int(total))
        self.yard.apply(consumables.create_consumable(self.yard.world, resource, self.yard.now))
        return self.do_consumables(name)

    def do_change_consumable(self, name: str, operation: str, quantity: str, request: str = "") -> list[str]:
        what = ConsumableOperation(operation.upper())
        event = consumables.update_consumable(self.yard.world, name, what, int(quantity), request, self.yard.now)
        if event is not None:
            self.yard.apply(event)
        return self.do_consumables(name)

    def do_consumables(self, *names: str) -> list[str]:
        """Tell what there is."""
        found = [consumable_view(self.yard.world, self.yard.world.consumables[name]) for name in names]
        return [f"{c.name}: {c.available} available of {c.total}, {c.in_use} in use" for c in found]

    def do_delete_consumable(self, name: str) -> None:
        self.yard.apply(consumables.delete_consumable(self.yard.world, name))

    def do_update_job(self, label: str, priority: str) -> None:
        event = update_job(self.yard.world, self._id(label), int(priority))
        if event is not None:
            self.yard.apply(event)

    def do_delete_queue(self, name: str) -> list[str]:
        return self._sent(self.yard.apply(QueueDeleted(name=name)))

    def do_register(self, name: str, command: str = "work", **options: str) -> list[str]:
        what = replace(container(), command=tuple(command.split()))
        parameters = tuple(sorted((k.removeprefix("param."), v) for k, v in options.items() if k.startswith("param.")))
        wanted = JobDefinition(
            name=name,
            revision=0,
            task=task(what),
            parameters=parameters,
            retry=self._retry(options),
            consumables=_quantities(options),
        )
        event = settings.register_definition(self.yard.world, wanted)
        self.yard.apply(event)
        return [f"{event.definition.key} is {event.definition.status}"]

    def do_deregister(self, key: str) -> list[str]:
        event = settings.deregister_definition(self.yard.world, key)
        if event is None:
            return ["nothing"]
        self.yard.apply(event)
        return [f"{event.definition.key} is {event.definition.status}"]

    def do_keep(self, days: str = "7", count: str = "250000") -> None:
        self.yard.world.retention = Retention(age_ms=int(float(days) * DAY_MS), count=int(count))

    # Hosts and time ---------------------------------------------------------------

    def do_host(self, name: str, /, unproven: str = "", **options: str) -> list[str]:
        """Let a host join, under another name if one is told; an unproven one has not shown that it can start jobs."""
        called = options.pop("name", name)
        words: dict[str, Any] = {
            key: options.pop(key) for key in ("boot_id", "host_type", "purchase_option", "address") if key in options
        }
        models = [model for model in options.pop("models", "").split(",") if model]
        features = tuple(filter(None, options.pop("features", "").split(",")))
        if cluster := options.pop("cluster", ""):
            node = KubernetesFacts(node_uid=f"uid-{name}", **_place(cluster, "cluster"))
            words |= {"kubernetes": node, "runtimes": (KUBERNETES,)}
        numbers = {key: int(value) for key, value in options.items()}
        self._facts[name] = facts(called, **numbers, **words, features=features)
        if models:
            gpus = tuple(GpuFacts(uuid=f"GPU-{name}-{i}", model=model) for i, model in enumerate(models))
            self._facts[name] = replace(self._facts[name], gpus=gpus)
        return self._join(name, is_proven=not unproven)

    def _join(self, name: str, *reports: Report, is_proven: bool = True) -> list[str]:
        self._sessions[name] = self._sessions.get(name, 0) + 1
        session, told = self._sessions[name], self._facts[name]
        return self._sent(self.yard.join(told, *reports, host_id=name, session=session, is_proven=is_proven))

    def do_others_hold(self, name: str, **amounts: str) -> None:
        """Let a host say what others than this yard hold of it."""
        reserved = Resources(**{_AMOUNTS[key]: int(value) for key, value in amounts.items()})
        self.yard.apply(HostHeard(host_id=HostId(name), session=self._sessions[name], reserved=reserved))

    def do_trust(self, *names: str) -> list[str]:
        """Tell what is held against hosts."""
        return [f"{name}: {self._trust(self.yard.world.hosts[HostId(name)])}" for name in names]

    def _trust(self, host: Host) -> str:
        rest_s = (host.trust.rests_until_boot_ms - self.yard.now.boot_ms) // 1000
        rests = f"rests for {rest_s} s" if host.trust.rests_until_boot_ms else "works"
        text, until_boot_ms = held_against(self.yard.world, host)
        return rests + (f", for {(until_boot_ms - self.yard.now.boot_ms) // 1000} s: {text}" if text else "")

    def do_clock(self, name: str, off_s: str) -> None:
        """Set a host's clock so many seconds before the controller's, or behind it."""
        self._clocks[name] = int(off_s) * 1000

    def do_cordon(self, name: str) -> list[str]:
        return self._sent(self.yard.apply(HostMarked(host_id=HostId(name), cordoned=True, draining=False)))

    def do_uncordon(self, name: str) -> list[str]:
        return self._sent(self.yard.apply(HostMarked(host_id=HostId(name), cordoned=False, draining=False)))

    def do_notice(self, name: str, span: str = "") -> list[str]:
        """Let a host say with its heartbeat that it is taken away after a while, or without one that it stays."""
        at_ms = self.yard.now.wall_ms + _milliseconds(span) if span else 0
        self._facts[name] = replace(self._facts[name], reclaimed_at_ms=at_ms)
        return self._sent(self.yard.apply(HostHeard(host_id=HostId(name), facts=self._facts[name])))

    def do_reclaim(self, name: str, span: str = "0s", undo: str = "") -> list[str]:
        """Let an operator say that a host is taken away after a while, or that it stays."""
        delay_s = 0 if undo else _milliseconds(span) // 1000
        event = reclaim_host(self.yard.world, name, delay_s, self.yard.now, undo=bool(undo))
        return self._sent(self.yard.apply(event))

    def do_remove(self, name: str, force: str = "") -> list[str]:
        return self._sent(self.yard.apply(remove_host(self.yard.world, name, force=bool(force))))

    def do_hosts(self) -> list[str]:
        return [", ".join(self.yard.world.hosts) or "no hosts"]

    def do_host_leaves(self, name: str) -> list[str]:
        return self._sent(self.yard.apply(HostLeft(host_id=HostId(name), session=self._sessions[name])))

    def do_host_returns(self, name: str) -> list[str]:
        """Let a host join again and say all that it keeps, as it was told of all that it may have been."""
        host = self.yard.world.hosts[HostId(name)]
        reports = [
            Report(
                attempt_id=a.id,
                phase=Phase.RUNNING if a.started_at_ms else Phase.STARTING,
                started_at_ms=a.started_at_ms,
            )
            for a in host.attempts.values()
            if is_told(self.yard.world, a)
        ]
        assert self._facts[name] == host.record.facts
        return self._join(name, *reports)

    def do_explain(self, label: str) -> list[str]:
        """Tell why a job is where it is, as users are told."""
        unit = self.yard.unit(self._id(label))
        told = explain_message(self.yard.world, THE_ADMINISTRATOR, unit)
        place = f"place {told.position}{' or later' if told.position_is_least else ''}" if told.position else ""
        estimate = f"starts by {utc(told.estimated_start_at_ms)}" if told.estimated_start_at_ms else ""
        kinds = ", ".join(refusal.kind for refusal in told.refusals)
        facts = [text for text in (place, estimate, kinds) if text]
        return [f"{label} {told.summary}", *([f"  {'; '.join(facts)}"] if facts else [])]

    def do_front(self, queue: str = "q") -> list[str]:
        """Ask who is served first in a queue, and since when each has its place."""
        self.yard.apply(FrontAsked(queue=queue))
        front = self.yard.world.fronts[queue]
        told = [f"{each.unit_id} since {utc(each.since_ms)}" for each in front.places]
        return told + [f"{share}: {each.unit_id} since {utc(each.since_ms)}" for share, each in front.shares]

    def do_pass(self, span: str, silent: str = "") -> list[str]:
        """Let time pass: ``30s``, ``20m``, ``8d``; hosts that are connected and not named silent are heard meanwhile."""
        ms = _milliseconds(span)
        now = self.yard.now
        self.yard.now = Instant(wall_ms=now.wall_ms + ms, boot_ms=now.boot_ms + ms)
        for host in self.yard.world.hosts.values():
            if host.session and host.record.id not in silent.split(","):
                clock_ms = self.yard.now.wall_ms + self._clocks.get(host.record.id, 0)
                self.yard.apply(HostHeard(host_id=host.record.id, wall_ms=clock_ms))
        return self._sent(self.yard.apply(Ticked()))

    def do_restart(self) -> list[str]:
        """Store all, forget all, load again, and let the connected hosts join."""
        world = self.yard.world
        self._shelf.commit(world)
        self.yard.world = self._shelf.restore(self.yard.now, world.retention)
        self.yard.world.scaling.catalogues = world.scaling.catalogues
        return [line for name, host in world.hosts.items() if host.session for line in self.do_host_returns(name)]

    # Jobs -------------------------------------------------------------------------

    def do_submit(self, label: str, queue: str = "q", size: str = "0", **options: str) -> None:
        fields: dict[str, Any] = {
            "depends_on": tuple(self._dependencies(options)),
            "array_size": int(size),
            "array_concurrency": int(options.get("concurrency", 0)),
            "retry": self._retry(options),
            "timeout_s": int(options.get("timeout", 0)),
            "request_id": options.get("request", ""),
            "share_identifier": options.get("share", ""),
            "scheduling_priority": int(options["priority"]) if "priority" in options else None,
            "consumables": _quantities(options),
        }
        if "nodes" in options:
            fields |= {"task": None, "nodes": _nodes(options)}
        elif "definition" in options:
            overridden = tuple(options["command"].split()) if "command" in options else ()
            parameters = {k.removeprefix("param."): v for k, v in options.items() if k.startswith("param.")}
            fields |= {
                "task": None,
                "definition": options["definition"],
                "parameters": tuple(sorted(parameters.items())),
                "overrides": Overrides(command=overridden),
            }
        else:
            wanted = container(
                cpu=int(options.get("cpu", 1000)), gpu=int(options.get("gpu", 0)), image=options.get("image", "")
            )
            models = tuple(model for model in options.get("models", "").split(",") if model)
            fields["task"] = task(replace(wanted, gpu_models=models))
            if "pod" in options:
                fields["task"] = replace(fields["task"], pod=Pod(namespace=options.get("namespace", "")))
            if "parts" in options:
                fields["task"] = _several(options)
        refuse(check_submission(Submission(name=label, queue=queue, **fields)))
        fields["container"] = None
        self._ids[label] = self.yard.submit(queue, name=label, **fields).id

    def _dependencies(self, options: dict[str, str]) -> Iterator[Dependency]:
        for option, kind in _KINDS.items():
            for label in filter(None, options.get(option, "").split(",")):
                yield Dependency(job_id=self._ids.get(label, label), type=kind)
        if options.get("sequential"):
            yield Dependency(type=DependencyType.SEQUENTIAL)

    def _retry(self, options: dict[str, str]) -> RetryStrategy | None:
        rules = tuple(map(_rule, self._rules))
        if not rules and not {"attempts", "infrastructure", "spot_attempts", "preemptions"} & options.keys():
            return None
        return RetryStrategy(
            attempts=int(options.get("attempts", 0 if rules else 1)),
            infrastructure_retries=int(options.get("infrastructure", 5)),
            spot_attempts=int(options.get("spot_attempts", 0)),
            preemption_retries_before_termination=int(options["preemptions"]) if "preemptions" in options else None,
            rules=rules,
        )

    def do_cancel(self, label: str, reason: str = "no longer wanted") -> list[str]:
        return self._sent(self.yard.cancel(self._id(label), reason))

    def do_terminate(self, label: str, reason: str = "enough") -> list[str]:
        return self._sent(self.yard.terminate(self._id(label), reason))

    def do_plan(self) -> list[str]:
        return self._sent(self.yard.plan())

    def do_started(self, *labels: str) -> list[str]:
        return [
            line for label in labels for line in self._sent(self.yard.started(self._id(label), self.yard.now.wall_ms))
        ]

    def do_parts(self, label: str, parts: str) -> list[str]:
        """Let a host tell how the containers of an attempt are that has not ended."""
        attempt_id = AttemptId(self._id(label))
        started_at_ms = self.yard.world.attempts[attempt_id].started_at_ms
        phase = Phase.RUNNING if started_at_ms else Phase.STARTING
        containers = tuple(_end_of_part(text, self.yard.now.wall_ms) for text in parts.split(","))
        report = Report(attempt_id=attempt_id, phase=phase, started_at_ms=started_at_ms, containers=containers)
        return self._sent(self.yard.report(report))

    def do_ended(
        self, *labels: str, code: str = "0", cause: str = "EXITED", host: str = "h1", parts: str = ""
    ) -> list[str]:
        """Let attempts end now, with the codes of their containers; one without an exit code never ran."""
        ids = [AttemptId(self._id(label)) for label in labels]
        return [line for each in ids for line in self._ended(each, code, cause, host, parts)]

    def _ended(self, attempt_id: AttemptId, code: str, cause: str, host: str, parts: str) -> list[str]:
        live = self.yard.world.attempts.get(attempt_id)
        started_at_ms = (live.started_at_ms if live else 0) or (self.yard.now.wall_ms if code else 0)
        end = AttemptEnd(
            cause=EndCause(cause),
            started_at_ms=started_at_ms,
            stopped_at_ms=self.yard.now.wall_ms,
            exit_code=int(code) if code else None,
            reason=_REASONS.get(EndCause(cause), ""),
            containers=tuple(_end_of_part(text, self.yard.now.wall_ms) for text in parts.split(",") if text),
        )
        report = Report(attempt_id=attempt_id, phase=Phase.ENDED, started_at_ms=started_at_ms, end=end)
        return self._sent(self.yard.report(report, "" if live else host))

    def do_forgotten(self, label: str) -> list[str]:
        """Let a host that was told to stop an attempt say that it never began it."""
        end = AttemptEnd(cause=EndCause.STOPPED, stopped_at_ms=self.yard.now.wall_ms)
        return self._sent(self.yard.report(Report(attempt_id=AttemptId(self._id(label)), phase=Phase.ENDED, end=end)))

    def do_run(self) -> list[str]:
        """Let everything succeed that can run, until nothing moves; tell the final states alone."""
        self.yard.run_all()
        self.yard.moves = [move for move in self.yard.moves if move.after.is_final]
        return []

    # Looking ----------------------------------------------------------------------

    def do_show(self, *labels: str) -> list[str]:
        return [line for label in labels for line in self._shown(label)]

    def _shown(self, label: str) -> Iterator[str]:
        found = self._unit(label)
        if found is None:
            yield f"{label} is not kept"
            return
        job = job_message(self.yard.world, found)
        state = JobState(list(JobState)[job.state - 1])
        flags = [name for name in ("is_cancelled", "is_terminated") if getattr(job, name)]
        times = [f"{name}={getattr(job, f'{name}_at_ms')}" for name in ("created", "started", "stopped")]
        yield " ".join([f"{label} {state}", *times, *flags])
        if job.status_reason:
            yield f"  reason: {job.status_reason}"
        if job.waiting_reason:
            yield f"  why: {job.waiting_reason}"
        if job.array.status_summary:
            yield "  children: " + ", ".join(f"{n} {s}" for s, n in job.array.status_summary.items() if n)
        for attempt in job.attempts:
            code = f" code={attempt.exit_code}" if attempt.HasField("exit_code") else ""
            spans = f"started={attempt.started_at_ms} stopped={attempt.stopped_at_ms}"
            yield f"  attempt {attempt.number}: {spans}{code} {attempt.status_reason}".rstrip()
            for part in attempt.containers:
                code = f" code={part.exit_code}" if part.HasField("exit_code") else ""
                log = " with a log" if part.log_stream_name else ""
                state = word(ContainerState, part.state).lower()
                is_told = state not in ("", "ended") or not attempt.stopped_at_ms
                yield f"    {part.name}:{f' {state}' if state and is_told else ''}{code}{log}"

    def do_causes(self, label: str) -> list[str]:
        """Tell the facts of a unit's tries that are over: why each ended, where it ran, what its retry strategy said."""
        found = self._unit(label)
        assert found is not None
        return [
            f"attempt {ended.number}: {ended.cause} in {ended.compute_environment}; {verdict(ended.verdict) or 'no retry asked'}"
            for ended in found.attempts
        ]

    def do_gpus(self, label: str) -> list[str]:
        found = self._unit(label)
        assert found is not None
        return [f"attempt {ended.number}: {' '.join(ended.gpu_uuids)}" for ended in found.attempts]

    def do_why(self, *labels: str) -> list[str]:
        """Tell what ended jobs or children, the deciding fact first."""
        units = [self._unit(label) for label in labels]
        return [ending_cause(self.yard.world, unit) or "it has not ended" for unit in units if unit is not None]

    def do_command(self, label: str) -> list[str]:
        found = self._unit(label)
        assert found is not None
        return [shlex.join(found.task.main.command)]

    def do_variables(self, label: str) -> list[str]:
        attempt = self.yard.world.attempts[AttemptId(self._id(label))]
        unit = self.yard.world.unit_of(attempt)
        platform = self.yard.world.platform_of(attempt.compute_environment)
        host = self.yard.world.hosts[attempt.host_id].record.facts
        variables = common_variables(unit.job, attempt.compute_environment, platform, host)
        variables |= own_variables(unit, attempt, attempt.id, self.yard.world.main_address(unit))
        return [f"{name}={value}" for name, value in sorted(variables.items())]

    # Labels -------------------------------------------------------------------------

    def _id(self, label: str) -> str:
        name = re.split("[:#]", label)[0]
        return label.replace(name, self._ids.get(name, name), 1)

    def _unit(self, label: str) -> Unit | None:
        return self.yard.world.find_unit(*split_job_id(self._id(label)))

    def _label(self, text: str) -> str:
        for launch_id, label in self._launch_labels.items():
            text = re.sub(rf"\b{launch_id}\b", label, text)
        labels = {job_id: label for label, job_id in self._ids.items()}
        return _ID.sub(lambda found: labels.get(found[0], found[0]), text)

    def _moved(self) -> Iterator[str]:
        """Tell the moves; equal ones of neighbouring children in one line."""
        moves, self.yard.moves = self.yard.moves, []
        runs: list[tuple[str, str, int | None, int]] = []
        for move in moves:
            what = f"{move.before} -> {move.after}{self._reason(move)}"
            stop = move.stop or (move.index or 0) + 1
            follows = bool(runs) and runs[-1][:2] == (move.job_id, what) and runs[-1][3] == move.index
            if follows and move.index is not None and runs[-1][2] is not None:
                runs[-1] = (*runs[-1][:3], stop)
            else:
                runs.append((move.job_id, what, move.index, stop))
        for job_id, what, index, stop in runs:
            job = self.yard.world.jobs.get(JobId(job_id))
            unit = unit_id(job_id, index, is_node=job is not None and job.kind is JobKind.NODES)
            yield f"{unit}{'' if index is None or stop == index + 1 else f'..{stop - 1}'}: {what}"

    def _reason(self, move: PublishMove) -> str:
        unit = self.yard.world.find_unit(move.job_id, move.index)
        reason = ending_reason(unit) if unit is not None and move.after.is_final else ""
        return f" ({reason})" if reason else ""

    def _sent(self, commands: list[Command]) -> list[str]:
        lines: list[str] = []
        for command in commands:
            match command:
                case SendStart():
                    lines.append(f"to {command.host_id}: start {' '.join(a.id for a in command.attempts)}")
                case SendStop():
                    lines.append(f"to {command.host_id}: stop {command.attempt_id}")
                case SendRevoke():
                    lines.append(f"to {command.host_id}: revoke {command.attempt_id}")
                case SendAck():
                    lines.append(f"to {command.host_id}: ack {' '.join(command.attempt_ids)}")
                case EndSession():
                    lines.append(f"to {command.host_id}: end the session")
                case PublishMove() | PublishNotice():
                    raise AssertionError(command)
        return lines


def _several(options: dict[str, str]) -> Task:
    """Read ``NAME:CPU`` of several containers, ``NAME:CPU:OTHER`` of one that waits for another's success."""
    image = options.get("image", "busybox")
    parts = tuple(_part(text, image) for text in options["parts"].split(","))
    return Task(containers=parts, pid_mode=options.get("pid", ""))


def _part(text: str, image: str) -> Container:
    name, cpu, *others = text.split(":")
    depends_on = tuple(ContainerDependency(container=other, condition=Condition.SUCCESS) for other in others)
    is_init = name.startswith("init")
    return replace(container(cpu=int(cpu), image=image), name=name, essential=not is_init, depends_on=depends_on)


def _end_of_part(text: str, now_ms: int) -> ContainerEnd:
    """Read ``NAME:CODE``; one without a code never ran, one with ``runs`` runs, and one that is only named waits."""
    name, colon, code = text.partition(":")
    if not code:
        return ContainerEnd(name=name, reason="It was not started" if colon else "")
    if code == "runs":
        return ContainerEnd(name=name, started_at_ms=now_ms)
    return ContainerEnd(name=name, exit_code=int(code), started_at_ms=now_ms, stopped_at_ms=now_ms)


def _nodes(options: dict[str, str]) -> Nodes:
    """Read how many nodes there are, and RANGE=CPU pairs; by default all ask for one vCPU."""
    asked = options.get("ranges", ":=1000").split(",")
    spans = [text.rpartition("=") for text in asked]
    return Nodes(
        count=int(options["nodes"]),
        main=int(options.get("main", 0)),
        ranges=tuple(NodeRange(target_nodes=span, task=task(container(cpu=int(cpu)))) for span, _, cpu in spans),
        fail_together=options.get("together") == "yes",
        spread=Spread(options.get("spread", "IF_POSSIBLE")),
    )


def _weight(text: str) -> ShareWeight:
    """Read ``ID:WEIGHT[:RUNNING[:VCPUS]]``."""
    identifier, weight, *caps = text.split(":")
    running, vcpus = (*map(int, caps), 0, 0)[:2]
    return ShareWeight(share_identifier=identifier, weight_factor=float(weight), max_running=running, max_vcpus=vcpus)


def _share(options: dict[str, str]) -> dict[str, Any]:
    """Read what a quota share is; what is no option is a unit of capacity."""
    fields: dict[str, Any] = {}
    if "borrow" in options:
        fields["borrow_limit"] = int(options.pop("borrow"))
    if "preempts" in options:
        fields["in_share_preemption"] = options.pop("preempts") == "yes"
    if "state" in options:
        fields["state"] = ResourceState(options.pop("state"))
    limits = [CapacityLimit(capacity_unit=unit, max_capacity=int(number)) for unit, number in options.items()]
    return {"capacity_limits": tuple(limits), **fields}


def _quantities(options: dict[str, str]) -> Quantities:
    """Read ``needs.NAME=QUANTITY``."""
    return tuple(sorted((k.removeprefix("needs."), int(v)) for k, v in options.items() if k.startswith("needs.")))


def _milliseconds(span: str) -> int:
    return int(span[:-1]) * {"s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}[span[-1]]


def _rule(text: str) -> ExitRule:
    rule = exit_rule("on_exit", text)
    return ExitRule(
        action=ExitAction(EvaluateOnExitAction.Name(rule.action).rpartition("_")[2]),
        on_status_reason=rule.on_status_reason,
        on_reason=rule.on_reason,
        on_exit_code=rule.on_exit_code,
    )
