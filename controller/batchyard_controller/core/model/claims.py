"""
Claims: what a host that has joined may not say of itself alone, as jobs, and their secrets, go by it.

What it said when it joined counts, as whoever gave it a join token let it in with that. What
it says later and would bring it more, or other, jobs waits for an operator (Kubernetes'
NodeRestriction is stricter with labels and believes all capacity). It must never know a
world: a record comes in, and the record that follows goes out.
"""

from __future__ import annotations

from dataclasses import replace

from batchyard.pairs import Pairs
from batchyard.resources import GPU_WHOLE, Resources

from .hosts import PLATFORMS_DEFAULT, GpuFacts, HostFacts, HostRecord

OWN_PREFIX = "agent/"
"""Labels whose names begin so are a host's own to make and change."""
GROWTH_PERCENT = 25
"""Ours: so much more CPU or memory than was approved is no jump; a machine's memory differs from boot to boot."""


def believed(record: HostRecord, told: HostFacts) -> HostRecord:
    """
    Return the record of a host that nobody has to approve: on the controller's own machine.

    Args:
        record: As it was.
        told: What its agent says.
    """
    return replace(record, facts=told, approved=None, awaiting=None)


def judged(record: HostRecord, told: HostFacts) -> HostRecord:
    """
    Return the record of a host that has joined: what has to be approved is as it was, and waits.

    Args:
        record: As it was.
        told: What its agent says.
    """
    known, approved = record.facts, record.approved or _ceiling(record.facts)
    gpus = _gpus(known, told, approved.gpu_millis // GPU_WHOLE)
    sound = GPU_WHOLE * sum(not gpu.fault for gpu in gpus)
    capacity = replace(
        told.capacity,
        cpu_millis=_amount(approved.cpu_millis, told.capacity.cpu_millis),
        memory_mib=_amount(approved.memory_mib, told.capacity.memory_mib),
        gpu_millis=told.capacity.gpu_millis if gpus == told.gpus else min(told.capacity.gpu_millis, sound),
    )
    facts = replace(
        told,
        capacity=capacity,
        gpus=gpus,
        labels=_labels(known.labels, told.labels),
        host_type=known.host_type,
        platforms=told.platforms if _platforms(told) <= _platforms(known) else known.platforms,
    )
    return replace(record, facts=facts, approved=approved, awaiting=None if facts == told else told)


def approved(record: HostRecord) -> HostRecord:
    """Return the record of a host of which an operator has approved what waits."""
    assert record.awaiting is not None, "something waits"
    return replace(record, facts=record.awaiting, approved=_ceiling(record.awaiting), awaiting=None)


def awaited(record: HostRecord) -> tuple[str, ...]:
    """Say what of a host waits to be approved, and what counts meanwhile."""
    told, counts = record.awaiting, record.facts
    if told is None:
        return ()
    more, less = told.capacity, counts.capacity
    texts = [
        f"{more.cpu_millis / 1000:.10g} vCPUs, not {less.cpu_millis / 1000:.10g}" * (more.cpu_millis > less.cpu_millis),
        f"{more.memory_mib} MiB of memory, not {less.memory_mib}" * (more.memory_mib > less.memory_mib),
        f"{len(told.gpus)} GPUs, not {len(counts.gpus)}" * (len(told.gpus) > len(counts.gpus)),
        *(f"label {name}={value}" for name, value in told.labels if (name, value) not in counts.labels),
        f"type {told.host_type}, not {counts.host_type}" * (told.host_type != counts.host_type),
        f"platforms {', '.join(told.platforms)}" * (told.platforms != counts.platforms),
    ]
    return tuple(filter(None, texts))


def _ceiling(facts: HostFacts) -> Resources:
    """Return the amounts up to which a host is believed."""
    return replace(facts.capacity, gpu_millis=GPU_WHOLE * len(facts.gpus))


def _amount(approved: int, told: int) -> int:
    return told if told * 100 <= approved * (100 + GROWTH_PERCENT) else approved


def _gpus(known: HostFacts, told: HostFacts, most: int) -> tuple[GpuFacts, ...]:
    """Return at most so many of the GPUs, in their order, those that were known before others."""
    if len(told.gpus) <= most:
        return told.gpus
    uuids = {gpu.uuid for gpu in known.gpus}
    chosen = sorted(told.gpus, key=lambda gpu: gpu.uuid not in uuids)[:most]
    return tuple(gpu for gpu in told.gpus if gpu in chosen)


def _labels(known: Pairs, told: Pairs) -> Pairs:
    """Return the labels that count: own ones as told, others only as they were; one may be left out."""
    before = dict(known)
    own = ((name, value) for name, value in told if name.startswith(OWN_PREFIX))
    kept = ((name, before[name]) for name, _ in told if name in before and not name.startswith(OWN_PREFIX))
    return tuple(sorted((*own, *kept)))


def _platforms(facts: HostFacts) -> frozenset[str]:
    return frozenset(facts.platforms or PLATFORMS_DEFAULT)
