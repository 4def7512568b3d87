"""Worth: what the GPUs of a host are worth to those who are expected, and where jobs go for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from tests.core.yard import Yard, container, facts

from batchyard.ids import HostId
from batchyard.resources import Resources
from batchyard_controller.core.events import HostJoined
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.model.settings import ComputeEnvironment, ComputeResources
from batchyard_controller.core.placement.feasibility import NO_ACCESS, Access
from batchyard_controller.core.placement.gpus import choose_gpus
from batchyard_controller.core.placement.kinds import Kinds
from batchyard_controller.core.placement.lines import Lines, Shape
from batchyard_controller.core.placement.mix import MEMORY, Demand, Mix
from batchyard_controller.core.placement.prices import price_parts
from batchyard_controller.core.placement.worth import Expected, Worth

ANY = ComputeEnvironment(name="any")


def expected(share: float, gpu: int, cpu: int = 1000, memory: int = 100, **selected: tuple[str, ...]) -> Expected:
    environment = ComputeEnvironment(name=f"e{selected}", compute_resources=ComputeResources(**selected))
    asked = Resources(cpu_millis=cpu, memory_mib=memory, gpu_millis=gpu)
    return Expected(resources=asked, runtime="", access=NO_ACCESS, environments=(environment,), share=share)


def worths(worth: Worth, hosts: Iterable[tuple[int, int, list[int]]], host_type: str = "workstation") -> list[float]:
    """Return the worth of hosts with so much CPU, memory and left of their two GPUs."""
    kinds = Kinds()
    kinds.number(HostFacts(name="h", host_type=host_type))
    worth.know(kinds)
    cpu, memory, levels = (np.array(column) for column in zip(*hosts, strict=True))
    return worth.values(np.zeros(len(cpu), dtype=np.int64), cpu, memory, worth.units(worth.counts(levels))).tolist()


def test_a_host_is_worth_the_gpu_that_is_expected_to_be_used():
    """Two parts of 400 in a GPU, one whole GPU of two; nothing of 300; bounded by CPU and by memory."""
    parts, wholes = Worth([expected(1.0, 400)]), Worth([expected(1.0, 2000)])
    hosts = [(9000, 900, [1000, 300]), (1500, 900, [1000, 1000]), (9000, 300, [1000, 1000]), (900, 900, [1000, 1000])]
    assert worths(parts, hosts) == pytest.approx([800, 600, 1200, 0])
    assert worths(wholes, [(9000, 900, [1000, 999]), (9000, 900, [1000, 1000]), (1000, 900, [1000, 1000])]) == (
        pytest.approx([0, 2000, 2000])
    )


def test_cpu_and_memory_are_pulled_to_the_mean_of_the_mix():
    """Of 1 and 3 vCPUs a GPU, evenly expected, a quarter counts: 1.75 and 2.25."""
    worth = Worth([expected(0.5, 1000, cpu=1000), expected(0.5, 1000, cpu=3000)])
    (found,) = worths(worth, [(2000, 900, [1000, 1000])])
    assert found == pytest.approx(0.5 * 1000 * 2000 / 1750)


def test_a_shape_counts_the_more_the_less_room_it_may_use():
    """Half of them may use one host of four, so that it is worth four times as much to them."""
    worth = Worth([expected(0.5, 1000), expected(0.5, 1000, instance_types=("rare",))])
    weights = worth.weigh(np.array([4.0, 4.0]), np.array([4.0, 1.0]))
    assert weights.tolist() == pytest.approx([0.2, 0.8])
    worth.use(weights)
    common, rare = (worths(worth, [(9000, 900, [1000, 0])], host)[0] for host in ("common", "rare"))
    assert (common, rare) == (pytest.approx(200), pytest.approx(1000))


def test_what_was_placed_is_forgotten_and_who_waits_counts_no_more_than_is_remembered():
    mix = Mix()
    old, new = (Demand.of(Shape("q", Resources(gpu_millis=millis), "process")) for millis in (500, 1))
    mix.note_placed(old)
    for _ in range(MEMORY):
        mix.note_placed(new)
    weights = mix.weigh(())
    assert weights == {old: pytest.approx(0.3677, abs=1e-3), new: pytest.approx(632.3, abs=0.1)}
    assert mix.placed == MEMORY + 1


def test_a_yard_without_jobs_for_gpus_takes_the_tightest_host():
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("wide", cpu=8000, gpus=1)
    yard.host("tight", cpu=2000)
    yard.submit(container=container(cpu=1000))
    yard.plan()
    assert yard.world.rankings.packing.worth is None
    assert list(yard.live().values()) == ["tight"]


def test_a_job_without_gpus_leaves_cpus_to_those_with_gpus():
    """The tighter host would be left with a GPU that nobody could use."""
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("gpus", cpu=2000, gpus=2)
    yard.host("wide", cpu=16000)
    for _ in range(2):
        yard.submit(container=container(cpu=1000, gpu=1000))
    yard.submit(container=container(cpu=1000, memory=99))
    yard.plan()
    assert sorted(yard.live().values()) == ["gpus", "gpus", "wide"]


def test_a_part_goes_to_the_gpu_whose_remainder_is_worth_as_much_as_before():
    """Of 590 a part of 100 would leave nothing for those of 500; of 700 it leaves room for those of 600."""
    worths = price_parts({600: 10, 500: 10, 100: 1}).worths.tolist()
    left = {"a": 700, "b": 590}
    assert [gpu.uuid for gpu in choose_gpus(left, 100, worths)] == ["a"]
    assert [gpu.uuid for gpu in choose_gpus(left, 100)] == ["b"]


@pytest.mark.parametrize("steps_max", [1, 3, 1000])
def test_slices_of_a_long_queue_of_parts_place_as_one_plan(steps_max: int):
    """A mix of sizes over hosts of several kinds, more than fits, ended in between and learnt from."""

    def story(steps_max: int | None) -> list[tuple[str, str, tuple[str, ...]]]:
        yard, told = Yard(), []
        yard.environment()
        yard.environment("rare", compute_resources=ComputeResources(instance_types=("rare",)))
        yard.queue("q", "ce")
        yard.queue("r", "rare")
        for i in range(6):
            yard.host(f"h{i}", cpu=16000, gpus=1 + i % 3, host_type="rare" if i % 2 else "common")
        for turn in range(4):
            for i in range(20):
                gpu = (810, 470, 320, 1000, 160, 2000, 0)[(i + turn) % 7]
                yard.submit("r" if i % 5 == 0 else "q", container=container(cpu=500 + 100 * (i % 3), gpu=gpu))
            yard.plan(steps_max)
            live = sorted(yard.world.attempts.values(), key=lambda a: a.id)
            told += [(a.id, a.host_id, tuple(gpu.uuid for gpu in a.gpus)) for a in live]
            for attempt in live[::3]:
                yard.ended(attempt.id)
        return told

    assert story(steps_max) == story(None)


def test_lines_know_how_many_stand_in_them():
    yard = Yard()
    yard.environment()
    yard.queue()
    job = yard.submit(array_size=9, container=container(gpu=500))
    yard.submit(container=container(gpu=500))
    lines: Lines = yard.world.lines
    (line,) = lines.of_queue("q")
    assert (len(line), lines.gpu_arrivals) == (10, 10)
    yard.cancel(f"{job.id}:4")
    assert len(line) == len(list(line.units())) == 9


def of_models(name: str, *models: str) -> HostFacts:
    """Return a host with a GPU of each model; an A100 has the most memory."""
    gpus = tuple(
        GpuFacts(uuid=f"{name}-{i}", model=model, memory_mib=40_000 if model == "A100" else 16_000)
        for i, model in enumerate(models)
    )
    return replace(facts(name), gpus=gpus)


def join(yard: Yard, told: HostFacts) -> None:
    yard.apply(HostJoined(host_id=HostId(told.name), facts=told, session=1))
    host = yard.world.hosts[HostId(told.name)]
    host.trust.proven_until_boot_ms = 1 << 60
    yard.world.refresh_host(host)


def test_of_several_kinds_of_gpus_those_with_the_least_memory_go_first(yard: Yard):
    """For a part, for whole ones, and for a job that wants the memory only where it does."""
    join(yard, of_models("h", "A100", "T4", "A100", "T4"))
    given = []
    for gpu, memory in ((1000, 0), (300, 0), (300, 0), (1000, 20_000)):
        asked = replace(container(gpu=gpu, cpu=100), gpu_memory_mib=memory)
        job = yard.submit(container=asked)
        yard.plan()
        attempt = next(a for a in yard.world.attempts.values() if a.job_id == job.id)
        given += [claim.uuid for claim in attempt.gpus]
    assert given == ["h-1", "h-3", "h-3", "h-0"]


def test_a_shape_that_wants_a_model_counts_the_gpus_of_that_model_alone():
    """Of a T4 and an A100, the T4 first, as it has less memory."""
    kinds, asked = Kinds(), Resources(cpu_millis=1000, memory_mib=100, gpu_millis=1000)
    kinds.number(of_models("h", "A100", "T4"))
    picky, other = (
        Expected(resources=asked, runtime="", access=access, environments=(ANY,), share=0.5)
        for access in (Access(gpu_models=("a100",)), NO_ACCESS)
    )
    worth = Worth([picky, other])
    worth.know(kinds)
    levels, of_kind = np.array([[1000, 1000], [0, 1000], [1000, 0]]), np.zeros(3, dtype=np.int64)
    places = np.array([[0, 1]] * 3)
    assert worth.mixed(of_kind).tolist() == [0, 1, 2]
    assert worth.units_wanted(of_kind, levels, places).tolist() == [[1, 2], [1, 1], [0, 1]]
