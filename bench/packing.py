"""
How much of a cluster's GPUs the planner gives away before jobs do not fit any more, on public traces.

    .venv/bin/python bench/packing.py NODES.csv TASKS.csv [--constrained] [--seeds N]

The protocol is that of the published comparison (Weng et al., "Beware of
Fragmentation", USENIX ATC 2023): the tasks of the trace are shuffled, samples with
replacement are appended until the GPUs that they ask for are 130 % of those there are,
and each is placed by `make_plan` as it comes, over lines and rankings as a controller
has them; what does not fit is dropped, and nothing ends. Told is the part of all GPUs
that is given away while 100 % has arrived (the mean while that rounds to it), and at
the end. Of equal hosts the first of the file is taken. Beside it best fit, a plain loop
over CPU and GPUs, each in amounts of the largest host, and the published figures.
"""

from __future__ import annotations

import csv
import math
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import click
import numpy as np
from bench.figures import Figure, Outcome, Skipped
from bench.scale import Scale

from batchyard.ids import HostId, JobId
from batchyard.resources import GPU_WHOLE, Resources
from batchyard.tasks import Container, Task
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.model.jobs import Job, JobSpec
from batchyard_controller.core.model.settings import ComputeEnvironment, EnvironmentOrder, JobQueue
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.due_times import DueTimes
from batchyard_controller.core.placement.feasibility import NO_ACCESS, Access
from batchyard_controller.core.placement.fleet import Fleet
from batchyard_controller.core.placement.line import Shape
from batchyard_controller.core.placement.lines import Lines
from batchyard_controller.core.placement.mix import Demand
from batchyard_controller.core.placement.plan import make_plan
from batchyard_controller.core.placement.pools import Pools
from batchyard_controller.core.placement.ranking import Rankings
from batchyard_controller.core.placement.shares import Shares
from batchyard_controller.core.placement.situation import Situation
from batchyard_controller.core.placement.tenants import Tenants

PUBLISHED = {"default": {"best fit": (92.86, 93.08), "FGD": (95.23, 95.39)}, "models": {"FGD": (87.84, 94.55)}}
"""Of the default tasks, and of those of which a third ask for models of GPUs: at 100 and at 130 % arrived."""
QUEUE = "all"
NOW = Instant(wall_ms=0, boot_ms=0)
LOAD = 1.3
FIRST_SEED = 42
CPU, GPU = 0, 2
"""Places of amounts in the plain loop."""
PART_CONSTRAINED = 3
"""One task of so many asks for a model, where they are drawn."""


@dataclass(frozen=True, slots=True)
class Node:
    """A host of the trace."""

    cpu_millis: int
    memory_mib: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A task of the trace; *models*: which GPUs it may have, empty for any."""

    resources: Resources
    models: tuple[str, ...] = ()


def read_nodes(path: Path) -> list[Node]:
    """Read the hosts of a trace."""
    with path.open(newline="") as file:
        return [
            Node(int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"]), row["model"])
            for row in csv.DictReader(file)
        ]


def read_tasks(path: Path) -> list[Asked]:
    """Read the tasks of a trace."""
    with path.open(newline="") as file:
        return [
            Asked(
                Resources(
                    cpu_millis=int(row["cpu_milli"]),
                    memory_mib=int(row["memory_mib"]),
                    gpu_millis=int(row["num_gpu"]) * int(row["gpu_milli"]),
                ),
                tuple(model for model in (row.get("gpu_spec") or "").split("|") if model),
            )
            for row in csv.DictReader(file)
        ]


def constrained(tasks: list[Asked], nodes: list[Node], seed: int) -> list[Asked]:
    """
    Let a third of the tasks with GPUs ask for a model, drawn among those of nodes large enough for them.

    Models are drawn by the square roots of how many GPUs they have, so that most of the rarer ones is asked for by
    name: who fills them with tasks that could go elsewhere is found out.
    """
    draw, told = random.Random(seed), []
    sizes = Counter[str]()
    for node in nodes:
        sizes[node.model] += node.gpus
    for task in tasks:
        asked = task.resources
        models = task.models
        if asked.gpu_millis and draw.randrange(PART_CONSTRAINED) == 0:
            fits = [n for n in nodes if n.gpus * GPU_WHOLE >= asked.gpu_millis and n.cpu_millis >= asked.cpu_millis]
            able = sorted({node.model for node in fits})
            models = (draw.choices(able, [math.sqrt(sizes[model]) for model in able])[0],)
        told.append(Asked(asked, models))
    return told


def arrivals(tasks: list[Asked], gpus: int, seed: int) -> list[Asked]:
    """Return the tasks in the order in which they come."""
    draw, come = random.Random(seed), list(tasks)
    draw.shuffle(come)
    load = sum(task.resources.gpu_millis for task in come)
    while load < LOAD * gpus * GPU_WHOLE:
        come.append(draw.choice(tasks))
        load += come[-1].resources.gpu_millis
    return come


class Planner:
    """The product's own: a fleet, lines, rankings, and a plan for each task that comes."""

    def __init__(self, nodes: list[Node]) -> None:
        self._fleet = Fleet()
        for number, node in enumerate(nodes):
            gpus = tuple(GpuFacts(uuid=f"GPU-{i}", model=node.model) for i in range(node.gpus))
            capacity = Resources(cpu_millis=node.cpu_millis, memory_mib=node.memory_mib)
            told = HostFacts(name=f"h{number}", capacity=capacity, gpus=gpus, runtimes=("process",))
            self._fleet.set_host(HostId(told.name), told)
        queue = JobQueue(name=QUEUE, environment_order=(EnvironmentOrder(order=1, compute_environment=QUEUE),))
        self._situation = Situation(
            lines=Lines(DueTimes({QUEUE: queue})),
            queues={QUEUE: queue},
            environments={QUEUE: ComputeEnvironment(name=QUEUE)},
            policies={},
            shares=Shares(),
            rankings=Rankings(self._fleet, Pools()),
            tenants=Tenants(),  # nothing ends, so that nobody is promised a host, or stopped
            occupants=lambda *_: [],
            hosts_of=lambda *_: frozenset(),
            reservations=(),
        )
        self._seq = 0

    def place(self, asked: Asked) -> bool:
        """Say whether a task that comes now is placed; it is dropped if not."""
        self._seq += 1
        task = Task(containers=(Container(command=("work",), resources=asked.resources),))
        spec = JobSpec(queue=QUEUE, task=task)
        job = Job(id=JobId(f"j{self._seq}"), name="job", spec=spec, seq=self._seq, created_at_ms=0)
        access = Access(gpu_models=asked.models) if asked.models else NO_ACCESS
        shape, lines = Shape(QUEUE, asked.resources, "process", access), self._situation.lines
        lines.push(shape, job)
        plan = make_plan(self._situation, NOW)
        for placement in plan.placements:
            self._fleet.claim(placement.host_id, asked.resources, placement.gpus, placement.compute_environment)
            if asked.resources.gpu_millis:
                self._situation.rankings.packing.mix.note_placed(Demand.of(shape))
        lines.remove(shape, job, 0, 1)
        return bool(plan.placements)


class BestFit:
    """A plain loop: the host, and the GPU, on which least is left over."""

    def __init__(self, nodes: list[Node]) -> None:
        self._models = np.array([node.model for node in nodes])
        most = max(node.gpus for node in nodes)
        self._gpus = np.array([[GPU_WHOLE] * n.gpus + [0] * (most - n.gpus) for n in nodes])
        self._free = np.array([[n.cpu_millis, n.memory_mib, n.gpus * GPU_WHOLE] for n in nodes], dtype=np.float64)
        self._largest = self._free.max(axis=0)

    def place(self, asked: Asked) -> bool:
        """Say whether a task that comes now is placed; it is dropped if not."""
        gpu = asked.resources.gpu_millis
        amounts = np.array([asked.resources.cpu_millis, asked.resources.memory_mib, gpu])
        fits = (self._free >= amounts).all(axis=1)
        fits &= (self._gpus >= min(gpu, GPU_WHOLE)).sum(axis=1) >= max(1, gpu // GPU_WHOLE)
        if asked.models:
            fits &= np.isin(self._models, asked.models)
        if not fits.any():
            return False
        left = ((self._free - amounts) / self._largest)[:, [CPU, GPU]].sum(axis=1)
        host = int(np.where(fits, left, np.inf).argmin())
        self._free[host] -= amounts
        levels = self._gpus[host]
        for _ in range(max(1, gpu // GPU_WHOLE) if gpu else 0):
            part = min(gpu, GPU_WHOLE)
            levels[np.where(levels >= part, levels, 2 * GPU_WHOLE).argmin()] -= part
        return True


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, in a process of its own."""

    nodes: Path
    tasks: Path
    is_constrained: bool
    seed: int


def run(trial: Trial) -> tuple[dict[str, tuple[float, float]], float]:
    """Return what is given away at 100 % and at the end, in percent, by planner; and placements a second of ours."""
    nodes, tasks = read_nodes(trial.nodes), read_tasks(trial.tasks)
    if trial.is_constrained:
        tasks = constrained(tasks, nodes, trial.seed)
    gpus = sum(node.gpus for node in nodes)
    come = arrivals(tasks, gpus, trial.seed)
    began = time.process_time()
    ours = _given(come, Planner(nodes).place, gpus)
    rate = len(come) / (time.process_time() - began)
    return {"ours": ours, "best fit": _given(come, BestFit(nodes).place, gpus)}, rate


def _given(come: list[Asked], place: Callable[[Asked], bool], gpus: int) -> tuple[float, float]:
    arrived, given, at_full = 0, 0, []
    for task in come:
        arrived += task.resources.gpu_millis
        given += task.resources.gpu_millis if place(task) else 0
        if round(100 * arrived / (gpus * GPU_WHOLE)) == 100:
            at_full.append(given)
    return 100 * statistics.mean(at_full) / (gpus * GPU_WHOLE), 100 * given / (gpus * GPU_WHOLE)


def figures(nodes: Path, tasks: Path, seeds: int, is_constrained: bool) -> Iterator[Figure]:
    """Try all seeds and return what came out, beside best fit in the same run."""
    trials = [Trial(nodes, tasks, is_constrained, FIRST_SEED + i) for i in range(seeds)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = list(pool.map(run, trials))
    published = PUBLISHED["models" if is_constrained else "default"]["FGD"]
    for column, load in enumerate(("100", "130")):
        ours, plain = ([by_name[name][column] for by_name, _ in found] for name in ("ours", "best fit"))
        rate = statistics.mean(rate for _, rate in found)
        yield Figure(
            name=f"GPUs given away at {load} % arrived" + (", a third ask for a model" if is_constrained else ""),
            value=statistics.mean(ours),
            unit="%",
            baseline=statistics.mean(plain),
            baseline_name="best fit",
            aim="94 %" if is_constrained and column == 0 else "96.0 %" if not is_constrained else "",
            note=f"{seeds} seeds, ours ± {_error(ours):.2f}, best fit ± {_error(plain):.2f}; FGD as published "
            f"{published[column]}; {rate:,.0f} tasks/s",
        )


async def measure(scale: Scale) -> AsyncIterator[Outcome]:
    """Try the trace that was given, if one was, without models and with them."""
    if scale.trace is None:
        yield Skipped("GPUs given away", "no trace was given (--trace NODES TASKS)")
        return
    for is_constrained in (False, True):
        for figure in figures(*scale.trace, scale.pick(10, 2), is_constrained):
            yield figure


def _error(values: list[float]) -> float:
    """Return the standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


@click.command(help=__doc__)
@click.argument("nodes", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("tasks", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--constrained", "is_constrained", is_flag=True, help="Let a third of the tasks ask for a model of GPUs.")
@click.option("--seeds", default=10, type=click.IntRange(1), help="How many orders of tasks are tried.")
def main(nodes: Path, tasks: Path, is_constrained: bool, seeds: int) -> None:
    """Try one pair of files."""
    began = time.monotonic()
    for figure in figures(nodes, tasks, seeds, is_constrained):
        click.echo(f"{figure.line()}  {figure.value:.2f} against {figure.baseline:.2f}")
    click.echo(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
