"""
A yard in one deterministic world: etcd, two controllers, three hosts with agents, one user; and its steps.

It plays a story: first things are asked and fail, then all is mended and has to come to rest.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.core.yard import Yard as Settings

from batchyard.ids import JobId, uuid7
from batchyard_controller import archivist
from batchyard_controller.core.events import PolicyChanged, QuotaShareChanged
from batchyard_controller.core.model.policies import SchedulingPolicy
from batchyard_controller.core.model.restores import LAST_RESTORE
from batchyard_controller.core.model.settings import Preemption
from batchyard_controller.restore_command import begin_generation
from batchyard_controller.store.codec import encode_record, encode_touched, load_records
from batchyard_controller.store.keys import key_of
from batchyard_controller.store.packing import LEADER_KEY
from batchyard_controller.store.protocol import Put

from .calls import Channel
from .cloud import RESOURCES, Cloud
from .etcd import ADDRESS, Commit, Etcd, Pair
from .faults import Faults
from .loop import EndlessError, Program, VirtualLoop
from .machine import WALL_MS, Machine
from .network import Network, Site
from .operator import Operator
from .programs import PREFIX, AgentProgram, ControllerProgram
from .shares import QUOTAS, TIME_LIMITS, WEIGHTS, quota_shares
from .shelf import Shelf
from .story import CHAOS_S, CONTROLLERS, CPUS, ELASTIC, FAIR, LICENCE, LICENCES, QUOTA, TOKEN, TOKENS, Step, Traits
from .user import User
from .witness import Witness

REST_S = 900.0
"""By then after the last fault all has to be at rest: hosts are distrusted for minutes, jobs take one or two."""
TWIN_REST_S = 10.0
LARGER = 100
"""An etcd whose quota was reached is given so many times as much when all is mended."""
CALM_S = 5.0
"""So long nothing may go on before it counts as rest: acknowledgements and removals follow ends."""


class Yard:
    """One world, from its beginning to its rest."""

    def __init__(self, seed: int, traits: Traits) -> None:
        self.traits = traits
        self.dice = Random(f"world {seed}")
        self.loop = VirtualLoop(self.broken)
        self.transcript: list[tuple[float, str, str]] = []
        self.witness = Witness(self)
        self.network = Network(self.loop, Random(f"network {seed}"))
        self.network.resolve = self._resolve
        self.was_restored = False
        self._job_numbers = 0
        self.shelf = Shelf(self.loop, Random(f"shelf {seed}"))
        self.faults = Faults(self)
        self.shelf.on_crash = self.faults.crash
        self._all: list[Any] = []
        """Everything that ever was: nothing is collected, and so finalized, before the end."""
        self.cloud = Cloud(self, Random(f"cloud {seed}"))
        self.etcd = Etcd(self.network, Random(f"etcd {seed}"), PREFIX, self._committed)
        self.etcd.space.quota_bytes = traits.quota_bytes
        self._store_settings()
        self.etcd_up()
        self.machines = {name: self._make_machine(name, n) for n, name in enumerate(CPUS)}
        self.agents: dict[str, AgentProgram] = {}
        self.controllers: dict[str, ControllerProgram | None] = dict.fromkeys(CONTROLLERS)
        self.wall_off_ms: dict[str, int] = {}
        for name in CONTROLLERS:
            self.controller_up(name)
        for machine in self.machines.values():
            self.agent_up(machine)
        self.user = User(self, *self._at_desk("user"))
        self.operator = Operator(self, *self._at_desk("operator"))

    def _at_desk(self, who: str) -> tuple[Program, dict[str, Channel]]:
        program = Program(self.loop, who, self.broken)
        site = self.network.site(who, program)
        return program, {name: Channel(self.network, site, name) for name in CONTROLLERS}

    def begin_generation(self) -> None:
        """Call `controller restore`."""
        record = begin_generation(self._load(), WALL_MS + int(self.loop.time() * 1000))
        settings = Settings()
        settings.world.restores[LAST_RESTORE] = record
        value = encode_record(settings.world, "restore", LAST_RESTORE)
        assert value is not None, "it is there"
        self.etcd.pairs[(PREFIX + key_of("restore", LAST_RESTORE)).encode()] = Pair(
            value, self.etcd.revision, 0, self.etcd.revision
        )

    # Building -----------------------------------------------------------------

    def _store_settings(self) -> None:
        settings = Settings()
        settings.environment()
        low, high = self.traits.low_fence_s, self.traits.high_fence_s
        settings.queue("low", priority=1, preemptible=True, fence_s=low)
        settings.queue("high", priority=5, preemption=Preemption.LOWER_PRIORITY, fence_s=high)
        if self.traits.has_consumables:
            settings.consumable(LICENCE, LICENCES)
            settings.consumable(TOKEN, TOKENS, is_replenishable=False)
        if self.traits.has_shares:
            settings.policy(FAIR, *WEIGHTS)
            settings.queue(FAIR, priority=3, preemptible=True, scheduling_policy=FAIR, state_time_limits=TIME_LIMITS)
            settings.apply(PolicyChanged(policy=SchedulingPolicy(name=QUOTA, quota_share=QUOTAS)))
            settings.queue(QUOTA, priority=3, scheduling_policy=QUOTA)
            for share in quota_shares():
                settings.apply(QuotaShareChanged(share=share))
        if self.traits.has_cloud:
            settings.environment(ELASTIC, compute_resources=RESOURCES)
            settings.queue(ELASTIC, ELASTIC, priority=3)
        for atom in encode_touched(settings.world, settings.world.ledger.take()):
            for change in atom:
                assert isinstance(change, Put)
                self.etcd.pairs[(PREFIX + change.key).encode()] = Pair(change.value, 1, 0, 1)

    def _make_machine(self, name: str, number: int) -> Machine:
        return Machine(
            self.loop,
            name,
            self.new_host_id(),
            CPUS[name],
            Random(f"{name} {self.dice.random()}"),
            self.witness,
            self.broken,
        )

    def new_host_id(self) -> str:
        return uuid7(WALL_MS, self.dice.randbytes(10))

    def new_job_id(self) -> JobId:
        self._job_numbers += 1
        return JobId(uuid7(WALL_MS + int(self.loop.time() * 1000), self._job_numbers.to_bytes(10, "big")))

    def broken(self, who: str, error: BaseException) -> None:
        """Note that a program broke, which none ever may."""
        self.witness.violated("X", f"{who} broke: {_innermost(error)!r}")

    def _committed(self, commit: Commit) -> None:
        self.witness.committed(commit)
        if "left/last" in commit.changes and (leader := self.leader) is not None:
            self.shelf.crashes(leader.program, "between")

    def _resolve(self, address: str) -> Site | None:
        if address == ADDRESS:
            return self._etcd_site
        controller = self.controllers[address]
        return controller.site if controller is not None and controller.program.is_alive else None

    # Who is up ----------------------------------------------------------------

    def etcd_up(self) -> None:
        program = Program(self.loop, "etcd", self.broken)
        self.etcd.serve_by(program)
        self._etcd_site = self.network._sites[id(program)]
        self._all.append(program)

    def controller_up(self, name: str) -> None:
        number = len(self._all)
        program = Program(self.loop, name, self.broken)
        dice = Random(f"{name} {number} {self.dice.random()}")
        controller = ControllerProgram(f"{name} {number}", program, self.network, self, dice)
        controller.wall_off_ms = self.wall_off_ms.get(name, 0)
        self.controllers[name] = controller
        self._all.append(controller)
        program.start(controller.run())

    def agent_up(self, machine: Machine, name: str = "") -> None:
        program, boots = Program(self.loop, f"agent {machine.name}", self.broken), machine.boots
        machine.agent = program
        machine.is_refused = False
        self.network.site(machine.name, program)

        def end() -> None:
            """Begin it anew after a while, as a supervisor would that knows of no twins."""
            program.kill()
            self.witness.told(machine.name, "the agent ends, as it has a twin")
            if machine.agent is program:
                machine.is_refused = True
                machine.kill_agent()
                self.network.later(TWIN_REST_S, again)

        def again() -> None:
            if machine.agent is None and machine.boots == boots and not self.faults.is_away(machine.name):
                self.agent_up(machine, name)

        dice = Random(f"agent {machine.name} {self.dice.random()}")
        is_old = self.traits.old_agent == (name or machine.name)
        agent = AgentProgram(machine, program, dice, end, name, is_old=is_old)
        self.agents[machine.name] = agent
        self._all.append(agent)
        program.start(agent.run())

    @property
    def leader(self) -> ControllerProgram | None:
        """Return who leads, as far as it knows itself."""
        leading = [each for each in self.controllers.values() if each is not None and each.program.is_alive]
        return next((each for each in leading if each.leadership.leads), None)

    # Playing ------------------------------------------------------------------

    def play(self, steps: list[Step]) -> None:
        """Play a story to its rest."""
        for step in steps:
            self.loop.call_at(step.at, self._do, step)
        try:
            self.loop.run_to(CHAOS_S)
            if not self._is_broken():
                self.mend()
                self._come_to_rest()
        except EndlessError as error:
            self.witness.violated("L", f"something goes on for ever: {error}")

    def _is_broken(self) -> bool:
        return bool(self.witness.violations)

    def _do(self, step: Step) -> None:
        self.witness.told("**", str(step))
        match step.verb:
            case "submit":
                self.user.submit(**step.args)
            case "cancel" | "terminate":
                self.user.stop(step.args["label"], f"{step.verb.title()}Job")
            case "mark":
                self.operator.mark(**step.args)
            case "change":
                self.operator.change(**step.args)
            case _:
                self.witness.counts["faults"] += 1
                self.faults.befall(step)

    def mend(self) -> None:
        """End all faults; from now on nothing fails."""
        self.witness.told("**", "all is mended")
        self.etcd.faults.clear()
        self.etcd.slow_s = 0.0
        self.etcd.space.quota_bytes *= LARGER  # what an operator is told to do
        self.shelf.crash = ""
        self.network.heal_all()
        self.faults.end_all()
        self.cloud.mend()
        self.wall_off_ms.clear()
        for machine in self.machines.values():
            machine.wall_off_ms = 0
            if machine.reclaim_at_ms:
                machine.lose_power()  # now, and there is another in its place
                self.agent_up(machine)
        for controller in self.controllers.values():
            assert controller is not None
            controller.wall_off_ms = 0
        self.operator.program.start(self.operator.see_to_hosts())

    def _come_to_rest(self) -> None:
        calm_since = None
        end = CHAOS_S + REST_S
        while self.loop.time() < end:
            self.loop.run_to(self.loop.time() + 1.0)
            if self._is_broken():
                return
            if not self._is_calm():
                calm_since = None
            elif calm_since is None:
                calm_since = self.loop.time()
            elif self.loop.time() - calm_since >= CALM_S:
                break
        if why := self._unrest():
            self.witness.violated("L", f"after {REST_S:.0f} s without a fault {why}")
        elif (leader := self.leader) is not None:
            world = leader.leadership.driver._world
            archived = self.shelf.jobs() if self.traits.keep_jobs is not None else {}
            self.witness.at_rest(world, self.stored(), archived)
            self.witness.same_when_restored(world, self._load(), leader.clock())

    def _is_calm(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> str:
        """Say what still goes on; nothing: all is at rest."""
        if self.user.waits_for:
            return f"{sorted(self.user.waits_for)} have no answer"
        leader = self.leader
        if leader is None:
            return "nobody leads"
        if leader.commits.is_under_way:
            return "a commit is under way"
        world = leader.leadership.driver._world
        left = [job for job in world.jobs.values() if not job.state.is_final]
        if left:
            return f"{left[0].name} is {left[0].state}"
        if world.adoption.strays:  # only this leader was told of what was on a host that is silent since
            return f"{min(world.adoption.strays)} of before the restore may still run"
        if self.cloud.machines or world.launches:
            return f"{[*self.cloud.machines, *world.launches][0]} is launched"
        for machine in self.machines.values():
            agent = self.agents[machine.name]
            if machine.agent is None:
                return f"the agent of {machine.name} is away"
            if machine.running or agent.table.attempts:
                kept = sorted(machine.running) or sorted(agent.table.attempts)
                return f"{machine.name} keeps {kept[0]}"
            host = next((h for h in world.hosts.values() if h.record.id == machine.disk.meta.host_id), None)
            if host is None or not host.session:
                return f"{machine.name} is not connected"
        if self.traits.keep_jobs is not None and archivist._due(world):
            return "jobs are to be archived"
        return ""

    def stored(self) -> dict[str, bytes]:
        return {key.decode().removeprefix(PREFIX): pair.value for key, pair in self.etcd.pairs.items()}

    def _load(self) -> Any:
        pairs = sorted((key, value) for key, value in self.stored().items() if key != LEADER_KEY)

        class Loaded:
            async def load(self, prefix: str = "") -> Any:
                yield [pair for pair in pairs if pair[0].startswith(prefix)]

        work = load_records(Loaded())  # type: ignore[arg-type]
        try:
            work.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("loading waits for nothing")


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
