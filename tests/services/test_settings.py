"""Compute environments, queues and definitions through their RPCs."""

from __future__ import annotations

import asyncio

import pytest

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_queue_pb2 as queue_pb

from .controller import MemoryController, amounts, code_of, container, definition, environment, order, queue, refusal
from .hand_agent import OTHER_ID, HandAgent

DISABLED = environment_pb.RESOURCE_STATE_DISABLED
ENABLED = environment_pb.RESOURCE_STATE_ENABLED


async def test_environment_is_kept_as_it_was_given(bare: MemoryController) -> None:
    wanted = environment_pb.ComputeResources(
        type=environment_pb.CAPACITY_TYPE_SPOT,
        allocation_strategy=environment_pb.ALLOCATION_STRATEGY_SPOT_CAPACITY_OPTIMIZED,
        min_vcpus=1,
        max_vcpus=64,
        desired_vcpus=2,
        instance_types=["m5", "c5.large"],
        labels={"rack": "7"},
    )
    request = environment(
        "gpu-room",
        compute_resources=wanted,
        unmanaged_vcpus=3,
        service_role="role",
        tags={"team": "a"},
        state=DISABLED,
    )
    made = (await bare.environments.CreateComputeEnvironment(request)).compute_environment
    assert made.name == "gpu-room"
    assert made.type == environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED
    assert (made.state, made.status) == (DISABLED, environment_pb.RESOURCE_STATUS_VALID)
    assert made.compute_resources == wanted
    assert (made.unmanaged_vcpus, made.service_role, dict(made.tags)) == (3, "role", {"team": "a"})
    assert made.created_at_ms > 0
    names = environment_pb.DescribeComputeEnvironmentsRequest(names=["nobody", "gpu-room"])
    assert list((await bare.environments.DescribeComputeEnvironments(names)).compute_environments) == [made]


async def test_environment_names_the_hosts_that_belong_to_it(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    names = environment_pb.DescribeComputeEnvironmentsRequest(names=["default"])
    (found,) = (await yard.environments.DescribeComputeEnvironments(names)).compute_environments
    assert list(found.host_ids) == [agent.host_id]


async def test_update_of_an_environment_changes_what_is_set_alone(bare: MemoryController) -> None:
    made = (
        await bare.environments.CreateComputeEnvironment(
            environment("e", unmanaged_vcpus=3, service_role="role", tags={"a": "b"})
        )
    ).compute_environment
    update = environment_pb.UpdateComputeEnvironmentRequest(name="e", state=DISABLED)
    changed = (await bare.environments.UpdateComputeEnvironment(update)).compute_environment
    made.state = DISABLED
    assert changed == made
    update = environment_pb.UpdateComputeEnvironmentRequest(name="e", unmanaged_vcpus=0, service_role="")
    changed = (await bare.environments.UpdateComputeEnvironment(update)).compute_environment
    assert (changed.unmanaged_vcpus, changed.service_role, changed.state) == (0, "", DISABLED)
    update = environment_pb.UpdateComputeEnvironmentRequest(
        name="e", compute_resources=environment_pb.ComputeResources(max_vcpus=8)
    )
    changed = (await bare.environments.UpdateComputeEnvironment(update)).compute_environment
    assert changed.compute_resources.max_vcpus == 8


async def test_hosts_tell_how_they_stand_to_an_environment(yard: MemoryController) -> None:
    alpha, spot = HandAgent(yard, host_type="m5.large"), HandAgent(yard, OTHER_ID, "spot", purchase_option="spot")
    await alpha.join()
    await spot.join()
    request = environment_pb.ListEnvironmentHostsRequest(name="default")
    listed = (await yard.environments.ListEnvironmentHosts(request)).hosts
    assert [(host.host_name, host.is_selected, host.rule, host.reason) for host in listed] == [
        ("alpha", True, "", ""),
        ("spot", False, "compute_resources.type", "it is spot"),
    ]
    (described,) = (
        await yard.environments.DescribeComputeEnvironments(
            environment_pb.DescribeComputeEnvironmentsRequest(names=["default"])
        )
    ).compute_environments
    assert [host.host_id for host in listed if host.is_selected] == list(described.host_ids)
    resources = environment_pb.ComputeResources(type=environment_pb.CAPACITY_TYPE_EC2, instance_types=["c5"])
    supposed = environment_pb.ListEnvironmentHostsRequest(compute_resources=resources, page_size=1)
    page = await yard.environments.ListEnvironmentHosts(supposed)
    assert [(host.rule, host.reason) for host in page.hosts] == [
        ("compute_resources.instance_types", "its type is m5.large")
    ]
    supposed.page_token = page.next_page_token
    page = await yard.environments.ListEnvironmentHosts(supposed)
    assert ([host.host_name for host in page.hosts], page.next_page_token) == (["spot"], "")


async def test_environment_goes_only_when_it_is_disabled_and_unused(yard: MemoryController) -> None:
    delete = environment_pb.DeleteComputeEnvironmentRequest(name="default")
    in_use = await refusal(yard.environments.DeleteComputeEnvironment(delete))
    assert in_use.code == "FAILED_PRECONDITION"
    assert in_use.text == "Cannot delete, found existing JobQueue relationship: default"
    await yard.queues.UpdateJobQueue(queue_pb.UpdateJobQueueRequest(name="default", state=DISABLED))
    await yard.queues.DeleteJobQueue(queue_pb.DeleteJobQueueRequest(name="default"))
    enabled = await refusal(yard.environments.DeleteComputeEnvironment(delete))
    assert enabled.text == "compute environment default is ENABLED; disable it before you delete it"
    update = environment_pb.UpdateComputeEnvironmentRequest(name="default", state=DISABLED)
    await yard.environments.UpdateComputeEnvironment(update)
    await yard.environments.DeleteComputeEnvironment(delete)
    assert yard.stored() == {}
    assert (await refusal(yard.environments.DeleteComputeEnvironment(delete))).code == "NOT_FOUND"


async def test_queue_is_kept_as_it_was_given(yard: MemoryController) -> None:
    await yard.environments.CreateComputeEnvironment(environment("second"))
    made = (
        await yard.queues.CreateJobQueue(
            queue("fast", "second", "default", priority=-5, state=DISABLED, tags={"a": "b"})
        )
    ).job_queue
    assert (made.name, made.priority, made.state, dict(made.tags)) == ("fast", -5, DISABLED, {"a": "b"})
    assert list(made.compute_environment_order) == order("second", "default")
    assert made.status == environment_pb.RESOURCE_STATUS_VALID
    found = await yard.queues.DescribeJobQueues(queue_pb.DescribeJobQueuesRequest(names=["fast", "nobody"]))
    assert list(found.job_queues) == [made]


async def test_update_of_a_queue_changes_what_is_set_alone(yard: MemoryController) -> None:
    await yard.environments.CreateComputeEnvironment(environment("second"))
    made = (await yard.queues.CreateJobQueue(queue("q", priority=9, tags={"a": "b"}))).job_queue
    update = queue_pb.UpdateJobQueueRequest(name="q", priority=0)
    made.priority = 0
    assert (await yard.queues.UpdateJobQueue(update)).job_queue == made
    update = queue_pb.UpdateJobQueueRequest(name="q", state=DISABLED, compute_environment_order=order("second"))
    changed = (await yard.queues.UpdateJobQueue(update)).job_queue
    assert (changed.state, list(changed.compute_environment_order)) == (DISABLED, order("second"))
    update = queue_pb.UpdateJobQueueRequest(name="q", state=ENABLED)
    assert (await yard.queues.UpdateJobQueue(update)).job_queue.state == ENABLED


async def test_time_limits_of_a_queue_are_kept_and_replaced_as_a_whole(yard: MemoryController) -> None:
    limits = [
        queue_pb.JobStateTimeLimitAction(reason=reason, state="RUNNABLE", max_time_s=max_time_s, action="CANCEL")
        for reason, max_time_s in (
            ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", 86_400),
            ("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", 600),
        )
    ]
    made = (await yard.queues.CreateJobQueue(queue("q", job_state_time_limit_actions=limits))).job_queue
    assert list(made.job_state_time_limit_actions) == limits
    update = queue_pb.UpdateJobQueueRequest(name="q", priority=7)
    made.priority = 7
    assert (await yard.queues.UpdateJobQueue(update)).job_queue == made
    for left in (limits[1:], []):
        actions = queue_pb.JobStateTimeLimitActions(actions=left)
        update = queue_pb.UpdateJobQueueRequest(name="q", job_state_time_limit_actions=actions)
        changed = (await yard.queues.UpdateJobQueue(update)).job_queue
        assert list(changed.job_state_time_limit_actions) == left


async def test_queue_counts_its_jobs_by_state_and_children_singly(yard: MemoryController) -> None:
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit(container=container("true", resources=amounts(cpu_millis=4000)))
    await agent.hear_starts()
    await yard.submit(array_size=3)
    found = await yard.queues.DescribeJobQueues(queue_pb.DescribeJobQueuesRequest(names=["default"]))
    assert dict(found.job_queues[0].job_counts) == {"STARTING": 1, "RUNNABLE": 3}


async def test_jobs_of_a_deleted_queue_end_with_the_reason(yard: MemoryController) -> None:
    waiting = await yard.submit()
    delete = queue_pb.DeleteJobQueueRequest(name="default")
    enabled = await refusal(yard.queues.DeleteJobQueue(delete))
    assert enabled.text == "job queue default is ENABLED; disable it before you delete it"
    await yard.queues.UpdateJobQueue(queue_pb.UpdateJobQueueRequest(name="default", state=DISABLED))
    await yard.queues.DeleteJobQueue(delete)
    job = await yard.describe(waiting)
    assert (await yard.state(waiting), job.status_reason) == ("FAILED", "JobQueue deleted")


async def test_two_that_create_one_name_at_once_do_not_both_win(yard: MemoryController) -> None:
    calls = [yard.queues.CreateJobQueue(queue("same", priority=i)) for i in range(8)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(end, BaseException) for end in ends) == 1
    assert {code_of(end) for end in ends if isinstance(end, BaseException)} == {"ALREADY_EXISTS"}


async def test_revisions_rise_and_are_described_newest_first(bare: MemoryController) -> None:
    registered = [
        (await bare.definitions.RegisterJobDefinition(definition("train", parameters={"n": str(i)}))).job_definition
        for i in range(3)
    ]
    assert [d.revision for d in registered] == [1, 2, 3]
    assert registered[0].status == definition_pb.JOB_DEFINITION_STATUS_ACTIVE
    wanted = definition_pb.DescribeJobDefinitionsRequest(
        job_definitions=["train", "train:2", "train:4", "train:0", "train:02x", "other"]
    )
    found = (await bare.definitions.DescribeJobDefinitions(wanted)).job_definitions
    assert list(found) == [*reversed(registered), registered[1]]


async def test_definition_is_kept_whole(bare: MemoryController) -> None:
    request = definition(
        "whole",
        container=definition_pb.ContainerProperties(
            image="busybox:latest",
            command=["echo", "Ref::word"],
            environment={"A": "b"},
            resources=amounts(gpu_millis=500, disk_mib=10),
            user="1000:1000",
            working_directory="/srv",
            readonly_root_filesystem=True,
            log_size_mib=64,
            gpu_models=["A100", "*H100*"],
            gpu_memory_mib=40_000,
            ulimits=[definition_pb.Ulimit(name="nofile", soft_limit=10, hard_limit=20)],
            linux_parameters=definition_pb.LinuxParameters(
                init_process_enabled=True,
                shared_memory_size_mib=64,
                tmpfs=[definition_pb.Tmpfs(container_path="/t", size_mib=5, mount_options=["noexec"])],
                max_swap_mib=0,
                swappiness=60,
            ),
            log_configuration=definition_pb.LogConfiguration(log_driver="json-file", options={"max-size": "1m"}),
            job_role_arn="arn:a",
            execution_role_arn="arn:b",
        ),
        parameters={"word": "hello"},
        retry_strategy=definition_pb.RetryStrategy(
            attempts=3,
            evaluate_on_exit=[
                definition_pb.EvaluateOnExit(
                    action=definition_pb.EVALUATE_ON_EXIT_ACTION_EXIT,
                    on_status_reason="Task failed*",
                    on_reason="Docker*",
                    on_exit_code="13*",
                )
            ],
            infrastructure_retries=2,
            spot_attempts=3,
            preemption_retries_before_termination=2,
        ),
        timeout_s=60,
        scheduling_priority=7,
        propagate_tags=True,
        tags={"a": "b"},
        platform_capabilities=["EC2"],
    )
    made = (await bare.definitions.RegisterJobDefinition(request)).job_definition
    assert made.type == definition_pb.JOB_DEFINITION_TYPE_CONTAINER
    for field in ("name", "container", "parameters", "retry_strategy", "timeout_s", "scheduling_priority"):
        assert getattr(made, field) == getattr(request, field), field
    for field in ("propagate_tags", "tags", "platform_capabilities"):
        assert getattr(made, field) == getattr(request, field), field


async def test_deregistered_revision_is_inactive_and_gives_no_more_jobs(yard: MemoryController) -> None:
    for _ in range(2):
        await yard.definitions.RegisterJobDefinition(definition("train"))
    gone = definition_pb.DeregisterJobDefinitionRequest(job_definition="train:2")
    await yard.definitions.DeregisterJobDefinition(gone)
    before = yard.stored()
    await yard.definitions.DeregisterJobDefinition(gone)
    assert yard.stored() == before, "a second time changes nothing"
    job = await yard.describe(await yard.submit(job_definition="train"))
    assert job.job_definition == "train:1", "the latest ACTIVE one"
    listed = await yard.definitions.ListJobDefinitions(
        definition_pb.ListJobDefinitionsRequest(status=definition_pb.JOB_DEFINITION_STATUS_INACTIVE)
    )
    assert [(d.name, d.revision) for d in listed.job_definitions] == [("train", 2)]
    assert (await yard.definitions.RegisterJobDefinition(definition("train"))).job_definition.revision == 3


async def test_log_options_are_kept_without_a_driver(bare: MemoryController) -> None:
    wanted = container(log_configuration=definition_pb.LogConfiguration(options={"tag": "x"}))
    made = (await bare.definitions.RegisterJobDefinition(definition("d", container=wanted))).job_definition
    assert made.container == wanted


async def test_definition_of_24_kib_is_taken_and_one_byte_more_is_not(bare: MemoryController) -> None:
    request = definition("d", parameters={"p": ""})
    request.parameters["p"] = "x" * (24 * 1024 - request.ByteSize())
    while request.ByteSize() > 24 * 1024:
        request.parameters["p"] = request.parameters["p"][:-1]
    assert request.ByteSize() == 24 * 1024
    await bare.definitions.RegisterJobDefinition(request)
    before = bare.stored()
    request.parameters["p"] += "x"
    too_long = await refusal(bare.definitions.RegisterJobDefinition(request))
    assert too_long.violations == (("job_definition", "the payload has 24577 bytes; at most 24576 are allowed"),)
    assert bare.stored() == before


# Lists --------------------------------------------------------------------------


async def _furnish_lists(yard: MemoryController) -> None:
    for name in ("b", "a", "C", "d-1"):
        await yard.environments.CreateComputeEnvironment(environment(name))
        await yard.queues.CreateJobQueue(queue(name, name))
        for _ in range(2):
            await yard.definitions.RegisterJobDefinition(definition(name))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_pages_join_into_the_whole_list_in_name_order(bare: MemoryController, size: int) -> None:
    await _furnish_lists(bare)
    lists = (
        (
            bare.environments.ListComputeEnvironments,
            environment_pb.ListComputeEnvironmentsRequest,
            "compute_environments",
        ),
        (bare.queues.ListJobQueues, queue_pb.ListJobQueuesRequest, "job_queues"),
        (bare.definitions.ListJobDefinitions, definition_pb.ListJobDefinitionsRequest, "job_definitions"),
    )
    for method, request_type, field in lists:
        request, seen = request_type(page_size=size), []
        while True:
            page = await method(request)
            rows = getattr(page, field)
            assert 0 < len(rows) <= size
            seen += [(row.name, getattr(row, "revision", 0)) for row in rows]
            if not page.next_page_token:
                break
            assert len(rows) == size, "only the last page may be short"
            request.page_token = page.next_page_token
        revisions = (2, 1) if field == "job_definitions" else (0,)
        assert seen == [(name, revision) for name in ("C", "a", "b", "d-1") for revision in revisions]


async def test_definitions_of_one_name_are_listed_in_pages(bare: MemoryController) -> None:
    await _furnish_lists(bare)
    request = definition_pb.ListJobDefinitionsRequest(name="b", page_size=1)
    first = await bare.definitions.ListJobDefinitions(request)
    request.page_token = first.next_page_token
    second = await bare.definitions.ListJobDefinitions(request)
    assert [(d.name, d.revision) for page in (first, second) for d in page.job_definitions] == [("b", 2), ("b", 1)]
    assert second.next_page_token == ""


async def test_page_goes_on_after_its_last_row_was_deleted(bare: MemoryController) -> None:
    await _furnish_lists(bare)
    request = queue_pb.ListJobQueuesRequest(page_size=2)
    first = await bare.queues.ListJobQueues(request)
    last = first.job_queues[-1].name
    await bare.queues.UpdateJobQueue(queue_pb.UpdateJobQueueRequest(name=last, state=DISABLED))
    await bare.queues.DeleteJobQueue(queue_pb.DeleteJobQueueRequest(name=last))
    request.page_token = first.next_page_token
    assert [q.name for q in (await bare.queues.ListJobQueues(request)).job_queues] == ["b", "d-1"]


async def test_a_queue_goes_on_to_spot_hosts_and_an_environment_may_change_its_type(bare: MemoryController) -> None:
    """AWS: the environments of a queue are of EC2, on demand or spot."""
    spot = environment_pb.ComputeResources(type=environment_pb.CAPACITY_TYPE_SPOT)
    await bare.environments.CreateComputeEnvironment(environment("on-demand"))
    await bare.environments.CreateComputeEnvironment(environment("spot", compute_resources=spot))
    await bare.queues.CreateJobQueue(queue("q", "on-demand", "spot"))
    agent = HandAgent(bare, purchase_option="spot")
    await agent.join()
    await bare.submit(queue="q")
    (spec,) = await agent.hear_starts()
    assert spec.environment["AWS_BATCH_CE_NAME"] == "spot"
    change = environment_pb.UpdateComputeEnvironmentRequest(name="on-demand", compute_resources=spot)
    await bare.environments.UpdateComputeEnvironment(change)
    await bare.submit(queue="q")
    (spec,) = await agent.hear_starts()
    assert spec.environment["AWS_BATCH_CE_NAME"] == "on-demand"
    await bare.queues.UpdateJobQueue(
        queue_pb.UpdateJobQueueRequest(name="q", compute_environment_order=order("spot", "on-demand"))
    )
