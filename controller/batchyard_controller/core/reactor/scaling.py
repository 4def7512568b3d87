"""What follows for launches: from time, from hosts that join, and from what providers say."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from batchyard.ids import HostId
from batchyard_controller.core import limits
from batchyard_controller.core.commands import EndSession
from batchyard_controller.core.events import ProviderAnswered, ProviderListed
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.model.launches import Launch, LaunchState, environment_of, launch_id_of
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.scaling.capacity import Situation, decide
from batchyard_controller.core.scaling.orders import Operation, is_used
from batchyard_controller.core.world import records
from batchyard_controller.core.world.world import World

from . import adoption
from .progress import Out


def scale(world: World, now: Instant) -> None:
    """Launch and stop hosts as what waits asks; providers read what is stored of it."""
    world.scaling.boot_ms = now.boot_ms
    world.scaling.forget_environments(world.environments)
    decision = decide(
        Situation(
            launches=world.launches,
            hosts=world.hosts,
            spared=world.spared,
            environments=world.environments,
            queues=world.queues,
            lines=world.lines,
            fleet=world.fleet,
            memory=world.scaling,
            now=now,
        )
    )
    for stop in decision.stops:
        _retire(world, world.launches[stop.launch_id], stop.reason, now, is_failure=stop.is_failure)
    for launch in decision.launches:
        assert launch.id not in world.launches, "ids of launches are never used again"
        world.scaling.watch(launch, now)
        records.keep_launch(world, launch)
    for name in decision.reached:
        environment = world.environments[name]
        resources = replace(environment.compute_resources, desired_vcpus=0)
        resized = replace(environment, compute_resources=resources)
        records.keep_plain(world, "environment", environment.name, resized)


def _retire(world: World, launch: Launch, reason: str, now: Instant, *, is_failure: bool) -> None:
    """Give a launch's host no more work, and have it stopped when nothing runs there."""
    if is_failure:
        world.scaling.note_failure(launch, reason, now)
    records.keep_launch(world, replace(launch, stop_reason=reason))


def note_joined(world: World, host: Host, now: Instant) -> None:
    """Note that the host of a launch has joined, if it is the first that says so; one of a launch that is over is stopped."""
    launch = world.launches.get(launch_id_of(host.record.facts)) or _late(world, host, now)
    if launch is None or launch.host_id:
        return
    if launch.is_wanted:
        world.scaling.note_joined(launch, host.record.facts, now)
    records.keep_launch(world, replace(launch, state=LaunchState.JOINED, host_id=host.record.id))


def _late(world: World, host: Host, now: Instant) -> Launch | None:
    """Return a launch for a host that came to be after it was stopped, as by a provider that was interrupted."""
    facts = host.record.facts
    environment = world.environments.get(environment_of(facts))
    if not launch_id_of(facts) or environment is None or not environment.has_provider:
        return None
    return Launch(
        id=launch_id_of(facts),
        environment=environment.name,
        provider=environment.compute_resources.provider,
        host_type=facts.host_type,
        cpu_millis=facts.capacity.cpu_millis,
        purchase_option=facts.purchase_option,
        asked_at_ms=now.wall_ms,
        stop_reason="its launch is over",
    )


def on_provider_heard(world: World, event: ProviderAnswered | ProviderListed, now: Instant, out: Out) -> None:
    """Believe a provider about the launches that it was asked for."""
    match event:
        case ProviderAnswered():
            launch = world.launches.get(event.launch_id)
            if launch is not None and event.operation is Operation.STOP:
                _on_stopped(world, launch, event.error, now, out)
            elif launch is not None and launch.state is LaunchState.ASKED:
                _on_launched(world, launch, event.error, now)
        case ProviderListed():
            for launch in [world.launches[each] for each in sorted(event.missing) if each in world.launches]:
                _on_missing(world, launch, now)
        case _:
            assert_never(event)


def _on_launched(world: World, launch: Launch, error: str, now: Instant) -> None:
    if not error:
        records.keep_launch(world, replace(launch, state=LaunchState.LAUNCHED))
    elif launch.is_wanted:
        # Something of it may be there all the same, so it is stopped as well.
        _retire(world, launch, f"it could not be launched: {error}", now, is_failure=True)


def _on_stopped(world: World, launch: Launch, error: str, now: Instant, out: Out) -> None:
    host = world.hosts.get(HostId(launch.host_id))
    if error:
        world.scaling.note_stop_failed(launch, now)
    elif host is None or not is_used(host, world.spared):
        records.drop_launch(world, launch.id)
        if host is not None:
            if host.is_reachable:
                out.append(EndSession(host.record.id, host.session, is_stopped=True))
            records.drop_host(world, host, now.wall_ms)


def _on_missing(world: World, launch: Launch, now: Instant) -> None:
    """Believe that a host is gone which is silent, too: a provider that lost its books says so of all."""
    host = world.hosts.get(HostId(launch.host_id))
    if host is not None:
        if host.is_reachable or not host.is_silent(now, limits.CONTACT_LIMIT_MS):
            return
        host.is_missing = True
        adoption.on_gone(world, host.record.id)
    if launch.is_wanted:
        is_failure = launch.state is not LaunchState.JOINED
        text = "it ended before its agent joined" if is_failure else "its provider has it no more"
        _retire(world, launch, text, now, is_failure=is_failure)
