"""Multi-node jobs on the console: the job's page lists its nodes, and each has a page and a log of its own."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.endpoint import Endpoint
from tests.gateway.test_nodes import multinode

from .scene import Scene
from .test_jobs import words
from .visitor import Visitor


@pytest.fixture
def scene(endpoint: Endpoint) -> Scene:
    return Scene(endpoint)


def test_a_job_lists_its_nodes_and_each_is_a_page(visitor: Visitor, endpoint: Endpoint, scene: Scene) -> None:
    batch: Any = endpoint.batch()
    batch.register_job_definition(**multinode(count=3, main=1))
    queue = batch.describe_job_queues()["jobQueues"][0]["jobQueueName"]
    job_id = batch.submit_job(jobName="gang", jobQueue=queue, jobDefinition="mnp")["jobId"]
    page = visitor.get(f"jobs/{job_id}")
    assert page.status == 200
    text = words(page)
    assert "Nodes 3, the main one is 1" in text
    assert "1 main" in text
    for index in range(3):
        assert f'href="/console/jobs/{job_id}%23{index}"' in page.text
    node = visitor.get(f"jobs/{job_id}%232")
    assert node.status == 200
    assert "gang #2" in node.text
    assert f'node of <a href="/console/jobs/{job_id}"' in node.text
    assert f"{job_id}#2" in words(visitor.get(f"jobs/{job_id}%232/raw"))
