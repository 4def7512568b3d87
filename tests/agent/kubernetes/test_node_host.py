"""A node as its yard sees it: when it takes nothing new, and what it says of that."""

from __future__ import annotations

from pathlib import Path

from batchyard_agent.core.events import Now
from batchyard_agent.kubernetes.config import KubernetesConfig
from batchyard_agent.kubernetes.facts import NodeFacts
from batchyard_agent.kubernetes.limits import PodLimits
from batchyard_agent.kubernetes.mirror import Mirror
from batchyard_agent.kubernetes.node_host import NodeHost


def test_a_node_takes_nothing_beside_pods_that_nobody_answers_for():
    config = KubernetesConfig(controller="c:1", state_dir=Path("/nowhere"), limits=PodLimits(namespace="jobs"))
    strays = {"job#1": "kubernetes"}
    node = NodeFacts(name="n", uid="u", is_ready=True, labels={})
    mirror = Mirror(None, lambda name, node: None)
    host = NodeHost(config, mirror, node, lambda: Now(boot_ms=0, wall_ms=0), strays)
    told = host.facts()
    assert (list(told.runtimes), list(told.faults)) == (
        [],
        ["1 pods of which this agent has no record are being ended first"],
    )
    strays.clear()
    assert (list(host.facts().runtimes), list(host.facts().faults)) == (["kubernetes"], [])
