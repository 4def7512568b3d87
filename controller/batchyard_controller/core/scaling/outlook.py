"""Outlook: what an environment that scales says to a job that waits, and of itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batchyard_controller.core.model.launches import Launch, LaunchState
from batchyard_controller.core.model.settings import ComputeEnvironment, ResourceState
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.placement.refusals import Block, Refusal

from .memory import Memory, Tally
from .supply import could_run, needs_of, room_of, times
from .types import may_exceed

KIND = "scaling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    How an environment with a provider stands.

    Attributes:
        last_failure: Why no host is launched now, or was not at the last try; empty when one has joined since.
        next_try_at_ms: When the next is; 0 without a failure.
    """

    running_hosts: int = 0
    running_cpu_millis: int = 0
    launching_hosts: int = 0
    launching_cpu_millis: int = 0
    stopping_hosts: int = 0
    last_failure: str = ""
    last_failure_at_ms: int = 0
    next_try_at_ms: int = 0

    def desired_vcpus(self, environment: ComputeEnvironment) -> int:
        """Return with how many vCPUs there are to be hosts now (AWS: desiredvCpus)."""
        resources, there = environment.compute_resources, self.running_cpu_millis + self.launching_cpu_millis
        least = resources.min_vcpus if environment.state is ResourceState.ENABLED else 0
        return max(least, resources.desired_vcpus, -(-there // 1000))


def standing(environment: ComputeEnvironment, launches: Iterable[Launch], memory: Memory) -> Standing:
    """Count the launches of an environment, and tell its last failure."""
    own = [launch for launch in launches if launch.environment == environment.name]
    running = [each for each in own if each.is_wanted and each.state is LaunchState.JOINED]
    launching = [each for each in own if each.is_under_way]
    troubles = memory.troubles_of(environment.name)
    host_type = max(troubles, key=lambda name: troubles[name].at_boot_ms, default="")
    last = troubles.get(host_type)
    return Standing(
        running_hosts=len(running),
        running_cpu_millis=sum(each.cpu_millis for each in running),
        launching_hosts=len(launching),
        launching_cpu_millis=sum(each.cpu_millis for each in launching),
        stopping_hosts=sum(not each.is_wanted for each in own),
        last_failure=f"type {host_type}: {last.reason}" if last is not None else "",
        last_failure_at_ms=last.at_ms if last is not None else 0,
        next_try_at_ms=last.next_try_ms if last is not None else 0,
    )


def outlook(
    shape: Shape, environments: Iterable[ComputeEnvironment], launches: Iterable[Launch], memory: Memory
) -> tuple[Refusal, ...]:
    """Say what environments with a provider do for a shape that waits; nothing of those that have none."""
    own = [each for each in environments if each.has_provider and each.state is ResourceState.ENABLED]
    return tuple(_outlook(shape, environment, memory.tally(environment.name, launches), memory) for environment in own)


def _outlook(shape: Shape, environment: ComputeEnvironment, tally: Tally, memory: Memory) -> Refusal:
    resources = environment.compute_resources
    catalogue = memory.catalogues.get(resources.provider)
    if catalogue is None:
        text = f"compute environment {environment.name}: provider {resources.provider} is not configured"
        return Refusal(kind=KIND, message=text, block=Block.NO_HOST_SELECTED)
    fits = [
        each.name
        for each in catalogue.chosen(resources)
        if (facts := memory.facts_of(resources.provider, each.name)) is not None
        and all(int(times(room_of(facts), needs_of(one.resources))) for one in shape.singles)
        and all(could_run(facts, one) for one in shape.singles)
        and each.is_affordable(resources)
        and (may_exceed(resources) or each.facts.capacity.cpu_millis <= resources.max_vcpus * 1000)
    ]
    if not fits or shape.resources.cpu_millis > resources.max_vcpus * 1000:
        text = (
            f"compute environment {environment.name} launches no type of host that could ever fit it "
            f"within {resources.max_vcpus} vCPUs"
        )
        return Refusal(kind=KIND, message=text, block=Block.BEYOND_HOSTS)
    text = f"compute environment {environment.name} " + (
        _launching(tally) or _failed(environment, fits, memory) or _at_bound(environment, tally)
    )
    return Refusal(kind=KIND, message=text, block=Block.NO_CAPACITY)


def _launching(tally: Tally) -> str:
    names = " and ".join(
        f"{number} host{'s' * (number > 1)} (type {name})" for name, number in sorted(tally.under_way.items())
    )
    return f"is launching {names}" if names else ""


def _failed(environment: ComputeEnvironment, fits: list[str], memory: Memory) -> str:
    troubles = memory.troubles_of(environment.name)
    if not all(name in troubles for name in fits):
        return ""
    name = min(fits, key=lambda each: troubles[each].until_boot_ms)
    left_s = max(0, troubles[name].until_boot_ms - memory.boot_ms + 999) // 1000
    provider = environment.compute_resources.provider
    return f"launches nothing now: provider {provider} failed (type {name}: {troubles[name].reason}); next try in {left_s} s"


def _at_bound(environment: ComputeEnvironment, tally: Tally) -> str:
    bound = environment.compute_resources.max_vcpus
    return f"has hosts of {tally.cpu_millis / 1000:.10g} vCPUs, of {bound} at most"
