"""Laws of the pure part: what was given comes back, and whatever comes is an answer or an error of AWS's kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from batchyard.arns import Account
from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import job_pb2
from batchyard_gateway.batch import definitions, environments, jobs, listing, queues, submissions
from batchyard_gateway.batch import members as shapes
from batchyard_gateway.batch.names import Names
from batchyard_gateway.batch.operations import OFFERED
from batchyard_gateway.batch.shapes import Anything, Flag, Items, Number, Shape, Structure, Table, Text, Whole, Words
from batchyard_gateway.errors import ApiError

NAMES = Names(Account())
LETTERS = st.text("abcXYZ0129-_./ ", max_size=6)
SLOW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def right(shape: Shape) -> st.SearchStrategy[Any]:
    """Return values of a shape."""
    match shape:
        case Structure():
            required = {name: right(shape.members[name]) for name in shape.required}
            optional = {name: right(each) for name, each in shape.members.items() if name not in required}
            return st.fixed_dictionaries(required, optional=optional)
        case Items():
            return st.lists(right(shape.item), min_size=shape.count_min, max_size=2)
        case Table():
            return st.dictionaries(LETTERS.filter(bool), LETTERS, min_size=shape.count_min, max_size=2)
        case Words():
            return st.sampled_from(shape.words)
        case Whole():
            return st.integers(0, 2000)
        case Number():
            return st.floats(0, 2000)
        case Flag():
            return st.booleans()
        case Anything():
            return st.just(True)
        case Text():
            return LETTERS.filter(lambda text: len(text) >= shape.length_min)
        case other:
            raise AssertionError(other)


def requirements() -> st.SearchStrategy[Any]:
    amount = st.sampled_from(["1", "2", "16", "0.25", "1.0", "4"])
    each = st.fixed_dictionaries({"type": st.sampled_from(["VCPU", "MEMORY"]), "value": amount})
    return st.lists(each, max_size=2, unique_by=lambda it: it["type"]).filter(
        lambda listed: not any(it["type"] == "MEMORY" and it["value"] not in ("16", "4") for it in listed)
    )


def unordered(value: Any) -> Any:
    """Return members with variables and requirements in some order, as their order means nothing."""
    if isinstance(value, dict):
        return {name: unordered(each) for name, each in value.items()}
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return sorted((unordered(each) for each in value), key=lambda each: str(each.get("name", each.get("type", ""))))
    return value


@st.composite
def containers(draw: Any) -> dict[str, Any]:
    found: dict[str, Any] = draw(right(shapes.CONTAINER_PROPERTIES))
    found.pop("resourceRequirements", None)
    for name, least in (("vcpus", 1), ("memory", 4)):
        if name in found:
            found[name] = max(found[name], least)
    if draw(st.booleans()):
        found["resourceRequirements"] = draw(requirements())
    return found


def registered(members: dict[str, Any]) -> definition_pb.JobDefinition:
    """Return the definition that a controller keeps of a registration."""
    request = definitions.registration(members)
    return definition_pb.JobDefinition(
        name=request.name,
        revision=1,
        status=definition_pb.JOB_DEFINITION_STATUS_ACTIVE,
        container=request.container,
        parameters=request.parameters,
        retry_strategy=request.retry_strategy if request.HasField("retry_strategy") else None,
        timeout_s=request.timeout_s,
        scheduling_priority=request.scheduling_priority if request.HasField("scheduling_priority") else None,
        propagate_tags=request.propagate_tags,
        tags=request.tags,
        platform_capabilities=request.platform_capabilities,
        annotations=request.annotations,
    )


@SLOW
@given(containers(), st.data())
def test_a_definition_comes_back_as_it_was_given(container: dict[str, Any], data: st.DataObject) -> None:
    shape = Structure({name: each for name, each in shapes.REGISTER_JOB_DEFINITION.members.items() if name in OUTER})
    members = data.draw(right(shape)) | {
        "jobDefinitionName": "d",
        "type": "container",
        "containerProperties": container,
        "platformCapabilities": ["FARGATE"],
    }
    if "retryStrategy" in members:
        members["retryStrategy"].setdefault("attempts", 1)
    if members.get("timeout"):
        members["timeout"]["attemptDurationSeconds"] = 60
    found = definitions.members_of(registered(members), NAMES)
    found_container = found.pop("containerProperties")
    del members["containerProperties"]
    assert unordered({name: found_container[name] for name in container}) == unordered(container)
    for name, value in members.items():
        assert found.get(name) == value or not value, name


OUTER = ("parameters", "schedulingPriority", "retryStrategy", "propagateTags", "timeout", "tags")


@SLOW
@given(right(shapes.CREATE_COMPUTE_ENVIRONMENT))
def test_an_environment_comes_back_as_it_was_given(members: dict[str, Any]) -> None:
    resources = members.get("computeResources", {})
    assume(resources.get("type") != "ECS_MANAGED_INSTANCES")  # refused before
    request = environments.creation(members)
    kept = environment_pb.ComputeEnvironment(
        name=request.name,
        type=request.type,
        state=request.state,
        compute_resources=request.compute_resources,
        annotations=request.annotations,
    )
    found = environments.members_of(kept, NAMES)["computeResources"]
    is_fargate = resources.get("type") in environments.FARGATE_TYPES
    hidden = ("allocationStrategy", "minvCpus", "desiredvCpus", "instanceTypes") if is_fargate else ()
    for name, value in resources.items():
        assert name in hidden or found[name] == value, name


@given(st.integers(1, 64), st.sampled_from(["vcpus", "resourceRequirements"]), st.booleans())
def test_a_jobs_container_keeps_the_definitions_form(vcpus: int, form: str, is_overridden: bool) -> None:
    """Overrides change amounts and never the form in which the definition gave them."""
    amounts = {"vcpus": vcpus} if form == "vcpus" else {form: [{"type": "VCPU", "value": str(vcpus)}]}
    definition = registered(
        {
            "jobDefinitionName": "d",
            "type": "container",
            "containerProperties": {"image": "i", "memory": 4, "runtimePlatform": {"cpuArchitecture": "ARM64"}}
            | amounts,
        }
    )
    if is_overridden:
        definition.container.resources.cpu_millis = vcpus = 7000
        vcpus //= 1000
    job = job_pb2.Job(id="x", container=definition.container, annotations=definition.annotations)
    found = jobs.members_of(job, NAMES)["container"]
    assert (found["memory"], found["runtimePlatform"]) == (4, {"cpuArchitecture": "ARM64"})
    if form == "vcpus":
        assert (found["vcpus"], found["resourceRequirements"]) == (vcpus, [])
    else:
        assert found["resourceRequirements"] == [{"type": "VCPU", "value": str(vcpus)}]
        assert "vcpus" not in found


def test_a_job_in_a_list_tells_its_share() -> None:
    """No queue shares fairly yet, so no submission gets as far."""
    assert jobs.summary_of(job_pb2.JobSummary(id="x", share_identifier="blue"), NAMES)["shareIdentifier"] == "blue"
    assert "shareIdentifier" not in jobs.summary_of(job_pb2.JobSummary(id="x"), NAMES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", sorted(OFFERED))
@SLOW
@given(st.data())
def test_whatever_comes_is_a_value_or_an_error(name: str, data: st.DataObject) -> None:
    shape = OFFERED[name].takes
    members = data.draw(
        right(shape) | st.fixed_dictionaries({each: JSON | right(s) for each, s in shape.members.items()})
    )
    checked, error = attempt(lambda: shape.check(members, ""))
    if error is None:
        assert shape.check(checked, "") == checked
        _, error = attempt(lambda: PURE[name](checked) if name in PURE else None)
    assert error is None or error.status == 400


@pytest.mark.parametrize(
    ("name", "member", "value"), [("TagResource", "tags", {"a": None}), ("UntagResource", "tagKeys", [None])]
)
def test_null_entries_are_not_counted(name: str, member: str, value: Any) -> None:
    """They are left out, so what is left must be enough."""
    with pytest.raises(ApiError, match=f"Value '0 entries' at '{member}'"):
        OFFERED[name].takes.check({"resourceArn": "a", member: value}, "")


def attempt(work: Callable[[], Any]) -> tuple[Any, ApiError | None]:
    """Return a result, or the error that was raised instead; any other error fails the test."""
    try:
        return work(), None
    except ApiError as err:
        return None, err


def _create_environment(members: dict[str, Any]) -> None:
    environments.check_new(members)
    environments.creation(members)


def _update_environment(members: dict[str, Any]) -> None:
    found = environment_pb.ComputeEnvironment(type=environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED)
    found.compute_resources.type = environment_pb.CAPACITY_TYPE_EC2
    environments.check_change(members, found)
    environments.change(members, found)


def _create_queue(members: dict[str, Any]) -> None:
    queues.check_new(members)
    queues.creation(members)


def _update_queue(members: dict[str, Any]) -> None:
    queues.check_change(members)
    queues.change(members)


def _register(members: dict[str, Any]) -> None:
    definitions.check(members)
    definitions.registration(members)


def _submit(members: dict[str, Any]) -> None:
    submissions.check(members)
    submissions.needs_definition(members)


PURE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "CreateComputeEnvironment": _create_environment,
    "UpdateComputeEnvironment": _update_environment,
    "CreateJobQueue": _create_queue,
    "UpdateJobQueue": _update_queue,
    "RegisterJobDefinition": _register,
    "SubmitJob": _submit,
    "ListJobs": listing.request,
}
