"""Jobs of several containers on the console: the job's page shows how each is, and what waits for what."""

from __future__ import annotations

from tests.gateway.endpoint import Endpoint
from tests.gateway.test_several_containers import FEATURE, register
from tests.services.hand_agent import ended

from batchyard.v1 import agent_pb2

from .scene import Scene
from .test_jobs import words
from .visitor import Visitor


def test_a_page_shows_each_container_while_the_job_starts_and_runs(visitor: Visitor, endpoint: Endpoint) -> None:
    scene = Scene(endpoint)
    register(scene.yard)
    agent = endpoint.agent(name="new", features=FEATURE)
    job_id = scene.yard.submit(jobDefinition="two")
    (spec,) = endpoint.run(agent.hear_starts())
    init, main = agent_pb2.ContainerReport(name="init", started_at_ms=900), agent_pb2.ContainerReport(name="main")
    report = agent_pb2.AttemptReport(
        attempt_id=spec.attempt_id, phase=agent_pb2.ATTEMPT_PHASE_STARTING, containers=[init, main]
    )
    endpoint.run(agent.report(report))
    endpoint.run(agent.hear_nothing())
    page = visitor.get(f"jobs/{job_id}")
    assert "hx-trigger" in page.text
    text = words(page)
    assert "Why it waits Starting on host new, attempt 1; container main waits for init to end with exit code 0" in text
    assert "Containers Of attempt 1" in text
    assert "main • WAITING waits for success of init Log of main" in text
    assert f'href="/console/jobs/{job_id}/log?container=init"' in page.text
    init.exit_code, init.stopped_at_ms, main.started_at_ms, main.exit_code = 0, 950, 960, 4
    endpoint.run(agent.report(ended(spec.attempt_id, 4, containers=[init, main])))
    endpoint.run(agent.hear("ack"))
    text = words(visitor.get(f"jobs/{job_id}"))
    assert "Why it waits" not in text
    assert "main • ENDED" in text
