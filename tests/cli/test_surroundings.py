"""The flags about a container's volumes, devices, user and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tests.cli.conftest import Run
from tests.sdk.yard import Yard

FLAGS = (
    "--user 1000:100 --privileged --read-only --shm-size 1G --log-size 64M"
    " --gpus 0.5 --gpu-model A100 --gpu-model *H100* --gpu-memory 40G"
    " --volume /srv/in:/in:ro --volume /srv/out:/out --volume /work"
    " --device /dev/fuse --device /dev/null:/dev/nothing:rw --device /dev/zero:m"
    " --tmpfs /tmp:noexec,size=64M,mode=1777 --ulimit nofile=1024:2048 --ulimit core=0"
)
FILLED = {
    "user": "1000:100",
    "privileged": True,
    "readonly_root_filesystem": True,
    "log_size_mib": "64",
    "gpu_models": ["A100", "*H100*"],
    "gpu_memory_mib": "40960",
    "ulimits": [
        {"name": "nofile", "soft_limit": "1024", "hard_limit": "2048"},
        {"name": "core"},
    ],
    "volumes": [
        {"name": "volume-0", "host_source_path": "/srv/in"},
        {"name": "volume-1", "host_source_path": "/srv/out"},
        {"name": "volume-2"},
    ],
    "mount_points": [
        {"source_volume": "volume-0", "container_path": "/in", "read_only": True},
        {"source_volume": "volume-1", "container_path": "/out"},
        {"source_volume": "volume-2", "container_path": "/work"},
    ],
    "linux_parameters": {
        "devices": [
            {"host_path": "/dev/fuse"},
            {"host_path": "/dev/null", "container_path": "/dev/nothing", "permissions": ["READ", "WRITE"]},
            {"host_path": "/dev/zero", "permissions": ["MKNOD"]},
        ],
        "shared_memory_size_mib": "1024",
        "tmpfs": [{"container_path": "/tmp", "size_mib": "64", "mount_options": ["noexec", "mode=1777"]}],
    },
}


def submitted(run: Run, yard: Yard, *flags: str) -> dict[str, Any]:
    """Submit a job with *flags* and return its container as it is described."""
    result = run("submit", "--image", "busybox", *flags, "--", "true")
    assert (result.code, result.err) == (0, "")
    job = yard.client.describe_job(result.out.strip())
    return MessageToDict(job.container, preserving_proto_field_name=True)


def test_submit_sends_them(run: Run, yard: Yard) -> None:
    found = submitted(run, yard, *FLAGS.split())
    assert {key: value for key, value in found.items() if key not in ("image", "command", "resources")} == FILLED


def test_without_them_nothing_is_sent(run: Run, yard: Yard) -> None:
    assert set(submitted(run, yard)) == {"image", "command", "resources"}


def test_register_adds_them_to_the_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "container.json"
    file.write_text(json.dumps({"image": "b", "user": "me", "volumes": [{"name": "volume-0"}], "ulimits": []}))
    flags = "--volume /srv:/srv --ulimit core=0"
    assert run("job-definition", "register", "d", "--file", str(file), *flags.split(), "true").code == 0
    (made,) = json.loads(run("job-definition", "describe", "d", "-o", "json").out)
    container = made["container"]
    assert (container["user"], container["ulimits"][0]["name"]) == ("me", "core")
    assert [volume["name"] for volume in container["volumes"]] == ["volume-0", "volume-1"]
    assert container["mount_points"][0]["source_volume"] == "volume-1"


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--volume", "", "is not [HOST:]CONTAINER[:ro]"),
        ("--volume", "/a:/b:/c", "is not [HOST:]CONTAINER[:ro]"),
        ("--volume", ":/b", "is not [HOST:]CONTAINER[:ro]"),
        ("--device", ":/dev/x", "is not HOST[:CONTAINER][:rwm]"),
        ("--device", "/dev/a:/dev/b:/dev/c", "is not HOST[:CONTAINER][:rwm]"),
        ("--tmpfs", "/tmp", "is not CONTAINER:size=SIZE[,OPTION...]"),
        ("--tmpfs", "/tmp:size=much", "size"),
        ("--ulimit", "nofile", "is not NAME=SOFT[:HARD]"),
        ("--ulimit", "nofile=1:x", "is not NAME=SOFT[:HARD]"),
        ("--shm-size", "much", "size"),
    ],
)
def test_flags_of_another_form_are_refused(run: Run, yard: Yard, flag: str, value: str, message: str) -> None:
    refused = run("submit", "--image", "b", flag, value, "true")
    assert refused.code == 2
    assert message in refused.err
    assert not list(yard.client.list_jobs())


@pytest.mark.parametrize("flags", ["--volume /a:/b", "--privileged", "--user me"])
def test_only_a_definition_says_them_for_its_jobs(run: Run, flags: str) -> None:
    refused = run("submit", "-d", "train", *flags.split())
    assert refused.code == 2
    assert f"{flags.split(maxsplit=1)[0]} cannot be given with --definition" in refused.err


def test_a_copy_of_a_containers_log_goes_to_this_folder(
    run: Run, yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").write_bytes(b"a\n")
    found = submitted(run, yard, "--stdin", "in", "--log-file", "logs/%j.out")
    assert (found["stdin"], found["output_path"]) == ("YQo=", f"{tmp_path}/logs/%j.out")
