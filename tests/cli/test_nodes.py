"""Jobs of several nodes on the command line."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

from batchyard import container, nodes
from batchyard.v1.job_definition_pb2 import NODE_SPREAD_HOSTS


def test_flags_reach_the_job(run: Run, yard: Yard) -> None:
    said = run("submit", "--nodes", "4", "--main-node", "1", "--fail-together", "--one-host-each", "-c", "2", "true")
    assert (said.code, said.err) == (0, "")
    job = yard.client.describe_job(said.out.strip())
    told = job.nodes
    assert (told.num_nodes, told.main_node, told.fail_together, told.spread) == (4, 1, True, NODE_SPREAD_HOSTS)
    (only,) = told.ranges
    assert (only.target_nodes, only.container.resources.cpu_millis) == (":", 2000)


def test_a_definitions_number_of_nodes_is_overridden(run: Run, yard: Yard) -> None:
    yard.client.register_job_definition("mnp", nodes=nodes(2, container(["true"])))
    said = run("submit", "-d", "mnp", "--nodes", "3")
    assert (said.code, said.err) == (0, "")
    assert yard.client.describe_job(said.out.strip()).nodes.num_nodes == 3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--main-node 1 true", "--main-node needs --nodes"),
        ("--fail-together true", "--fail-together needs --nodes"),
        ("--nodes 2 --array 3 true", "--nodes cannot be given with --array"),
        ("-d mnp --nodes 2 --one-host-each", "--one-host-each cannot be given with --definition"),
        ("-d mnp --nodes 2 --env A=1", "--env cannot be given with --nodes and --definition"),
        ("-d mnp --nodes 2 --container main", "--container cannot be given with --nodes and --definition"),
        ("-d mnp --nodes 2 other", "a command cannot be given with --nodes and --definition"),
    ],
)
def test_flags_that_do_not_go_together(run: Run, line: str, told: str) -> None:
    said = run("submit", *line.split())
    assert said.code == 2
    assert told in said.err


def test_describe_and_logs_take_a_node(run: Run, yard: Yard) -> None:
    job_id = run("submit", "--nodes", "3", "true").out.strip()
    lines = [" ".join(line.split()) for line in run("describe", job_id).out.splitlines()]
    assert any(line.startswith("Nodes 3") for line in lines)
    assert run("describe", f"{job_id}#2").code == 0
    gone = run("describe", f"{job_id}#3")
    assert (gone.code, "#3" in gone.err) == (3, True)


def test_a_job_is_described_range_by_range(run: Run, yard: Yard) -> None:
    ranges = {"0": container(["lead"], vcpus=2), "1:": container(["work"], vcpus=1, memory=64)}
    yard.client.register_job_definition("mnp", nodes=nodes(3, ranges))
    for line in (("describe", run("submit", "-d", "mnp").out.strip()), ("job-definition", "describe", "mnp")):
        lines = [" ".join(line.split()) for line in run(*line).out.splitlines()]
        shown = [line for line in lines if line.startswith(("Range", "Command", "Asks for"))]
        assert shown == [
            "Range 0",
            "Command lead",
            "Asks for 2 vCPU, 256M memory",
            "Range 1:",
            "Command work",
            "Asks for 1 vCPU, 64M memory",
        ]
