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
from batchyard_gateway.console import queue_fields

from .visitor import Reply, Visitor

HOSTILE = '"><script>x()</script>'
NEW_QUEUE = {**queue_fields.NEW, "name": "new", "environment_1": "ce"}


def faults_of(reply: Reply) -> dict[str, str]:
    """Return what is told at the fields of a form."""
    return dict(re.findall(r'<p class="fault" id="fault-(\w+)">([^<]*)</p>', reply.text))


# The overview -------------------------------------------------------------------------


def test_an_empty_yard_is_led_to_its_beginning(visitor: Visitor) -> None:
    assert visitor.get("").headers["location"] == "/console/start"
    assert visitor.post("start", {"go": "away"}).status == 303
    page = visitor.get("")
    assert page.status == 200
    assert "There is no job queue yet." in page.text
    assert 'href="/console/start"' in page.text
    assert "No host has joined yet." in page.text


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
        assert visitor.get(f"{page}?part={part}", If_None_Match=first.headers["etag"]).status == 304


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
    async with asyncio.timeout(10):
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
        "priority": "7", "policy": "fair", "no_capacity": "600", "max_running": "3", "dispatch_order": "STRICT",
        "preemptible": "yes",
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
        ({"name": "a b"}, "name", "Job queue name should match valid pattern"),
        ({"name": "q"}, "name", "Object already exists"),
        ({"priority": "high"}, "priority", "&#39;high&#39; is not a whole number"),
        ({"priority": "99999999999"}, "priority", ""),
        ({"environment_1": ""}, "environment_1", "computeEnvironmentOrder must have between 1 and 3 entries, not 0"),
        (
            {"environment_1": "none"},
            "environment_1",
            "compute environment &#39;none&#39; must be created and valid before attaching to a job queue",
        ),
        ({"environment_2": "ce"}, "environment_1", "orders and compute environments must not repeat"),
        (
            {"beyond_hosts": "5", "no_capacity": "600"},
            "beyond_hosts",
            "maxTimeSeconds must be between 600 and 86400, not 5",
        ),
    ],
)
def test_what_is_wrong_with_a_queue_is_told_at_its_field(
    visitor: Visitor, yard: Yard, changes: dict[str, str], field: str, text: str
) -> None:
    before = dict(yard.endpoint.yard.stored())
    reply = visitor.post("new/queue", NEW_QUEUE | changes)
    assert reply.status == 422
    assert faults_of(reply).keys() == {field}, reply.text
    assert text in faults_of(reply)[field]
    for name, value in changes.items():
        if not name.startswith("environment"):
            assert f'value="{value}"' in reply.text  # kept as it was typed
    assert yard.endpoint.yard.stored() == before


def test_what_aws_does_not_say_is_refused_after_the_rest_was_taken(visitor: Visitor, yard: Yard) -> None:
    reply = visitor.post("new/queue", NEW_QUEUE | {"max_running": "-1"})
    assert reply.status == 422
    assert faults_of(reply).keys() == {"max_running"}
    assert "new was created. All but the following was taken." in reply.text
    assert 'action="/console/queues/new/edit"' in reply.text


def test_a_queue_is_edited(visitor: Visitor, yard: Yard) -> None:
    form = visitor.get("queues/q/edit").text
    assert 'value="1"' in form
    changed = NEW_QUEUE | {"priority": "5", "max_vcpus": "12"}
    assert visitor.post("queues/q/edit", changed).headers["location"] == "/console/queues/q"
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_job_queues(["q"]))
    assert (now.priority, now.max_vcpus) == (5, 12)
    assert visitor.post("queues/q/edit", changed | {"max_vcpus": ""}).status == 303
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_job_queues(["q"]))
    assert now.max_vcpus == 0


def test_a_queue_without_a_policy_never_gets_one(visitor: Visitor, yard: Yard) -> None:
    yard.batch.create_scheduling_policy(name="fair")
    assert "never gets one" in visitor.get("queues/q/edit").text
    reply = visitor.post("queues/q/edit", NEW_QUEUE | {"policy": "fair"})
    assert reply.status == 422
    assert "A scheduling policy cannot be added to a job queue that was created without one." in reply.text


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


def new_environment(**changes: str) -> dict[str, str]:
    form = {
        "name": "new", "kind": "MANAGED", "state": "ENABLED", "capacity": "EC2", "strategy": "BEST_FIT_PROGRESSIVE",
        "min_vcpus": "0", "desired_vcpus": "", "max_vcpus": "16", "instance_types": "optimal", "labels": "",
        "provider": "", "bid_percentage": "", "delay_s": "", "unmanaged_vcpus": "",
    }  # fmt: skip
    return form | changes


@pytest.mark.parametrize("most", ["16", ""])
def test_an_environment_is_created_and_changed(visitor: Visitor, yard: Yard, most: str) -> None:
    form = new_environment(labels="rack=a", max_vcpus=most, instance_types="m5\nc5.large")
    assert visitor.post("new/environment", form).headers["location"] == "/console/environments/new"
    (made,) = yard.endpoint.run(yard.endpoint.client.describe_compute_environments(["new"]))
    assert dict(made.compute_resources.labels) == {"rack": "a"}
    assert list(made.compute_resources.instance_types) == ["m5", "c5.large"]
    assert made.compute_resources.max_vcpus == int(most or 0)
    changed = form | {"labels": "rack=b", "instance_types": "m5"}
    assert visitor.post("environments/new/edit", changed).status == 303
    (now,) = yard.endpoint.run(yard.endpoint.client.describe_compute_environments(["new"]))
    assert dict(now.compute_resources.labels) == {"rack": "b"}
    assert list(now.compute_resources.instance_types) == ["m5"]
    assert "rack=b" in visitor.get("environments/new").text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "ce"}, "name"),
        ({"max_vcpus": "0"}, "max_vcpus"),
        ({"min_vcpus": "20"}, "min_vcpus"),
        ({"strategy": "SPOT_CAPACITY_OPTIMIZED"}, "strategy"),
        ({"labels": "rack"}, "labels"),
        ({"provider": "nobody"}, "provider"),
        ({"provider": "nobody", "max_vcpus": ""}, "max_vcpus"),
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
        ("new/queue", {**NEW_QUEUE, "name": HOSTILE, "priority": HOSTILE}),
        ("new/environment", new_environment(name=HOSTILE, max_vcpus=HOSTILE, labels=HOSTILE, instance_types=HOSTILE)),
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
        async with asyncio.timeout(10), app.serving(gateway):
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as died:
        asyncio.run(live())
    assert died.group_contains(RuntimeError, match="a bug", depth=2)
