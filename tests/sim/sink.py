"""
Between a leader's driver and its sessions: looks at its world after each commit, and at all that is sent.

I6 for what a leader holds, B for whom it gives up, H for whom it claims work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from batchyard.ids import HostId
from batchyard_controller.core import limits
from batchyard_controller.core.commands import (
    Command,
    EndSession,
    PublishMove,
    SendAck,
    SendRevoke,
    SendStart,
    SendStop,
)
from batchyard_controller.core.model.hosts import Host
from batchyard_controller.core.world import invariants
from batchyard_controller.core.world.world import World

if TYPE_CHECKING:
    from .programs import ControllerProgram
    from .witness import Witness

UNHEARD_MS = limits.CONTACT_LIMIT_MS + 3_000
"""The tick that finds a host silent may come that much later."""


class Sink:
    """Between driver and sessions: looks at the leader's world after each commit."""

    def __init__(self, witness: Witness, controller: ControllerProgram, epoch: int, sessions: Any) -> None:
        self._witness, self._controller, self._epoch, self._sessions = witness, controller, epoch, sessions
        witness.given_up.clear()  # of a leader that ended without knowing what became of its commit

    def carry_out(self, world: World, commands: Iterable[Command]) -> None:
        commands = list(commands)
        self._look_at_given_up(world)
        if commands:
            try:
                invariants.check(world)
            except AssertionError as error:
                self._witness.violated("I6", f"the leader's world: {error}")
        for command in commands:
            self._look(world, command)
        self._sessions.carry_out(world, commands)

    def _look_at_given_up(self, world: World) -> None:
        """Look whose attempts a leader gave up, and who else was silent for it then."""
        witness = self._witness
        given_up, witness.given_up = witness.given_up, []
        if not given_up or witness.yard.operator.released_at >= 0:
            return
        tick_ms = self._controller.leadership.driver._ticked_boot_ms
        given_up = [attempt_id for attempt_id in given_up if attempt_id in witness.sent]  # of others no host knows
        gone = [HostId(witness.claims[attempt_id]["host_id"]) for attempt_id in given_up]
        counting = [host for host in world.hosts.values() if host.record.id in gone or _counts(host)]
        for attempt_id, host_id in zip(given_up, gone, strict=True):
            host = world.hosts.get(host_id)
            if host is None or host.is_reachable or host.record.reclaimed_at_ms or _is_gone(host):
                continue
            silent, heard = _silent_with(host, counting, tick_ms)
            if silent > 1 and (silent >= limits.BRAKE_HOSTS_MIN or not heard):
                name = host.record.facts.name
                witness.violated(
                    "B", f"{attempt_id} on {name} is given up; {silent} hosts fell silent, {heard} did not"
                )

    def _look(self, world: World, command: Command) -> None:
        told = self._witness.told
        match command:
            case PublishMove() if command.index is None or command.stop == 0:
                self._witness.labels.setdefault(command.job_id, world.jobs[command.job_id].name)
                for move in command.each():
                    child = "" if move.index is None else f":{move.index}"
                    told(self._controller.name, f"{move.job_id}{child}: {move.before} -> {move.after}")
            case SendStart():
                for attempt in command.attempts:
                    host = world.hosts[attempt.host_id]
                    told(self._controller.name, f"to {host.record.facts.name}: start {attempt.id}")
                    self._witness.sent.add(attempt.id)
                    now = self._witness.yard.loop.time()
                    claimed_s = now - self._witness.claimed_at.get(attempt.id, now)
                    silent_ms = self._controller.clock().boot_ms - host.heard_boot_ms - int(claimed_s * 1000)
                    if silent_ms > UNHEARD_MS:
                        name = host.record.facts.name
                        text = f"{attempt.id} was claimed for {name}, then unheard for {silent_ms / 1000:.0f} s"
                        self._witness.violated("H", text)
            case SendStop() | SendRevoke():
                word = "stop" if isinstance(command, SendStop) else "revoke"
                told(self._controller.name, f"to {_host(world, command)}: {word} {command.attempt_id}")
            case SendAck():
                told(
                    self._controller.name,
                    f"to {_host(world, command)}: ends are stored: {', '.join(command.attempt_ids)}",
                )
            case EndSession():
                told(self._controller.name, f"hangs up on {_host(world, command)}")

    def close(self) -> None:
        self._witness.told(self._controller.name, f"epoch {self._epoch} is over for it")
        self._sessions.close()


def _counts(host: Host) -> bool:
    """Say whether a host counts: it runs something, or is heard, or was and nobody takes it away; and has its place."""
    is_there = host.is_reachable or (host.heard_wall_ms > 0 and not host.record.reclaimed_at_ms)
    return (bool(host.attempts) or is_there) and not _is_gone(host)


def _is_gone(host: Host) -> bool:
    """Say whether a host is surely no more: it was replaced, or its provider has it not."""
    return bool(host.record.replaced_by) or host.is_missing


def _silent_with(host: Host, counting: Iterable[Host], tick_ms: int) -> tuple[int, int]:
    """Return how many hosts fell silent at once with one that has, itself among them, and how many did not."""
    if tick_ms - host.heard_boot_ms < limits.CONTACT_LIMIT_MS:
        return 0, 0
    at_once = [
        tick_ms - each.heard_boot_ms >= limits.CONTACT_LIMIT_MS
        and abs(each.heard_boot_ms - host.heard_boot_ms) <= limits.BRAKE_WINDOW_MS // 2
        for each in counting
    ]
    return sum(at_once), len(at_once) - sum(at_once)


def _host(world: World, command: Any) -> str:
    host = world.hosts.get(command.host_id)
    return host.record.facts.name if host is not None else str(command.host_id)
