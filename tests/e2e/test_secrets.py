"""
A canary: values are planted, attempts get them, and they are then looked for everywhere else.

Everywhere is all bytes below the yard's folder (store, key file, journals, records of
runtimes, logs at level debug) and below etcd's, all that the API tells, errors, metrics,
and the command lines of all processes.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.runtimes.engine import ensure_image
from tests.contract.etcd_server import EtcdServer
from tests.e2e.conftest import OpenYard, etcd_store
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.ports import hold_address

from batchyard import (
    Client,
    InvalidArgumentError,
    JobState,
    NotFoundError,
    RequestError,
    UnavailableError,
    container,
    job_state,
)
from batchyard.v1.job_definition_pb2 import ContainerProperties
from batchyard_agent.config import secrets_dir
from batchyard_controller.vault import add_key, drop_keys

pytestmark = pytest.mark.timeout(240)

CANARY = "canary-4f1c9d0be2"
END_LIMIT_S = 120.0
SECRETS = 600
"""More than are encrypted anew in one turn."""


def asking(script: str, *, runtime: str, **secrets: str) -> ContainerProperties:
    image = ensure_image() if runtime == "docker" else ""
    return container(["sh", "-c", script], image=image, vcpus=0.5, memory=32, secrets=secrets)


def asking_files(script: str, *, runtime: str, **files: str) -> ContainerProperties:
    image = ensure_image() if runtime == "docker" else ""
    return container(["sh", "-c", script], image=image, vcpus=0.5, memory=32, secret_files=files)


def spelt(value: str) -> set[bytes]:
    """Return a value as it may stand in a file: plainly, or in base 64 or hex."""
    plain = value.encode()
    return {plain, base64.b64encode(plain).rstrip(b"="), plain.hex().encode()}


def holders(folder: Path, values: list[str]) -> Iterator[Path]:
    """Yield the files that hold a value."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was removed just now
            if path.is_file() and any(form in path.read_bytes() for value in values for form in spelt(value)):
                yield path


def command_lines() -> Iterator[bytes]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now
            yield (folder / "cmdline").read_bytes()


def told(client: Client, job_ids: list[str]) -> Iterator[str]:
    """Yield all that the API says of jobs, hosts, secrets and keys."""
    yield from map(str, client.describe_jobs(job_ids))
    yield from map(str, client.list_jobs())
    yield from (str(client.explain_job(job_id)) for job_id in job_ids)
    yield from map(str, client.list_hosts())
    yield from map(str, client.list_secrets())
    yield from map(str, client.list_access_keys())
    watched = client.watch_jobs(job_ids)
    yield str(next(watched))
    watched.close()
    for refused in (
        lambda: client.put_secret("db", CANARY + "\0"),
        lambda: client.put_secret("a b", CANARY),
        lambda: client.submit_job(name="job", container=container(["true"], secrets={"A": "nobody"})),
    ):
        with pytest.raises((InvalidArgumentError, NotFoundError)) as caught:
            refused()
        yield f"{caught.value!r} {caught.value.__cause__!r}"


def read_log(client: Client, job_id: str) -> str:
    return b"".join(client.read_logs(job_id)).decode()


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> str:
    """Have all programs of the test log everything, and return where the controller's metrics will be."""
    address = hold_address()
    monkeypatch.setenv("BATCHYARD_CONTROLLER_METRICS", address)
    monkeypatch.setenv("BATCHYARD_CONTROLLER_LOG_LEVEL", "debug")
    monkeypatch.setenv("BATCHYARD_AGENT_LOG_LEVEL", "debug")
    return address


def read_a_file(client: Client, runtime: str, memory: Path) -> str:
    """Run a job that reads a secret as a file, which is then gone; return another that keeps one."""
    if os.geteuid():
        return ""  # the place of files may be missing then
    looking = asking_files("cat $BATCHYARD_SECRETS_DIR/KEY; env", runtime=runtime, KEY="prod/db")
    reading = client.submit_job(name="reading", container=looking).job_id
    assert job_state(client.wait(reading, timeout_s=END_LIMIT_S)) is JobState.SUCCEEDED
    assert read_log(client, reading).count(CANARY) == 1
    until(lambda: not list(holders(memory, [CANARY])), "the file is gone")
    sleeping = asking_files("sleep 300", runtime=runtime, KEY="prod/db")
    kept = client.submit_job(name="kept", container=sleeping).job_id
    until(lambda: job_state(client.describe_job(kept)) is JobState.RUNNING, "the job with a file is RUNNING")
    return kept


def plant_and_look(yard: Yard, metrics: str, runtime: str) -> list[str]:
    """Run jobs with a canary, restart everything, and make sure that nobody else knows it; return what was planted."""
    yard.start("a", runtimes=runtime)
    memory = secrets_dir(yard.folder / "agent-a") or yard.folder
    with yard.client() as client:
        client.put_secret("prod/db", CANARY)
        planted = [CANARY, client.create_access_key(description="ci").secret]
        printing = client.submit_job(
            name="printing", container=asking('echo "got $DB"', runtime=runtime, DB="prod/db")
        ).job_id
        assert job_state(client.wait(printing, timeout_s=END_LIMIT_S)) is JobState.SUCCEEDED
        assert read_log(client, printing) == f"got {CANARY}\n"
        kept = read_a_file(client, runtime, memory)
        held = client.submit_job(name="held", container=asking("sleep 300", runtime=runtime, DB="prod/db")).job_id
        until(lambda: job_state(client.describe_job(held)) is JobState.RUNNING, "the held job is RUNNING")
        client.put_secret("gone", CANARY)
        os.kill(yard.agents["a"].pid, signal.SIGSTOP)
        orphan = client.submit_job(name="orphan", container=asking("true", runtime=runtime, DB="gone")).job_id
        until(lambda: job_state(client.describe_job(orphan)) is JobState.STARTING, "the orphan is claimed")
        client.delete_secret("gone")
        yard.agents["a"].kill()
        yard.controller.kill()
        yard.controller.start()
        yard.agents["a"].start()
        (attempt,) = client.wait(orphan, timeout_s=END_LIMIT_S).attempts
        assert attempt.reason == "ResourceInitializationError: unable to pull secrets: secret 'gone' not found"
        if kept:
            assert list(holders(memory, planted))
            client.terminate_job(kept, reason="enough")
            client.wait(kept, timeout_s=END_LIMIT_S)
            until(lambda: not list(holders(memory, planted)), "the last file is gone")
        texts = list(told(client, [printing, held, orphan]))
        texts.append(urllib.request.urlopen(f"http://{metrics}/metrics").read().decode())
        assert not [text for text in texts for value in planted if value in text]
        assert not [line for line in command_lines() if CANARY.encode() in line]
        found = list(holders(yard.folder, planted))
        assert {path.parent.name for path in found} == {"logs"}, found
    return planted


@pytest.mark.parametrize("runtime", [pytest.param("process"), pytest.param("docker", marks=pytest.mark.docker)])
def test_planted_values_are_found_in_the_attempts_own_output_alone(yard: Yard, metrics: str, runtime: str) -> None:
    plant_and_look(yard, metrics, runtime)
    mode = Path(f"{yard.store.removeprefix('sqlite://')}.key").stat().st_mode
    assert mode & 0o777 == 0o600


@pytest.mark.etcd
def test_planted_values_are_not_in_etcd(
    yards: OpenYard, etcd: EtcdServer, metrics: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(f"k1:{base64.b64encode(os.urandom(32)).decode()}\n")
    monkeypatch.setenv("BATCHYARD_CONTROLLER_SECRETS_KEY", str(keys))
    planted = plant_and_look(yards(etcd_store(etcd)), metrics, "process")
    assert not list(holders(tmp_path / "etcd", planted))


@pytest.mark.etcd
def test_controller_without_a_key_runs_jobs_and_keeps_no_secrets(yards: OpenYard, etcd: EtcdServer) -> None:
    yard = yards(etcd_store(etcd))
    yard.start("a")
    with yard.client() as client:
        for call in (lambda: client.put_secret("db", CANARY), client.create_access_key):
            with pytest.raises(RequestError, match="--secrets-key FILE"):
                call()
        job = client.submit_job(name="job", container=container(["true"], memory=32)).job_id
        assert job_state(client.wait(job, timeout_s=END_LIMIT_S)) is JobState.SUCCEEDED


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
def test_controller_that_is_killed_while_it_encrypts_anew_loses_nothing(
    yards: OpenYard, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each value is under the one key or the other, whenever that was; asked again, all are under the new one."""
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(f"k1:{base64.b64encode(os.urandom(32)).decode()}\n")
    monkeypatch.setenv("BATCHYARD_CONTROLLER_SECRETS_KEY", str(keys))
    yard = yards(etcd_store(request.getfixturevalue("etcd")) if kind == "etcd" else "")
    yard.start("a")
    with yard.client() as client:
        for number in range(SECRETS):
            client.put_secret(f"s{number:04}", f"value {number}")
        fresh = add_key(keys)

        def rekey() -> None:
            with contextlib.suppress(UnavailableError), yard.client(retry_s=0.1) as other:
                other.rekey_secrets()

        def sealed_with(key_id: str) -> int:
            return sum(secret.key_id == key_id for secret in client.list_secrets(page_size=1000))

        rekeying = threading.Thread(target=rekey)
        rekeying.start()
        while rekeying.is_alive() and next(client.list_secrets(page_size=1)).key_id != fresh:
            pass
        yard.controller.kill()
        rekeying.join()
        yard.controller.start()
        until(lambda: sealed_with(fresh) + sealed_with("k1") == SECRETS, "all are there")
        client.rekey_secrets()
        assert sealed_with(fresh) == SECRETS
        assert drop_keys(keys, fresh) == ["k1"]
        yard.controller.kill()
        yard.controller.start()
        until(lambda: yard.is_ready(client, "a"), "the host is ready")
        wanted = {f"S{number}": f"s{number:04}" for number in range(0, SECRETS, SECRETS // 40)}
        script = asking("env | grep ^S[0-9] | sort", runtime="process", **wanted)
        job = client.submit_job(name="job", container=script).job_id
        assert job_state(client.wait(job, timeout_s=END_LIMIT_S)) is JobState.SUCCEEDED
        lines = sorted(f"{name}=value {name[1:]}" for name in wanted)
        assert sorted(read_log(client, job).splitlines()) == lines
