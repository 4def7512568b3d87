"""What fails in a yard: programs, machines, links, clocks and the store, for a while each."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from batchyard_agent.probe.reclaim import LOOK_S

from .loop import Program
from .machine import Machine
from .story import CHAOS_S, CONTROLLERS, MACHINES, Step

if TYPE_CHECKING:
    from .yard import Yard

AWAY_S = 1.5
"""So long an agent is away before there are two leaders."""
SLOW_S = 25.0
"""A call of a slow archive takes up to that much longer."""


class Faults:
    """Of one yard; each is called as the story's verb."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._down: dict[str, Callable[[], None]] = {}
        """How each who is away or stands still comes back."""
        self._backup: Any = None
        self._acknowledged: dict[str, str] = {}
        self._archiving_span = 0.0
        self._twins = 0

    def befall(self, step: Step) -> None:
        """Carry out one step."""
        getattr(self, step.verb.replace("-", "_"))(**step.args)

    def end_all(self) -> None:
        """Bring everything back."""
        for back in list(self._down.values()):
            back()

    def _later(self, who: str, span: float, back: Callable[[], None]) -> None:
        """Have *back* called once, after a time or when all is mended."""

        def once() -> None:
            if self._down.get(who) is once:
                del self._down[who]
                self._yard.witness.told("**", f"{who} is back")
                back()

        if former := self._down.get(who):
            former()
        self._down[who] = once
        self._yard.loop.call_later(span, once)

    def is_away(self, who: str) -> bool:
        return who in self._down

    def kill_controller(self, who: str, span: float) -> None:
        controller = self._yard.controllers[who]
        if controller is None or self.is_away(who):
            return
        controller.program.kill()
        self._later(who, span, lambda: self._yard.controller_up(who))

    def kill_leader(self, span: float) -> None:
        if leader := self._yard.leader:
            self.kill_controller(leader.name.partition(" ")[0], span)

    def stop_controller(self, who: str, span: float) -> None:
        controller = self._yard.leader if who == "leader" else self._yard.controllers[who]
        if controller is None:
            return
        who = controller.name.partition(" ")[0]
        if not self.is_away(who):
            controller.program.stop()
            self._later(who, span, controller.program.go_on)

    def kill_agent(self, who: str, span: float) -> None:
        machine = self._yard.machines[who]
        if not self.is_away(who):
            machine.kill_agent()
            self._later(who, span, lambda: self._yard.agent_up(machine))

    def stop_agent(self, who: str, span: float) -> None:
        machine = self._yard.machines[who]
        if machine.agent is not None and not self.is_away(who):
            machine.agent.stop()
            self._later(who, span, machine.agent.go_on)

    def power_cut(self, who: str, span: float) -> None:
        machine = self._yard.machines[who]
        if not self.is_away(who):
            machine.lose_power()
            self._later(who, span, lambda: self._yard.agent_up(machine))

    def wipe(self, who: str, span: float) -> None:
        machine = self._yard.machines[who]
        if not self.is_away(who):
            machine.wipe(self._yard.new_host_id())
            self._later(who, span, lambda: self._yard.agent_up(machine))

    def twin(self, who: str, span: float) -> None:
        """Start an agent on another machine, with a copy of the state folder of this one."""
        machine, name = self._yard.machines[who], f"twin of {who}"
        if name in self._yard.machines:
            return
        twin = self._make_twin(machine, name)
        self._yard._all.append(twin)
        self._yard.agent_up(twin, who)
        program = twin.agent
        assert program is not None
        self._later(name, span, twin.lose_power)
        self._yard.agents.pop(name)

    def _make_twin(self, machine: Machine, name: str) -> Machine:
        dice = Random(f"{name} {self._yard.dice.random()}")
        twin = Machine(self._yard.loop, name, "", machine.cpu_millis, dice, self._yard.witness, self._yard.broken)
        twin.disk = machine.disk.copy()
        self._twins += 1
        twin.boots = 100 * self._twins  # no two machines have the id of one boot
        return twin

    def reclaim(self, who: str, notice: int, span: float) -> None:
        """Take a machine away, and say so *notice* seconds before."""
        machine = self._yard.machines[who]
        if machine.agent is None or self.is_away(who) or machine.reclaim_at_ms:
            return
        machine.reclaim_at_ms = machine.wall_ms() + notice * 1000
        machine.agent.call(self._yard.agents[who].announce)
        boots = machine.boots

        def take() -> None:
            if machine.boots == boots and self._yard.loop.time() < CHAOS_S:
                self._yard.witness.told("**", f"{who} is taken away")
                if former := self._down.pop(who, None):
                    former()
                machine.lose_power()
                self._later(who, span, lambda: self._yard.agent_up(machine))

        self._yard.loop.call_later(notice, take)

    def cut(self, a: str, b: str, way: str, span: float) -> None:
        others = CONTROLLERS if b == "controllers" else (b,)
        pairs = [(a, other) for other in others] if way != "back" else []
        pairs += [(other, a) for other in others] if way != "there" else []
        for pair in pairs:
            self._yard.network.cut(*pair)
        self._later(f"the link of {a} and {b}", span, lambda: [self._yard.network.heal(*pair) for pair in pairs])

    cut_store = cut

    def slow(self, a: str, b: str, delay: float, span: float) -> None:
        links = [self._yard.network.link(*pair) for other in CONTROLLERS for pair in ((a, other), (other, a))]

        def set_delay(delay_s: float) -> None:
            for link in links:
                link.slow_s = delay_s

        set_delay(delay)
        self._later(f"the pace of {a}", span, lambda: set_delay(0.0))

    def kill_etcd(self, span: float) -> None:
        if self._yard.etcd.program is not None and not self.is_away("etcd"):
            self._yard.etcd.program.kill()
            self._later("etcd", span, self._yard.etcd_up)

    def stop_etcd(self, span: float) -> None:
        if self._yard.etcd.program is not None and not self.is_away("etcd"):
            self._yard.etcd.program.stop()
            self._later("etcd", span, self._yard.etcd.program.go_on)

    def slow_etcd(self, delay: float, span: float) -> None:
        self._yard.etcd.slow_s = delay
        self._later("the pace of etcd's disk", span, lambda: setattr(self._yard.etcd, "slow_s", 0.0))

    def commit(self, how: str) -> None:
        self._yard.etcd.faults.append(how)

    def cut_hosts(self, b: str, way: str, span: float) -> None:
        """Cut all hosts at once, as a switch of theirs does."""
        for machine in MACHINES:
            self.cut(machine, b, way, span)

    def compact(self, who: str) -> None:
        """Have a controller read anew, and etcd forget what came then before it is told of that."""
        self._yard.etcd.compacts_behind = True
        self._yard.network.break_between(who, "etcd")

    def fill_etcd(self, share: float) -> None:
        """Have somebody else write and overwrite so much of the quota in the same etcd."""
        space = self._yard.etcd.space
        space.take(int(share * space.quota_bytes))

    def archive(self, how: str, span: float) -> None:
        """Let the file system of the archive be away, or slow for longer than a term lasts."""
        shelf = self._yard.shelf
        shelf.is_away, shelf.slow_s = how == "away", SLOW_S * (how == "slow")

        def back() -> None:
            shelf.is_away, shelf.slow_s = False, 0.0

        self._later("the archive", span, back)

    def crash_archiving(self, how: str, span: float) -> None:
        """Let who archives next die of it: before it has written, after it, or between sums and deletions in the store."""
        self._yard.shelf.crash = how
        self._archiving_span = span

    def crash(self, program: Program) -> None:
        """Kill the controller that runs as this program."""
        for who, controller in self._yard.controllers.items():
            if controller is not None and controller.program is program:
                self._yard.witness.told("**", f"{who} dies while it archives")
                self.kill_controller(who, self._archiving_span)

    def cloud(self, how: str, span: float) -> None:
        """Let nobody answer for hosts that are launched, let one be gone, or a launch go wrong."""
        cloud = self._yard.cloud
        match how:
            case "away":
                cloud.is_away = True
                self._later("the cloud", span, lambda: setattr(cloud, "is_away", False))
            case "take":
                cloud.take_one()
            case "cut":
                if (machine := cloud.one()) is not None:
                    self.cut(machine.name, "controllers", "both", span)
            case _:
                cloud.mishaps.append(how)

    def lose_lease(self) -> None:
        self._yard.etcd.lose_lease()

    def two_leaders(self, who: str, span: float) -> None:
        """
        Let another lead before the leader knows, and go, while *who* seeks a leader anew.

        etcd revokes the lease and is cut off from its holder, who counts on it for four seconds at most. *who*,
        which was away since before so that nothing of it is left to store, finds the next leader, and when that
        dies the last one, if it still believes that it leads.
        """
        leader = self._yard.leader
        if leader is None:
            return
        name = leader.name.partition(" ")[0]
        self.kill_agent(who, AWAY_S + span - 0.3)
        self._yard.loop.call_later(AWAY_S, self._depose, name, span)

    def _depose(self, name: str, span: float) -> None:
        (other,) = {*CONTROLLERS} - {name}
        self.cut(name, "etcd", "both", span + 6.0)
        self.lose_lease()
        self._yard.loop.call_later(span + 0.3, self.kill_controller, other, 1.0)

    def clock(self, who: str, hours: float) -> None:
        ms = int(hours * 3_600_000)
        if who in self._yard.machines:
            self._yard.machines[who].wall_off_ms += ms
            self._yard.loop.call_later(LOOK_S, self._announce_again, self._yard.machines[who])
        else:
            self._yard.wall_off_ms[who] = ms
            controller = self._yard.controllers[who]
            if controller is not None:
                controller.wall_off_ms = ms

    def _announce_again(self, machine: Machine) -> None:
        """Let an agent see that the clock was set by which its machine is taken away, as ``Notices`` does."""
        if machine.reclaim_at_ms and machine.agent is not None:
            machine.agent.call(self._yard.agents[machine.name].announce)

    def clock_and_kill(self, who: str, hours: float, span: float) -> None:
        self.clock(who, hours)
        self.kill_agent(who, span)

    # Restores -----------------------------------------------------------------

    def back_up(self) -> None:
        self._backup = self._yard.etcd.backup()
        self._acknowledged = dict(self._yard.witness.acknowledged)

    def restore(self) -> None:
        """Put the store back to what it was, with the controllers stopped, as an operator would, and say so."""
        if self._backup is None:
            return
        self._yard.was_restored = True
        self._yard.witness.forget_endings()
        self._yard.witness.acknowledged = dict(self._acknowledged)
        for name in CONTROLLERS:
            if former := self._down.pop(name, None):
                former()
            controller = self._yard.controllers[name]
            assert controller is not None
            controller.program.kill()
        self._yard.etcd.restore(self._backup)
        self._yard.cloud.look_afresh(self._yard.stored())
        self._yard.begin_generation()
        for name in CONTROLLERS:
            self._yard.controller_up(name)
        self._yard.operator.set_right()
