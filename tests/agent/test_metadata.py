"""The metadata endpoint: what attempts learn about themselves, and that nobody else learns it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import docker
import psutil
import pytest
from structlog.testing import capture_logs
from tests.agent.runtimes.engine import ensure_image, usable_network

from batchyard.arns import Account
from batchyard.ids import AttemptId, attempt_id, task_id, uuid7
from batchyard.v1 import agent_pb2, job_definition_pb2, resources_pb2
from batchyard_agent.convert import spec_from
from batchyard_agent.core.attempts import Attempt, Phase
from batchyard_agent.metadata import documents
from batchyard_agent.metadata_server import CONNECTIONS_MAX, MetadataServer

JOB = uuid7(1_764_000_000_000, bytes(10))
ATTEMPT = attempt_id(f"{JOB}:7", 2)


class Places:
    """Where logs are."""

    bytes_max = 1 << 20

    def path(self, _: AttemptId, part: str = "") -> Path:
        return Path("log")


TASK = task_id(ATTEMPT)
ACCOUNT = Account(region="eu-central-1", account_id="123456789012")


def attempt(image: str = "process://", phase: Phase = Phase.RUNNING) -> Attempt:
    message = agent_pb2.AttemptSpec(
        attempt_id=ATTEMPT,
        job_id=f"{JOB}:7",
        number=2,
        container=job_definition_pb2.ContainerProperties(
            image=image,
            command=["env"],
            environment={"PASSWORD": "canary"},
            resources=resources_pb2.Resources(cpu_millis=1500, memory_mib=256),
        ),
        environment={"AWS_BATCH_CE_NAME": "yard"},
        log_stream_name=f"greet/default/{TASK}",
    )
    spec = spec_from(message, Places())
    return Attempt(
        attempt_id=spec.attempt_id, phase=phase, runtime=spec.runtime, spec=spec, started_at_ms=1_764_000_000_123
    )


def test_a_container_is_described_as_ecs_does() -> None:
    found = documents(attempt("busybox:1"), ACCOUNT, "rack-1")
    assert found is not None
    arn = f"arn:aws:ecs:eu-central-1:123456789012:task/AWSBatch-yard/{TASK}"
    cluster = "arn:aws:ecs:eu-central-1:123456789012:cluster/AWSBatch-yard"
    name = f"batchyard-{TASK}"
    container = {
        "DockerId": name,
        "DockerName": name,
        "Name": "default",
        "Image": "busybox:1",
        "Labels": {
            "com.amazonaws.ecs.cluster": cluster,
            "com.amazonaws.ecs.container-name": "default",
            "com.amazonaws.ecs.task-arn": arn,
            "com.amazonaws.ecs.task-definition-family": "greet",
        },
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": 1536, "Memory": 256},
        "StartedAt": "2025-11-24T16:00:00.123Z",
        "Type": "NORMAL",
        "LogDriver": "awslogs",
        "LogOptions": {
            "awslogs-group": "/aws/batch/job",
            "awslogs-region": "eu-central-1",
            "awslogs-stream": f"greet/default/{TASK}",
        },
        "ContainerARN": f"arn:aws:ecs:eu-central-1:123456789012:container/AWSBatch-yard/{TASK}/default",
    }
    assert found.containers["default"] == container
    assert found.task == {
        "Cluster": cluster,
        "TaskARN": arn,
        "Family": "greet",
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": 1.5, "Memory": 256},
        "AvailabilityZone": "rack-1",
        "LaunchType": "EC2",
        "Containers": [container],
    }


def test_a_process_has_no_image_and_nobody_is_told_an_environment() -> None:
    found = documents(attempt(), ACCOUNT, "")
    assert found is not None
    assert found.containers["default"]["DockerId"] == TASK
    assert {"Image", "DockerName"}.isdisjoint(found.containers["default"])
    assert "AvailabilityZone" not in found.task
    assert "canary" not in json.dumps([found.containers, found.task])


@pytest.mark.parametrize(("phase", "known"), [(Phase.LAUNCHING, "CREATED"), (Phase.ENDED, "STOPPED")])
def test_its_state_is_told_in_ecs_words(phase: Phase, known: str) -> None:
    found = documents(attempt(phase=phase), ACCOUNT, "")
    assert found is not None
    assert found.task["KnownStatus"] == known


def test_of_a_forgotten_attempt_nothing_is_told() -> None:
    assert documents(replace(attempt(phase=Phase.DONE), spec=None), ACCOUNT, "") is None


@contextlib.asynccontextmanager
async def serving(folder: Path, *known: Attempt, network: str = "bridge"):
    table = {each.attempt_id: each for each in known}

    def describe(asked):
        return documents(table[asked], ACCOUNT, "") if asked in table else None

    async with MetadataServer(folder / "metadata.json", describe, network) as server:
        yield server


async def get(url: str, method: str = "GET"):
    def fetch():
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, method=method), timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(fetch)


def uri_of(server: MetadataServer, each: Attempt) -> str:
    assert each.spec is not None
    return server.environment(each.spec)[""]["ECS_CONTAINER_METADATA_URI_V4"]


async def test_an_attempt_reads_about_itself_and_its_task(tmp_path: Path) -> None:
    async with serving(tmp_path, attempt()) as server:
        uri = uri_of(server, attempt())
        assert uri.startswith("http://127.0.0.1:")
        found = documents(attempt(), ACCOUNT, "")
        assert found is not None
        assert await get(uri) == (200, found.containers["default"])
        assert await get(f"{uri}/task") == (200, found.task)
        assert await get(f"{uri}/task?x=1") == (200, found.task)


async def test_version_3_of_the_endpoint_answers_too(tmp_path: Path) -> None:
    """Older clients look for it by its own variable."""
    async with serving(tmp_path, attempt()) as server:
        spec = attempt().spec
        assert spec is not None
        uris = server.environment(spec)[""]
        assert sorted(uris) == ["ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4"]
        three, four = uris["ECS_CONTAINER_METADATA_URI"], uris["ECS_CONTAINER_METADATA_URI_V4"]
        assert three == four.replace("/v4/", "/v3/")
        for part in ("", "/task"):
            assert await get(three + part) == await get(four + part)
            assert (await get(three + part))[0] == 200
        assert (await get(three.replace("/v3/", "/v2/")))[0] == 404


async def test_without_the_token_there_is_nothing_to_read(tmp_path: Path) -> None:
    async with serving(tmp_path, attempt()) as server:
        uri = uri_of(server, attempt())
        other = uri.replace(f"{TASK}-", f"{task_id(attempt_id(JOB, 1))}-")
        forged = uri[:-1] + ("0" if uri[-1] != "0" else "1")
        for url in (other, forged, uri[:-1], f"{uri}/stats", uri.partition("/v4")[0], f"{uri}/../x"):
            assert (await get(url))[0] == 404, url
        assert (await get(uri, "POST"))[0] == 405


async def test_an_attempt_that_is_forgotten_is_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await get(uri_of(server, attempt())))[0] == 404


async def test_a_restarted_agent_answers_under_the_same_uri(tmp_path: Path) -> None:
    async with serving(tmp_path, attempt()) as server:
        uri = uri_of(server, attempt())
    assert stat.S_IMODE((tmp_path / "metadata.json").stat().st_mode) == 0o600
    async with serving(tmp_path, attempt()) as server:
        assert uri_of(server, attempt()) == uri
        assert (await get(uri))[0] == 200


async def test_another_agent_has_other_tokens(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with serving(tmp_path / "a", attempt()) as one, serving(tmp_path / "b", attempt()) as other:
        path = uri_of(one, attempt()).rpartition("/")[2]
        base = uri_of(other, attempt()).rpartition("/")[0]
        assert (await get(f"{base}/{path}"))[0] == 404


async def test_a_taken_port_is_replaced_and_a_broken_file_made_anew(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, capture_logs() as logs:
        port = taken.getsockname()[1]
        (tmp_path / "metadata.json").write_text(json.dumps({"secret": "00" * 32, "port": port}))
        async with serving(tmp_path, attempt()) as server:
            uri = uri_of(server, attempt())
            assert f":{port}/" not in uri
            assert (await get(uri))[0] == 200
        (tmp_path / "metadata.json").write_text("{")
        async with serving(tmp_path, attempt()) as server:
            assert (await get(uri_of(server, attempt())))[0] == 200
    assert [line["log_level"] for line in logs] == ["warning", "warning"]


async def test_an_agent_that_cannot_listen_goes_on_without(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path / "missing", attempt()) as server:
            spec = attempt().spec
            assert spec is not None
            assert server.environment(spec) == {}
    assert [line["event"] for line in logs] == ["attempts get no metadata endpoint"]


@pytest.mark.parametrize("bridge", [None, "127.0.0.2", "192.0.2.1"])
async def test_a_container_is_told_an_address_that_it_can_reach_or_none(tmp_path, monkeypatch, bridge) -> None:
    """127.0.0.2 stands for Docker's bridge; 192.0.2.1 is no address of any machine."""
    interfaces = dict(psutil.net_if_addrs())
    interfaces.pop("docker0", None)
    if bridge:
        interfaces["docker0"] = [interfaces["lo"][0]._replace(family=socket.AF_INET, address=bridge)]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    async with serving(tmp_path, attempt("busybox:1")) as server:
        spec = attempt("busybox:1").spec
        assert spec is not None
        if bridge != "127.0.0.2":
            assert server.environment(spec) == {}
            return
        uri = uri_of(server, attempt("busybox:1"))
        assert uri.startswith("http://127.0.0.2:")
        assert uri == uri_of(server, attempt("busybox:1"))
        assert (await get(uri))[0] == 200


async def test_a_container_on_the_hosts_network_reads_about_itself_on_loopback(tmp_path: Path) -> None:
    """One on none can reach nobody, and is told no address."""
    spec = attempt("busybox:1").spec
    assert spec is not None
    async with serving(tmp_path, attempt("busybox:1"), network="none") as server:
        assert server.environment(spec) == {}
    async with serving(tmp_path, attempt("busybox:1"), network="host") as server:
        uri = uri_of(server, attempt("busybox:1"))
        assert uri.startswith("http://127.0.0.1:")
        assert (await get(uri))[0] == 200


@pytest.mark.docker
async def test_a_container_reads_about_itself_over_the_bridge(tmp_path: Path) -> None:
    if usable_network() == "none":
        pytest.skip("this engine has lost its bridge")
    async with serving(tmp_path, attempt(ensure_image())) as server:
        uri = uri_of(server, attempt(ensure_image()))

        # Told by the exit code: the engine may hand out a container's output later than its end.
        look = f"""busybox wget -qO- {uri}/task | busybox grep -q '"Family": "greet"'"""

        def run() -> None:
            with contextlib.closing(docker.from_env()) as engine:
                engine.containers.run(ensure_image(), ["sh", "-c", look], remove=True)

        await asyncio.to_thread(run)


async def test_bad_words_and_crowds_break_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, attempt()) as server:
        uri = uri_of(server, attempt())
        port = int(uri.split(":")[2].partition("/")[0])
        for words in (b"\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 100 + b"\r\n\r\n", b"x" * 20_000, b"GET / HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(words)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                assert (await reader.read())[:12] in (b"", b"HTTP/1.1 400")
            writer.close()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        reader, late = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"", "beyond the bound a connection is closed at once"
        for _, writer in (*silent, (reader, late)):
            writer.close()
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    if (await get(uri))[0] == 200:
                        break
