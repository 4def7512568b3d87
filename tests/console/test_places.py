"""Pages of hosts, queues and environments, and the overview, over plain HTTP."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.gateway.endpoint import Yard, environment, queue
from tests.services.hand_agent import OTHER_ID, HandAgent, running

from batchyard.v1 import host_pb2
from batchyard_gateway import app
from batchyard_gateway.app import Gateway
from batchyard_gateway.batch.operations import SERVICE
from batchyard_gateway.config import Config

from .visitor import Reply, Visitor

HOSTILE = '"><script>x()</script>'
NATIVE = "native."
LIMITS = "jobStateTimeLimitActions"
ORDER = "computeEnvironmentOrder"
NEW_QUEUE: dict[str, Any] = {"jobQueueName": "new", "priority": "1", f"{ORDER}.computeEnvironment": "ce"}
NO_ROOM = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"


def faults_of(reply: Reply) -> dict[str, str]:
    """Return what is told at the fields of a form."""
    return dict(re.findall(r'<p class="fault" id="fault-([\w.:]+)">([^<]*)</p>', reply.text))


# The overview -------------------------------------------------------------------------


def test_an_empty_yard_is_led_to_its_beginning(visitor: Visitor) -> None:
    assert visitor.get("").headers["location"] == "/console/start"
    visitor.post("start?step=orchestration", {"go": "away"})
    page = visitor.get("")
    assert page.status == 200
    assert "There is no job queue yet." in page.text
    assert 'href="/console/start"' in page.text
    assert "No host has joined yet." in page.text


@pytest.mark.parametrize("part", ["queues", "hosts", "failures", "figures"])
def test_an_open_overview_shows_that_nothing_is_left(visitor: Visitor, part: str) -> None:
    """As when all was deleted meanwhile: what is fetched for a place of the page must not be another page."""
    reply = visitor.get(f"?part={part}")
    assert reply.status == 200
    assert "Get started" not in reply.text


def test_a_yard_without_jobs_says_where_to_begin(visitor: Visitor, yard: Yard) -> None:
    text = visitor.get("").text
    assert 'href="/console/jobs/new">Submit a job</a>' in text
    assert 'href="/console/start">Get started</a>' in text


def test_the_only_environment_is_a_new_queue_s_first(visitor: Visitor, yard: Yard) -> None:
    assert '<option value="ce" selected>' in visitor.get("new/queue").text


def test_what_is_not_right_is_said_with_the_name_of_its_field(visitor: Visitor, yard: Yard) -> None:
    reply = visitor.post("new/queue", {**NEW_QUEUE, "jobQueueName": "q"})
    assert '<a href="#field-jobQueueName">Name: Object already exists</a>' in reply.text
    reply = visitor.post("new/queue", {**NEW_QUEUE, "priority": ""})
    assert '<a href="#field-priority">Priority is needed</a>' in reply.text


def test_the_overview_tells_who_is_first_in_line_and_why(visitor: Visitor, yard: Yard) -> None:
    job_id = yard.submit("stuck")
    text = visitor.get("").text
    assert f'href="/console/jobs/{job_id}">stuck</a>' in text
    assert "waits for a host: " in text
    assert 'href="/console/jobs?queue=q&state=RUNNABLE"' in text.replace("&amp;", "&")


def test_the_overview_leads_to_failed_children(visitor: Visitor, yard: Yard) -> None:
    agent = yard.endpoint.agent()
    array = yard.submit("sweep", arrayProperties={"size": 2})
    specs = yard.endpoint.run(agent.hear_starts(2))
    yard.endpoint.run(agent.finish(specs[0].attempt_id, exit_code=3))
    page = visitor.get("")  # the array itself has not ended
    assert f'href="/console/jobs/{array}/children?state=FAILED">1 of 2 children failed</a>' in page.text
    yard.endpoint.run(agent.finish(specs[1].attempt_id))
    assert "1 of 2 children failed, the first" in visitor.get("").text


def test_the_overview_counts_hosts_and_what_they_hold(visitor: Visitor, yard: Yard) -> None:
    yard.endpoint.agent()
    assert "0 of 4 vCPUs" in visitor.get("?part=hosts").text
    assert 'href="/console/hosts?state=READY"' in visitor.get("").text


@pytest.mark.parametrize("period", ["1h", "24h", "bogus"])
def test_charts_have_a_table_of_the_same(visitor: Visitor, yard: Yard, period: str) -> None:
    text = visitor.get(f"?period={period}&part=figures").text
    assert text.count("<svg viewBox=") >= 4
    assert text.count("As a table") == text.count('role="img"') == 4
    assert text.count("</desc>") == 4


def test_parts_are_not_sent_again_while_nothing_changes(visitor: Visitor, yard: Yard) -> None:
    for page, part in (
        ("", "queues"), ("", "hosts"), ("", "failures"), ("queues", "rows"), ("environments", "rows"),
        ("queues/q", "now"), ("queues/q", "line"), ("environments/ce", "now"), ("environments/ce", "selection"),
        ("queues/q", "content"), ("environments/ce", "content"), ("", "content"), ("hosts", "rows"),
    ):  # fmt: skip
        first = visitor.get(f"{page}?part={part}")
        assert first.status == 200
        # Charts gain a point now and then, and one may fall between two looks: not between each two.
        for _ in range(3):
            again = visitor.get(f"{page}?part={part}", If_None_Match=first.headers["etag"])
            if again.status == 304:
                break
            assert again.headers["etag"] != first.headers["etag"]
            first = again
        assert again.status == 304


# Hosts ------------------------------------------------------------------------------


def test_without_hosts_the_page_says_how_to_add_one(visitor: Visitor) -> None:
    text = visitor.get("hosts").text
    assert "No host has joined yet." in text
    assert "BATCHYARD_AGENT_CONTROLLER=CONTROLLER:8470" in text
    assert "systemctl enable --now batchyard-agent" in text


def test_a_host_is_drained_and_gets_work_again(visitor: Visitor, yard: Yard) -> None:
    agent = yard.endpoint.agent()
    job_id = yard.submit("busy")
    (spec,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.report(running(spec.attempt_id)))
    assert visitor.post("hosts/alpha", {"action": "drain"}).headers["location"] == "/console/hosts/alpha"
    page = visitor.get("hosts/alpha").text
    assert "alpha drains: it gets no new work" in page
    assert "DRAINING" in page
    assert "An operator drains it; attempts that still run: 1" in page
    assert f'href="/console/jobs/{job_id}"' in page
    assert visitor.post("hosts/alpha", {"action": "uncordon"}).status == 303
    assert "DRAINING" not in visitor.get("hosts/alpha?part=now").text
    assert visitor.post("hosts/alpha", {"action": "cordon"}).status == 303
    assert "An operator cordoned it" in visitor.get("hosts").text


def test_what_is_no_action_is_refused(visitor: Visitor, yard: Yard) -> None:
    yard.endpoint.agent()
    for path in ("hosts/alpha", "queues/q", "environments/ce"):
        reply = visitor.post(path, {"action": "burn"})
        assert reply.status == 422
        assert "There is no action &#39;burn&#39;." in reply.text


def test_a_host_that_is_there_is_not_removed(visitor: Visitor, yard: Yard) -> None:
    yard.endpoint.agent()
    assert visitor.get("hosts/alpha/remove").status == 200
    reply = visitor.post("hosts/alpha/remove")
    assert reply.status == 422
    assert "alpha" in visitor.get("hosts").text


def test_a_host_that_is_gone_is_removed(visitor: Visitor, yard: Yard) -> None:
    agent = yard.endpoint.agent()
    yard.endpoint.run(_hang_up(agent))
    page = visitor.get("hosts/alpha").text
    assert "UNREACHABLE" in page
    assert 'href="/console/hosts/alpha/remove"' in page
    assert visitor.post("hosts/alpha/remove").headers["location"] == "/console/hosts"
    assert visitor.get("hosts/alpha").status == 404


async def _hang_up(agent: HandAgent) -> None:
    await agent.leave()
    async with asyncio.timeout(60):
        while (await _describe(agent)).state != host_pb2.HOST_STATE_UNREACHABLE:
            await asyncio.sleep(0.01)


async def _describe(agent: HandAgent) -> host_pb2.Host:
    answer = await agent._yard.hosts.DescribeHost(host_pb2.DescribeHostRequest(host="alpha"))
    host: host_pb2.Host = answer.host
    return host


def test_hosts_are_shown_by_state_and_as_a_map(visitor: Visitor, yard: Yard) -> None:
    yard.endpoint.agent()
    yard.endpoint.agent(host_id=OTHER_ID, name="beta")
    visitor.post("hosts/beta", {"action": "cordon"})
    ready = visitor.get("hosts?state=READY").text
    assert "alpha" in ready
    assert 'href="/console/hosts/beta"' not in ready
    assert "No host is DRAINED." in visitor.get("hosts?state=DRAINED").text
    picture = visitor.get("hosts?view=map").text
    assert picture.count('class="cell ') == 2
    assert "beta: CORDONED, 0 of 4 vCPUs" in picture


def test_a_host_shows_its_gpus(visitor: Visitor, yard: Yard) -> None:
    gpus = [host_pb2.Gpu(uuid="GPU-1", model="T4", memory_mib=1024, fault="fell off the bus")]
    yard.endpoint.agent(gpus=gpus)
    page = visitor.get("hosts/alpha").text
    assert "GPU-1" in page
    assert "fell off the bus" in page
    assert "GPUs in use" in page


# Queues -----------------------------------------------------------------------------


def test_a_queue_is_created_with_all_that_it_may_say(visitor: Visitor, yard: Yard) -> None:
    yard.batch.create_scheduling_policy(name="fair")
    form = NEW_QUEUE | {
        "priority": "7", "schedulingPolicyArn": "fair", f"{LIMITS}.reason": NO_ROOM, f"{LIMITS}.maxTimeSeconds": "600",
        f"{NATIVE}max_running": "3", f"{NATIVE}dispatch_order": "STRICT", f"{NATIVE}preemptible": "yes",
    }  # fmt: skip
    assert visitor.post("new/queue", form).headers["location"] == "/console/queues/new"
    page = visitor.get("queues/new").text
    assert "new was created." in page
    assert "CANCEL after 10 min in RUNNABLE for CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY" in page
    (made,) = yard.endpoint.run(yard.endpoint.client.describe_job_queues(["new"]))
    assert (made.priority, made.scheduling_policy, made.max_running, made.preemptible) == (7, "fair", 3, True)


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"jobQueueName": "a b"}, "jobQueueName", "Job queue name should match valid pattern"),
        ({"jobQueueName": "q"}, "jobQueueName", "Object already exists"),
        ({"priority": "high"}, "priority", "&#39;high&#39; is not a whole number"),
        ({"priority": "99999999999"}, "priority", ""),
        (
            {f"{ORDER}.computeEnvironment": ""},
            ORDER,
            "computeEnvironmentOrder must have between 1 and 3 entries, not 0",
        ),
        ({f"{ORDER}.computeEnvironment": "none"}, ORDER, "&#39;none&#39; is not offered"),
        ({f"{ORDER}.computeEnvironment": ["ce", "ce"]}, ORDER, "orders and compute environments must not repeat"),
        (
            {f"{LIMITS}.reason": [NO_ROOM, "x"], f"{LIMITS}.maxTimeSeconds": ["600", "5"]},
            LIMITS,
            "maxTimeSeconds must be between 600 and 86400, not 5",
        ),
        ({f"{NATIVE}max_running": "-1"}, f"{NATIVE}max_running", ""),
        ({f"{NATIVE}dispatch_order": "LIFO"}, f"{NATIVE}dispatch_order", "&#39;LIFO&#39; is not offered"),
        ({"schedulingPolicyArn": "none"}, "schedulingPolicyArn", "&#39;none&#39; is not offered"),
    ],
)
def test_what_is_wrong_with_a_queue_is_told_at_its_field(
    visitor: Visitor, yard: Yard, changes: dict[str, Any], field: str, text: str
) -> None:
    before = dict(yard.endpoint.yard.stored())
    reply = visitor.post("new/queue", NEW_QUEUE | changes)
    assert reply.status == 422
    assert faults_of(reply).keys() == {field}, reply.text
    assert text in faults_of(reply)[field]
    for name, value in changes.items():
        if (
            isinstance(value, str)
            and ORDER not in name
            and name not in ("schedulingPolicyArn", f"{NATIVE}dispatch_order")
        ):
            assert f'value="{value}"' in reply.text  # kept as it was typed
    assert yard.endpoint.yard.stored() == before


def test_what_aws_does_not_say_is_refused_with_the_rest(visitor: Visitor, yard: Yard) -> None:
    """One request for all of a form: nothing is half done."""
    refused = NEW_QUEUE | {"priority": "9", f"{NATIVE}max_running": "-1"}
    before = dict(yard.endpoint.yard.stored())
    for path in ("new/queue", "queues/q/edit"):
        reply = visitor.post(path, refused)
        assert reply.status == 422
        assert faults_of(reply).keys() == {f"{NATIVE}max_running"}
    labels = new_environment(**{f"{NATIVE}labels.key": "x" * 10_000, f"{RESOURCES}maxvCpus": "99"})
    assert visitor.post("new/environment", labels).status == 422
    assert visitor.post("environments/ce/edit", labels).status == 422
    assert yard.endpoint.yard.stored() == before


def test_the_button_pressed_twice_makes_one(visitor: Visitor, yard: Yard) -> None:
    page = visitor.get("new/queue").text
    once = re.search(r'name="once" value="([^"]+)"', page)
    assert once is not None
    form = NEW_QUEUE | {"once": once[1]}
    sent = {"csrf": visitor.csrf(), **form}
    replies = [visitor.send("POST", "new/queue", sent) for _ in range(2)]
    assert [reply.headers["location"] for reply in replies] == ["/console/queues/new"] * 2
    assert "nothing was done twice" not in visitor.get("about").text, "whoever pressed twice sees what was done"
    assert visitor.send("POST", "new/queue", sent).status == 303
    assert "nothing was done twice" in visitor.get("about").text
    assert visitor.post("new/queue", form | {"priority": "2"}).status == 422, "another form says that the name is taken"
    assert visitor.post("new/queue", NEW_QUEUE).status == 422


def test_a_queue_is_edited(visitor: Visitor, yard: Yard) -> None:
    form = visitor.get("queues/q/edit").text
    assert 'value="1"' in form
    changed = NEW_QUEUE | {"priority": "5", f"{NATIVE}max_vcpus": "12"}
    assert visitor.post("queues/q/edit", changed).headers["location"] == "/console/queues/q"
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_job_queues(["q"]))
    assert (now.priority, now.max_vcpus) == (5, 12)
    assert visitor.post("queues/q/edit", changed | {f"{NATIVE}max_vcpus": ""}).status == 303
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_job_queues(["q"]))
    assert now.max_vcpus == 0


def test_a_queue_without_a_policy_never_gets_one(visitor: Visitor, yard: Yard) -> None:
    yard.batch.create_scheduling_policy(name="fair")
    assert "never gets one" in visitor.get("queues/q/edit").text
    assert visitor.post("queues/q/edit", NEW_QUEUE | {"schedulingPolicyArn": "fair"}).status == 303  # it is not asked
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_job_queues(["q"]))
    assert now.scheduling_policy == ""


def test_a_queue_is_deleted_once_it_is_disabled(visitor: Visitor, yard: Yard) -> None:
    yard.submit()
    asked = visitor.get("queues/q/delete").text
    assert "Jobs and children of q that have not ended: 1. Deleting it ends them all as FAILED." in asked
    assert "A queue has to be DISABLED before it can be deleted." in asked
    refused = visitor.post("queues/q/delete")
    assert refused.status == 422
    assert "Cannot delete, resource must be in the DISABLED state" in refused.text
    assert visitor.post("queues/q", {"action": "disable"}).status == 303
    assert "q takes no new jobs" in visitor.get("queues/q").text
    assert visitor.post("queues/q/delete").headers["location"] == "/console/queues"
    assert visitor.get("queues/q").status == 404


def test_the_line_of_a_queue_has_reasons(visitor: Visitor, yard: Yard) -> None:
    ids = [yard.submit(f"j{i}") for i in range(3)]
    page = visitor.get("queues/q?part=line").text
    assert [page.index(job_id) for job_id in ids] == sorted(page.index(job_id) for job_id in ids)
    assert page.count("waits for a host: ") == 3


# Environments -----------------------------------------------------------------------


RESOURCES = "computeResources."
PROVIDER = f"{RESOURCES}tags.batchyard:provider"


def new_environment(**changes: Any) -> dict[str, Any]:
    form = {
        "computeEnvironmentName": "new", "state": "ENABLED", f"{RESOURCES}type": "EC2", f"{RESOURCES}minvCpus": "0",
        f"{RESOURCES}maxvCpus": "16", f"{RESOURCES}instanceTypes": "optimal",
    }  # fmt: skip
    return form | changes


@pytest.mark.parametrize("most", ["16", ""])
def test_an_environment_is_created_and_changed(visitor: Visitor, yard: Yard, most: str) -> None:
    rack = f"{NATIVE}labels"
    form = new_environment(**{
        f"{rack}.key": "rack", f"{rack}.value": "a", f"{RESOURCES}maxvCpus": most, f"{RESOURCES}instanceTypes": "m5\nc5.large",
        f"{NATIVE}is_unbounded": "" if most else "yes",
    })  # fmt: skip
    assert visitor.post("new/environment", form).headers["location"] == "/console/environments/new"
    (made,) = yard.endpoint.run(yard.endpoint.client.describe_compute_environments(["new"]))
    assert dict(made.compute_resources.labels) == {"rack": "a"}
    assert list(made.compute_resources.instance_types) == ["m5", "c5.large"]
    assert made.compute_resources.max_vcpus == int(most or 0)
    changed = form | {f"{rack}.value": "b", f"{RESOURCES}instanceTypes": "m5"}
    assert visitor.post("environments/new/edit", changed).status == 303
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_compute_environments(["new"]))
    assert dict(now.compute_resources.labels) == {"rack": "b"}
    assert list(now.compute_resources.instance_types) == ["m5"]
    assert now.compute_resources.max_vcpus == int(most or 0)
    assert "rack=b" in visitor.get("environments/new").text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"computeEnvironmentName": "a b"}, "computeEnvironmentName"),
        ({"computeEnvironmentName": "ce"}, "computeEnvironmentName"),
        ({f"{RESOURCES}maxvCpus": "0"}, f"{RESOURCES}maxvCpus"),
        ({f"{RESOURCES}maxvCpus": ""}, f"{RESOURCES}maxvCpus"),
        ({f"{RESOURCES}minvCpus": "20"}, f"{RESOURCES}minvCpus"),
        ({f"{RESOURCES}allocationStrategy": "SPOT_CAPACITY_OPTIMIZED"}, f"{RESOURCES}allocationStrategy"),
        ({f"{NATIVE}labels.key": "x" * 10_000}, f"{NATIVE}labels"),
        ({PROVIDER: "nobody"}, PROVIDER),
        ({PROVIDER: "nobody", f"{NATIVE}is_unbounded": "yes"}, f"{RESOURCES}maxvCpus"),
    ],
)
def test_what_is_wrong_with_an_environment_is_told_at_its_field(
    visitor: Visitor, yard: Yard, changes: dict[str, str], field: str
) -> None:
    before = dict(yard.endpoint.yard.stored())
    reply = visitor.post("new/environment", new_environment(**changes))
    assert reply.status == 422
    assert field in faults_of(reply), reply.text
    assert yard.endpoint.yard.stored() == before


def test_an_environment_of_fargate_and_an_unmanaged_one(visitor: Visitor, yard: Yard) -> None:
    forms = {
        "FARGATE": {f"{RESOURCES}type": "FARGATE_SPOT", f"{RESOURCES}maxvCpus": "4"},
        "UNMANAGED": {"unmanagedvCpus": "7"},
    }
    for kind, fields in forms.items():
        form = fields | {"computeEnvironmentName": kind}
        assert visitor.get(f"new/environment?of={kind}").status == 200
        reply = visitor.post(f"new/environment?of={kind}", form)
        assert reply.status == 303, reply.text
        again = visitor.filled(visitor.get(f"environments/{kind}/edit").text, f"/console/environments/{kind}/edit")
        assert visitor.post(f"environments/{kind}/edit", again).status == 303
    told = yard.batch.describe_compute_environments(computeEnvironments=list(forms))["computeEnvironments"]
    fargate, unmanaged = sorted(told, key=lambda each: each["computeEnvironmentName"])
    assert (fargate["computeResources"]["type"], fargate["computeResources"]["maxvCpus"]) == ("FARGATE_SPOT", 4)
    assert (unmanaged["type"], unmanaged["unmanagedvCpus"]) == ("UNMANAGED", 7)


def test_an_environment_keeps_what_its_form_has_no_field_for(visitor: Visitor, yard: Yard) -> None:
    kept = {"imageId": "ami-1", "tags": {"a": "b"}, "launchTemplate": {"launchTemplateName": "l"}}
    yard.batch.create_compute_environment(**environment("full", **kept))
    form = visitor.filled(visitor.get("environments/full/edit").text, "/console/environments/full/edit")
    assert visitor.post("environments/full/edit", form | {f"{RESOURCES}maxvCpus": "9"}).status == 303
    (told,) = yard.batch.describe_compute_environments(computeEnvironments=["full"])["computeEnvironments"]
    assert told["computeResources"] | kept | {"maxvCpus": 9} == told["computeResources"]


def test_an_environment_in_use_is_not_deleted(visitor: Visitor, yard: Yard) -> None:
    asked = visitor.get("environments/ce/delete").text
    assert "Queues use ce" in asked
    assert 'href="/console/queues/q"' in asked
    refused = visitor.post("environments/ce/delete")
    assert refused.status == 422
    assert "Cannot delete, found existing JobQueue relationship: q" in refused.text


def test_an_environment_is_deleted_once_it_is_disabled(visitor: Visitor, yard: Yard) -> None:
    yard.batch.create_compute_environment(**environment("free"))
    refused = visitor.post("environments/free/delete")
    assert refused.status == 422
    assert "Cannot delete, resource must be in the DISABLED state" in refused.text
    assert visitor.post("environments/free", {"action": "disable"}).status == 303
    assert visitor.post("environments/free/delete").headers["location"] == "/console/environments"
    assert "free was deleted." in visitor.get("environments").text


def test_an_environment_names_the_rule_that_rules_a_host_out(visitor: Visitor, yard: Yard) -> None:
    yard.endpoint.agent(host_type="workstation")
    yard.batch.create_compute_environment(**environment("none", instanceTypes=["p4d.24xlarge"]))
    page = visitor.get("environments/none").text
    assert "It selects no host" in page
    assert "compute_resources.instance_types" in page
    assert "its type is workstation" in page
    assert "Hosts selected: 1" in visitor.get("environments/ce?part=selection").text


# All of them ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["queues/none", "environments/none", "hosts/none"])
@pytest.mark.parametrize("action", ["", "/edit", "/delete", "/remove"])
def test_what_is_not_there_is_said(visitor: Visitor, path: str, action: str) -> None:
    reply = visitor.get(path + action)
    assert reply.status == 404
    assert "none" in reply.text


HOSTILE_FIELDS = dict.fromkeys(
    ("computeEnvironmentName", f"{RESOURCES}maxvCpus", f"{RESOURCES}instanceTypes", f"{NATIVE}labels.key"), HOSTILE
)


def test_what_comes_from_outside_is_text(visitor: Visitor, yard: Yard) -> None:
    gpus = [host_pb2.Gpu(uuid=HOSTILE, model=HOSTILE, fault=HOSTILE, memory_mib=1)]
    hostile: dict[str, Any] = {
        "host_type": HOSTILE, "zone": HOSTILE, "operating_system": HOSTILE, "cpu_model": HOSTILE, "faults": [HOSTILE],
        "volume_paths": [f"/{HOSTILE}"], "device_paths": [f"/dev/{HOSTILE}"], "labels": {HOSTILE: HOSTILE},
        "gpus": gpus, "runtimes": ["process"], "agent_version": HOSTILE,
    }  # fmt: skip
    yard.endpoint.agent(name=HOSTILE, **hostile)
    host_id = "00000000-0000-4000-8000-000000000001"
    yard.batch.create_job_queue(**queue("tagged", tags={"k": "<script>x()</script>"}))
    yard.batch.create_compute_environment(**environment("narrow", instanceTypes=["<script>x()</script>"]))
    for path in (
        "", "hosts", "hosts?view=map", f"hosts/{host_id}", f"hosts/{host_id}/remove", "queues", "queues/tagged",
        "environments", "environments/ce", "environments/narrow", "environments/narrow/edit",
    ):  # fmt: skip
        reply = visitor.get(path)
        assert reply.status == 200, path
        assert "<script>x" not in reply.text, path
    for path, form in (
        ("new/queue", {**NEW_QUEUE, "jobQueueName": HOSTILE, "priority": HOSTILE}),
        ("new/environment", new_environment(**HOSTILE_FIELDS)),
        ("queues/q", {"action": HOSTILE}),
    ):
        reply = visitor.post(path, form)
        assert reply.status == 422
        assert "<script>x" not in reply.text, path


def test_a_console_whose_work_fails_ends_the_gateway() -> None:
    class Broken:
        def list_job_queues(self, **_: Any) -> Any:
            raise RuntimeError("a bug")

    async def live() -> None:
        client: Any = Broken()
        guard: Any = None
        config = Config(controller="", listen="127.0.0.1:0")
        gateway = Gateway(config=config, client=client, services=(SERVICE,), guard=guard)
        async with asyncio.timeout(60), app.serving(gateway):
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as died:
        asyncio.run(live())
    assert died.group_contains(RuntimeError, match="a bug", depth=2)
