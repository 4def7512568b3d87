"""From the wire to what a runtime is asked for, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchyard.ids import AttemptId
from batchyard.v1 import agent_pb2
from batchyard.v1 import job_definition_pb2 as jd
from batchyard_agent.convert import spec_from
from batchyard_agent.core.attempts import AttemptSpec
from batchyard_agent.runtimes.protocol import Device, Mount


class Places:
    """Where logs are, on an agent that keeps 7 MiB of each."""

    bytes_max = 7 << 20

    def path(self, _: AttemptId, part: str = "") -> Path:
        return Path("log")


def read(container: jd.ContainerProperties) -> AttemptSpec:
    return spec_from(agent_pb2.AttemptSpec(attempt_id="a#1", job_id="a", container=container), Places())


def test_a_log_is_as_long_as_its_job_says_or_else_the_agent():
    assert read(jd.ContainerProperties()).launch.log_bytes_max == 7 << 20
    assert read(jd.ContainerProperties(log_size_mib=64)).launch.log_bytes_max == 64 << 20


def test_mount_points_meet_their_volumes():
    """A volume that nobody mounts is nothing; one without a path is an empty folder."""
    container = jd.ContainerProperties(
        image="busybox",
        privileged=True,
        volumes=[
            jd.Volume(name="data", host_source_path="/srv/data"),
            jd.Volume(name="work"),
            jd.Volume(name="idle", host_source_path="/idle"),
        ],
        mount_points=[
            jd.MountPoint(source_volume="work", container_path="/work"),
            jd.MountPoint(source_volume="data", container_path="/data", read_only=True),
        ],
    )
    launch = read(container).launch
    assert launch.container.privileged
    assert launch.mounts == (
        Mount(container_path="/work"),
        Mount(container_path="/data", host_path="/srv/data", read_only=True),
    )


def test_devices_are_where_they_are_on_the_host_with_all_rights_unless_told_otherwise():
    linux = jd.LinuxParameters(
        devices=[
            jd.Device(host_path="/dev/null"),
            jd.Device(host_path="/dev/zero", container_path="/dev/nought", permissions=["MKNOD", "READ"]),
        ]
    )
    assert read(jd.ContainerProperties(image="busybox", linux_parameters=linux)).launch.devices == (
        Device(host_path="/dev/null", container_path="/dev/null", permissions="rwm"),
        Device(host_path="/dev/zero", container_path="/dev/nought", permissions="rm"),
    )


@pytest.mark.parametrize(
    ("container", "refusal"),
    [
        (jd.ContainerProperties(image="busybox"), ""),
        (
            jd.ContainerProperties(mount_points=[jd.MountPoint(source_volume="v", container_path="/v")]),
            "no volume is named 'v'",
        ),
        (
            jd.ContainerProperties(linux_parameters={"devices": [{"host_path": "/dev/null", "permissions": ["ALL"]}]}),
            "'ALL' is no permission on a device; there are READ, WRITE, MKNOD",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(container: jd.ContainerProperties, refusal: str):
    """The agent does not rely on what the controller has checked."""
    assert read(container).refusal == refusal


def part(name: str, gpus: int = 0, **fields: object) -> jd.ContainerProperties:
    container = jd.ContainerProperties(name=name, image="busybox", **fields)  # type: ignore[arg-type]
    container.resources.gpu_millis = 1000 * gpus
    return container


def read_task(task: jd.TaskProperties, *gpus: str) -> AttemptSpec:
    claims = [agent_pb2.GpuClaim(uuid=uuid, millis=1000) for uuid in gpus]
    return spec_from(agent_pb2.AttemptSpec(attempt_id="a#1", job_id="a", task=task, gpus=claims), Places())


def test_each_gpu_goes_to_one_of_several_containers():
    spec = read_task(jd.TaskProperties(containers=[part("a", 1), part("b"), part("c", 2)]), "g0", "g1", "g2")
    assert [each.gpu_uuids for each in spec.launch.parts] == [("g0",), (), ("g1", "g2")]
    seen = [each.environment["NVIDIA_VISIBLE_DEVICES"] for each in spec.launch.parts]
    assert seen == ["g0", "none", "g1,g2"]


def test_several_containers_share_their_volumes_and_modes():
    mounts = [jd.MountPoint(source_volume="work", container_path="/work")]
    task = jd.TaskProperties(
        containers=[part("a", mount_points=mounts), part("b", mount_points=mounts)],
        volumes=[jd.Volume(name="work")],
        pid_mode="task",
        ipc_mode="task",
    )
    launch = read_task(task).launch
    assert [each.part for each in launch.parts] == ["a", "b"]
    assert {each.mounts for each in launch.parts} == {(Mount(container_path="/work", volume="work"),)}
    assert {(each.pid_mode, each.ipc_mode) for each in (launch, *launch.parts)} == {("task", "task")}


def test_the_longest_stop_timeout_is_the_tasks():
    assert read_task(jd.TaskProperties(containers=[part("a", stop_timeout_s=5), part("b")])).stop_timeout_s == 30
    assert read_task(jd.TaskProperties(containers=[part("a", stop_timeout_s=90), part("b")])).stop_timeout_s == 90
    assert read(jd.ContainerProperties(stop_timeout_s=5)).stop_timeout_s == 5
    assert read(jd.ContainerProperties()).stop_timeout_s == 0


def process(name, image=""):
    return jd.ContainerProperties(name=name, command=["true"], image=image)


def test_several_processes_are_one_attempt_of_the_process_runtime():
    spec = read_task(jd.TaskProperties(containers=[process("a"), process("b", image="process://")], ipc_mode="host"))
    assert (spec.runtime, spec.refusal) == ("process", "")
    assert [each.part for each in spec.launch.parts] == ["a", "b"]


def test_what_several_processes_cannot_have_is_refused():
    mixed = "containers and plain processes cannot be one job"
    for first, second in ((part("a"), process("b")), (process("a"), part("b"))):
        assert read_task(jd.TaskProperties(containers=[first, second])).refusal == mixed
    alone = jd.TaskProperties(containers=[process("a")], ipc_mode="none")
    assert read_task(alone).refusal == "plain processes share memory segments with all of their host"


def test_variables_and_secrets_go_to_each_container_by_name():
    launch = read_task(jd.TaskProperties(containers=[part("a"), part("b")])).launch
    launch = launch.with_secrets({"a": {"S": "1"}, "b": {"S": "2"}}).with_environment({"b": {"V": "3"}})
    assert [each.secrets for each in launch.parts] == [{"S": "1"}, {"S": "2"}]
    assert [each.environment.get("V") for each in launch.parts] == [None, "3"]
    assert dict(launch.secrets) == {}
