"""``scheduling-policy``, ``consumable-resource``, ``update-job`` and caps: what becomes of them and what is written."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard import container
from batchyard.v1.job_queue_pb2 import PREEMPTION_NEVER


def test_a_policy_is_made_shown_changed_and_deleted(run: Run, yard: Yard) -> None:
    made = run(
        "scheduling-policy", "create", "fair", "--share", "A=0.5,max-running=3", "--share", "B*=2", "--decay", "1h"
    )
    assert (made.code, made.out) == (0, "")
    assert made.err == "batchyard: created scheduling policy fair (2 shares with a weight of their own)\n"
    assert "A=0.5,max-running=3 B*=2" in run("scheduling-policy", "list").out
    assert run("scheduling-policy", "update", "fair", "--reservation", "10").code == 0
    (shown,) = json.loads(run("scheduling-policy", "describe", "fair", "-o", "json").out)
    assert (shown["fairshare"]["share_decay_s"], shown["fairshare"]["compute_reservation"]) == (3600, 10)
    assert len(shown["fairshare"]["share_distribution"]) == 2
    run("scheduling-policy", "update", "fair", "--no-shares", "--decay", "0s")
    described = run("scheduling-policy", "describe", "fair").out
    assert "10 %" in described
    assert "A=0.5" not in described
    assert run("queue", "create", "shared", "--scheduling-policy", "fair").code == 0
    refused = run("scheduling-policy", "delete", "fair")
    assert (refused.code, "is used by job queues: shared" in refused.err) == (3, True)
    run("scheduling-policy", "create", "alone")
    assert run("scheduling-policy", "delete", "alone").err == "batchyard: deleted scheduling policy alone\n"


def test_a_quota_share_is_made_shown_changed_and_deleted(run: Run, yard: Yard) -> None:
    made = run("scheduling-policy", "create", "quota", "--quota-shares")
    assert made.err == "batchyard: created scheduling policy quota (quota shares)\n"
    assert "quota shares" in run("scheduling-policy", "list").out
    assert run("scheduling-policy", "update", "quota", "--decay", "1h").code == 2
    assert run("scheduling-policy", "create", "p", "--quota-shares", "--decay", "1h").code == 2
    run("queue", "create", "shared", "--scheduling-policy", "quota")
    limits = ("--limit", "VCPU=4", "--limit", "MEMORY_MIB=8192")
    made = run(
        *("quota-share", "create", "shared", "team-a", *limits, "--strategy", "LEND_AND_BORROW"),
        *("--borrow-limit", "50"),
    )
    told = "created quota share team-a of shared (VCPU=4 MEMORY_MIB=8192, LEND_AND_BORROW up to 50 %)"
    assert (made.code, made.err) == (0, f"batchyard: {told}\n")
    run("quota-share", "create", "shared", "team-b", "--limit", "VCPU=2", "--strategy", "LEND")
    yard.join()
    first = run("submit", "--queue", "shared", "--share", "team-a", "-o", "name", "--", "true")
    second = run("submit", "--queue", "shared", "--share", "team-a", "--vcpus", "6", "-o", "name", "--", "true")
    assert (first.code, second.code) == (0, 0)
    shown = run("quota-share", "list", "shared").out
    assert "VCPU=1/4" in shown
    explained = run("explain", second.out.strip()).out
    assert "6 VCPU asked, quota share team-a of queue shared uses 1 of its limit of 4" in explained
    assert "may borrow 2 at most" in explained
    assert second.out.strip() in run("queue", "snapshot", "shared").out
    assert run("tag", "add", "quota-share", "shared/team-a", "k=v").code == 0
    assert "k=v" in run("quota-share", "describe", "shared", "team-a").out
    run(
        "quota-share", "update", "shared", "team-b", "--in-share-preemption", "--limit", "VCPU=3", "--state", "DISABLED"
    )
    (found,) = json.loads(run("quota-share", "describe", "shared", "team-b", "-o", "json").out)
    assert (found["in_share_preemption"], found["state"]) == (True, "DISABLED")
    assert found["capacity_limits"] == [{"capacity_unit": "VCPU", "max_capacity": 3}]
    refused = run("quota-share", "delete", "shared", "team-a")
    assert (refused.code, "is ENABLED; disable it before you delete it" in refused.err) == (3, True)
    assert run("quota-share", "delete", "shared", "team-b").err == "batchyard: deleted quota share team-b of shared\n"


def test_a_queue_has_caps(run: Run, yard: Yard) -> None:
    assert run("queue", "create", "small", "--max-running", "2", "--max-vcpus", "8").code == 0
    assert "2 running, 8 vCPUs" in run("queue", "describe", "small").out
    run("queue", "update", "small", "--max-running", "0")
    (shown,) = yard.client.describe_job_queues(["small"])
    assert (shown.max_running, shown.max_vcpus) == (0, 8)


def test_a_snapshot_of_a_queue_is_shown(run: Run, yard: Yard) -> None:
    yard.join()
    running, first, second = [yard.submit(container=container(["true"], vcpus=3)) for _ in range(3)]
    shown = run("queue", "snapshot", "default")
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[:2] == [["Queue", "default"], ["vCPUs", "in", "use", "3"]]
    assert [line[:2] for line in lines[4:]] == [["1", first], ["2", second]]
    assert run("queue", "snapshot", "default", "-o", "name").out.split() == [first, second]
    answer = json.loads(run("queue", "snapshot", "default", "-o", "json").out)
    assert (answer["cpu_millis"], answer["front"][0]["job_id"]) == (3000, first)
    assert run("queue", "snapshot", "nobody").code == 3
    explained = run("explain", first).out
    assert "Starts by" in explained
    assert "is kept for it from about" in explained
    assert running not in shown.out


def test_a_queue_has_others_stopped_and_may_be(run: Run, yard: Yard) -> None:
    assert run("queue", "create", "urgent", "--preemption", "lower_priority", "--preemptible").code == 0
    assert "LOWER_PRIORITY, preemptible" in run("queue", "describe", "urgent").out
    assert run("queue", "update", "urgent", "--preemption", "never", "--not-preemptible").code == 0
    (shown,) = yard.client.describe_job_queues(["urgent"])
    assert (shown.preemption, shown.preemptible) == (PREEMPTION_NEVER, False)
    assert "Preemption" not in run("queue", "describe", "urgent").out
    job = run("submit", "--preemption-retries", "3", "--", "true").out.strip()
    assert "again after 3 preemptions at most" in run("describe", job).out


def test_a_job_is_moved_by_its_priority(run: Run, yard: Yard) -> None:
    yard.client.create_scheduling_policy("fair")
    yard.client.create_job_queue("shared", scheduling_policy="fair")
    job = run("submit", "-q", "shared", "--share", "A", "--priority", "1", "--", "true").out.strip()
    moved = run("update-job", "last", "--priority", "9")
    assert (moved.code, moved.err) == (0, f"batchyard: {job} has priority 9\n")
    shown = run("describe", job).out
    assert "Share" in shown
    assert yard.client.describe_job(job).scheduling_priority == 9
    plain = run("submit", "--", "true").out.strip()
    refused = run("update-job", plain, "--priority", "9")
    assert (refused.code, "has no scheduling policy" in refused.err) == (3, True)


def test_a_consumable_is_made_asked_for_shown_and_changed(run: Run, yard: Yard) -> None:
    made = run("consumable-resource", "create", "licence", "--total", "2")
    assert (made.code, made.err) == (0, "batchyard: created consumable resource licence (2 available of 2)\n")
    job = run("submit", "--consumable", "licence=3", "--", "true").out.strip()
    assert "licence=3" in run("describe", job).out
    assert job in run("consumable-resource", "jobs", "licence").out
    explained = run("explain", job).out
    assert "consumable" in explained
    assert "3 of consumable resource licence asked, 2 free of 2" in explained
    changed = run("consumable-resource", "update", "licence", "--add", "5")
    assert changed.err == "batchyard: updated consumable resource licence (7 available of 7)\n"
    assert "REPLENISHABLE" in run("consumable-resource", "list", "--name", "LIC*").out
    assert run("consumable-resource", "list", "-o", "name").out == "licence\n"
    assert run("consumable-resource", "delete", "licence").code == 3
    run("cancel", job)
    run("job-definition", "register", "d", "--consumable", "licence=1", "--", "true")
    assert "licence=1" in run("job-definition", "describe", "d:1").out
    assert run("consumable-resource", "delete", "licence").code == 0
    assert run("consumable-resource", "describe", "licence").code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("consumable-resource", "update", "licence"),
        ("consumable-resource", "update", "licence", "--add", "1", "--set", "2"),
        ("scheduling-policy", "create", "p", "--share", "A"),
        ("scheduling-policy", "create", "p", "--share", "A=1,max-gpus=2"),
        ("scheduling-policy", "update", "p", "--share", "A=1", "--no-shares"),
        ("submit", "--consumable", "licence", "--", "true"),
        ("update-job", "last"),
    ],
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
