"""The agent's settings: flags, environment, file."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from batchyard.program_settings import name_settings
from batchyard_agent.config import OPTIONS, Config, config_from, mounts_dir
from batchyard_agent.runtimes.host_access import Allowed


def read(*arguments: str, env: dict[str, str] | None = None, file: dict[str, object] | None = None) -> Config | str:
    """Return what the agent would run with, or the error."""
    found: list[Config] = []
    command = click.Command("agent", params=list(OPTIONS), callback=lambda **values: found.append(config_from(values)))
    name_settings(command, "agent")
    result = CliRunner().invoke(command, list(arguments), env=env, default_map=file or {})
    return found[0] if found else result.output


def allowed(config: Config | str) -> Allowed:
    assert isinstance(config, Config), config
    return config.allowed


def test_host_allows_nothing_by_default():
    assert allowed(read()) == Allowed(privileged=False, volume_paths=(), device_paths=())


def test_operator_says_what_jobs_may_reach():
    """Paths are kept as written but for doubled and closing slashes, each once."""
    flags = "--allow-privileged --allow-volume /srv//data/ --allow-volume /scratch --allow-volume /scratch"
    config = read(*flags.split(), "--allow-device", "/dev/nvidia*", "--allow-device", "/dev/fuse")
    assert allowed(config) == Allowed(
        privileged=True, volume_paths=("/srv/data", "/scratch"), device_paths=("/dev/nvidia*", "/dev/fuse")
    )


def test_variables_are_called_as_their_flags():
    config = read(env={"BATCHYARD_AGENT_CPUS": "2", "BATCHYARD_AGENT_KEEP_LOGS_SIZE": "3G"})
    assert isinstance(config, Config), config
    assert (config.cpu_millis, config.logs_total_bytes_max) == (2000, 3 << 30)


def test_a_host_has_a_price_if_its_operator_says_so():
    assert [
        config.price_per_hour for config in (read(), read("--price-per-hour", "0.25")) if isinstance(config, Config)
    ] == [
        0.0,
        0.25,
    ]
    assert "is not in the range x>=0" in str(read("--price-per-hour", "-1"))


def test_environment_and_file_say_it_too():
    env = {"BATCHYARD_AGENT_ALLOW_VOLUME": "/srv /scratch", "BATCHYARD_AGENT_ALLOW_PRIVILEGED": "1"}
    assert allowed(read(env=env)) == Allowed(privileged=True, volume_paths=("/srv", "/scratch"))
    file: dict[str, object] = {"allow_device": ["/dev/fuse"]}
    assert allowed(read(file=file)) == Allowed(device_paths=("/dev/fuse",))


@pytest.mark.parametrize("path", ["srv", "/srv/../etc", ""])
@pytest.mark.parametrize("flag", ["--allow-volume", "--allow-device"])
def test_other_paths_are_refused(flag: str, path: str):
    refused = read(flag, path)
    assert isinstance(refused, str)
    assert "is no absolute path without '..'" in refused


@pytest.mark.parametrize(
    ("arguments", "scratch"),
    [
        ((), "/yard/batchyard-scratch/agent"),
        (("--state-dir", "/yard/batchyard/a/b"), "/yard/batchyard-scratch/a/b"),
        (("--state-dir", "/var/lib/batchyard-agent"), "/var/lib/batchyard-agent-scratch"),
        (("--scratch-dir", "/disk"), "/disk"),
    ],
)
def test_scratch_is_never_below_what_is_closed_to_jobs(arguments, scratch, monkeypatch):
    """The folder of a user's whole yard is, as the state folder is."""
    monkeypatch.setenv("XDG_STATE_HOME", "/yard")
    config = read(*arguments)
    assert isinstance(config, Config), config
    assert config.scratch == Path(scratch)


def test_containers_are_on_the_bridge_unless_the_operator_says_otherwise():
    found = []
    for arguments in ((), ("--container-network", "host"), ("--container-network", "none")):
        config = read(*arguments)
        assert isinstance(config, Config), config
        found.append(config.container_network)
    assert found == ["bridge", "host", "none"]
    assert "is not one of 'bridge', 'host', 'none'" in str(read("--container-network", "container:other"))


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("ec2", "http://169.254.169.254"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("", None),
        ("ftp://x", None),
    ],
)
def test_metadata_is_ec2_or_an_address(said: str, url: str | None):
    config = read("--reclaim-metadata", said)
    assert (config.reclaim_metadata if isinstance(config, Config) else None) == url


def test_where_it_may_be_said_that_the_machine_is_taken_away():
    config = read("--reclaim-file", "/run/reclaim", "--reclaim-command", "test -e /run/going")
    assert isinstance(config, Config), config
    assert (config.reclaim_file, config.reclaim_command) == (Path("/run/reclaim"), "test -e /run/going")


def test_operator_says_where_nodes_are_reached():
    found = []
    for arguments in ((), ("--node-address", "2001:DB8::1", "--node-network", "bridge")):
        config = read(*arguments)
        assert isinstance(config, Config), config
        found.append((config.node_address, config.node_network))
    assert found == [("", "host"), ("2001:db8::1", "bridge")]
    for wrong in ("main", "10.0.0.1:80", "10.0.0"):
        assert "--node-address" in str(read("--node-address", wrong))


def test_volumes_are_mounted_outside_of_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who removes the state folder of an agent that was killed must not go on into a user's folder."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    places = {mounts_dir(tmp_path / "state"), mounts_dir(tmp_path / "other")}
    assert len(places) == 2
    assert {place.parent for place in places} == {tmp_path / "run" / "batchyard-mounts"}
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert mounts_dir(tmp_path / "state") == tmp_path / "state" / "mounts"
