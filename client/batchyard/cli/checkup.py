"""
Checkup: what a yard lacks so that jobs run, and what to do about it.

Pure: what was found in, findings out. Each is about one thing, and the advice is a command
where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchyard.v1.compute_environment_pb2 import ComputeEnvironment
    from batchyard.v1.host_pb2 import Host, StoreRoom, SummarizeHostsResponse
    from batchyard.v1.job_queue_pb2 import JobQueue

OK, WARNING, FAULT = "ok", "warning", "fault"

DISK_FREE_MIB_MIN = 1024
CLOCK_OFF_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    grade: str
    about: str
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """
    What was found of a yard.

    Attributes:
        version: Of this program.
    """

    version: str
    hosts: Sequence[Host]
    queues: Sequence[JobQueue]
    environments: Sequence[ComputeEnvironment]
    summary: SummarizeHostsResponse


BRAKE_ADVICE = "they are waited for beyond their fences; if they are gone: batchyard host release-brake"


def brake_text(summary: SummarizeHostsResponse) -> str:
    """Say that many hosts fell silent at once; nothing where they have not."""
    brake = summary.brake
    return f"{brake.silent} of {brake.hosts} hosts fell silent at once" if summary.HasField("brake") else ""


def findings(yard: Yard) -> Iterator[Finding]:
    """Yield what is well and what is not, from what all need to what some want."""
    yield from _store(yard.summary.store)
    yield from _places(yard)
    yield from _hosts(yard)
    if text := brake_text(yard.summary):
        yield Finding(grade=WARNING, about="hosts", text=text, advice=BRAKE_ADVICE)
    yield from _docker(yard)
    for host in yard.hosts:
        yield from _of_host(host, yard.version)


def _store(store: StoreRoom) -> Iterator[Finding]:
    if not store.quota_bytes:  # not measured yet
        return
    text = f"{store.used_bytes >> 20} of at most {store.quota_bytes >> 20} MiB"
    if store.fault:
        grade = FAULT if store.is_tight else WARNING
        yield Finding(grade=grade, about="store", text=store.fault, advice="docs/operations.md, When the store fills")
    else:
        yield Finding(grade=OK, about="store", text=text)


def _places(yard: Yard) -> Iterator[Finding]:
    enabled = [queue for queue in yard.queues if _is_enabled(queue)]
    if not yard.environments:
        yield _fault("environments", "there is no compute environment", "batchyard compute-environment create NAME")
    if not enabled:
        what = "is no job queue" if not yard.queues else "is none that is ENABLED"
        yield _fault("queues", f"there {what}", "batchyard queue create NAME --compute-environment NAME")
    else:
        yield Finding(grade=OK, about="queues", text=f"{len(enabled)} take jobs")
    off = {each.name for each in yard.environments if not _is_enabled(each)}
    for queue in enabled:
        names = [each.compute_environment for each in queue.compute_environment_order]
        if names and off.issuperset(names):
            text = f"{queue.name} has no environment that is ENABLED"
            yield _fault("queues", text, f"batchyard compute-environment update {names[0]} --state enabled")


def _hosts(yard: Yard) -> Iterator[Finding]:
    ready = [host for host in yard.hosts if _state(host) == "READY"]
    if not yard.hosts:
        yield _fault("hosts", "no host has ever joined", "on each host: batchyard agent --controller ADDRESS")
    elif not ready:
        yield _fault("hosts", f"none of {len(yard.hosts)} takes work", "batchyard hosts")
    else:
        yield Finding(grade=OK, about="hosts", text=f"{len(ready)} of {len(yard.hosts)} take work")


def _docker(yard: Yard) -> Iterator[Finding]:
    offering = [host for host in yard.hosts if "docker" in host.facts.runtimes]
    if yard.hosts and not offering:
        advice = "jobs with an image wait: install Docker on a host and start its agent with --runtimes docker,process"
        yield Finding(grade=WARNING, about="docker", text="no host offers it", advice=advice)
    elif offering:
        yield Finding(grade=OK, about="docker", text=f"{len(offering)} of {len(yard.hosts)} hosts offer it")


def _of_host(host: Host, version: str) -> Iterator[Finding]:
    name, usage = host.facts.name, host.usage
    about = f"host {name}"
    if _state(host) == "UNREACHABLE":
        advice = f"see whether its agent runs; of a host that is gone: batchyard host remove {name}"
        yield Finding(grade=WARNING, about=about, text="is not heard from", advice=advice)
        return
    if _state(host) != "READY":
        yield Finding(grade=WARNING, about=about, text=f"is {_state(host)}", advice=f"batchyard uncordon {name}")
    for fault in host.facts.faults:
        yield Finding(grade=WARNING, about=about, text=fault)
    if host.facts.agent_version and host.facts.agent_version != version:
        text = f"its agent is {host.facts.agent_version}, this program {version}"
        yield Finding(grade=WARNING, about=about, text=text, advice="docs/operations.md, Upgrade")
    ahead_ms = usage.wall_ms - host.last_heard_at_ms if usage.wall_ms and host.last_heard_at_ms else 0
    if abs(ahead_ms) > CLOCK_OFF_MS:
        text = f"its clock is {abs(ahead_ms) / 1000:.0f} s {'ahead' if ahead_ms > 0 else 'behind'}"
        yield Finding(grade=WARNING, about=about, text=text, advice="have both machines ask an NTP server")
    if 0 < usage.disk_free_mib < DISK_FREE_MIB_MIN:
        text = f"{usage.disk_free_mib} MiB are free on its disk"
        yield Finding(
            grade=WARNING, about=about, text=text, advice="make room, or give the agent a larger --scratch-dir"
        )


def _fault(about: str, text: str, advice: str) -> Finding:
    return Finding(grade=FAULT, about=about, text=text, advice=advice)


def _state(host: Host) -> str:
    from batchyard.v1.host_pb2 import HostState
    from batchyard.wording import word

    return word(HostState, host.state)


def _is_enabled(row: JobQueue | ComputeEnvironment) -> bool:
    from batchyard.v1.compute_environment_pb2 import ResourceState
    from batchyard.wording import word

    return word(ResourceState, row.state) == "ENABLED"
