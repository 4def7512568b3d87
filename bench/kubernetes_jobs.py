"""
Jobs per second as pods of a real API server, beside a bare loop that creates, watches and deletes them.

Nothing runs: a player says of each pod, once it is there, that it has ended with 0, for both alike.
So what is measured is what the API server takes, and what the way through a yard adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import lightkube
from bench.figures import Figure, Outcome, Skipped, median, spread
from bench.scale import Scale
from bench.yard import QUEUE, Program, Yard, in_own_process, open_yard
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod, PodStatus
from lightkube.types import PatchType
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hand import ended

from batchyard import container
from batchyard.v1 import compute_environment_pb2 as environment_pb

AT_ONCE = 32
PLAYERS = 16
NODES = 2
NAME = "pods"
SCRIPT = Path(__file__).parents[1] / "scripts" / "kubernetes.sh"
_COUNTED = re.compile(
    r'^apiserver_request_total\{.*resource="pods",.*subresource="(?P<sub>log|)",.*verb="(?P<verb>\w+)".*\} (?P<count>\S+)$',
    re.MULTILINE,
)


async def measure(scale: Scale) -> AsyncIterator[Outcome]:
    """Run an array of jobs as pods and the bare loop in turn."""
    binary = subprocess.run(["bash", SCRIPT, "find"], capture_output=True, text=True, check=False)
    if binary.returncode:
        yield Skipped(NAME, binary.stderr.strip())
        return
    count, rounds = scale.pick(1000, 100), scale.pick(3, 1)
    ours: list[float] = []
    bare: list[float] = []
    with _serving(Path(binary.stdout.strip())) as (server, cluster):
        async with open_yard() as yard:
            namespace = cluster.make_namespace()
            agent = await _add_agent(yard, cluster, namespace, count)
            job = container(["true"], image="busybox:1", vcpus=1, memory=16)
            calls, cost = Counter[str](), ""
            with _playing(cluster.kubeconfig, namespace):
                for _ in range(rounds):
                    bare.append(await in_own_process(pod_rate, str(cluster.kubeconfig), namespace, count))
                    before = await asyncio.to_thread(_calls, server)
                    pace = await yard.run(lambda: yard.submit(job, array_size=count), count)
                    await asyncio.to_thread(_wait_until_gone, cluster, namespace)
                    calls = await asyncio.to_thread(_calls, server) - before
                    ours.append(pace.jobs_per_s)
                    cost = pace.cost()
            rss_mib = agent.rss_kib() / 1024
    of_each = ", ".join(f"{verb} {calls[verb] / count:.2f}" for verb in sorted(calls) if calls[verb] > count / 20)
    yield Figure(
        name=f"array of {count:,} {NAME}, sqlite",
        value=median(ours),
        unit="/s",
        baseline=median(bare),
        baseline_name=f"bare create, watch, delete, {AT_ONCE} at once",
        aim="0.8 of it",
        note=f"{spread(ours)}; bare {spread(bare)}; {cost}; API calls a job: {of_each}; the agent has {rss_mib:.0f} MiB",
    )


@contextlib.contextmanager
def _serving(binary: Path) -> Iterator[tuple[ApiServer, Cluster]]:
    with tempfile.TemporaryDirectory(prefix="by-bench-") as folder:
        server = ApiServer(Path(folder) / "server", binary)
        server.start()
        try:
            cluster = Cluster(server.admin, Path(folder), ca=server.authority.certificate)
            yield server, cluster
        finally:
            server.kill()


@contextlib.contextmanager
def _playing(kubeconfig: Path, namespace: str) -> Iterator[None]:
    """Have somebody say what kubelets say, in a process of its own."""
    player = multiprocessing.get_context("spawn").Process(target=play, args=(str(kubeconfig), namespace), daemon=True)
    player.start()
    try:
        yield
    finally:
        player.terminate()
        player.join()


def play(kubeconfig: str, namespace: str) -> None:
    """Say of each pod of a namespace, once, that it has ended with 0; for ever."""
    asyncio.run(_play(kubeconfig, namespace))


async def _play(kubeconfig: str, namespace: str) -> None:
    client = lightkube.AsyncClient(lightkube.KubeConfig.from_file(kubeconfig))
    fresh: asyncio.Queue[Any] = asyncio.Queue()  # of what the API gives, all may be absent

    async def say() -> None:
        while True:
            pod = await fresh.get()
            with contextlib.suppress(lightkube.ApiError):
                status = {"status": ended(pod, 0)}
                name, kind = pod.metadata.name, PatchType.MERGE
                await client.patch(PodStatus, name, status, namespace=namespace, patch_type=kind)

    async with asyncio.TaskGroup() as group:
        for _ in range(PLAYERS):
            group.create_task(say())
        seen: Any
        async for event, seen in client.watch(Pod, namespace=namespace):
            if event == "ADDED" and seen.status.phase == "Pending":
                fresh.put_nowait(seen)


def pod_rate(kubeconfig: str, namespace: str, count: int) -> float:
    """Create *count* pods, ``AT_ONCE`` at once, and delete each when a watch says that it has ended; return pods a second."""
    return asyncio.run(_pod_rate(kubeconfig, namespace, count))


async def _pod_rate(kubeconfig: str, namespace: str, count: int) -> float:
    client = lightkube.AsyncClient(lightkube.KubeConfig.from_file(kubeconfig))
    over: dict[str, asyncio.Event] = {f"bare-{n}": asyncio.Event() for n in range(count)}
    left = iter(over)

    async def watch() -> None:
        seen: Any
        async for event, seen in client.watch(Pod, namespace=namespace):
            if event == "MODIFIED" and seen.status.phase == "Succeeded" and seen.metadata.name in over:
                over[seen.metadata.name].set()

    async def work() -> None:
        for name in left:
            spec = PodSpec(containers=[Container(name="c", image="busybox:1", args=["true"])], restartPolicy="Never")
            await client.create(Pod(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec))
            await over[name].wait()
            await client.delete(Pod, name, namespace=namespace, grace_period=0)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    rate = count / (time.perf_counter() - began)
    watching.cancel()
    await client.close()
    return rate


async def _add_agent(yard: Yard, cluster: Cluster, namespace: str, count: int) -> Program:
    """Start an agent of nodes with room for all, in a queue's second environment."""
    for n in range(NODES):
        cluster.add_node(f"node-{n}", cpu=f"{count // NODES}", memory="1000Gi")
    agent = Program(
        "kubernetes",
        yard.folder,
        "batchyard_agent.kubernetes",
        *("--controller", yard.address, "--state-dir", str(yard.folder / "kubernetes"), "--namespace", namespace),
        *("--kubeconfig", str(cluster.kubeconfig), "--log-level", "error", "--insecure-loopback-only"),
    )
    yard.programs.append(agent)
    await yard.client.calls.create_compute_environment(
        environment_pb.CreateComputeEnvironmentRequest(
            name="cluster",
            type=environment_pb.COMPUTE_ENVIRONMENT_TYPE_MANAGED,
            state=environment_pb.RESOURCE_STATE_ENABLED,
            compute_resources=environment_pb.ComputeResources(
                type=environment_pb.CAPACITY_TYPE_EC2,
                allocation_strategy=environment_pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE,
            ),
            kubernetes=environment_pb.KubernetesCluster(name="kubernetes", namespace=namespace),
        )
    )
    await yard.client.update_job_queue(QUEUE, compute_environments=[QUEUE, "cluster"])
    while len([host async for host in yard.client.list_hosts()]) < NODES:
        agent.check()
        await asyncio.sleep(0.1)
    return agent


def _wait_until_gone(cluster: Cluster, namespace: str) -> None:
    while list(cluster.client.list(Pod, namespace=namespace)):
        time.sleep(0.2)


def _calls(server: ApiServer) -> Counter[str]:
    """Return how often the server was asked about pods and their logs, by verb."""
    calls = Counter[str]()
    for found in _COUNTED.finditer(server.get("/metrics")):
        verb = "log" if found["sub"] else found["verb"]
        if verb not in ("WATCH", "LIST"):
            calls[verb] += int(float(found["count"]))
    return calls
