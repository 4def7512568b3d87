"""
Host view: what pages show of hosts.

Pure: hosts of the contract in, records for a template out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from batchyard.settings import is_loopback
from batchyard.v1 import host_pb2 as pb
from batchyard.wording import isolation, node_of, sandbox, word, words
from batchyard_gateway.console.writing import amounts

STATES = tuple(words(pb.HostState))
MAP_MAX = 1_000
"""Hosts that a map shows; of more there are pages of a table."""

PORT_DEFAULT = 8470
AGENTS_PORT_DEFAULT = 8472
CELL = 28
"""Side of a map's cell, in its own units."""

_CLOCK_SLACK_MS = 5_000
_MARKS = {
    "READY": "", "CORDONED": "C", "DRAINING": "D", "DRAINED": "d", "UNREACHABLE": "!", "SUSPECTED": "?",
    "RECLAIMED": "R",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence about a host, and the moment that it speaks of (0: none)."""

    text: str
    at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """
    One line of a list of hosts.

    Attributes:
        path: Of its page, below ``hosts/``.
        held: Name, words and per cent of each kind of resource.
        load: Per cent of its CPUs that is busy; None of one that says nothing.
        notes: Why it gets no new work, and what is wrong.
    """

    name: str
    path: str
    state: str
    held: Sequence[tuple[str, str, int]]
    load: int | None
    attempts: int
    runtimes: str
    kind: str
    heard_at_ms: int
    notes: Sequence[Note]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """
    One host of a map.

    Attributes:
        label: All that the cell shows, in words.
        mark: A letter for its state.
        level: Where what is held of its vCPUs begins, from the top.
        gpus: Path of bars above, as high as what is held of each GPU, at most eight; a dot where nothing is.
    """

    path: str
    label: str
    look: str
    mark: str
    level: int
    gpus: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One GPU of a host's page."""

    uuid: str
    model: str
    held: str
    memory: str
    load: int
    fault: str


def state_of(host: pb.Host) -> str:
    """Return the word of a host's state."""
    return word(pb.HostState, host.state)


def rows_of(hosts: Sequence[pb.Host]) -> list[HostRow]:
    """Return the lines of a list."""
    names = Counter(host.facts.name for host in hosts)
    return [row_of(host, is_alone=names[host.facts.name] == 1) for host in hosts]


def row_of(host: pb.Host, *, is_alone: bool = True) -> HostRow:
    """Return the line of a host; of two of one name each has its page by its id."""
    facts = host.facts
    where = [facts.host_type, facts.purchase_option, facts.zone]
    return HostRow(
        name=facts.name,
        path=path_of(host.facts.name, host.id, is_alone=is_alone),
        state=state_of(host),
        held=amounts.held(host.allocated, facts.capacity),
        load=None if host.state == pb.HOST_STATE_UNREACHABLE else host.usage.cpu_percent,
        attempts=host.attempts,
        runtimes=", ".join(facts.runtimes),
        kind=", ".join(filter(None, where)),
        heard_at_ms=host.last_heard_at_ms,
        notes=notes_of(host),
    )


def path_of(name: str, host_id: str, *, is_alone: bool = True) -> str:
    """Return what of a path names a host: its name, or its id where that alone does."""
    return quote(name, safe="") if is_alone and name and "/" not in name and name not in (".", "..") else host_id


def notes_of(host: pb.Host) -> list[Note]:
    """Return why a host gets no new work, and what is wrong with it."""
    notes = []
    if host.state == pb.HOST_STATE_UNREACHABLE:
        notes.append(Note(text="Not heard from since", at_ms=host.last_heard_at_ms))
    if host.replaced_by:
        notes.append(Note(text=f"Its machine joined anew, as {host.replaced_by}; what ran here ends by its fence"))
    if host.reclaimed_at_ms:
        notes.append(Note(text="It is taken away at", at_ms=host.reclaimed_at_ms))
    if host.draining:
        left = f"; attempts that still run: {host.attempts}" if host.attempts else "; nothing runs any more"
        notes.append(Note(text=f"An operator drains it{left}"))
    elif host.cordoned:
        notes.append(Note(text="An operator cordoned it"))
    if host.suspicion:
        notes.append(Note(text=f"Suspected: {host.suspicion}; it gets work again at", at_ms=host.suspected_until_ms))
    return [*notes, *(Note(text=fault) for fault in host.facts.faults)]


def map_of(hosts: Sequence[pb.Host]) -> list[Cell]:
    """Return the cells of a map, a host each."""
    names = Counter(host.facts.name for host in hosts)
    return [_cell(host, is_alone=names[host.facts.name] == 1) for host in hosts]


def _cell(host: pb.Host, *, is_alone: bool) -> Cell:
    state, facts = state_of(host), host.facts
    held = [row for row in amounts.held(host.allocated, facts.capacity) if row[0] != "memory"]
    slots = facts.gpus[:8]
    width = CELL // max(len(slots), 1)
    heights = [max(1, min(8, round(8 * gpu.allocated_millis / 1000))) for gpu in slots]
    bars = [f"M{i * width + 2} 8v-{height}" for i, height in enumerate(heights)]
    room = CELL - (10 if slots else 0)
    return Cell(
        path=path_of(host.facts.name, host.id, is_alone=is_alone),
        label=f"{facts.name}: {state}, {', '.join(f'{words_} {name}' for name, words_, _ in held)}",
        look=state.lower(),
        mark=_MARKS.get(state, "*"),
        level=CELL - round(room * min(held[0][2], 100) / 100),
        gpus="".join(bars),
    )


def gpus_of(host: pb.Host) -> list[GpuRow]:
    """Return a host's GPUs with what they do."""
    latest = {gpu.uuid: gpu for gpu in host.usage.gpus}
    return [_gpu(gpu, latest.get(gpu.uuid, gpu)) for gpu in host.facts.gpus]


def _gpu(gpu: pb.Gpu, latest: pb.Gpu) -> GpuRow:
    return GpuRow(
        uuid=gpu.uuid,
        model=gpu.model,
        held=amounts.millis(gpu.allocated_millis),
        memory=f"{amounts.memory(latest.memory_used_mib)} of {amounts.memory(gpu.memory_mib)}",
        load=latest.utilization_percent,
        fault=gpu.fault or latest.fault,
    )


def _reserved(host: pb.Host) -> str:
    """Say what others than this yard hold of a host; nothing if they hold nothing."""
    held = host.usage.reserved
    parts = [
        f"{amounts.millis(held.cpu_millis)} vCPUs" if held.cpu_millis else "",
        f"{amounts.memory(held.memory_mib)} of memory" if held.memory_mib else "",
        f"{amounts.millis(held.gpu_millis)} GPUs" if held.gpu_millis else "",
    ]
    return ", ".join(filter(None, parts))


def facts_of(host: pb.Host) -> list[tuple[str, str]]:
    """Return what a host is, name by name; what it does not say is left out."""
    facts, usage = host.facts, host.usage
    ahead_ms = usage.wall_ms - host.last_heard_at_ms if usage.wall_ms and host.last_heard_at_ms else 0
    off = f"{abs(ahead_ms) // 1000} s {'ahead of' if ahead_ms > 0 else 'behind'} the controller's"
    pairs = [
        ("Id", host.id),
        ("Type", facts.host_type),
        ("Purchase option", facts.purchase_option),
        ("Platforms", ", ".join(facts.platforms) or "EC2"),
        ("Sandbox", sandbox(facts)),
        ("Node of", node_of(facts)),
        ("Others hold", _reserved(host)),
        ("Zone", facts.zone),
        ("Price", f"{facts.price_per_hour:g} an hour" if facts.price_per_hour else ""),
        ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(facts.labels.items()))),
        ("Runtimes", ", ".join(facts.runtimes)),
        ("Processes", isolation(facts.processes)),
        ("Operating system", facts.operating_system),
        ("CPU", " ".join(filter(None, (facts.cpu_model, facts.cpu_architecture)))),
        ("Busy CPUs", f"{usage.cpu_percent} %"),
        ("Memory in use", amounts.memory(usage.memory_used_mib)),
        ("Disk held", f"{amounts.memory(host.allocated.disk_mib)} of {amounts.memory(facts.capacity.disk_mib)}"),
        ("Disk free", amounts.memory(usage.disk_free_mib) if usage.disk_free_mib else ""),
        ("Clock", off if abs(ahead_ms) >= _CLOCK_SLACK_MS else ""),
        ("Agent", facts.agent_version),
    ]
    return [(name, value) for name, value in pairs if value]


def allowed_by(facts: pb.HostFacts) -> list[tuple[str, str]]:
    """Return what jobs may reach of a host beyond their own container."""
    return [
        ("Folders", ", ".join(facts.volume_paths) or "none"),
        ("Devices", ", ".join(facts.device_paths) or "none"),
        ("Privileged containers", "yes" if facts.allows_privileged else "no"),
    ]


def actions_for(host: pb.Host) -> list[tuple[str, str]]:
    """Return what may be done with a host now: word of the form, and what its button says."""
    actions = []
    if not host.cordoned:
        actions.append(("cordon", "Cordon: no new work"))
    if not host.draining:
        actions.append(("drain", "Drain: no new work, and wait for the last attempt"))
    if host.cordoned or host.draining or host.suspicion:
        actions.append(("uncordon", "Uncordon: give it work again"))
    if host.reclaimed_at_ms and not host.facts.reclaimed_at_ms:
        actions.append(("keep", "It is not taken away after all"))
    return actions


def joining_lines(gateway_host: str) -> tuple[list[str], str]:
    """
    Return how another machine becomes a host, and what is to be done before.

    Args:
        gateway_host: By which name the browser knows this machine, on which the controller runs too.
    """
    here = gateway_host if gateway_host and not is_loopback(f"{gateway_host}:1") else "CONTROLLER"
    address = f"{here}:{PORT_DEFAULT}"
    lines = [
        "(umask 077; echo TOKEN > /etc/batchyard/join-token)",
        f"echo BATCHYARD_AGENT_CONTROLLER={address} >> /etc/batchyard/agent.env",
        "systemctl enable --now batchyard-agent",
    ]
    before = (
        "TOKEN is what `batchyard join-token create` writes on the controller's machine; it is good for one host and "
        "an hour. If the controller has no ports for other machines yet, put there "
        f"BATCHYARD_CONTROLLER_LISTEN={address} and BATCHYARD_CONTROLLER_LISTEN_AGENTS={here}:{AGENTS_PORT_DEFAULT} "
        "into /etc/batchyard/controller.env and start it again."
    )
    if here == "CONTROLLER":
        before += " CONTROLLER stands for that machine's address."
    return lines, before
