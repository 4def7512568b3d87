"""Secrets as files: in memory, for one user, for as long as their attempt lives."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from batchyard.tasks import Container, Secret, SecretDelivery
from batchyard_agent.config import secrets_dir
from batchyard_agent.runtimes import job_user
from batchyard_agent.runtimes.docker import DockerRuntime
from batchyard_agent.runtimes.docker_spec import container_body, container_name
from batchyard_agent.runtimes.protocol import Exited, LaunchSpec, StartFailed
from batchyard_agent.runtimes.secret_files import SecretFiles, SecretFilesError, owner_of

from .engine import Seen, container_spec, named, scope, swept, usable_network
from .process_attempts import Host, log_of, runtime, shell, until

__all__ = ["scope", "swept"]

VALUE = "canary-5d1\nsecond line\n"
OTHER = "canary-77"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
LOOK = 'cat $BATCHYARD_SECRETS_DIR/KEY; stat -c "%a %u" $BATCHYARD_SECRETS_DIR/KEY; env; '


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # that is what is wanted
        yield Path(name) / "agent"


@pytest.fixture
def files(memory: Path) -> SecretFiles:
    files = SecretFiles(memory)
    files.open()
    assert files.fault == ""
    return files


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may reach, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def held(memory: Path) -> list[Path]:
    return [path for path in memory.rglob("*") if path.is_file()]


def with_file(spec: LaunchSpec) -> LaunchSpec:
    return replace(spec, secrets={"TOKEN": OTHER}, secret_files={"KEY": VALUE})


def test_secrets_go_where_their_containers_want_them(tmp_path: Path) -> None:
    wanted = (
        Secret(name="KEY", value_from="k", delivery=SecretDelivery.FILE),
        Secret(name="TOKEN", value_from="t"),
    )
    spec = replace(shell(tmp_path, "true"), container=Container(secrets=wanted))
    part = replace(spec, part="a", container=Container(secrets=wanted[:1]))
    plain = spec.with_secrets({"": {"KEY": VALUE, "TOKEN": OTHER}})
    assert (plain.secrets, plain.secret_files) == ({"TOKEN": OTHER}, {"KEY": VALUE})
    several = replace(spec, parts=(part,), container=Container()).with_secrets({"a": {"KEY": VALUE}})
    assert (several.parts[0].secrets, several.parts[0].secret_files) == ({}, {"KEY": VALUE})
    assert "canary" not in repr(plain)


def test_the_engine_is_told_a_folder_and_no_value(tmp_path: Path) -> None:
    spec = replace(container_spec(tmp_path, "a#1", "true"), secret_files={"KEY": VALUE}, secrets_folder="/run/x")
    body = container_body(spec, scope="s", home="h", cpu_count=1, network="bridge")
    assert "canary" not in json.dumps(body)
    assert body["Env"] == ["BATCHYARD_SECRETS_DIR=/run/batchyard/secrets"]
    assert body["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/run/x", "Target": "/run/batchyard/secrets", "ReadOnly": True}
    ]


@pytest.mark.parametrize(
    ("user", "owner"),
    [("", (0, 0)), ("root", (0, 0)), ("7", (7, 0)), ("7:8", (7, 8)), ("7:staff", (7, 0)), ("0", (0, 0))],
)
def test_files_are_the_containers_users(user: str, owner: tuple[int, int]) -> None:
    assert owner_of(user) == owner


@pytest.mark.parametrize("user", ["app", "app:7", "-1", "\u0661"])
def test_who_a_name_is_only_the_image_knows(user: str) -> None:
    with pytest.raises(SecretFilesError, match="give the job a number") as caught:
        owner_of(user)
    assert not caught.value.host_failed


def test_files_are_whole_read_only_and_nobody_may_list_what_leads_to_them(
    files: SecretFiles, memory: Path, tmp_path: Path
) -> None:
    spec = with_file(shell(tmp_path, "true"))
    place = files.write(spec, None)
    assert (place / "KEY").read_bytes() == VALUE.encode()
    assert stat.S_IMODE((place / "KEY").stat().st_mode) == 0o400
    assert [stat.S_IMODE(each.stat().st_mode) for each in (place.parent, memory, memory.parent)] == [0o711] * 3
    assert len(place.parent.name.rpartition(".")[2]) == 32
    assert files.write(replace(spec, secret_files={"KEY": "new"}), None) == place
    assert (place / "KEY").read_bytes() == VALUE.encode()


def test_containers_of_one_attempt_have_each_their_own(files: SecretFiles, tmp_path: Path) -> None:
    spec = shell(tmp_path, "true")
    places = [files.write(replace(spec, part=name, secret_files={name: VALUE}), None) for name in ("a", "b")]
    assert [os.listdir(place) for place in places] == [["a"], ["b"]]  # noqa: PTH208  # names alone


def test_files_go_with_their_attempt_whoever_died(files: SecretFiles, memory: Path, tmp_path: Path) -> None:
    first, second = (with_file(shell(tmp_path, "true", number=number)) for number in (1, 2))
    files.write(first, None)
    files.write(second, None)
    later = SecretFiles(memory)  # of the next agent
    later.open()
    later.keep_only([second.attempt_id])
    assert [path.read_text() for path in held(memory)] == [VALUE]
    assert not later.is_empty
    later.keep_only([])
    assert (held(memory), later.is_empty) == ([], True)


def test_nothing_is_written_where_there_is_no_memory_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    nowhere = SecretFiles(secrets_dir(tmp_path))
    nowhere.open()
    with pytest.raises(SecretFilesError, match="needs XDG_RUNTIME_DIR") as caught:
        nowhere.write(with_file(shell(tmp_path, "true")), None)
    assert caught.value.host_failed


@as_root
def test_an_agent_of_another_user_gives_files_to_nobody_else(
    files: SecretFiles, memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SecretFilesError, match="user 7 take an agent of root"):
        files.write(with_file(shell(tmp_path, "true")), (7, 7))
    assert held(memory) == []


@as_root
async def test_a_process_finds_its_own_and_nobody_elses(files: SecretFiles, memory: Path, open_folder: Path) -> None:
    user = job_user.find(None, allow_root=False)
    assert user is not None
    host = await Host(runtime(open_folder, user=user, secret_files=files)).open()
    try:
        waiting = with_file(shell(open_folder, "sleep 600"))
        host.runtime.launch(waiting)
        await until(lambda: bool(host.of(waiting)))
        spy = shell(open_folder, f"ls {memory.parent} {memory}; cat {memory}/*/*/KEY", number=3)
        await host.done(spy)
        assert "canary" not in log_of(spy)
        assert log_of(spy).count("ermission denied") == 2
        spec = with_file(shell(open_folder, LOOK + "echo x >$BATCHYARD_SECRETS_DIR/new", number=2))
        assert isinstance(await host.done(spec), Exited)
        log = log_of(spec)
        assert log.startswith(f"{VALUE}400 {user.uid}\n")
        assert (log.count("canary-5d1"), f"TOKEN={OTHER}\n" in log) == (1, True)
        assert "cannot create" in log
        assert not [path for path in open_folder.rglob("*") if path.is_file() and b"canary-5d1" in path.read_bytes()
                    and path != spec.log_path]  # fmt: skip
        files.keep_only([waiting.attempt_id])
        assert len(held(memory)) == 1
    finally:
        await host.clear()


@as_root
async def test_a_process_without_a_place_for_its_files_does_not_start(open_folder: Path) -> None:
    host = await Host(runtime(open_folder)).open()
    try:
        spec = with_file(shell(open_folder, "true"))
        end = await host.done(spec)
        assert isinstance(end, StartFailed)
        assert (end.reason, end.host_failed) == (
            "CannotStartContainerError: secrets cannot be files: this agent has no place for them",
            True,
        )
    finally:
        await host.clear()


@pytest.mark.docker
@as_root
@pytest.mark.parametrize(("user", "uid"), [("", 0), ("1234:7", 1234)])
async def test_a_container_finds_its_own_and_its_engine_knows_none(
    files: SecretFiles, memory: Path, scope: str, swept: None, tmp_path: Path, user: str, uid: int
) -> None:
    seen, name = Seen(), named(f"files{uid}")
    opened = DockerRuntime(scope, network=usable_network(), secret_files=files)
    await opened.open(seen)
    try:
        script = LOOK + "(echo x >$BATCHYARD_SECRETS_DIR/new) 2>&1"
        spec = container_spec(tmp_path, name, "sh", "-c", script, user=user, readonly_root_filesystem=True)
        opened.launch(with_file(spec))
        assert isinstance(await seen.end_of(name), Exited)
        log = spec.log_path.read_text()
        assert log.startswith(f"{VALUE}400 {uid}\n")
        assert (log.count("canary-5d1"), f"TOKEN={OTHER}\n" in log) == (1, True)
        assert "BATCHYARD_SECRETS_DIR=/run/batchyard/secrets\n" in log
        assert "Read-only file system" in log
        with contextlib.closing(docker.from_env().api) as api:
            assert "canary-5d1" not in json.dumps(api.inspect_container(container_name(name)))
        files.keep_only([])
        assert held(memory) == []
    finally:
        await opened.close()
