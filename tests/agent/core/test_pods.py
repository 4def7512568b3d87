"""What pods say and what is told of their attempts, by table; how pods are given up, by story."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchyard_agent.core import pods
from batchyard_agent.core.pods import Delete, PodContainer, PodFacts, PodLife, outcome, trouble
from batchyard_agent.runtimes.protocol import Exited, Started, StartFailed, StopSignal, Vanished

ID = "job#1"
START, STOP = 1_000, 2_000


def over(exit_code=0, reason="", *, name="default", stopped_at_ms=STOP, **more: Any):
    word = reason or ("Error" if exit_code else "Completed")
    return PodContainer(
        name=name,
        state="terminated",
        reason=word,
        exit_code=exit_code,
        started_at_ms=START,
        stopped_at_ms=stopped_at_ms,
        **more,
    )


def waits(reason, message="", *, name="default"):
    return PodContainer(name=name, state="waiting", reason=reason, message=message)


def runs(*, name="default", started_at_ms=START):
    return PodContainer(name=name, state="running", started_at_ms=started_at_ms)


def pod(*containers: PodContainer, phase="Running", is_bound=True, init=(), **more: Any):
    return PodFacts(phase=phase, is_bound=is_bound, containers=containers, init_containers=tuple(init), **more)


def exited(code, **more: Any):
    return Exited(attempt_id=ID, exit_code=code, stopped_at_ms=STOP, **more)


def lost(reason):
    return Vanished(attempt_id=ID, reason=reason, is_reboot=True)


def never(reason, exit_code=None, **more: Any):
    return StartFailed(attempt_id=ID, reason=reason, exit_code=exit_code, **more)


NOTHING = PodContainer(name="default")

OUTCOMES = [
    ("all ended with 0", pod(over(), over(name="b"), phase="Succeeded"), exited(0)),
    ("ended with n", pod(over(3), phase="Failed"), exited(3)),
    (
        "of several the first that failed",
        pod(over(4, name="a"), over(5, name="b", stopped_at_ms=STOP - 1), over(name="c"), phase="Failed"),
        exited(5),
    ),
    ("killed for its memory", pod(over(137, "OOMKilled"), phase="Failed"), exited(137, out_of_memory=True)),
    ("0 wins over a child killed for its memory", pod(over(0, "OOMKilled"), phase="Succeeded"), exited(0)),
    (
        "evicted",
        pod(over(137), phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
        lost("Evicted: The node was low on resource: memory."),
    ),
    ("node lost", pod(runs(), phase="Failed", reason="NodeLost"), lost("NodeLost")),
    ("node shut down", pod(over(143), phase="Failed", reason="Terminated"), lost("Terminated")),
    (
        "disrupted",
        pod(over(143), phase="Failed", disruption="EvictionByEvictionAPI"),
        lost("EvictionByEvictionAPI"),
    ),
    ("0 wins over a disruption", pod(over(), phase="Succeeded", disruption="DeletionByTaintManager"), exited(0)),
    ("node gone", pod(runs(), is_node_gone=True), lost(pods.NODE_GONE_REASON)),
    ("node gone after the end", pod(over(3), phase="Failed", is_node_gone=True), exited(3)),
    ("node restarted", pod(over(137, "ContainerStatusUnknown"), phase="Failed"), lost("The node was restarted")),
    (
        "no such command",
        pod(over(128, "StartError", message='exec: "nosuch": executable file not found in $PATH'), phase="Failed"),
        never('CannotStartContainerError: exec: "nosuch": executable file not found in $PATH', 127),
    ),
    (
        "command not executable",
        pod(over(128, "ContainerCannotRun", message='exec: "/etc/motd": permission denied'), phase="Failed"),
        never('CannotStartContainerError: exec: "/etc/motd": permission denied', 126),
    ),
    (
        "an init container failed",
        pod(waits("PodInitializing"), init=[over(name="a"), over(7, name="b")], phase="Failed"),
        never("CannotStartContainerError: init container b exited with 7 (Error)", 7, stopped_at_ms=STOP),
    ),
    (
        "not admitted by the kubelet",
        pod(NOTHING, phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"),
        never("CannotStartContainerError: OutOfcpu: Node didn't have enough resource: cpu", host_failed=True),
    ),
    (
        "deleted by somebody before it was bound",
        pod(NOTHING, phase="Pending", is_bound=False, is_deleted=True),
        Vanished(attempt_id=ID, reason=pods.REMOVED_REASON),
    ),
]


@pytest.mark.parametrize(("facts", "end"), [row[1:] for row in OUTCOMES], ids=[row[0] for row in OUTCOMES])
def test_a_pod_that_is_over_says_how_its_attempt_ended(facts: PodFacts, end) -> None:
    assert outcome(facts, ID) == end


NOT_OVER = [
    pod(runs()),
    pod(over(), runs(name="b")),
    pod(NOTHING, phase="Pending", is_bound=False),
    pod(runs(), is_deleted=True),
    pod(runs(), phase="Unknown"),
    # Another node may come that bears the name, so it has to be deleted.
    pod(NOTHING, phase="Pending", is_bound=False, is_node_gone=True),
    pod(runs(), disruption="DeletionByTaintManager", is_deleted=True),
]


@pytest.mark.parametrize("facts", NOT_OVER)
def test_what_may_still_run_is_not_over(facts: PodFacts) -> None:
    assert not facts.is_over


TROUBLES = [
    ("ErrImagePull", "CannotPullContainerError: why", pods.PULL_PATIENCE_MS, {"image_missing": True}),
    ("ImagePullBackOff", "CannotPullContainerError: why", pods.PULL_PATIENCE_MS, {"image_missing": True}),
    ("RegistryUnavailable", "CannotPullContainerError: why", pods.PULL_PATIENCE_MS, {"image_missing": True}),
    ("ErrImageNeverPull", "CannotPullContainerError: why", 0, {"image_missing": True}),
    ("InvalidImageName", "CannotPullContainerError: why", 0, {}),
    ("CreateContainerConfigError", "CannotStartContainerError: why", pods.CREATE_PATIENCE_MS, {}),
    ("CreateContainerError", "CannotStartContainerError: why", pods.CREATE_PATIENCE_MS, {}),
    ("RunContainerError", "CannotStartContainerError: why", pods.CREATE_PATIENCE_MS, {}),
]


@pytest.mark.parametrize(("word", "text", "patience_ms", "more"), TROUBLES)
def test_what_keeps_a_pod_from_starting_is_suffered_for_a_while(word, text, patience_ms, more) -> None:
    life = PodLife(ID)
    stuck = pod(waits(word, "why"), phase="Pending")
    assert life.on_pod(stuck, 0) == ([Delete(pods.KILL_GRACE_S)] if not patience_ms else [])
    if patience_ms:
        assert life.next_due_ms == patience_ms
        assert life.on_pod(stuck, patience_ms - 1) == []
        assert life.on_pod(stuck, patience_ms) == [Delete(pods.KILL_GRACE_S)]
    # Nothing is told before it is sure that the pod will never run.
    assert not life.is_over
    assert life.on_pod(replace(stuck, phase="Failed", is_deleted=True), patience_ms + 1) == [never(text, **more)]
    assert life.is_over


def test_an_init_container_in_trouble_is_trouble_of_the_pod() -> None:
    found = trouble(pod(waits("PodInitializing"), init=[waits("ImagePullBackOff", "no")], phase="Pending"), ID)
    assert found is not None
    assert found.failure.reason == "CannotPullContainerError: no"


def test_a_pull_that_alternates_between_failing_and_waiting_counts_from_its_first_failure() -> None:
    life = PodLife(ID)
    for now_ms in range(0, pods.PULL_PATIENCE_MS, 10_000):
        word = "ErrImagePull" if now_ms % 20_000 else "ImagePullBackOff"
        assert life.on_pod(pod(waits(word), phase="Pending"), now_ms) == []
    assert life.on_pod(pod(waits("ErrImagePull"), phase="Pending"), pods.PULL_PATIENCE_MS)


def test_a_pull_that_succeeds_at_last_starts() -> None:
    life = PodLife(ID)
    life.on_pod(pod(waits("ImagePullBackOff"), phase="Pending"), 0)
    assert life.on_pod(pod(runs()), 119_000) == [Started(attempt_id=ID, started_at_ms=START)]
    assert life.next_due_ms is None


def test_a_pod_that_finds_no_room_is_deleted_after_a_minute_and_its_host_is_why() -> None:
    life = PodLife(ID)
    stuck = pod(NOTHING, phase="Pending", is_bound=False, unschedulable="0/3 nodes are available: 1 Insufficient cpu.")
    assert life.on_pod(stuck, 5) == []
    assert life.on_pod(stuck, pods.SCHEDULE_PATIENCE_MS + 5) == [Delete(pods.KILL_GRACE_S)]
    text = "CannotStartContainerError: 0/3 nodes are available: 1 Insufficient cpu."
    assert life.on_pod(replace(stuck, is_deleted=True), 70_000) == [never(text, host_failed=True)]


def test_what_ended_with_0_while_it_was_given_up_has_ended_with_0() -> None:
    life = PodLife(ID)
    stuck = pod(NOTHING, phase="Pending", is_bound=False)
    life.on_pod(stuck, 0)
    life.on_pod(stuck, pods.SCHEDULE_PATIENCE_MS)
    steps = life.on_pod(pod(over(), phase="Succeeded", is_deleted=True), 70_000)
    assert steps == [Started(attempt_id=ID, started_at_ms=START), exited(0)]


def test_a_stop_lets_the_pod_have_its_time_and_a_kill_none() -> None:
    life = PodLife(ID)
    life.on_pod(pod(runs()), 0)
    assert life.signal(StopSignal.TERM, 10) == [Delete(None)]
    assert life.on_pod(pod(runs(), is_deleted=True), 20) == []
    assert life.signal(StopSignal.KILL, 30) == [Delete(pods.KILL_GRACE_S)]
    assert life.on_pod(pod(over(143), phase="Failed", is_deleted=True), 40) == [exited(143)]
    assert life.signal(StopSignal.KILL, 50) == []


def test_a_deletion_that_had_no_effect_is_asked_for_again() -> None:
    life = PodLife(ID)
    life.on_pod(pod(runs()), 0)
    life.signal(StopSignal.TERM, 0)
    assert life.next_due_ms == pods.DELETE_REPEAT_MS
    assert life.on_pod(pod(runs()), pods.DELETE_REPEAT_MS) == [Delete(None)]


def test_a_stop_before_the_start_is_no_loss() -> None:
    life = PodLife(ID)
    life.signal(StopSignal.TERM, 0)
    facts = pod(NOTHING, phase="Pending", is_bound=False, is_deleted=True)
    assert life.on_pod(facts, 1) == [never("Stopped before it started")]


def test_a_pod_that_is_gone_has_vanished() -> None:
    life = PodLife(ID)
    life.on_pod(pod(runs()), 0)
    assert life.on_pod(None, 1) == [Vanished(attempt_id=ID, reason=pods.REMOVED_REASON)]
    assert life.on_pod(None, 2) == []


def test_all_of_several_have_to_run_before_the_attempt_does() -> None:
    life = PodLife(ID, is_several=True)
    assert life.on_pod(pod(runs(name="a"), waits("ContainerCreating", name="b")), 0) == []
    facts = pod(over(name="a"), runs(name="b", started_at_ms=START + 5))
    assert life.on_pod(facts, 1) == [Started(attempt_id=ID, started_at_ms=START)]
    steps = life.on_pod(pod(over(name="a"), over(2, name="b"), init=[over(name="i")], phase="Failed"), 2)
    assert [(end.name, end.exit_code, end.reason) for end in steps[0].containers] == [
        ("a", 0, "Completed"),
        ("b", 2, "Error"),
        ("i", 0, "Completed"),
    ]
