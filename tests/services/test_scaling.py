"""Environments with a provider, through their RPCs: hosts come when jobs wait, and go again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.v1 import host_pb2, job_pb2
from batchyard_controller.core.model.launches import ENVIRONMENT_LABEL, LAUNCH_LABEL

from .controller import PATIENCE_S, MemoryController, amounts, environment, queue, refusal
from .hand_agent import HandAgent

PROGRESSIVE = pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE


async def scale(yard: MemoryController, **fields: Any) -> None:
    """Make an environment that scales, and a queue over it."""
    usual: dict[str, Any] = {"max_vcpus": 8, "allocation_strategy": PROGRESSIVE, "scale_down_delay_s": 0}
    resources = pb.ComputeResources(provider="hand", **usual | fields)
    await yard.environments.CreateComputeEnvironment(environment("burst", compute_resources=resources))
    await yard.queues.CreateJobQueue(queue("burst", "burst"))


async def described(yard: MemoryController) -> pb.ComputeEnvironment:
    names = pb.DescribeComputeEnvironmentsRequest(names=["burst"])
    (found,) = (await yard.environments.DescribeComputeEnvironments(names)).compute_environments
    assert isinstance(found, pb.ComputeEnvironment)
    return found


async def until(yard: MemoryController, holds: Callable[[pb.ComputeEnvironment], bool]) -> pb.ComputeEnvironment:
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := await described(yard)):
            await asyncio.sleep(0.05)
    return found


def host_of(yard: MemoryController, launch_id: str) -> HandAgent:
    """Return an agent of a host that was launched, before it joins."""
    labels = {LAUNCH_LABEL: launch_id, ENVIRONMENT_LABEL: "burst"}
    return HandAgent(yard, name=launch_id, host_type="small", capacity=amounts(1000, 1024), labels=labels)


async def test_a_host_comes_for_a_job_and_goes_after_it(bare: MemoryController) -> None:
    await scale(bare)
    job_id = await bare.submit(queue="burst")
    found = await until(bare, lambda env: env.scaling.launching_hosts == 1 and bool(bare.provider.there))
    assert found.compute_resources.desired_vcpus == 1
    answer = await bare.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id))
    assert "is launching 1 host (type small)" in answer.summary
    (launch_id,) = bare.provider.there
    agent = host_of(bare, launch_id)
    await agent.join()
    (spec,) = await agent.hear_starts()
    found = await described(bare)
    assert (found.scaling.running_hosts, list(found.host_ids)) == (1, [agent.host_id])
    await agent.finish(spec.attempt_id)
    found = await until(bare, lambda env: not env.scaling.running_hosts and not env.scaling.stopping_hosts)
    assert found.compute_resources.desired_vcpus == 0
    assert bare.provider.asked == ["launch small", "stop small"]
    assert not (await bare.hosts.ListHosts(host_pb2.ListHostsRequest())).hosts


async def test_failures_are_told(bare: MemoryController) -> None:
    bare.provider.error = "no power\nat all"
    await scale(bare, instance_types=["small"])
    job_id = await bare.submit(queue="burst")
    found = await until(bare, lambda env: bool(env.scaling.last_failure))
    assert found.scaling.last_failure == "type small: it could not be launched: no power\N{REPLACEMENT CHARACTER}at all"
    assert found.scaling.next_try_at_ms - found.scaling.last_failure_at_ms == 5000
    answer = await bare.jobs.ExplainJob(job_pb2.ExplainJobRequest(job_id=job_id))
    assert "provider hand failed (type small: it could not be launched: no power" in answer.summary
    assert "next try in " in answer.summary
    assert bare.provider.asked[0] == "launch small"


async def test_the_next_leader_asks_for_the_same_launch(bare: MemoryController) -> None:
    """The next leader finds the launch in the store, and makes no other."""
    await scale(bare)
    await bare.submit(queue="burst")
    await until(bare, lambda env: bool(env.scaling.launching_hosts))
    launches = {key for key in bare.stored() if key.startswith("launch/")}
    async with MemoryController(bare.data, offers=[bare.provider.offer()]) as standby:
        bare.data.depose()
        await standby.until_leads()
        await until(standby, lambda env: env.scaling.launching_hosts == 1)
        assert {key for key in standby.stored() if key.startswith("launch/")} == launches


async def test_a_provider_that_is_configured_no_more_is_told(bare: MemoryController) -> None:
    await scale(bare, instance_types=["small"])
    await bare.submit(queue="burst")
    await until(bare, lambda env: bool(env.scaling.launching_hosts))
    async with MemoryController(bare.data, offers=[]) as other:
        bare.data.depose()
        await other.until_leads()
        found = await described(other)
        assert found.status == pb.RESOURCE_STATUS_INVALID
        assert found.status_reason == "provider hand is not configured: hosts are neither launched nor stopped"
        assert found.scaling.launching_hosts == 1


async def test_bounds_are_changed_and_what_is_desired_is_launched_once(bare: MemoryController) -> None:
    await scale(bare, instance_types=["small"], desired_vcpus=2)
    await until(bare, lambda env: env.scaling.launching_hosts == 2)
    resources = (await described(bare)).compute_resources
    assert resources.desired_vcpus == 2
    resources.desired_vcpus = 3
    update = pb.UpdateComputeEnvironmentRequest(name="burst", compute_resources=resources)
    await bare.environments.UpdateComputeEnvironment(update)
    await until(bare, lambda env: env.scaling.launching_hosts == 3)
    resources.desired_vcpus = 2
    told = await refusal(bare.environments.UpdateComputeEnvironment(update := _update(resources)))
    assert "2 is less than the 3 now" in told.text
    assert update.compute_resources.desired_vcpus == 2


def _update(resources: pb.ComputeResources) -> pb.UpdateComputeEnvironmentRequest:
    return pb.UpdateComputeEnvironmentRequest(name="burst", compute_resources=resources)


async def test_a_provider_that_breaks_takes_the_controller_with_it() -> None:
    """A bug is not a failure to launch: it is told by the death of the process, and not hidden by a loop."""
    broken = MemoryController()

    async def launch(wanted: object) -> None:
        raise ZeroDivisionError("a bug")

    broken.provider.launch = launch  # type: ignore[method-assign]

    async def meet_the_bug() -> None:
        async with broken:
            await broken.until_leads()
            await scale(broken)
            await broken.submit(queue="burst")
            await broken.until_deposed()

    with pytest.raises(BaseExceptionGroup) as caught:
        await meet_the_bug()
    assert caught.group_contains(ZeroDivisionError)
