"""Tags and annotations through their RPCs, and over a restart."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2
from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import tag_pb2 as pb
from batchyard_controller.core.views.words import TOO_MANY_TAGS

from .controller import MemoryController, definition, environment, queue, submission
from .hand_agent import HandAgent

NAMES = {
    pb.RESOURCE_KIND_JOB_QUEUE: "default",
    pb.RESOURCE_KIND_COMPUTE_ENVIRONMENT: "default",
    pb.RESOURCE_KIND_JOB_DEFINITION: "train:1",
}

Kind: TypeAlias = pb.ResourceKind.ValueType


async def _tags(yard: MemoryController, kind: Kind, name: str) -> dict[str, str]:
    return dict((await yard.tags.ListTags(pb.ListTagsRequest(kind=kind, name=name))).tags)


async def _described(yard: MemoryController, kind: Kind, name: str) -> dict[str, str]:
    """Return the tags as the describing call of the kind gives them."""
    if kind == pb.RESOURCE_KIND_JOB:
        return dict((await yard.describe(name)).tags)
    if kind == pb.RESOURCE_KIND_JOB_QUEUE:
        queues = await yard.queues.DescribeJobQueues(queue_pb.DescribeJobQueuesRequest(names=[name]))
        return dict(queues.job_queues[0].tags)
    if kind == pb.RESOURCE_KIND_JOB_DEFINITION:
        request = definition_pb.DescribeJobDefinitionsRequest(job_definitions=[name])
        return dict((await yard.definitions.DescribeJobDefinitions(request)).job_definitions[0].tags)
    names = environment_pb.DescribeComputeEnvironmentsRequest(names=[name])
    return dict((await yard.environments.DescribeComputeEnvironments(names)).compute_environments[0].tags)


@pytest.mark.parametrize("kind", [*NAMES, pb.RESOURCE_KIND_JOB])
async def test_tags_come_and_go_and_outlive_a_restart(yard: MemoryController, kind: Kind) -> None:
    await yard.definitions.RegisterJobDefinition(definition("train"))
    name = NAMES.get(kind) or await yard.submit(tags={"first": "0"}, array_size=3)
    before = await _tags(yard, kind, name)
    await yard.tags.TagResource(pb.TagResourceRequest(kind=kind, name=name, tags={"a": "1", "b": "2"}))
    await yard.tags.TagResource(pb.TagResourceRequest(kind=kind, name=name, tags={"b": "3"}))
    await yard.tags.UntagResource(pb.UntagResourceRequest(kind=kind, name=name, keys=["a", "never"]))
    assert await _tags(yard, kind, name) == before | {"b": "3"}
    assert await _described(yard, kind, name) == before | {"b": "3"}
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    assert await _tags(yard, kind, name) == before | {"b": "3"}


async def test_propagated_tags_are_told_to_the_host(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.definitions.RegisterJobDefinition(definition("train", tags={"a": "d", "b": "d"}, propagate_tags=True))
    await yard.jobs.SubmitJob(submission(job_definition="train", tags={"b": "j"}))
    (spec,) = await agent.hear_starts()
    assert dict(spec.tags) == {"a": "d", "b": "j"}
    await agent.leave()


async def test_job_with_too_many_tags_to_propagate_fails_and_stays_so(yard: MemoryController) -> None:
    tags = {f"d{i}": "" for i in range(30)}
    await yard.definitions.RegisterJobDefinition(definition("train", tags=tags, propagate_tags=True))
    wanted = submission(job_definition="train", tags={f"j{i}": "" for i in range(21)})
    job_id = (await yard.jobs.SubmitJob(wanted)).job_id
    told = await yard.describe(job_id)
    assert (told.state, told.status_reason, len(told.tags)) == (job_pb2.JOB_STATE_FAILED, TOO_MANY_TAGS, 21)
    yard.data.depose()
    await yard.until_deposed()
    await yard.until_leads()
    assert await yard.describe(job_id) == told


async def test_annotations_are_given_back_changed_and_kept_over_a_restart(bare: MemoryController) -> None:
    given, more = {"a": "1", "b": "2"}, {"a": "", "c": "3"}
    await bare.environments.CreateComputeEnvironment(environment("default", annotations=given))
    await bare.queues.CreateJobQueue(queue("default", annotations=given))
    made = await bare.definitions.RegisterJobDefinition(definition("train", annotations=given))
    assert dict(made.job_definition.annotations) == given
    job_id = await bare.submit(job_definition="train", annotations={"b": "job"})
    update = environment_pb.UpdateComputeEnvironmentRequest(name="default", annotations=more)
    changed: Any = (await bare.environments.UpdateComputeEnvironment(update)).compute_environment
    assert dict(changed.annotations) == {"b": "2", "c": "3"}
    update_queue = queue_pb.UpdateJobQueueRequest(name="default", annotations=more)
    assert dict((await bare.queues.UpdateJobQueue(update_queue)).job_queue.annotations) == {"b": "2", "c": "3"}

    async def kept() -> list[dict[str, str]]:
        names = environment_pb.DescribeComputeEnvironmentsRequest(names=["default"])
        things: list[Any] = [
            (await bare.environments.DescribeComputeEnvironments(names)).compute_environments[0],
            (await bare.queues.ListJobQueues(queue_pb.ListJobQueuesRequest())).job_queues[0],
            await bare.describe(job_id),
        ]
        return [dict(thing.annotations) for thing in things]

    expected = [{"b": "2", "c": "3"}, {"b": "2", "c": "3"}, {"a": "1", "b": "job"}]
    assert await kept() == expected
    bare.data.depose()
    await bare.until_deposed()
    await bare.until_leads()
    assert await kept() == expected
