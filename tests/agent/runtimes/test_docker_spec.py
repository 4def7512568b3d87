"""The Docker runtime's pure halves: what is asked of the engine, what its answers mean."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.resources import Resources
from batchyard.security import SecurityLevel
from batchyard.tasks import Tmpfs, Ulimit
from batchyard_agent.runtimes import docker_facts as facts
from batchyard_agent.runtimes import engine_words
from batchyard_agent.runtimes.docker_attempt import NeverRanError
from batchyard_agent.runtimes.docker_spec import (
    Isolation,
    bridge_name,
    bridge_prefix,
    container_body,
    container_name,
    network_name,
)
from batchyard_agent.runtimes.protocol import Device, LaunchSpec, Mount

from .specs import launch_spec

MIB = 1 << 20


def spec(**others: Any) -> LaunchSpec:
    fields: dict[str, Any] = {
        "attempt_id": "job:3#2",
        "job_id": "job:3",
        "image": "busybox:latest",
        "command": ("echo", "a b", "$HOME"),
        "environment": {"A": "1", "B": "x=y\nz"},
        "resources": Resources(cpu_millis=1500, memory_mib=256),
        "log_path": Path("log"),
        "log_bytes_max": 1000,
    }
    return launch_spec(**fields | others)


def body(cpu_count: int = 8, **others: Any) -> dict[str, Any]:
    return container_body(spec(**others), scope="host-1", home="alpha:/state", cpu_count=cpu_count, network="bridge")


def host_config(cpu_count: int = 8, **others: Any) -> dict[str, Any]:
    config: dict[str, Any] = body(cpu_count, **others)["HostConfig"]
    return config


def test_tags_label_the_container_but_pass_for_no_label_of_ours() -> None:
    labels = body(labels={"team": "yard", "batchyard.host": "another"})["Labels"]
    assert (labels["team"], labels["batchyard.host"]) == ("yard", "host-1")


def test_plain_attempt_is_translated_whole() -> None:
    assert body() == {
        "Image": "busybox:latest",
        "Cmd": ["echo", "a b", "$HOME"],
        "Env": ["A=1", "B=x=y\nz"],
        "Labels": {
            "batchyard.host": "host-1",
            "batchyard.home": "alpha:/state",
            "batchyard.attempt": "job:3#2",
            "batchyard.job": "job:3",
        },
        "User": "",
        "WorkingDir": "",
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "AttachStdin": False,
        "HostConfig": {
            "Init": True,
            "RestartPolicy": {"Name": "no"},
            "NetworkMode": "bridge",
            "CapDrop": ["NET_RAW"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 4096,
            "ReadonlyRootfs": False,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": str(4000 + MIB), "max-file": "2"}},
            "Memory": 256 * MIB,
            "MemorySwap": 256 * MIB,
            "NanoCpus": 1_500_000_000,
            "CpuShares": 1536,
        },
    }


def test_an_image_is_named_by_its_registry_or_else_by_the_engine() -> None:
    digest = "sha256:" + "a" * 64
    pulled = {"Id": "sha256:b", "RepoDigests": [f"registry:5000/team/image@{digest}"]}
    assert facts.digest_from_inspect(pulled) == digest
    assert facts.digest_from_inspect({"Id": "sha256:b", "RepoDigests": []}) == "sha256:b"


def test_a_level_reaches_the_engine() -> None:
    """With room for temporary files where the root cannot be written, unless the job has said what is there."""
    baseline = {"security_level": SecurityLevel.BASELINE, "job_queue": "q"}
    given = host_config(**baseline)
    assert (given["CapDrop"], given["PidsLimit"], "Tmpfs" in given) == (["NET_RAW"], 1024, False)
    assert given["NetworkMode"] == network_name("host-1", "q")
    restricted = host_config(security_level=SecurityLevel.RESTRICTED, readonly_root_filesystem=True)
    assert (restricted["CapDrop"], restricted["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert restricted["Tmpfs"].keys() == {"/tmp"}
    own = host_config(**baseline, readonly_root_filesystem=True, mounts=(Mount(container_path="/tmp"),))
    assert "Tmpfs" not in own
    assert host_config(**baseline, holder="abc")["NetworkMode"] == "container:abc"
    nowhere = container_body(spec(**baseline), scope="s", home="", cpu_count=1, network="none")
    assert nowhere["HostConfig"]["NetworkMode"] == "none"


def test_names_of_networks_fit_the_kernel_and_tell_agents_and_queues_apart() -> None:
    names = {bridge_name(scope, queue) for scope in ("a", "b") for queue in ("q" * 128, "q", "r")}
    assert len(names) == 6
    assert all(len(name) == 15 and name.startswith((bridge_prefix("a"), bridge_prefix("b"))) for name in names)


def test_every_option_reaches_the_engine() -> None:
    full = body(
        user="1000:1000",
        working_directory="/data",
        readonly_root_filesystem=True,
        init_process_enabled=False,
        shared_memory_size_mib=128,
        max_swap_mib=64,
        swappiness=10,
        ulimits=(Ulimit(name="nofile", soft_limit=10, hard_limit=20),),
        tmpfs=(Tmpfs(container_path="/scratch", size_mib=32, mount_options=("rw", "noexec")),),
        gpu_uuids=("GPU-1", "GPU-2"),
        mounts=(
            Mount(container_path="/in", host_path="/srv/in", read_only=True),
            Mount(container_path="/work"),
        ),
        devices=(Device(host_path="/dev/null", container_path="/dev/nothing", permissions="rw"),),
    )
    assert (full["User"], full["WorkingDir"]) == ("1000:1000", "/data")
    expected = {
        "ReadonlyRootfs": True,
        "Init": False,
        "ShmSize": 128 * MIB,
        "MemorySwap": 320 * MIB,
        "MemorySwappiness": 10,
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        "Tmpfs": {"/scratch": "size=32m,rw,noexec"},
        "Mounts": [
            {"Type": "bind", "Source": "/srv/in", "Target": "/in", "ReadOnly": True},
            {"Type": "volume", "Target": "/work", "ReadOnly": False},
        ],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"}],
        "DeviceRequests": [
            {"Driver": "", "Count": 0, "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]], "Options": {}}
        ],
    }
    assert {key: full["HostConfig"].get(key) for key in expected} == expected


def test_only_a_privileged_container_keeps_all_rights() -> None:
    config = host_config(privileged=True)
    assert config["Privileged"] is True
    assert not {"CapDrop", "SecurityOpt"} & config.keys()
    assert "Privileged" not in host_config()


def test_empty_command_leaves_the_images_own() -> None:
    assert "Cmd" not in body(command=())


def test_swappiness_without_swap_is_ignored_as_in_aws() -> None:
    assert "MemorySwappiness" not in host_config(swappiness=10)


def test_quota_never_exceeds_the_machine() -> None:
    """The engine refuses more CPUs than there are; a host may be declared larger than its engine."""
    assert host_config(2, resources=Resources(cpu_millis=64_000))["NanoCpus"] == 2_000_000_000


def test_memory_is_raised_to_the_engines_floor() -> None:
    assert host_config(resources=Resources(memory_mib=4))["Memory"] == 6 * MIB


def test_container_names_are_plain_and_differ() -> None:
    ids = ["a#1", "a#11", "a:1#1", "a:11#1", "a:1#11", "b#1"]
    names = [container_name(attempt_id) for attempt_id in ids]
    assert names[2] == "batchyard-a.1_1"
    assert len(set(names)) == len(ids)
    assert all(set(name) <= set("batchyrd-.0123456789_") for name in names)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40))),
    st.lists(st.integers(min_value=0, max_value=400), max_size=10),
)
def test_frames_survive_any_cutting(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(struct.pack(">BxxxL", kind, len(data)) + data for kind, data in frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join(facts.payloads(chunks)) == b"".join(data for _, data in frames)


def test_frame_cut_off_by_the_end_is_dropped() -> None:
    assert list(facts.payloads([struct.pack(">BxxxL", 1, 5) + b"whole"[:3]])) == []


def test_events_are_read_from_any_cutting() -> None:
    die = (
        b'{"Action":"die","Actor":{"Attributes":{"batchyard.attempt":"a#1","exitCode":"7"}},'
        b'"timeNano":1700000000123456789}\n'
    )
    oom = b'{"Action":"oom","Actor":{"Attributes":{"batchyard.attempt":"a#2"}},"timeNano":1}\n'
    other = b'{"Action":"exec_die","Actor":{"Attributes":{"batchyard.attempt":"a#3"}},"timeNano":1}\n'
    stream = die + other + oom
    for cut in range(len(stream)):
        assert list(facts.events_from_chunks([stream[:cut], stream[cut:]])) == [
            facts.ContainerDied(attempt_id="a#1", exit_code=7, at_ms=1_700_000_000_123),
            facts.ContainerOutOfMemory(attempt_id="a#2"),
        ]


def inspected(**state: Any) -> dict[str, Any]:
    never = "0001-01-01T00:00:00Z"
    plain = {"Running": False, "StartedAt": never, "FinishedAt": never, "ExitCode": 0, "OOMKilled": False}
    labels = {"batchyard.host": "h", "batchyard.attempt": "a#1"}
    return {"Id": "c1", "Config": {"Labels": labels}, "State": plain | state}


def test_container_that_was_never_started_has_no_times() -> None:
    found = facts.facts_from_inspect(inspected())
    assert (found.started_at_ms, found.finished_at_ms) == (None, None)
    assert (found.container_id, found.scope, found.attempt_id) == ("c1", "h", "a#1")


def test_times_are_read_to_the_millisecond_in_any_zone() -> None:
    found = facts.facts_from_inspect(
        inspected(StartedAt="2023-11-14T22:13:20.999999999Z", FinishedAt="2023-11-15T00:13:21+02:00", ExitCode=137)
    )
    assert (found.started_at_ms, found.finished_at_ms, found.exit_code) == (1_700_000_000_999, 1_700_000_001_000, 137)


@pytest.mark.parametrize(
    ("message", "status", "is_final"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", 404, True),
        ("manifest for busybox:nope not found: manifest unknown", 404, True),
        ("unauthorized: authentication required", 500, True),
        ('Get "https://r.example/v2/": dial tcp: lookup r.example: no such host', 500, True),
        ("invalid reference format", 400, True),
        ('Get "https://r.example/v2/": net/http: request canceled (Client.Timeout exceeded)', 500, False),
        ("dial tcp 10.0.0.1:443: connect: connection refused", 500, False),
        ("dial tcp: lookup r.example: Temporary failure in name resolution", 500, False),
        ("received unexpected HTTP status: 503 Service Unavailable", 500, False),
        ("toomanyrequests: You have reached your pull rate limit", 429, False),
    ],
)
def test_only_passing_pull_failures_are_tried_again(message: str, status: int, is_final: bool) -> None:
    assert facts.is_final_pull_failure(message, status) is is_final


@pytest.mark.parametrize(
    ("message", "exit_code"),
    [
        ('exec: "nosuch": executable file not found in $PATH: unknown', 127),
        ('exec: "/nosuch": stat /nosuch: no such file or directory: unknown', 127),
        ('exec: "/etc/motd": permission denied: unknown', 126),
        ("failed to create endpoint on network bridge", None),
    ],
)
def test_start_failures_have_the_shells_exit_code(message: str, exit_code: int | None) -> None:
    assert engine_words.exit_code_of_start_failure(message) == exit_code


def test_init_process_tells_of_a_missing_command() -> None:
    line = b"[FATAL tini (7)] exec nosuch failed: No such file or directory\n"
    expected = "CannotStartContainerError: exec nosuch failed: No such file or directory"
    assert facts.init_failure(127, line) == expected
    assert facts.init_failure(127, b"some output\n" + line) == expected
    assert facts.init_failure(1, line) == ""
    assert facts.init_failure(127, b"sh: nosuch: not found\n") == ""


def test_reasons_are_one_line_of_at_most_255_characters() -> None:
    assert engine_words.reason("SomeError", "two\n lines") == "SomeError: two lines"
    assert len(engine_words.reason("SomeError", "x" * 1000)) == 255


def test_secrets_are_variables_and_nothing_else() -> None:
    asked = body(secrets={"DB": "canary"})
    assert "DB=canary" in asked.pop("Env")
    assert "canary" not in str(asked)
    assert "canary" not in repr(spec(secrets={"DB": "canary"}))


@pytest.mark.parametrize(
    ("message", "is_hosts"),
    [
        ("failed to copy: write /var/lib/docker/tmp/x: no space left on device", True),
        ("socket: too many open files", True),
        ('could not select device driver "" with capabilities: [[gpu]]', True),
        ('exec: "nosuch": executable file not found in $PATH', False),
        ("pull access denied for busibox, repository does not exist", False),
    ],
)
def test_what_the_engine_says_tells_whose_fault_it_is(message: str, is_hosts: bool) -> None:
    assert facts.is_shortage(message) is is_hosts


def test_what_a_command_is_called_is_no_hosts_fault() -> None:
    """The engine repeats the job's words when it cannot call them."""
    message = 'runc create failed: exec: "./input/output error": stat ./input/output error: no such file or directory'
    assert not NeverRanError(engine_words.reason("CannotStartContainerError", message), 127).host_failed
    assert NeverRanError("CannotStartContainerError: write /run/x: no space left on device").host_failed


def test_a_name_that_is_none_is_no_hosts_fault() -> None:
    assert facts.is_malformed_image("CannotPullContainerError: invalid reference format")
    assert not facts.is_malformed_image("CannotPullContainerError: manifest unknown")


def test_a_job_of_fargate_is_sandboxed_and_bounded() -> None:
    """Others on the same host run as ever."""
    isolation = Isolation(sandbox="runsc", bounds_disk=True)
    asked = Resources(cpu_millis=1000, memory_mib=2048, disk_mib=20480)

    def config(**others: Any) -> dict[str, Any]:
        around = {"scope": "s", "home": "h", "cpu_count": 8, "network": "bridge", "isolation": isolation}
        found: dict[str, Any] = container_body(spec(**others), **around)["HostConfig"]
        return found

    sized = config(resources=asked, is_fargate=True)
    assert (sized["Runtime"], sized["StorageOpt"]) == ("runsc", {"size": "20480m"})
    assert (sized["NanoCpus"], sized["Memory"], sized["MemorySwap"]) == (10**9, 2048 * MIB, 2048 * MIB)
    assert not {"Runtime", "StorageOpt"} & config().keys()
    assert config(resources=asked)["StorageOpt"] == {"size": "20480m"}
    assert not {"Runtime", "StorageOpt"} & host_config(resources=asked, is_fargate=True).keys()


@pytest.mark.parametrize(
    ("driver", "kind", "options", "is_bounded"),
    [
        ("overlay2", "ext4", "rw,relatime", False),
        ("overlay2", "xfs", "rw,relatime", False),
        ("overlay2", "xfs", "rw,prjquota", True),
        ("overlay2", "xfs", "rw,pquota", True),
        ("btrfs", "btrfs", "rw", True),
        ("zfs", "zfs", "rw", True),
        ("vfs", "xfs", "rw,pquota", False),
    ],
)
def test_which_engines_bound_the_disk(driver: str, kind: str, options: str, is_bounded: bool) -> None:
    """The file system that its folder lies on counts, not another above or beside it."""
    mounts = f"/dev/a / xfs rw,pquota 0 0\n/dev/b /var/lib {kind} {options} 0 0\n/dev/c /var/lib/other xfs pquota 0 0\n"
    info = {"Driver": driver, "DockerRootDir": "/var/lib/docker"}
    assert facts.bounds_disk(info, mounts) is is_bounded


@pytest.mark.parametrize("holder", ["", "h1"])
@pytest.mark.parametrize("network", ["bridge", "host"])
def test_a_nodes_own_name_leads_to_the_address_that_others_reach(network: str, holder: str) -> None:
    fields = {"job_id": "j#2", "node_address": "10.0.0.7", "holder": holder}
    made = container_body(
        spec(**fields), scope="host-1", home="alpha:/state", cpu_count=8, network="none", node_network=network
    )
    config = made["HostConfig"]
    assert config["NetworkMode"] == (f"container:{holder}" if holder else network)
    # In others' network a name would be refused, and on a bridge the address is not its own.
    is_named = network == "host" and not holder
    assert made.get("Hostname") == ("j-2" if is_named else None)
    assert config.get("ExtraHosts") == (["j-2:10.0.0.7"] if is_named else None)


def test_a_node_whose_host_has_no_address_has_its_hosts_name() -> None:
    made = container_body(spec(node_address=""), scope="h", home="a:/s", cpu_count=8, network="none")
    assert made["HostConfig"]["NetworkMode"] == "host"
    assert "Hostname" not in made
