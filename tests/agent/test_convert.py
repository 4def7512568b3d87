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
