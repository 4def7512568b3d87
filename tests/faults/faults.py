"""
What befalls a yard: each kind is drawn from dice, begins at once, lasts, and is mended.

A fault holds what it breaks, so that two may overlap anywhere in the yard but not undo each other.
What no promise covers is not drawn: agent and keeper of one host away together for longer than a
restart takes, two members of etcd lost for good, two hosts at once beyond the fence (nothing
would get on). Clocks are the machine's, and so not stepped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .yard import FENCE_S, LEASE_TTL_S, SMALL, Controller, Host, Yard, unmount_below

WEIGHTS = {
    "kill leader": 10,
    "stop leader": 6,
    "restart leader": 2,
    "kill standby": 3,
    "stop standby": 2,
    "kill agent": 10,
    "stop agent": 5,
    "stop agent past fence": 1,
    "restart agent": 2,
    "kill keeper": 5,
    "stop keeper": 3,
    "kill agent and keeper": 3,
    "kill agent and leader": 4,
    "kill member": 5,
    "stop member": 4,
    "cut member": 3,
    "slow member": 3,
    "kill all members": 2,
    "compact": 4,
    "cut host": 7,
    "cut host one way": 6,
    "cut host from leader": 4,
    "cut host past fence": 2,
    "cut leader from etcd": 4,
    "cut leader": 3,
    "lose answers": 8,
    "host dies": 2,
    "disk full": 3,
    "wipe state": 1,
}
"""Kinds, and how often each is drawn beside the others."""
LONG = ("stop agent past fence", "cut host past fence", "wipe state", "host dies")
"""Kinds after which it takes a minute or more until all that ran there is tried again."""
SHORT = tuple(kind for kind in WEIGHTS if kind not in LONG)
LONG_S = (FENCE_S + 5.0, FENCE_S + 20.0)
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One fault that can befall now.

    Attributes:
        about: What it strikes, in words.
        holds: What no other may strike meanwhile.
        lasts_s: Until it is mended.
        begin: Lets it happen.
        end: Mends it.
    """

    about: str
    holds: frozenset[str]
    lasts_s: float
    begin: Callable[[], object]
    end: Callable[[], object]


def nothing() -> None:
    """Mend what mends itself."""


class Kinds:
    """The kinds of faults of one yard; each method draws one, or None where there is nothing to strike."""

    def __init__(self, yard: Yard, dice: Random) -> None:
        self._yard = yard
        self._dice = dice
        self._strikes_leader = False

    def draw(self, kind: str) -> Fault | None:
        """Draw one of a kind."""
        found: Fault | None = getattr(self, kind.replace(" ", "_"))()
        return found

    # Controllers --------------------------------------------------------------

    def kill_leader(self) -> Fault | None:
        return self._of_leader(self._kill_controller)

    def stop_leader(self) -> Fault | None:
        return self._of_leader(self._stop_controller)

    def restart_leader(self) -> Fault | None:
        def restart(leader: Controller) -> Fault:
            return Fault(
                about=leader.name,
                holds=frozenset({leader.name}),
                lasts_s=0.5,
                begin=leader.program.stop,
                end=leader.program.start,
            )

        return self._of_leader(restart)

    def kill_standby(self) -> Fault | None:
        return self._of_standby(self._kill_controller)

    def stop_standby(self) -> Fault | None:
        return self._of_standby(self._stop_controller)

    def cut_leader_from_etcd(self) -> Fault | None:
        members = [member.space.address for member in self._yard.etcd.members]

        def cut(leader: Controller) -> Fault:
            return Fault(
                about=leader.name,
                holds=frozenset({f"{leader.name} net"}),
                lasts_s=self._dice.uniform(1.0, 4.0 * LEASE_TTL_S),
                begin=lambda: leader.space.drop_both(*members),
                end=leader.space.heal,
            )

        return self._of_leader(cut)

    def cut_leader(self) -> Fault | None:
        def cut(leader: Controller) -> Fault:
            return Fault(
                about=leader.name,
                holds=frozenset({f"{leader.name} net"}),
                lasts_s=self._dice.uniform(0.5, 4.0 * LEASE_TTL_S),
                begin=leader.space.cut,
                end=leader.space.heal,
            )

        return self._of_leader(cut)

    def lose_answers(self) -> Fault | None:
        """Reset the leader's connections, with whatever was on its way."""

        def lose(leader: Controller) -> Fault:
            return Fault(
                about=leader.name,
                holds=frozenset({f"{leader.name} net"}),
                lasts_s=self._dice.uniform(0.1, 0.5),
                begin=leader.space.reset,
                end=leader.space.heal,
            )

        return self._of_leader(lose)

    def _of_leader(self, make: Callable[[Controller], Fault]) -> Fault | None:
        leader = self._yard.leader()
        return make(leader) if leader is not None else None

    def _of_standby(self, make: Callable[[Controller], Fault]) -> Fault | None:
        leader = self._yard.leader()
        others = [each for each in self._yard.controllers.values() if each is not leader]
        return make(self._dice.choice(others)) if leader is not None else None

    def _kill_controller(self, controller: Controller) -> Fault:
        return Fault(
            about=controller.name,
            holds=frozenset({controller.name}),
            lasts_s=self._dice.uniform(0.0, 4.0),
            begin=controller.program.kill,
            end=controller.program.start,
        )

    def _stop_controller(self, controller: Controller) -> Fault:
        return Fault(
            about=controller.name,
            holds=frozenset({controller.name}),
            lasts_s=self._dice.uniform(0.5, 3.0 * LEASE_TTL_S),
            begin=lambda: controller.program.send(signal.SIGSTOP),
            end=lambda: controller.program.send(signal.SIGCONT),
        )

    # Agents and keepers -------------------------------------------------------

    def kill_agent(self) -> Fault | None:
        host = self._host()
        return self._of_programs(host, self._dice.uniform(0.0, 5.0), host.agent.kill, host.agent.start)

    def restart_agent(self) -> Fault | None:
        host = self._host()
        return self._of_programs(host, 0.2, host.agent.stop, host.agent.start)

    def stop_agent(self) -> Fault | None:
        return self._stop_agent(self._dice.uniform(0.5, 25.0))

    def stop_agent_past_fence(self) -> Fault | None:
        return self._stop_agent(self._dice.uniform(*LONG_S), "long")

    def _stop_agent(self, lasts_s: float, *holds: str) -> Fault:
        agent = (host := self._host()).agent
        return self._of_programs(
            host, lasts_s, lambda: agent.send(signal.SIGSTOP), lambda: agent.send(signal.SIGCONT), *holds
        )

    def kill_keeper(self) -> Fault | None:
        host = self._host()
        if not (keeper := host.keeper):
            return None
        return self._of_programs(host, 0.5, lambda: os.kill(keeper, signal.SIGKILL), nothing)

    def stop_keeper(self) -> Fault | None:
        host = self._host()
        if not (keeper := host.keeper):
            return None

        def go_on() -> None:
            with contextlib.suppress(ProcessLookupError):  # another has taken its place, and it is gone
                os.kill(keeper, signal.SIGCONT)

        return self._of_programs(host, self._dice.uniform(0.5, 20.0), lambda: os.kill(keeper, signal.SIGSTOP), go_on)

    def kill_agent_and_keeper(self) -> Fault | None:
        host = self._host()
        if not (keeper := host.keeper):
            return None

        def kill() -> None:
            host.agent.kill()
            os.kill(keeper, signal.SIGKILL)

        return self._of_programs(host, self._dice.uniform(0.0, 1.0), kill, host.agent.start)

    def kill_agent_and_leader(self) -> Fault | None:
        host = self._host()

        def kill(leader: Controller) -> Fault:
            def begin() -> None:
                leader.program.kill()
                host.agent.kill()

            def end() -> None:
                leader.program.start()
                host.agent.start()

            return Fault(
                about=f"{host.name}, {leader.name}",
                holds=frozenset({host.name, leader.name}),
                lasts_s=self._dice.uniform(0.0, 4.0),
                begin=begin,
                end=end,
            )

        return self._of_leader(kill)

    def wipe_state(self) -> Fault | None:
        """Lose an agent's journal while attempts run."""
        host = self._host()

        def wipe() -> None:
            host.agent.kill()
            unmount_below(host.state)  # what of others' folders is mounted there for containers is theirs
            for path in host.state.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        return self._of_programs(host, self._dice.uniform(0.0, 3.0), wipe, host.agent.start, "long")

    def host_dies(self) -> Fault | None:
        """Lose a host with all that runs there; an engine would know what killed its containers, so not one with it."""
        host = self._host(has_engine=False)

        def die() -> None:
            host.space.cut()
            host.agent.kill()
            for pid in (host.keeper, *host.processes()):
                if pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        def come_back() -> None:
            host.space.heal()
            host.agent.start()

        is_long = self._dice.random() < 0.3
        return Fault(
            about=host.name,
            holds=frozenset({host.name, f"{host.name} net", *(["long"] if is_long else [])}),
            lasts_s=self._dice.uniform(*LONG_S) if is_long else self._dice.uniform(2.0, 15.0),
            begin=die,
            end=come_back,
        )

    def disk_full(self) -> Fault | None:
        host = self._yard.hosts[SMALL]
        path = host.state / "filler"

        def fill() -> None:
            with path.open("wb") as file, contextlib.suppress(OSError):
                end = 0
                while True:
                    os.posix_fallocate(file.fileno(), end, CHUNK)
                    end += CHUNK

        return Fault(
            about=host.name,
            holds=frozenset({f"{host.name} disk", host.name}),
            lasts_s=self._dice.uniform(2.0, 12.0),
            begin=fill,
            end=lambda: path.unlink(missing_ok=True),
        )

    def _host(self, *, has_engine: bool | None = None) -> Host:
        hosts = [each for each in self._yard.hosts.values() if has_engine is None or each.has_engine == has_engine]
        return self._dice.choice(hosts)

    def _of_programs(
        self, host: Host, lasts_s: float, begin: Callable[[], object], end: Callable[[], object], *holds: str
    ) -> Fault:
        return Fault(about=host.name, holds=frozenset({host.name, *holds}), lasts_s=lasts_s, begin=begin, end=end)

    # Networks of hosts --------------------------------------------------------

    def cut_host(self) -> Fault | None:
        space = (host := self._host()).space
        return self._of_network(host, self._dice.uniform(0.5, FENCE_S / 2), space.cut)

    def cut_host_past_fence(self) -> Fault | None:
        space = (host := self._host()).space
        chain = self._dice.choice(("INPUT", "OUTPUT", ""))
        return self._of_network(
            host, self._dice.uniform(*LONG_S), (lambda: space.drop(chain)) if chain else space.cut, "long"
        )

    def cut_host_one_way(self) -> Fault | None:
        space = (host := self._host()).space
        chain = self._dice.choice(("INPUT", "OUTPUT"))
        return self._of_network(host, self._dice.uniform(0.5, FENCE_S / 2), lambda: space.drop(chain))

    def cut_host_from_leader(self) -> Fault | None:
        space = (host := self._host()).space
        if (leader := self._yard.leader()) is None:
            return None
        return self._of_network(
            host, self._dice.uniform(0.5, FENCE_S / 2), lambda: space.drop("OUTPUT", leader.space.address)
        )

    def _of_network(self, host: Host, lasts_s: float, begin: Callable[[], object], *holds: str) -> Fault:
        return Fault(
            about=host.name,
            holds=frozenset({f"{host.name} net", *holds}),
            lasts_s=lasts_s,
            begin=begin,
            end=host.space.heal,
        )

    # etcd ---------------------------------------------------------------------

    def kill_member(self) -> Fault | None:
        return self._of_member(
            self._dice.uniform(0.5, 6.0), lambda it: it.program.kill(), lambda it: it.program.start()
        )

    def stop_member(self) -> Fault | None:
        return self._of_member(
            self._dice.uniform(0.5, 8.0),
            lambda it: it.program.send(signal.SIGSTOP),
            lambda it: it.program.send(signal.SIGCONT),
        )

    def cut_member(self) -> Fault | None:
        """Cut a member from the two others; controllers reach it."""
        others = [member.space.address for member in self._yard.etcd.members]
        return self._of_member(
            self._dice.uniform(0.5, 8.0),
            lambda it: it.space.drop_both(*others),
            lambda it: it.space.heal(),
        )

    def slow_member(self) -> Fault | None:
        """Let a member's disk take longer for each write."""
        if shutil.which("strace") is None:
            return None
        delay_s = self._dice.choice((0.2, 2.0))
        return self._of_member(
            self._dice.uniform(3.0, 15.0), lambda it: it.slow_down(delay_s), lambda it: it.speed_up()
        )

    def _of_member(self, lasts_s: float, begin: Callable[..., object], end: Callable[..., object]) -> Fault | None:
        """Strike the member that leads, and one that follows, in turn."""
        members = self._yard.etcd.members
        leader = next((member for member in members if member.leads()), None)
        if leader is None:
            return None
        self._strikes_leader = not self._strikes_leader
        others = [member for member in members if member is not leader]
        struck = leader if self._strikes_leader else self._dice.choice(others)
        return Fault(
            about=f"{struck.name}, which {'leads' if struck is leader else 'follows'}",
            holds=frozenset({"etcd"}),
            lasts_s=lasts_s,
            begin=lambda: begin(struck),
            end=lambda: end(struck),
        )

    def kill_all_members(self) -> Fault | None:
        programs = [member.program for member in self._yard.etcd.members]

        def kill() -> None:
            for program in programs:
                program.kill()

        def start() -> None:
            for program in programs:
                program.start()

        return Fault(
            about="e0, e1, e2",
            holds=frozenset({"etcd"}),
            lasts_s=self._dice.uniform(1.0, 12.0),
            begin=kill,
            end=start,
        )

    def compact(self) -> Fault | None:
        """Forget all history, then defragment each member, which blocks it, while all goes on."""
        etcd = self._yard.etcd

        def defragment() -> None:
            for member in etcd.members:
                with contextlib.suppress(OSError):
                    member.post("/v3/maintenance/defragment", {})

        return Fault(about="and defragment", holds=frozenset({"etcd"}), lasts_s=0.1, begin=etcd.compact, end=defragment)
