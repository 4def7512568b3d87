"""Wrong arguments are refused before any call, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from batchyard import AsyncClient, Client, InvalidArgumentError, container, overrides
from batchyard.v1 import job_definition_pb2 as definition_pb

WRONG: Any = {"int": 5, "ints": [1], "float": 1.5, "values": {"A": 1}}
"""Values whose types are wrong on purpose."""

NOWHERE = "127.0.0.1:1"


def submit(**fields: Any) -> Callable[[Client], object]:
    filled: dict[str, Any] = {"name": "hello", "container": container(["true"])} | fields
    return lambda client: client.submit_job(**filled)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (submit(name=5), "name: must be a str, not int"),
        (submit(name="\udcff"), r"name: is not valid UTF-8: '\udcff'"),
        (submit(queue=None), "queue: must be a str, not NoneType"),
        (submit(container={"image": "x"}), "container: must be a ContainerProperties, not dict"),
        (submit(container=["echo", "hi"]), "container: must be a ContainerProperties, not list"),
        (submit(overrides="x"), "overrides: must be a ContainerOverrides, not str"),
        (submit(parameters=["a"]), "parameters: must be a mapping of str to str, not list"),
        (submit(parameters={"a": 1}), "parameters['a']: must be a str, not int"),
        (submit(tags={1: "a"}), "tags key: must be a str, not int"),
        (submit(array_size="20"), "array_size: must be an int, not str"),
        (submit(array_size=True), "array_size: must be an int, not bool"),
        (submit(array_size=1 << 63), f"array_size: must be from {-(1 << 63)} to {(1 << 63) - 1}"),
        (submit(array_size=10**5000), f"array_size: must be from {-(1 << 63)} to {(1 << 63) - 1}"),
        (submit(depends_on="abc"), "depends_on: must be a list of job ids or Dependency, not str"),
        (submit(depends_on=[1]), "depends_on[0]: must be a str, not int"),
        (submit(attempts=1.5), "attempts: must be an int, not float"),
        (submit(attempts=0), "attempts: must be at least 1: on the wire, 0 is no number of attempts at all"),
        (submit(attempts=1 << 31), f"attempts: must be from {-(1 << 31)} to {(1 << 31) - 1}"),
        (submit(evaluate_on_exit=[{}]), "evaluate_on_exit[0]: must be a EvaluateOnExit, not dict"),
        (submit(timeout_s=1.5), "timeout_s: must be an int, not float"),
        (submit(scheduling_priority="high"), "scheduling_priority: must be an int, not str"),
        (submit(propagate_tags=1), "propagate_tags: must be a bool, not int"),
        (submit(request_id=7), "request_id: must be a str, not int"),
        (lambda c: c.describe_jobs("abc"), "job_ids: must be a list of str, not str"),
        (lambda c: c.describe_jobs([b"abc"]), "job_ids[0]: must be a str, not bytes"),
        (lambda c: c.wait("a", timeout_s=0), "timeout_s: must be more than 0 and finite, not 0"),
        (lambda c: c.wait("a", timeout_s="5"), "timeout_s: must be a number of seconds, not str"),
        (
            lambda c: list(c.list_jobs(states=["DONE"])),
            "states: must be one of SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED, not 'DONE'",
        ),
        (lambda c: list(c.list_jobs(page_size=None)), "page_size: must be an int, not NoneType"),
        (lambda c: c.list_jobs_page(queue=7), "queues: must be a list of str, not int"),
        (lambda c: c.list_jobs_page(tags="team"), "tags: must be a mapping of str to str or None, not str"),
        (lambda c: c.list_jobs_page(tags={"team": 7}), "tags['team']: must be a str, not int"),
        (lambda c: c.list_jobs_page(tags={7: None}), "tags key: must be a str, not int"),
        (lambda c: list(c.read_logs("a", follow="yes")), "follow: must be a bool, not str"),
        (lambda c: c.cancel_job("a", None), "reason: must be a str, not NoneType"),
        (
            lambda c: c.create_job_queue("q", compute_environments="ce"),
            "compute_environments: must be a list of str, not str",
        ),
        (
            lambda c: c.create_job_queue("q", time_limits={"CAPACITY": "soon"}),
            "time_limits['CAPACITY']: must be an int, not str",
        ),
        (
            lambda c: c.update_job_queue("q", time_limits=["CAPACITY"]),
            "time_limits: must be a mapping of str to int, not list",
        ),
        (lambda c: c.create_job_queue("q", state="ON"), "state: must be one of ENABLED, DISABLED, not 'ON'"),
        (lambda c: c.create_compute_environment("ce", kind="X"), "type: must be one of MANAGED, UNMANAGED, not 'X'"),
        (
            lambda c: c.register_job_definition("d", container=None),
            "container: must be a ContainerProperties, not NoneType",
        ),
    ],
)
def test_a_wrong_argument_is_named(call: Callable[[Client], object], message: str) -> None:
    with Client(NOWHERE, timeout_s=1, retry_s=1) as client, pytest.raises(InvalidArgumentError) as caught:
        call(client)
    assert [str(violation) for violation in caught.value.violations] == [message]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: container("echo hi"), "container.command: must be a list of str, not str"),
        (lambda: container(WRONG["ints"]), "container.command[0]: must be a str, not int"),
        (lambda: container(["x"], vcpus="two"), "container.vcpus: 'two' is not a number"),
        (lambda: container(["x"], vcpus=0.0001), "container.vcpus: '0.0001' is not a multiple of 0.001"),
        (lambda: container(["x"], vcpus=True), "container.vcpus: must be a number or a str, not bool"),
        (lambda: container(["x"], vcpus=WRONG["ints"]), "container.vcpus: must be a number or a str, not list"),
        (lambda: container(["x"], memory=WRONG["float"]), "container.memory: must be an int (MiB) or a str, not float"),
        (lambda: container(["x"], memory="lots"), "container.memory: 'lots' is not a size such as 512M or 4G"),
        (lambda: container(["x"], environment=WRONG["values"]), "container.environment['A']: must be a str, not int"),
        (lambda: overrides(["x"], gpus="none"), "overrides.gpus: 'none' is not a number"),
        (lambda: Client(WRONG["int"]), "address: must be a str, not int"),
        (lambda: Client("a b:1"), "address: must be host:port or unix:/path, not 'a b:1'"),
        (lambda: AsyncClient(timeout_s=-1), "timeout_s: must be more than 0 and finite, not -1"),
    ],
)
def test_a_wrong_value_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        make()
    assert [str(violation) for violation in caught.value.violations] == [message]


def test_a_container_is_the_contracts_message() -> None:
    made = container(["train"], image="busybox:latest", vcpus=0.5, memory="4G", gpus=2, disk=10, environment={"A": "b"})
    assert isinstance(made, definition_pb.ContainerProperties)
    resources = made.resources
    amounts = (resources.cpu_millis, resources.memory_mib, resources.gpu_millis, resources.disk_mib)
    assert amounts == (500, 4096, 2000, 10)


def test_overrides_leave_what_is_not_given() -> None:
    made = overrides(memory="1G")
    assert made.memory_mib == 1024
    assert not made.HasField("cpu_millis")
    assert list(made.command) == []
