"""The console shows each what they may see, and remembers nothing of one for another."""

from __future__ import annotations

import pytest
from tests.gateway.endpoint import Endpoint

from batchyard import container

from .visitor import Visitor


def signed_in(endpoint: Endpoint, user: str, *roles: tuple[str, str]) -> Visitor:
    for role, queue in roles:
        endpoint.run(endpoint.client.bind_role(user, role, queue=queue))
    return Visitor(endpoint).sign_in(user)


def submit(endpoint: Endpoint, visitor: Visitor, name: str) -> str:
    async def ask() -> str:
        acting = endpoint.client.acting_for(visitor.key_id)
        task = container(["true"], vcpus=0.1, memory="64M")
        return (await acting.submit_job(name=name, queue="default", container=task)).job_id

    return endpoint.run(ask())


@pytest.fixture
def endpoint() -> object:
    with Endpoint() as opened:
        opened.run(opened.yard.furnish())
        yield opened


def test_jobs_of_others_are_on_no_page(endpoint: Endpoint) -> None:
    ann = signed_in(endpoint, "ann", ("submitter", ""))
    bob = signed_in(endpoint, "bob", ("submitter", ""))
    job_id = submit(endpoint, ann, "anns-work")
    for path in ("jobs", "jobs?part=rows", "", f"search?text={job_id}", "queues/default"):
        assert "anns-work" not in bob.get(path).text, path
    assert "anns-work" in ann.get("jobs").text
    assert "anns-work" not in bob.get("jobs").text, "what was read for ann is not shown to bob"
    for path in (f"jobs/{job_id}", f"jobs/{job_id}/why", f"jobs/{job_id}/log"):
        assert bob.get(path).status == 404, path
    assert ann.get(f"jobs/{job_id}").status == 200


def test_what_one_may_not_change_stays(endpoint: Endpoint) -> None:
    ann = signed_in(endpoint, "ann", ("viewer", ""))
    boss = signed_in(endpoint, "boss", ("queue-admin", "default"))
    job_id = submit(endpoint, boss, "of-boss")
    assert "of-boss" in ann.get("jobs").text
    reply = ann.post(f"jobs/{job_id}", {"act": "tag", "key": "k", "value": "v"})
    assert "ann may not change this job" in reply.text
    reply = boss.post(f"jobs/{job_id}", {"act": "tag", "key": "k", "value": "v"})
    assert reply.status == 303
    assert endpoint.run(endpoint.client.describe_job(job_id)).tags == {"k": "v"}


def test_a_session_ends_with_its_key(endpoint: Endpoint) -> None:
    ann = signed_in(endpoint, "ann", ("viewer", ""))
    assert ann.get("jobs").status == 200
    endpoint.run(endpoint.client.revoke_access_key(ann.key_id))
    assert ann.get("jobs").status == 303, "signing in again is asked for at once"
