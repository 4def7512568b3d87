"""Requests about several containers that must be refused; a part of `bad_requests`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from batchyard.v1 import job_definition_pb2 as jd
from batchyard.v1 import job_pb2 as job

from .controller import amounts, container

START, COMPLETE, SUCCESS = (
    jd.CONTAINER_CONDITION_START,
    jd.CONTAINER_CONDITION_COMPLETE,
    jd.CONTAINER_CONDITION_SUCCESS,
)


def part(name: str, *after: tuple[str, int], **fields: Any) -> jd.ContainerProperties:
    """Build a container of a task that waits for others."""
    filled: dict[str, Any] = {"image": "busybox", "command": ["true"], "resources": amounts()} | fields
    depends_on = [jd.ContainerDependency(container=other, condition=condition) for other, condition in after]  # type: ignore[arg-type]
    return jd.ContainerProperties(name=name, depends_on=depends_on, **filled)


def several(*parts: jd.ContainerProperties, **fields: Any) -> jd.TaskProperties:
    return jd.TaskProperties(containers=parts, **fields)


MINOR = {"essential": False}
A, B = part("a"), part("b")
PROCESS = part("a", image="")
HALF = {"resources": amounts(gpu_millis=500)}
WHOLE = {"resources": amounts(gpu_millis=1000)}
TASKS: dict[str, jd.TaskProperties] = {
    "no container": several(),
    "11 containers": several(*(part(f"c{i}") for i in range(11))),
    "a container without a name": several(A, part("")),
    "a name of 256 characters": several(A, part("n" * 256)),
    "a name with a dot": several(A, part("a.b")),
    "two of one name": several(A, A),
    "nobody essential": several(part("a", **MINOR), part("b", **MINOR)),
    "the only one not essential": several(part("a", **MINOR), pid_mode="task"),
    "waiting for nobody": several(A, part("b", ("c", START))),
    "waiting for itself": several(A, part("b", ("b", START))),
    "waiting for an essential one's success": several(A, part("b", ("a", SUCCESS))),
    "waiting for an essential one's end": several(A, part("b", ("a", COMPLETE))),
    "waiting for no condition": several(part("a", **MINOR), part("b", ("a", 0))),
    "waiting for an unknown condition": several(part("a", **MINOR), part("b", ("a", 9))),
    "a circle of three": several(
        part("a", ("c", COMPLETE)), part("b", ("a", START)), part("c", ("b", START), **MINOR), part("d", ("a", START))
    ),
    "a start timeout of a second": several(part("a", start_timeout_s=1), B),
    "a stop timeout of a second": several(part("a", stop_timeout_s=1), B),
    "a stop timeout below 0": several(part("a", stop_timeout_s=-1), B),
    "the host's processes": several(A, B, pid_mode="host"),
    "the host's memory": several(A, B, ipc_mode="host"),
    "unknown memory": several(A, B, ipc_mode="\0"),
    "a process among them": several(A, part("b", image="")),
    "a fake among them": several(A, part("b", image="fake://")),
    "processes without memory of others": several(PROCESS, part("b", image="process://"), ipc_mode="none"),
    "processes of unknown memory": several(PROCESS, ipc_mode="x"),
    "the host's processes, by processes": several(PROCESS, pid_mode="host"),
    "processes with a folder": several(
        part("a", image="", mount_points=[jd.MountPoint(source_volume="v", container_path="/v")]),
        part("b", image=""),
        volumes=[jd.Volume(name="v")],
    ),
    "a share of a GPU": several(A, part("b", **HALF)),
    "volumes of one": several(A, part("b", volumes=[jd.Volume(name="v")])),
    "a mount of no volume": several(A, part("b", mount_points=[jd.MountPoint(source_volume="v", container_path="/v")])),
    "a wrong image": several(A, part("b", image="a b")),
    "a wrong variable": several(A, part("b", environment={"AWS_BATCH_X": ""})),
}
WHOLE_JOBS: dict[str, jd.TaskProperties] = {
    "no amounts in one": several(A, jd.ContainerProperties(name="b", image="busybox")),
    "two wishes for GPUs": several(part("a", gpu_models=["A100"], **WHOLE), part("b", gpu_models=["H100"], **WHOLE)),
}
"""What may still be given at a submission."""
OVERRIDDEN = several(part("a"), part("b"))


def _job(**fields: Any) -> job.SubmitJobRequest:
    return job.SubmitJobRequest(name="j", queue="default", **fields)


def cases() -> Iterator[tuple[str, str, Message]]:
    """Yield every bad request about several containers."""
    for what, task in TASKS.items():
        request = jd.RegisterJobDefinitionRequest(name="d", type=jd.JOB_DEFINITION_TYPE_CONTAINER, task=task)
        yield f"definition of several: {what}", "RegisterJobDefinition", request
    both: dict[str, Any] = {"container": container(), "task": several(A, B)}
    request = jd.RegisterJobDefinitionRequest(name="d", type=jd.JOB_DEFINITION_TYPE_CONTAINER, **both)
    yield "definition of one container and several", "RegisterJobDefinition", request
    rpc = "SubmitJob"
    yield "job of one container and several", rpc, _job(**both)
    for what, task in (TASKS | WHOLE_JOBS).items():
        yield f"job of several: {what}", rpc, _job(task=task)
    over = job.ContainerOverrides
    overrides: dict[str, dict[str, Any]] = {
        "of several by no name": {"overrides": over(command=["x"])},
        "of nobody": {"container_overrides": [over(name="c")]},
        "of a long name": {"container_overrides": [over(name="n" * 9000)]},
        "of one twice": {"container_overrides": [over(name="a"), over(name="a")]},
        "of twenty-one": {"container_overrides": [over(name="a")] * 21},
        "with an empty argument": {"container_overrides": [over(name="a", command=["x", ""])]},
        "of 8193 bytes": {"container_overrides": [over(name="a", command=["x" * 8193])]},
        "to no memory": {"container_overrides": [over(name="b", memory_mib=0)]},
        "with a parameter that there is not": {"container_overrides": [over(name="b", command=["Ref::p"])]},
    }
    for what, fields in overrides.items():
        yield f"override {what}", rpc, _job(task=OVERRIDDEN, **fields)
