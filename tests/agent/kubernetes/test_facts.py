"""What the objects of the API say of nodes and pods; which nodes are chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lightkube.core.decoders import decode_object
from lightkube.resources.core_v1 import Node, Pod

from batchyard.resources import Resources
from batchyard_agent.kubernetes.config import parse_selector
from batchyard_agent.kubernetes.facts import node_facts, seen_pod


def node(**spec: Any):
    return decode_object(
        json.dumps(
            {
                "metadata": {"name": "n", "uid": "u", "labels": {"pool": "batch"}},
                "spec": spec,
                "status": {
                    "allocatable": {"cpu": "3920m", "memory": "8000000Ki", "nvidia.com/gpu": "2"},
                    "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        ).encode(),
        Node,
    )


def pod(spec, status=None, **metadata: Any):
    said = {"metadata": {"name": "p", "namespace": "x", "uid": "u", **metadata}, "spec": spec, "status": status or {}}
    return seen_pod(decode_object(json.dumps(said).encode(), Pod))


def asks(cpu, memory, **more: Any):
    return {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


def test_a_node_offers_what_pods_may_have_of_it():
    facts = node_facts(node())
    assert facts.allocatable == Resources(cpu_millis=3920, memory_mib=7812, gpu_millis=2000)
    assert (facts.address, facts.is_ready, facts.is_cordoned, facts.taint) == ("10.0.0.1", True, False, "")


@pytest.mark.parametrize(
    ("key", "effect", "taint"),
    [
        ("dedicated", "NoSchedule", "dedicated"),
        ("dedicated", "PreferNoSchedule", ""),
        ("batch.amazonaws.com/batch-node", "NoExecute", ""),
        ("node.kubernetes.io/unschedulable", "NoSchedule", ""),
    ],
)
def test_a_taint_keeps_pods_off_but_for_awss(key, effect, taint):
    assert node_facts(node(taints=[{"key": key, "effect": effect}])).taint == taint


def test_a_node_that_is_down_for_good_says_so():
    taints = [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "value": "nodeshutdown"}]
    assert node_facts(node(taints=taints)).is_out_of_service


def test_a_pod_holds_what_its_containers_ask_or_one_before_them():
    spec = {
        "nodeName": "n",
        "containers": [asks("100m", "100Mi"), asks("200m", "1")],
        "initContainers": [asks("1", "10Mi"), asks("50m", "20Mi", restartPolicy="Always")],
        "overhead": {"memory": "8Mi"},
    }
    assert pod(spec).held == Resources(cpu_millis=1000, memory_mib=121 + 8)
    assert pod(spec, {"phase": "Succeeded"}).held == Resources()


def test_limits_stand_in_for_requests():
    spec = {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}}}]}
    assert pod(spec).held == Resources(cpu_millis=2000, gpu_millis=1000)


def test_ours_is_who_bears_our_labels():
    spec = {"containers": [asks("1", "1")]}
    task = "0199a5a4-0000-7000-8000-000000000000.3_2"
    ours = pod(
        spec, labels={"batchyard.io/attempt": task, "batchyard.io/host": "h"}, finalizers=["batchyard.io/outcome"]
    )
    assert (ours.attempt_id, ours.host_id, ours.is_kept) == ("0199a5a4-0000-7000-8000-000000000000:3#2", "h", True)
    others = pod(spec, labels={"batchyard.io/attempt": "x", "batchyard.io/host": "h"})
    assert (others.attempt_id, others.host_id, others.is_kept) == ("", "", False)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("pool=batch", True),
        ("pool==batch,!gpu", True),
        ("pool", True),
        ("pool!=web", True),
        ("pool=web", False),
        ("!pool", False),
        ("gpu", False),
    ],
)
def test_nodes_are_chosen_by_their_labels(text, chosen):
    assert parse_selector(text).chooses({"pool": "batch"}) is chosen


@pytest.mark.parametrize("text", ["pool in (a)", "!a=b", "a=b=c", "=x"])
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(ValueError, match="no term of a selector"):
        parse_selector(text)
