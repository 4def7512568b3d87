"""Quota shares in the console: pages of them, and what they mean for jobs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.gateway.endpoint import Yard, queue
from tests.services.hand_agent import HandAgent, ended, running

from batchyard.v1 import attempt_pb2
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.console.jobs import job_view

from .visitor import Visitor

HOSTILE = '"><script>x()</script>'
LIMITS = "capacityLimits"
SHARING = "resourceSharingConfiguration"
PREEMPTION = "preemptionConfiguration.inSharePreemption"
PHYSICS: dict[str, Any] = {
    "quotaShareName": "physics", f"{LIMITS}.capacityUnit": ["VCPU", "MEMORY_MIB"], f"{LIMITS}.maxCapacity": ["4", "2048"],
    f"{SHARING}.strategy": "LEND", PREEMPTION: "ENABLED", "state": "ENABLED",
}  # fmt: skip
GUESTS: dict[str, Any] = {
    "quotaShareName": "guests", f"{LIMITS}.capacityUnit": "VCPU", f"{LIMITS}.maxCapacity": "1",
    f"{SHARING}.strategy": "LEND_AND_BORROW",
}  # fmt: skip


@pytest.fixture
def labs(yard: Yard) -> Yard:
    """Return a yard whose queue ``labs`` has quota shares, of which there is none yet, and ``fair`` weights."""
    yard.batch.create_scheduling_policy(name="quota", quotaSharePolicy={"idleResourceAssignmentStrategy": "FIFO"})
    yard.batch.create_scheduling_policy(
        name="fair", fairsharePolicy={"shareDistribution": [{"shareIdentifier": "blue"}, {"shareIdentifier": "red*"}]}
    )
    yard.batch.create_job_queue(**queue("labs", schedulingPolicyArn="quota"))
    yard.batch.create_job_queue(**queue("turns", schedulingPolicyArn="fair"))
    return yard


def described(yard: Yard, name: str) -> Any:
    (share,) = yard.endpoint.run(yard.endpoint.client.describe_quota_shares("labs", [name]))
    return share


def test_a_share_from_its_making_to_its_end(visitor: Visitor, labs: Yard) -> None:
    assert "It has none yet" in visitor.get("queues/labs").text
    assert "Quota shares" not in visitor.get("queues/turns").text
    assert "Quota shares" not in visitor.get("queues/q").text
    assert visitor.post("queues/labs/new-share", PHYSICS).headers["location"] == "/console/queues/labs"
    page = visitor.get("queues/labs").text
    assert "The share physics was created" in page
    assert 'href="/console/queues/labs/shares/physics">physics</a>' in page
    for cell in ("LEND", "yes", "VCPU", "4", "MEMORY_MIB", "2 GiB"):
        assert re.search(f">{cell}</td>", page), cell
    path = "queues/labs/shares/physics"
    form = visitor.filled(visitor.get(path).text, f"/console/{path}")
    assert visitor.post(path, form | {f"{LIMITS}.maxCapacity": ["8", "2048"], PREEMPTION: "DISABLED"}).status == 303
    share = described(labs, "physics")
    assert [(each.capacity_unit, each.max_capacity) for each in share.capacity_limits] == [
        ("VCPU", 8),
        ("MEMORY_MIB", 2048),
    ]
    assert share.in_share_preemption is False
    assert visitor.post(path, {"action": "delete"}).status == 422
    assert visitor.post(path, {"action": "disable"}).status == 303
    assert "physics takes no new jobs" in visitor.get(path).text
    assert visitor.post(path, {"action": "enable"}).status == 303
    assert visitor.post(path, {"action": "disable"}).status == 303
    assert visitor.post(path, {"action": "delete"}).headers["location"] == "/console/queues/labs"
    assert visitor.get(path).status == 404
    assert visitor.post(path, {"action": "delete"}).status == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quotaShareName": "a b"}, "quotaShareName"),
        ({"quotaShareName": ""}, "quotaShareName"),
        ({f"{LIMITS}.capacityUnit": [], f"{LIMITS}.maxCapacity": []}, LIMITS),
        ({f"{LIMITS}.maxCapacity": ["", "1"]}, LIMITS),
        ({f"{LIMITS}.maxCapacity": ["0", "1"]}, LIMITS),
        ({f"{LIMITS}.maxCapacity": ["much", "1"]}, LIMITS),
        ({f"{LIMITS}.capacityUnit": ["VCPU", "VCPU"]}, LIMITS),
        ({f"{LIMITS}.capacityUnit": ["VCPU", "p4d.24xlarge"]}, LIMITS),
        ({f"{SHARING}.borrowLimit": "50"}, f"{SHARING}.borrowLimit"),
        ({f"{SHARING}.borrowLimit": "x"}, f"{SHARING}.borrowLimit"),
        ({f"{SHARING}.strategy": "GIVE"}, f"{SHARING}.strategy"),
        ({PREEMPTION: "SOMETIMES"}, PREEMPTION),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_share_is_told_at_its_field(
    visitor: Visitor, labs: Yard, changes: dict[str, Any], field: str
) -> None:
    before = dict(labs.endpoint.yard.stored())
    reply = visitor.post("queues/labs/new-share", PHYSICS | changes)
    assert reply.status == 422
    assert f'id="fault-{field}"' in reply.text, reply.text.partition('id="faults"')[2][:400]
    assert labs.endpoint.yard.stored() == before


def test_a_name_that_is_taken_is_told(visitor: Visitor, labs: Yard) -> None:
    assert visitor.post("queues/labs/new-share", PHYSICS).status == 303
    reply = visitor.post("queues/labs/new-share", PHYSICS)
    assert reply.status == 422
    assert 'id="fault-quotaShareName">Object already exists' in reply.text


@pytest.mark.parametrize(
    "path", ["queues/none/new-share", "queues/q/new-share", "queues/turns/new-share", "queues/labs/shares/none"]
)
def test_only_queues_with_quota_shares_have_pages_of_them(visitor: Visitor, labs: Yard, path: str) -> None:
    assert visitor.get(path).status == 404
    assert visitor.post(path, PHYSICS).status == 404


def test_what_was_typed_of_a_share_is_text(visitor: Visitor, labs: Yard) -> None:
    reply = visitor.post(
        "queues/labs/new-share", PHYSICS | {"quotaShareName": HOSTILE, f"{LIMITS}.capacityUnit": HOSTILE}
    )
    assert reply.status == 422
    assert "<script>x" not in reply.text


def test_a_submission_says_where_a_share_is_needed_and_which_there_are(visitor: Visitor, labs: Yard) -> None:
    visitor.post("queues/labs/new-share", PHYSICS)
    for of in ("command", "definition"):
        page = visitor.get(f"jobs/new?of={of}").text
        assert "Needed in these queues, and in no other: labs (physics); turns (blue, red*)." in page
        assert '<option value="physics"></option><option value="blue"></option></datalist>' in page
    form = {
        "of": "definition",
        "go": "submit",
        "jobName": "j",
        "jobDefinition": "d",
        "jobQueue": "labs",
        "schedulingPriorityOverride": "1",
    }
    for wrong in ({}, {"shareIdentifier": "chemistry"}):
        reply = visitor.post("jobs/new", form | wrong)
        assert reply.status == 422
        assert 'id="fault-shareIdentifier"' in reply.text, reply.text.partition('id="faults"')[2][:300]
    assert visitor.post("jobs/new", form | {"shareIdentifier": "physics"}).status == 303


def test_a_job_whose_share_gave_back_what_it_borrowed_says_so(visitor: Visitor, labs: Yard) -> None:
    for share in (PHYSICS | {f"{LIMITS}.capacityUnit": "VCPU", f"{LIMITS}.maxCapacity": "3"}, GUESTS):
        assert visitor.post("queues/labs/new-share", share).status == 303
    agent = labs.endpoint.agent()
    large = {"resourceRequirements": [{"type": "VCPU", "value": "3"}, {"type": "MEMORY", "value": "64"}]}
    guest = labs.submit(
        "guest", jobQueue="labs", shareIdentifier="guests", schedulingPriorityOverride=1, containerOverrides=large
    )
    (spec,) = labs.endpoint.run(agent.hear_starts())
    labs.endpoint.run(agent.report(running(spec.attempt_id)))
    part = visitor.get("queues/labs?part=shares").text
    guests = part.partition(">guests</a>")[2].partition("</tr>")[0]
    assert re.findall(r'<td class="number">(\d+)</td>', guests) == ["1", "3", "2", "0"]
    owner = labs.submit(
        "owner", jobQueue="labs", shareIdentifier="physics", schedulingPriorityOverride=1, containerOverrides=large
    )
    labs.endpoint.run(_stop(agent, spec.attempt_id))
    text = visitor.get(f"jobs/{guest}").text
    assert "preempted: its share gave back capacity that it had borrowed" in text
    assert "Attempt 1 was preempted: its share gave back capacity that it had borrowed. It runs again." in text
    assert "preempted" not in visitor.get(f"jobs/{owner}").text.partition("<h2>Turn")[0]


async def _stop(agent: HandAgent, attempt_id: str) -> None:
    """Let the host end what it is told to stop, and hear who comes then."""
    async with asyncio.timeout(60):
        await agent.hear("stop")
        await agent.report(ended(attempt_id, 143, cause=attempt_pb2.END_CAUSE_STOPPED))
        message = await agent.read()  # the end is acknowledged, and somebody starts, in either order
        while message is not None and message.WhichOneof("message") != "start":
            message = await agent.read()


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("Cross-share preemption triggered to reclaim borrowed capacity", "preempted: its share gave back capacity that it had borrowed"),
        ("Preempted by job 1:2", "preempted by job 1:2"),
        ("", "preempted"),
    ],
)  # fmt: skip
def test_an_attempt_says_for_whose_sake_it_was_stopped(reason: str, text: str) -> None:
    attempt = pb.Attempt(number=2, cause=attempt_pb2.END_CAUSE_PREEMPTED, status_reason=reason)
    job = pb.Job(id="j", attempts=[attempt])
    assert job_view.tries(job, 0)[0].outcome == text
    assert job_view.stopped(job) == f"Attempt 2 was {text}. It runs again."
    assert job_view.stopped(pb.Job(attempts=[pb.Attempt(cause=attempt_pb2.END_CAUSE_EXITED)])) == ""
