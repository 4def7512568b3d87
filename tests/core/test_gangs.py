"""Gangs: all nodes or none, and none for ever: by example, and against a plain search."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_node_laws import nodes
from tests.core.yard import Yard, container, task

from batchyard.errors import InvalidArgumentError
from batchyard.states import JobState
from batchyard_controller.core.events import HostHeard, Ticked
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.model.nodes import NodeRange, Nodes, Spread
from batchyard_controller.core.model.settings import ComputeResources, DispatchOrder
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.placement.gangs import match
from batchyard_controller.core.views.waiting import waiting_reason


def yard_of(*cpus: int, **environment: object) -> Yard:
    yard = Yard()
    yard.environment(**environment)
    yard.queue()
    for i, cpu in enumerate(cpus):
        yard.host(f"h{i}", cpu=cpu)
    return yard


def gang(yard: Yard, count: int, **fields: object) -> Job:
    more = {name: fields.pop(name) for name in ("timeout_s", "queue") if name in fields}
    return yard.submit(nodes=nodes(count, **fields), task=None, container=None, name="gang", **more)


def pass_time(yard: Yard, ms: int) -> None:
    yard.now = Instant(wall_ms=yard.now.wall_ms + ms, boot_ms=yard.now.boot_ms + ms)
    for host in yard.world.hosts.values():
        yard.apply(HostHeard(host_id=host.record.id))
    yard.apply(Ticked())


@pytest.mark.parametrize("timeout_s", [30, 0], ids=["with timeouts", "without"])
def test_a_gang_starts_against_an_endless_stream_of_small_jobs(timeout_s: int) -> None:
    """
    Once it is first in its queue's order: within the longest timeout of what runs, and one plan.

    Three hosts with two places each; some end each second, and there are always small jobs that
    would take what falls free. Without timeouts what is expected of them holds.
    """
    yard = yard_of(2000, 2000, 2000)
    yard.queue(dispatch_order=DispatchOrder.SUBMISSION_TIME)
    small = container(cpu=1000)
    ends: dict[str, int] = {}
    wanted: Job | None = None
    for second in range(100):
        wanted = gang(yard, 3, cpu=2000, timeout_s=600) if second == 15 else wanted
        while yard.world.counts.get("q", Counter())[JobState.RUNNABLE] - 3 * (wanted is not None) < 6:
            yard.submit(container=small, timeout_s=timeout_s)
        for name in [name for name, end in ends.items() if end <= second]:
            del ends[name]
            yard.ended(name)
        yard.plan()
        if wanted is not None and wanted.state is not JobState.RUNNABLE:
            assert second - 15 <= (timeout_s or 30) + 1
            return
        for offset, name in enumerate(sorted(yard.live().keys() - ends.keys())):
            yard.started(name, yard.now.wall_ms)
            ends[name] = second + 8 + offset % 5
        pass_time(yard, 1_000)
    raise AssertionError("it never starts")


def test_two_gangs_on_three_hosts_never_hold_half_each() -> None:
    """Both want two of three hosts; whatever ends when, one runs whole, and then the other."""
    yard = yard_of(1000, 1000, 1000)
    singles = [yard.submit(container=container(cpu=1000), timeout_s=100) for _ in range(3)]
    yard.plan()
    first, second = gang(yard, 2), gang(yard, 2)
    for single in singles:
        yard.ended(f"{single.id}#1")
        yard.plan()
        held = [sum(name.startswith(job.id) for name in yard.live()) for job in (first, second)]
        assert held in ([0, 0], [2, 0])
    assert first.state is JobState.STARTING
    yard.started(f"{first.id}#0#1")
    yard.ended(f"{first.id}#0#1")
    yard.ended(f"{first.id}#1#1", 143)
    yard.plan()
    assert second.state is JobState.STARTING


def test_what_was_tried_in_vain_is_left_nowhere() -> None:
    """I-e: a gang that finds too few hosts changes nothing for who comes after it."""
    yard = yard_of(4000, 1000)
    gang(yard, 2, cpu=2000, spread=Spread.HOSTS)
    before = yard.world.fleet.state.copy()
    later = yard.submit(container=container(cpu=4000))
    yard.plan()
    assert later.state is JobState.STARTING
    yard.ended(f"{later.id}#1")
    assert (yard.world.fleet.state == before).all()
    assert yard.world.fleet.environment_cpu["ce"] == 0


def test_an_environments_bound_holds_for_all_nodes_together() -> None:
    yard = yard_of(4000, 4000, compute_resources=ComputeResources(max_vcpus=3))
    job = gang(yard, 2, cpu=2000)
    yard.plan()
    assert job.state is JobState.RUNNABLE
    assert "4 vCPU asked by all nodes together, compute environment ce has 3 left" in waiting_reason(
        yard.world, yard.unit(job.id)
    )
    assert yard.reason(job.id).startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")


def test_a_queues_bound_counts_nodes() -> None:
    yard = yard_of(4000, 4000)
    yard.queue("bounded", max_running=2)
    three, two = gang(yard, 3, queue="bounded"), gang(yard, 2, queue="bounded")
    yard.plan()
    assert (three.state, two.state) == (JobState.RUNNABLE, JobState.STARTING)
    assert "is at its bound of 2 running at once" in waiting_reason(yard.world, yard.unit(three.id))


def test_the_head_says_how_many_hosts_are_asked_and_free() -> None:
    yard = yard_of(8000, 8000, 8000, 8000, 8000, 8000)
    for _ in range(4):
        yard.submit(container=container(cpu=8000))
    yard.plan()
    job = gang(yard, 4, cpu=8000)
    yard.plan()
    text = waiting_reason(yard.world, yard.unit(job.id))
    assert "4 hosts with 8 vCPU and 100 MiB memory free asked, 2 have it now (6 could)" in text
    (refusal,) = [each for each in yard.refusals() if each.kind == "gang"]
    assert (refusal.asked, refusal.free, refusal.largest_capacity) == (4, 2, 6)


@given(
    fits=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=3),
    data=st.data(),
)
def test_hosts_are_shared_out_if_there_is_any_way(fits: list[list[bool]], data: st.DataObject) -> None:
    wanted = [data.draw(st.integers(0, 3)) for _ in fits]
    found = match([np.array(mask) for mask in fits], wanted)
    ways = itertools.product(range(-1, len(fits)), repeat=5)
    is_possible = any(
        all(way.count(part) == wanted[part] for part in range(len(fits)))
        and all(part < 0 or fits[part][row] for row, part in enumerate(way))
        for way in ways
    )
    assert (found is not None) == is_possible
    if found is not None:
        for part, mask in enumerate(fits):
            assert (found == part).sum() == wanted[part]
            assert all(mask[row] for row in (found == part).nonzero()[0])


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0:3", (0, 4)),
        (":3", (0, 4)),
        ("2:", (2, 6)),
        (":", (0, 6)),
        ("5", (5, 6)),
        ("", None),
        ("a", None),
        ("-1", None),
        ("1:2:3", None),
        ("1 :2", None),
    ],
)
def test_ranges_are_read_as_aws_writes_them(text: str, span: tuple[int, int] | None) -> None:
    assert NodeRange(target_nodes=text, task=task(container())).span(6) == span


def test_of_ranges_in_each_other_the_inner_one_holds() -> None:
    wide, inner, one = (
        NodeRange(target_nodes=t, task=task(container(cpu=c))) for t, c in ((":", 1), ("2:4", 2), ("3", 3))
    )
    found = Nodes(count=6, ranges=(inner, one, wide))
    assert [(g.start, g.stop, g.task.main.resources.cpu_millis) for g in found.groups] == [
        (0, 2, 1),
        (2, 3, 2),
        (3, 4, 3),
        (4, 5, 2),
        (5, 6, 1),
    ]
    assert found.resources.cpu_millis == 3 * 1 + 2 * 2 + 3


def test_a_dependency_of_children_names_an_array_and_no_nodes() -> None:
    yard = yard_of(1000)
    job = gang(yard, 2)
    dependency = Dependency(job_id=job.id, type=DependencyType.N_TO_N)
    with pytest.raises(InvalidArgumentError, match="is no array"):
        yard.submit(array_size=2, depends_on=(dependency,))
