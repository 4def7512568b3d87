"""Explain: why a shape cannot be placed now, per resource: what is asked, what there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np

from batchyard.resources import GPU_WHOLE, RESOURCE_KINDS
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState

from .bounds import block_of, bound_refusals
from .feasibility import NO_ACCESS, Access, allows, exclusion, gpu_text, not_allowed, offers, suits, wished_gpus
from .fleet import CPU, GPU, STARTS, Fleet, row_of
from .gang_explain import gang_block, gang_refusals
from .gpus import kinds_of
from .kinds import Mask
from .line import NOBODY, Line, Shape
from .quotas import quota_refusals
from .refusals import UNITS, Block, Refusal
from .room import amounts_for, could_take, has_room, have_gpus, needs_of, on_demand_of, vcpus_left, wanted_hosts
from .strategies import WAITING, Amounts

_HOSTS_SHOWN = 10
STAYS_ON_SPOT = "; its spot_attempts are used up, but its queue has no on-demand environment: it stays on spot"
NEVER = "; no host known now could ever fit it"
ROOM = "room"
"""Kind of what is no refusal: that it is yet to be asked."""
_ROOM = Refusal(kind=ROOM, message="a host has room for it: it is tried when its turn comes")


def explain_line(line: Line, environments: tuple[ComputeEnvironment, ...], fleet: Fleet) -> tuple[Refusal, ...]:
    """Say why those in a line wait; reckoned once for as long as nothing changes."""
    version = fleet.changes.count, fleet.grown
    if line.explained_at != version:
        line.refusals, line.explained_at = explain(line.shape, environments, fleet), version
    return line.refusals


def explain(shape: Shape, environments: tuple[ComputeEnvironment, ...], fleet: Fleet) -> tuple[Refusal, ...]:
    """Say, per resource, what a job of *shape* asks for and what there is."""
    enabled = [e for e in environments if e.state is ResourceState.ENABLED]
    if not enabled:
        text = f"every compute environment of the queue is DISABLED ({_names(environments)})"
        return (Refusal(kind="environments", message=text, block=Block.ENVIRONMENTS_DISABLED),)
    suiting = [e for e in enabled if suits(e, shape.access)]
    if not suiting:
        has, runs = " and ".join(shape.access.platforms), enabled[0].compute_resources.type.platform
        text = f"it can run on {has} alone, but the compute environments of the queue are of {runs} ({_names(enabled)})"
        return (Refusal(kind="environments", message=text, block=Block.NO_HOST_SELECTED),)
    enabled = suiting
    if shape.parts:
        return _explain_gang(shape, enabled, fleet)
    member = _members(fleet, enabled, shape.runtime, shape.access)
    bounds = bound_refusals(fleet.bounds, shape)
    if fleet.quotas.of(shape.queue) is not None:
        types = {fleet.facts[row].host_type for row in np.nonzero(member)[0].tolist()}
        bounds += quota_refusals(fleet.quotas, shape, sorted(types))
    block = block_of(bounds, _block(shape, enabled, fleet, member))
    of_hosts = [r for r in _refusals(shape, enabled, fleet, member) if r is not _ROOM or not bounds]
    refusals = [replace(refusal, block=block) for refusal in (*bounds, *of_hosts)]
    if shape.on_demand and not on_demand_of(environments):
        refusals[-1] = replace(refusals[-1], message=refusals[-1].message + STAYS_ON_SPOT)
    return tuple(refusals)


def _names(environments: Iterable[ComputeEnvironment]) -> str:
    return ", ".join(environment.name for environment in environments)


def _explain_gang(shape: Shape, enabled: list[ComputeEnvironment], fleet: Fleet) -> tuple[Refusal, ...]:
    """Say what the nodes of a job lack: hosts at all, bounds, or enough hosts with room."""
    bounds = bound_refusals(fleet.bounds, shape)
    if fleet.quotas.of(shape.queue) is not None:
        bounds += quota_refusals(fleet.quotas, shape, ())
    of_hosts: tuple[Refusal, ...] = ()
    block = gang_block(shape, enabled, fleet) or Block.NO_CAPACITY
    for each in shape.singles:
        member = _members(fleet, enabled, each.runtime, each.access)
        if not (member & fleet.usable).any():
            of_hosts = (_no_host(each, enabled, fleet, member),)
            if block is not Block.BEYOND_ENVIRONMENTS:
                block = _block(each, enabled, fleet, member)
            break
    of_hosts = of_hosts or gang_refusals(shape, enabled, fleet)
    block_of_all = block_of(bounds, block)
    return tuple(replace(refusal, block=block_of_all) for refusal in ((*bounds, *of_hosts) or (_ROOM,)))


def _members(fleet: Fleet, environments: list[ComputeEnvironment], runtime: str, access: Access = NO_ACCESS) -> Mask:
    """Return which hosts belong to any of the environments and allow a runtime, empty for any, and the access."""
    member: Mask = np.zeros(len(fleet.ids), dtype=np.bool_)
    for environment in environments:
        member |= fleet.members(environment, runtime, access)
    return member


def _block(shape: Shape, enabled: list[ComputeEnvironment], fleet: Fleet, member: Mask) -> Block:
    """
    Say why a job that asks for so much is not placed.

    Tools kill a job on sight of JOB_RESOURCE_REQUIREMENT, so it is said only when no
    registered host could take the job if it were here, empty and sound.
    """
    asked = row_of(shape.resources)
    if all(0 < e.compute_resources.max_vcpus * 1000 < asked[CPU] for e in enabled):
        return Block.BEYOND_ENVIRONMENTS
    if fleet.ids and not member.any():
        selected = np.nonzero(_members(fleet, enabled, ""))[0].tolist()
        if not selected:
            return Block.NO_HOST_SELECTED
        may_change = any(_may_offer_again(fleet, row, shape.runtime) for row in selected)
        return Block.UNDETERMINED if may_change else Block.BEYOND_HOSTS
    capacity = fleet.capacity[:, member]
    if asked[GPU]:
        wanted = (filter(shape.access.wants, fleet.facts[row].gpus) for row in np.nonzero(member)[0].tolist())
        capacity[GPU] = [GPU_WHOLE * len([*gpus]) for gpus in wanted]
    if fleet.ids and not (capacity >= asked[:, np.newaxis]).all(axis=0).any():
        return Block.BEYOND_HOSTS
    return Block.NO_CAPACITY


def _refusals(shape: Shape, enabled: list[ComputeEnvironment], fleet: Fleet, member: Mask) -> tuple[Refusal, ...]:
    wanted = wanted_hosts(fleet, shape, enabled)
    ready = member & fleet.usable if wanted is None else member & fleet.usable & wanted
    if not ready.any():
        return (_no_host(shape, enabled, fleet, member),)
    asked, (free, capacity) = row_of(shape.resources), amounts_for(fleet, shape)
    rooms = [_rooms(shape, environment, fleet, wanted) for environment in enabled]
    if any((room & ~dearer).any() for room, dearer in rooms):
        return (_ROOM,)
    refusals = [
        _amount_refusal(kind, int(asked[i]), free[i, ready], capacity[i, member], _held_by_others(fleet, i, ready))
        for i, kind in enumerate(RESOURCE_KINDS)
        if asked[i] > max(0, int(free[i, ready].max()))
    ]
    refusals = [_with_hosts(refusal, shape, enabled, fleet, member, wanted) for refusal in refusals]
    for environment in enabled:
        if vcpus_left(fleet.environment_cpu, environment) < asked[CPU]:
            bound = environment.compute_resources.max_vcpus
            refusals.append(
                Refusal(
                    kind="max_vcpus",
                    message=f"compute environment {environment.name} is at its bound of {bound} vCPUs",
                    asked=int(asked[CPU]),
                    free=max(0, vcpus_left(fleet.environment_cpu, environment)),
                    largest_free=max(0, vcpus_left(fleet.environment_cpu, environment)),
                    largest_capacity=bound * 1000,
                )
            )
    for environment, (room, _) in zip(enabled, rooms, strict=True):
        if room.any():
            text = f"compute environment {environment.name} waits for the cheapest host that could take it (BEST_FIT)"
            refusals.append(Refusal(kind="hosts", message=f"{text}: those that have room cost more", asked=1))
    return tuple(refusals) or (_no_single_host(fleet, ready & (free >= asked[:, np.newaxis]).all(axis=0), ready),)


def _rooms(shape: Shape, environment: ComputeEnvironment, fleet: Fleet, wanted: Mask | None) -> tuple[Mask, Mask]:
    """Say which hosts have room in an environment, and which of all are dearer than it takes."""
    allowed = fleet.members(environment, shape.runtime, shape.access)
    room = has_room(fleet.state, needs_of(shape), allowed if wanted is None else allowed & wanted)
    dearer = np.zeros(len(fleet.ids), dtype=np.bool_)
    if vcpus_left(fleet.environment_cpu, environment) < shape.resources.cpu_millis:
        return dearer, dearer
    room = have_gpus(fleet, room, np.arange(len(room)), shape, fleet.gpu_free.__getitem__)
    if environment.compute_resources.allocation_strategy in WAITING:
        price = np.array([facts.price_per_hour for facts in fleet.facts])
        hosts = allowed & fleet.hopeful
        able = could_take(fleet, shape, hosts if wanted is None else hosts & wanted)
        dearer = price > price.min(where=able, initial=np.inf)
    return room, dearer


def _no_host(shape: Shape, environments: list[ComputeEnvironment], fleet: Fleet, member: Mask) -> Refusal:
    names = _names(environments)
    members = int(member.sum())
    others = np.nonzero(_members(fleet, environments, shape.runtime))[0].tolist()
    if others and not members:
        text = not_allowed(shape.access, (fleet.facts[row] for row in others))
    elif members:
        text = f"none of the {members} hosts of {names} with runtime {shape.runtime} takes work now: "
        text += _shortened(
            [
                f"{fleet.facts[row].name} {fleet.away[row] or _avoided(fleet, row, shape)}"
                for row in np.nonzero(member)[0].tolist()
            ]
        )
    else:
        text = f"no host belongs to {names} and offers runtime {shape.runtime}"
        outside = _outsiders(shape, environments, fleet, member)
        text += f"; {outside}" if outside else ""
    return Refusal(kind="hosts", message=text, asked=1, largest_capacity=members)


def _avoided(fleet: Fleet, row: int, shape: Shape) -> str:
    if shape.on_demand and fleet.facts[row].purchase_option == "spot":
        return "is spot, and was reclaimed as often under it as its spot_attempts allow"
    lacks = fleet.ids[row] in fleet.lacking.get(shape.image, NOBODY)
    return "could not get its image" if lacks else "failed it before"


def _may_offer_again(fleet: Fleet, row: int, runtime: str) -> bool:
    """Say whether a host may offer a runtime that it lacks only as something of it is not sound."""
    facts = fleet.facts[row]
    return bool(facts.faults) and bool(fleet.usable[row]) and not offers(facts, runtime)


def _with_hosts(
    refusal: Refusal,
    shape: Shape,
    environments: list[ComputeEnvironment],
    fleet: Fleet,
    member: Mask,
    wanted: Mask | None,
) -> Refusal:
    """Add to a refusal for an amount which hosts do not count, where that may be why there is none with so much."""
    text = refusal.message
    if refusal.kind == "gpu_millis" and shape.access.chooses_gpus:
        text += f"; only GPUs {wished_gpus(shape.access)} count{_other_gpus(shape, environments, fleet, member)}"
    if refusal.asked > refusal.largest_capacity:
        outside = _outsiders(shape, environments, fleet, member)
        text += f"; none of this queue's environments could ever fit it; {outside}" if outside else NEVER
    elif wanted is not None:
        passed = np.nonzero(member & fleet.usable & ~wanted)[0].tolist()
        names = [f"{fleet.facts[row].name} {_avoided(fleet, row, shape)}" for row in passed]
        text += f"; passed over: {_shortened(names)}" if names else ""
    return replace(refusal, message=text)


def _other_gpus(shape: Shape, environments: list[ComputeEnvironment], fleet: Fleet, member: Mask) -> str:
    """Say which hosts would count but for the kinds of their GPUs."""
    others = _members(fleet, environments, shape.runtime) & ~member & (fleet.capacity[GPU] > 0)
    texts = [
        f"{fleet.facts[row].name} ({', '.join(map(gpu_text, kinds_of(fleet.facts[row].gpus)))})"
        for row in np.nonzero(others)[0].tolist()
        if not any(map(shape.access.wants, fleet.facts[row].gpus))
    ]
    return f", {len(texts)} hosts have others: {_shortened(texts)}" if texts else ""


def _shortened(texts: list[str]) -> str:
    more = f" and {len(texts) - _HOSTS_SHOWN} more" if len(texts) > _HOSTS_SHOWN else ""
    return ", ".join(texts[:_HOSTS_SHOWN]) + more


def _no_single_host(fleet: Fleet, fits: Mask, ready: Mask) -> Refusal:
    hosts = int(ready.sum())
    if (fits & (fleet.state[STARTS] <= 0)).any():
        text = (
            "a host has room for it, but has yet to show that it can start jobs: few starts are under way there at once"
        )
    else:
        text = f"each amount is free on some of the {hosts} hosts, but no single host has all of them free"
    return Refusal(kind="hosts", message=text, asked=1, largest_capacity=hosts)


def _outsiders(shape: Shape, environments: list[ComputeEnvironment], fleet: Fleet, member: Mask) -> str:
    """Say which hosts could take a job if an environment of its queue had them, and why none has."""
    _, capacity = amounts_for(fleet, shape)
    fits = ~member & (capacity >= row_of(shape.resources)[:, np.newaxis]).all(axis=0)
    rows = (row for row in np.nonzero(fits)[0].tolist() if _could_run(fleet.facts[row], shape))
    return "; ".join(
        f"host {fleet.facts[row].name} is excluded because {_exclusions(fleet.facts[row], environments)}"
        for row in islice(rows, _HOSTS_SHOWN)
    )


def _could_run(facts: HostFacts, shape: Shape) -> bool:
    return offers(facts, shape.runtime) and allows(facts, shape.access)


def _exclusions(facts: HostFacts, environments: list[ComputeEnvironment]) -> str:
    reasons: dict[str, list[str]] = {}
    for environment in environments:
        excluded = exclusion(facts, environment)
        reasons.setdefault(excluded.text if excluded is not None else "", []).append(environment.name)
    if len(reasons) == 1:
        return next(iter(reasons))
    return ", ".join(f"{reason} ({', '.join(names)})" for reason, names in reasons.items())


def _held_by_others(fleet: Fleet, amount: int, ready: Mask) -> str:
    """Say what others than this yard hold of hosts; nothing if they hold nothing."""
    held = int(fleet.reserved[amount, ready].sum())
    if not held:
        return ""
    per_unit, unit = UNITS[RESOURCE_KINDS[amount]]
    are_nodes = all(fleet.facts[row].kubernetes is not None for row in np.nonzero(ready)[0].tolist())
    return f"; {held / per_unit:.10g} {unit} of these hosts held by {'other pods' if are_nodes else 'others'}"


def _amount_refusal(kind: str, asked: int, free: Amounts, capacity: Amounts, others: str) -> Refusal:
    per_unit, unit = UNITS[kind]
    largest, most_free = int(capacity.max()), max(0, int(free.max()))
    text = (
        f"{asked / per_unit:.10g} {unit} asked, at most {most_free / per_unit:.10g} free on one host "
        f"(largest host: {largest / per_unit:.10g}){others}"
    )
    return Refusal(
        kind=kind,
        message=text,
        asked=asked,
        free=int(np.maximum(free, 0).sum()),
        largest_free=most_free,
        largest_capacity=largest,
    )
