"""What pages of hosts, queues and environments show, from the contract's messages."""

from __future__ import annotations

from typing import Any

import pytest

from batchyard.arns import Account
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import host_pb2, job_pb2, security_pb2
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import quota_share_pb2 as quota_pb
from batchyard.v1.resources_pb2 import Resources
from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_gateway.batch import environments, policies, quota_shares
from batchyard_gateway.batch.members import UPDATE_COMPUTE_ENVIRONMENT, UPDATE_QUOTA_SHARE, UPDATE_SCHEDULING_POLICY
from batchyard_gateway.batch.names import Names
from batchyard_gateway.console.forms import environment_form, policy_form, queue_form, share_form
from batchyard_gateway.console.forms.tables import read, without_native
from batchyard_gateway.console.hosts import host_view
from batchyard_gateway.console.settings import environment_view, queue_view, share_view
from batchyard_gateway.console.writing import amounts
from batchyard_gateway.console.yard import overview_view

NAMES = Names(Account(region="r", account_id="123456789012"))


@pytest.mark.parametrize(
    ("mib", "text"), [(0, "0 MiB"), (1023, "1023 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (3 << 20, "3 TiB")]
)
def test_memory_in_words(mib: int, text: str) -> None:
    assert amounts.memory(mib) == text


@pytest.mark.parametrize(("millis", "text"), [(0, "0"), (250, "0.25"), (2000, "2"), (12_500_000, "12,500")])
def test_thousandths_in_words(millis: int, text: str) -> None:
    assert amounts.millis(millis) == text


def test_gpus_are_left_out_where_there_are_none() -> None:
    capacity = Resources(cpu_millis=4000, memory_mib=1024)
    assert amounts.held(Resources(cpu_millis=1000), capacity) == [
        ("vCPUs", "1 of 4", 25),
        ("memory", "0 MiB of 1 GiB", 0),
    ]


# Hosts ------------------------------------------------------------------------------


def host(name: str = "alpha", host_id: str = "1", **fields: object) -> host_pb2.Host:
    facts = host_pb2.HostFacts(name=name, capacity=Resources(cpu_millis=4000, memory_mib=8192))
    filled = {"state": host_pb2.HOST_STATE_READY} | fields
    return host_pb2.Host(id=host_id, facts=facts, **filled)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "notes"),
    [
        ({}, []),
        ({"cordoned": True}, [("An operator cordoned it", 0)]),
        (
            {"cordoned": True, "draining": True, "attempts": 2},
            [("An operator drains it; attempts that still run: 2", 0)],
        ),
        ({"draining": True}, [("An operator drains it; nothing runs any more", 0)]),
        ({"reclaimed_at_ms": 7}, [("It is taken away at", 7)]),
        (
            {"suspicion": "docker does not answer", "suspected_until_ms": 9},
            [("Suspected: docker does not answer; it gets work again at", 9)],
        ),
        (
            {"state": host_pb2.HOST_STATE_UNREACHABLE, "last_heard_at_ms": 5},
            [("Not heard from since", 5)],
        ),
        ({"replaced_by": "h2"}, [("Its machine joined anew, as h2; what ran here ends by its fence", 0)]),
    ],
)
def test_every_reason_of_a_host_is_told(fields: dict[str, Any], notes: list[tuple[str, int]]) -> None:
    assert [(note.text, note.at_ms) for note in host_view.notes_of(host(**fields))] == notes


@pytest.mark.parametrize(
    ("fields", "actions"),
    [
        ({}, ["cordon", "drain"]),
        ({"cordoned": True}, ["drain", "uncordon"]),
        ({"cordoned": True, "draining": True}, ["uncordon"]),
        ({"suspicion": "x"}, ["cordon", "drain", "uncordon"]),
        ({"reclaimed_at_ms": 1}, ["cordon", "drain", "keep"]),
    ],
)
def test_what_may_be_done_with_a_host(fields: dict[str, Any], actions: list[str]) -> None:
    assert [action for action, _ in host_view.actions_for(host(**fields))] == actions


def test_what_the_host_itself_announces_cannot_be_taken_back() -> None:
    announced = host(reclaimed_at_ms=1)
    announced.facts.reclaimed_at_ms = 1
    assert "keep" not in dict(host_view.actions_for(announced))


def test_two_hosts_of_one_name_go_by_their_ids() -> None:
    rows = host_view.rows_of([host(), host(host_id="2"), host("a b/c", "3"), host("beta", "4")])
    assert [row.path for row in rows] == ["1", "2", "3", "beta"]


def test_a_cell_is_filled_by_what_is_held() -> None:
    with_gpus = host(allocated=Resources(cpu_millis=3000))
    with_gpus.facts.gpus.add(uuid="a", allocated_millis=1000)
    with_gpus.facts.gpus.add(uuid="b", allocated_millis=0)
    (cell,) = host_view.map_of([with_gpus])
    assert cell.level == 14  # three quarters of what is below the GPUs
    assert cell.gpus == "M2 8v-8M16 8v-1"
    assert cell.label.startswith("alpha: READY, 3 of 4 vCPUs")


def test_a_gpu_shows_its_last_reading_and_its_fault() -> None:
    it = host(usage=host_pb2.HostUsage(gpus=[host_pb2.Gpu(uuid="a", utilization_percent=90, memory_used_mib=512)]))
    it.facts.gpus.add(uuid="a", model="T4", memory_mib=1024, allocated_millis=500, fault="fell off the bus")
    (gpu,) = host_view.gpus_of(it)
    assert (gpu.held, gpu.memory, gpu.load, gpu.fault) == ("0.5", "512 MiB of 1 GiB", 90, "fell off the bus")


@pytest.mark.parametrize(
    ("gateway", "address"),
    [
        ("10.0.0.1", "10.0.0.1:8470"),
        ("batch.example.org", "batch.example.org:8470"),
        ("127.0.0.1", "CONTROLLER:8470"),
        ("", "CONTROLLER:8470"),
    ],
)
def test_how_a_host_is_added(gateway: str, address: str) -> None:
    lines, before = host_view.joining_lines(gateway)
    assert f"echo BATCHYARD_AGENT_CONTROLLER={address} >> /etc/batchyard/agent.env" in lines
    assert "batchyard join-token create" in before
    assert ("CONTROLLER stands for" in before) is address.startswith("CONTROLLER")


# Queues -----------------------------------------------------------------------------


def queue(**fields: object) -> queue_pb.JobQueue:
    order = [queue_pb.ComputeEnvironmentOrder(order=i, compute_environment=name) for i, name in ((2, "b"), (1, "a"))]
    filled = {"name": "q", "state": environment_pb.RESOURCE_STATE_ENABLED, "compute_environment_order": order} | fields
    return queue_pb.JobQueue(**filled)  # type: ignore[arg-type]


def test_environments_come_in_the_order_in_which_they_are_tried() -> None:
    assert queue_view.row_of(queue()).environments == ["a", "b"]


def test_who_has_gone_on_is_no_longer_in_line() -> None:
    front = [queue_pb.FrontOfQueueJob(job_id=job_id, since_ms=5) for job_id in ("x:3", "gone", "y")]
    jobs = [
        job_pb2.Job(id="y", name="y", state=job_pb2.JOB_STATE_RUNNING),
        job_pb2.Job(id="x:3", name="x", state=job_pb2.JOB_STATE_RUNNABLE, waiting_reason="waits for a host: no room"),
    ]
    (first,) = queue_view.line_of(front, jobs)
    assert (first.job_id, first.name, first.reason, first.since_ms) == ("x:3", "x 3", "waits for a host: no room", 5)


def test_what_the_end_of_a_queue_ends() -> None:
    assert queue_view.unfinished(queue(job_counts={"RUNNABLE": 2, "RUNNING": 1, "FAILED": 9})) == 3


def test_a_queue_as_its_form_shows_it_asks_for_nothing_new() -> None:
    limit = queue_pb.JobStateTimeLimitAction(
        reason="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", state="RUNNABLE", max_time_s=700, action="CANCEL"
    )
    full = queue(
        priority=-3, scheduling_policy="fair", job_state_time_limit_actions=[limit], max_running=7, max_vcpus=9,
        dispatch_order=queue_pb.DISPATCH_ORDER_STRICT, max_overtake_s=60,
        preemption=queue_pb.PREEMPTION_LOWER_PRIORITY, preemptible=True,
        security_level=security_pb2.SECURITY_LEVEL_RESTRICTED, fence_s=-1,
    )  # fmt: skip
    form = queue_form.queue(["a", "b"], [("fair", "fair (fair share)")], is_new=False)
    draft = queue_form.queue_draft(form, queue_form.filled(full, form))
    assert not draft.faults
    members = queue_form.changes(draft.members, "q")
    assert without_native(members) == {
        "jobQueue": "q",
        "priority": -3,
        "state": "ENABLED",
        "computeEnvironmentOrder": [
            {"order": 1, "computeEnvironment": "a"},
            {"order": 2, "computeEnvironment": "b"},
        ],
        "jobStateTimeLimitActions": [
            {"reason": limit.reason, "state": "RUNNABLE", "maxTimeSeconds": 700, "action": "CANCEL"}
        ],
        "schedulingPolicyArn": "fair",
    }
    request = queue_pb.UpdateJobQueueRequest()
    queue_form.amend(members)(request)
    own = ("max_running", "max_vcpus", "dispatch_order", "max_overtake_s", "preemption", "preemptible")
    for name in (*own, "security_level", "fence_s"):
        assert getattr(request, name) == getattr(full, name), name


def test_what_a_queue_no_longer_says_is_told_too() -> None:
    """Not said is not asked for: a form without caps takes them away."""
    request = queue_pb.UpdateJobQueueRequest()
    queue_form.amend({})(request)
    assert all(
        request.HasField(name) for name in ("max_running", "max_vcpus", "max_overtake_s", "preemptible", "fence_s")
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("priority", "priority"),
        ("native.max_running", "native.max_running"),
        ("native.max_vcpus", "native.max_vcpus"),
        ("native.max_overtake_s", "native.max_overtake_s"),
        ("native.fence_s", "native.fence_s"),
        (f"{queue_form.LIMITS}.maxTimeSeconds", queue_form.LIMITS),
    ],
)
@pytest.mark.parametrize("text", ["many", "1.5", "1e3", "9" * 19, "٣"])
def test_what_is_no_number_is_told_at_its_field(name: str, field: str, text: str) -> None:
    form = queue_form.queue(["a"])
    assert list(read(form, {"jobQueueName": ["q"], "priority": ["1"], name: [text]}).faults) == [field]


# Environments -----------------------------------------------------------------------


def environment(**resources: object) -> environment_pb.ComputeEnvironment:
    filled = {"type": environment_pb.CAPACITY_TYPE_SPOT, "max_vcpus": 8} | resources
    return environment_pb.ComputeEnvironment(
        name="e",
        type=environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED,
        state=environment_pb.RESOURCE_STATE_DISABLED,
        compute_resources=environment_pb.ComputeResources(**filled),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "resources",
    [
        {},
        {"max_vcpus": 0},
        {"instance_types": ["m5", "c5.large"], "labels": {"rack": "a", "b": "="}, "min_vcpus": 2, "desired_vcpus": 2},
        {"provider": "local", "bid_percentage": 40, "scale_down_delay_s": 0},
        {"allocation_strategy": environment_pb.ALLOCATION_STRATEGY_SPOT_CAPACITY_OPTIMIZED, "desired_vcpus": 3},
    ],
)
def test_an_environment_as_its_form_shows_it_is_the_same(resources: dict[str, object]) -> None:
    it = environment(**resources)
    form = environment_form.environment("EC2", is_new=False)
    draft = environment_form.environment_draft("EC2", form, environment_form.filled(it, form, NAMES))
    assert draft.faults == {}
    assert draft.members["state"] == "DISABLED"
    changes = environment_form.changes(draft.members, draft.members, "e")
    assert without_native(changes).keys() == {"computeEnvironment", "computeResources"}
    assert without_native(changes["computeResources"]).keys() == {"maxvCpus"}
    request = environments.change(UPDATE_COMPUTE_ENVIRONMENT.check(changes, ""), it)
    environment_form.amend(changes)(request)
    if it.compute_resources.provider:
        it.compute_resources.desired_vcpus = 0  # follows what waits
    assert request.compute_resources == it.compute_resources


def test_what_an_environment_no_longer_says_is_taken_away() -> None:
    it = environment(provider="local", labels={"a": "b"}, scale_down_delay_s=5, max_vcpus=0)
    form = environment_form.environment("EC2", is_new=False)
    answers = environment_form.filled(it, form, NAMES)
    present = environment_form.environment_draft("EC2", form, answers).members
    kept = {name: texts for name, texts in answers.items() if "native" not in name and "provider" not in name}
    said = environment_form.environment_draft("EC2", form, {**kept, "computeResources.maxvCpus": ["7"]}).members
    changes = environment_form.changes(said, present, "e")
    request = environments.change(UPDATE_COMPUTE_ENVIRONMENT.check(changes, ""), it)
    environment_form.amend(changes)(request)
    now = request.compute_resources
    assert (now.provider, dict(now.labels), now.HasField("scale_down_delay_s"), now.max_vcpus) == ("", {}, False, 7)


@pytest.mark.parametrize(
    ("name", "field", "text"),
    [
        ("computeResources.maxvCpus", "", "all"),
        ("computeResources.allocationStrategy", "", "CHEAP"),
        ("native.scale_down_delay_s", "", str(1 << 31)),
        ("native.is_unbounded", "", "perhaps"),
    ],
)
def test_what_cannot_be_read_of_an_environment_is_told_at_its_field(name: str, field: str, text: str) -> None:
    form = environment_form.environment("EC2", is_new=False)
    assert list(environment_form.environment_draft("EC2", form, {name: [text]}).faults) == [field or name]


# Policies and shares -----------------------------------------------------------------


def test_a_policy_survives_its_form() -> None:
    fairshare = FairsharePolicy(
        share_decay_s=600,
        compute_reservation=5,
        share_distribution=[
            ShareWeight(share_identifier="a", weight_factor=0.0001, max_running=2, max_vcpus=3),
            ShareWeight(share_identifier="b*", weight_factor=999.9999),
            ShareWeight(share_identifier="c"),
            ShareWeight(share_identifier="d", weight_factor=10.0),
        ],
    )
    policy, form = SchedulingPolicy(name="p", fairshare=fairshare), policy_form.policy(is_new=False)
    draft = read(form, policy_form.filled(policy, form))
    assert not draft.faults
    changes = policy_form.changes(draft.members, "arn:aws:batch:r:1:scheduling-policy/p")
    request = policies.change(UPDATE_SCHEDULING_POLICY.check(changes, ""), policy)
    policy_form.amend(changes)(request)
    assert request.fairshare == fairshare


def share(**fields: object) -> quota_pb.QuotaShare:
    limits = [
        quota_pb.CapacityLimit(capacity_unit="VCPU", max_capacity=8),
        quota_pb.CapacityLimit(capacity_unit="m5", max_capacity=2),
    ]
    filled = {"job_queue": "q", "name": "s", "capacity_limits": limits, "state": 1, "sharing_strategy": 3} | fields
    return quota_pb.QuotaShare(**filled)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields", [{}, {"borrow_limit": 50}, {"sharing_strategy": 1, "in_share_preemption": True, "state": 2}]
)
def test_a_share_survives_its_form(fields: dict[str, object]) -> None:
    it, form = share(**{"borrow_limit": -1} | fields), share_form.share(is_new=False)
    draft = share_form.share_draft(form, share_form.filled(it, form, NAMES), "q")
    assert not draft.faults
    request = quota_shares.change(UPDATE_QUOTA_SHARE.check(share_form.changes(draft.members, it, NAMES), ""))
    for name in ("capacity_limits", "sharing_strategy", "borrow_limit", "in_share_preemption", "state"):
        assert getattr(request, name) == getattr(it, name), name


def test_what_a_share_uses_is_told_in_its_unit() -> None:
    use = [
        quota_pb.CapacityUse(capacity_unit="MEMORY_MIB", max_capacity=2048, used=3072, borrowed=1024),
        quota_pb.CapacityUse(capacity_unit="VCPU", used=0.5, borrowed=0.5, lent=0),
    ]
    (row,) = share_view.rows_of([share(use=use, borrow_limit=-1)])
    assert (row.sharing, row.preempts) == ("LEND_AND_BORROW, any idle", "no")
    memory, cpu = row.uses
    assert (memory.own, memory.used, memory.borrowed, memory.lent) == ("2 GiB", "3 GiB", "1 GiB", "0 MiB")
    assert (cpu.own, cpu.used, cpu.borrowed) == ("0", "0.5", "0.5")


def judged(name: str, rule: str = "", reason: str = "", away: str = "") -> environment_pb.EnvironmentHost:
    return environment_pb.EnvironmentHost(
        host_id=name, host_name=name, is_selected=not rule, rule=rule, reason=reason, away=away
    )


def test_hosts_that_one_rule_leaves_out_stand_together() -> None:
    types = "compute_resources.instance_types"
    selection = environment_view.selection_of(
        [
            judged("a", away="is cordoned"),
            judged("b", types, "its type is m5"),
            judged("c", "compute_resources.type", "it is spot"),
            judged("d", types, "its type is m5"),
        ]
    )
    assert [(it.name, it.away) for it in selection.selected] == [("a", "is cordoned")]
    assert [(it.rule, it.reason, it.count) for it in selection.left_out] == [
        (types, "its type is m5", 2),
        ("compute_resources.type", "it is spot", 1),
    ]


def test_of_many_hosts_the_first_are_named() -> None:
    selection = environment_view.selection_of(judged(f"h{i}") for i in range(1_000))
    assert (selection.count, len(selection.selected)) == (1_000, 100)
    (ruled,) = environment_view.selection_of(judged(f"h{i}", "r", "w") for i in range(1_000)).left_out
    assert (ruled.count, len(ruled.hosts)) == (1_000, 100)


# The overview -------------------------------------------------------------------------


def test_failures_are_told_with_their_cause() -> None:
    array = job_pb2.ArrayProperties(size=20, status_summary={"FAILED": 2, "SUCCEEDED": 18})
    summaries = [job_pb2.JobSummary(id=job_id) for job_id in ("a", "forgotten", "b")]
    jobs = [
        job_pb2.Job(id="b", name="sweep", array=array, ending_cause="2 of 20 children failed"),
        job_pb2.Job(id="a", name="one", ending_cause="exit code 3", stopped_at_ms=5),
    ]
    one, sweep = overview_view.failures_of(summaries, jobs)
    assert (one.name, one.reason, one.children, one.at_ms) == ("one", "exit code 3", "", 5)
    assert (sweep.name, sweep.children) == ("sweep", "2 of 20 children failed")
    attempts = [job_pb2.Attempt(number=1, exit_code=7)]
    exited = job_pb2.Job(id="a", ending_cause="Essential container in task exited", attempts=attempts)
    (failure,) = overview_view.failures_of(summaries[:1], [exited])
    assert failure.reason == "Essential container in task exited, exit code 7"
