"""What may be asked, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.yard import Yard, container, task

from batchyard.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from batchyard.resources import Resources
from batchyard.tasks import Container
from batchyard_controller.core.events import QueueChanged
from batchyard_controller.core.jobs.resolution import Overrides, Submission
from batchyard_controller.core.model.dependencies import Dependency, DependencyType
from batchyard_controller.core.model.jobs import ExitAction, ExitRule, JobDefinition, RetryStrategy
from batchyard_controller.core.model.settings import ComputeEnvironment, EnvironmentOrder, JobQueue, ResourceState
from batchyard_controller.core.requests import settings
from batchyard_controller.core.requests.job_rules import check_submission
from batchyard_controller.core.requests.settings_rules import check_queue

GOOD: dict[str, Any] = {"name": "n", "queue": "q", "task": task(container())}


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"name": ""}, "name", "required"),
        ({"name": "x" * 129}, "name", "129 characters; at most 128"),
        ({"name": "a b"}, "name", "letters, digits, '-' and '_'"),
        ({"name": "ä"}, "name", "letters, digits"),
        ({"name": "-a"}, "name", "Job name should match valid pattern: '-a' must begin with a letter"),
        ({"queue": "q!"}, "queue", "letters, digits"),
        ({"task": None}, "job_definition", "required"),
        ({"definition": "d"}, "container", "not both"),
        ({"array_size": 1}, "array_size", "1 is not between 2 and 1000000"),
        ({"array_size": -5}, "array_size", "-5 is not between"),
        ({"array_size": 1_000_001}, "array_size", "1000001 is not between"),
        ({"timeout_s": -1}, "timeout_s", "-1 seconds is not between"),
        ({"retry": RetryStrategy(attempts=11)}, "retry_strategy.attempts", "11 is not between 1 and 10"),
        ({"retry": RetryStrategy(rules=(ExitRule(action=ExitAction.EXIT),))}, "retry_strategy", "at least one"),
        (
            {"retry": RetryStrategy(rules=(ExitRule(action=ExitAction.EXIT, on_exit_code="x"),))},
            "retry_strategy.evaluate_on_exit[0].on_exit_code",
            "no pattern",
        ),
        ({"task": task(Container(image="i" * 256))}, "container.image", "256 characters; at most 255"),
        ({"task": task(Container(image="a b"))}, "container.image", "characters that no image name has"),
        ({"task": task(Container(command=("",)))}, "container.command", "empty"),
        ({"task": task(Container(privileged=True, command=("x",)))}, "container.privileged", "give the job an image"),
        ({"task": task(Container(environment=(("AWS_BATCH_X", "1"),)))}, "container.environment", "reserved"),
        ({"task": task(Container(environment=(("a=b", "1"),)))}, "container.environment", "no name"),
        (
            {"overrides": Overrides(command=("x" * 8000,), environment=(("A", "y" * 192),))},
            "overrides",
            "Container Overrides length must be at most 8192; 8193 bytes",
        ),
        ({"overrides": Overrides(command=("x", ""))}, "overrides.command", "argument 1 is empty"),
        (
            {"retry": RetryStrategy(attempts=0, rules=(ExitRule(action=ExitAction.EXIT, on_reason="*"),))},
            "retry_strategy.attempts",
            "RetryAttempts must be provided with retry strategy",
        ),
        (
            {"retry": RetryStrategy(infrastructure_retries=101)},
            "retry_strategy.infrastructure_retries",
            "101 is not between 0 and 100",
        ),
        (
            {"retry": RetryStrategy(rules=(ExitRule(action=ExitAction.EXIT, on_reason="a_b"),))},
            "retry_strategy.evaluate_on_exit[0].on_reason",
            "no pattern",
        ),
        ({"share_identifier": "a b"}, "share_identifier", "only letters, digits"),
        ({"task": task(Container(user="Root"))}, "container.user", "User 'Root' does not match regex"),
        ({"depends_on": (Dependency(job_id="no"),)}, "depends_on[0].job_id", "no job id"),
        ({"depends_on": (Dependency(type=DependencyType.SEQUENTIAL),)}, "depends_on[0].type", "only for an array"),
        (
            {"depends_on": (Dependency(type=DependencyType.SEQUENTIAL, job_id="x"),), "array_size": 2},
            "depends_on[0].job_id",
            "takes no job id",
        ),
        ({"array_concurrency": -1, "array_size": 2}, "array_concurrency", "-1 children is not between 1 and"),
        ({"array_concurrency": 2}, "array_concurrency", "only for an array"),
        ({"depends_on": (Dependency(job_id="no"),) * 1001}, "depends_on", "more than 1000"),
        ({"tags": (("", "v"),)}, "tags", "must not be empty"),
        ({"tags": tuple((f"k{i}", "") for i in range(51))}, "tags", "51 tags; at most 50"),
        ({"tags": (("k", "v" * 257),)}, "tags['k']", "257 characters"),
        ({"request_id": "r" * 129}, "request_id", "129 characters"),
        ({"scheduling_priority": 10_000}, "scheduling_priority", "10000 is not between 0 and 9999"),
    ],
)
def test_each_broken_rule_names_its_field(fields: dict[str, Any], field: str, says: str):
    """Field, value and limit are in the violation."""
    violations = check_submission(Submission(**(GOOD | fields)))
    assert any(v.field.startswith(field) and says in v.message for v in violations), violations


@pytest.mark.parametrize(
    ("amounts", "field"),
    [
        (Resources(cpu_millis=0, memory_mib=64), "cpu_millis"),
        (Resources(cpu_millis=-1, memory_mib=64), "cpu_millis"),
        (Resources(cpu_millis=1000, memory_mib=3), "memory_mib"),
        (Resources(cpu_millis=1000, memory_mib=2**40), "memory_mib"),
        (Resources(cpu_millis=1000, memory_mib=64, gpu_millis=1500), "gpu_millis"),
        (Resources(cpu_millis=1000, memory_mib=64, disk_mib=-1), "disk_mib"),
    ],
)
def test_amounts_have_limits(yard: Yard, amounts: Resources, field: str):
    """Zero, negative and huge amounts are refused, and nothing is left behind."""
    with pytest.raises(InvalidArgumentError) as raised:
        yard.submit(container=Container(command=("x",), resources=amounts))
    assert [v.field for v in raised.value.violations] == [f"container.resources.{field}"]
    assert not yard.world.jobs


def test_unknown_and_disabled_queues(yard: Yard):
    """AWS's text where one is known."""
    with pytest.raises(NotFoundError, match=r"JobQueue nowhere not found\."):
        yard.submit("nowhere")
    yard.apply(QueueChanged(queue=JobQueue(name="off", state=ResourceState.DISABLED)))
    with pytest.raises(FailedPreconditionError, match="off is DISABLED"):
        yard.submit("off")


def test_unknown_dependency(yard: Yard):
    """A dependency on an unknown job is refused."""
    with pytest.raises(NotFoundError, match="depends_on"):
        yard.submit(depends_on=(Dependency(job_id="00000000-0000-7000-8000-000000000000"),))


def test_a_repeated_request_returns_the_first_job(yard: Yard):
    """The same request id gives the same job, whatever else the request says."""
    first = yard.submit(request_id="r1")
    assert yard.submit(name="other", request_id="r1") is first
    assert len(yard.world.jobs) == 1


def register(yard: Yard, **fields: Any) -> JobDefinition:
    event = settings.register_definition(yard.world, JobDefinition(name="d", revision=0, **fields))
    yard.apply(event)
    return event.definition


def test_definitions_have_revisions_that_never_repeat(yard: Yard):
    """Without a revision the latest ACTIVE one is meant; deregistering does not free a number."""
    register(yard, task=task(container(cpu=1000)))
    register(yard, task=task(container(cpu=2000)))
    event = settings.deregister_definition(yard.world, "d:2")
    assert event is not None
    yard.apply(event)
    assert register(yard, task=task(container())).revision == 3
    assert yard.submit(container=None, definition="d:1").spec.definition == "d:1"
    with pytest.raises(NotFoundError, match="d:2 does not exist or is not in ACTIVE status"):
        yard.submit(container=None, definition="d:2")
    assert yard.submit(container=None, definition="d").spec.definition == "d:3"


def test_overrides_and_parameters(yard: Yard):
    """Command replaces, environment and parameters merge, amounts replace one by one."""
    register(
        yard,
        task=task(
            Container(
                command=("run", "Ref::mode", "--in=Ref::file"),
                environment=(("A", "1"), ("B", "2")),
                resources=Resources(cpu_millis=1000, memory_mib=100),
            )
        ),
        parameters=(("mode", "slow"),),
    )
    job = yard.submit(
        container=None,
        definition="d",
        parameters=(("file", "x.txt"),),
        overrides=Overrides(environment=(("B", "3"),), memory_mib=200),
    )
    resolved = job.spec.task.main
    assert resolved.command == ("run", "slow", "--in=x.txt")
    assert resolved.environment == (("A", "1"), ("B", "3"))
    assert resolved.resources == Resources(cpu_millis=1000, memory_mib=200)
    with pytest.raises(InvalidArgumentError, match="No parameter found for reference file"):
        yard.submit(container=None, definition="d")


def test_environments_and_queues_in_use_are_not_deleted(yard: Yard):
    """The refusal says who uses it."""
    with pytest.raises(FailedPreconditionError, match="found existing JobQueue relationship: q"):
        settings.delete_environment(yard.world, "ce")
    with pytest.raises(FailedPreconditionError, match="disable it before"):
        settings.delete_queue(yard.world, "q")
    with pytest.raises(AlreadyExistsError, match="ce exists already"):
        settings.create_environment(yard.world, ComputeEnvironment(name="ce"), yard.now)
    with pytest.raises(NotFoundError, match="'nope' not found"):
        settings.find_queue(yard.world, "nope")


def test_queues_have_one_to_three_environments():
    """AWS's limit, and no repetition."""
    step = EnvironmentOrder(order=1, compute_environment="a")
    assert "0 compute environments" in str(check_queue(JobQueue(name="q"))[0])
    assert "must not repeat" in str(check_queue(JobQueue(name="q", environment_order=(step, step)))[0])
