"""
Sizes: what pages weigh, packed as a browser gets them, and in how many requests they come.

The yard is a worst case within reason: rows that all differ, maps whose every square does.
Times are measured by ``bench/run.py --only console``, which asserts nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import html
import http.client
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.gateway.endpoint import Endpoint

from batchyard.v1 import host_pb2, resources_pb2
from batchyard_gateway.console.answers import assets
from batchyard_gateway.console.answers.rendering import Renderer
from batchyard_gateway.console.hosts import host_view
from batchyard_gateway.console.visit import ROOT, Page

from .host import host
from .scene import OUT_OF_MEMORY, SUCCEEDS, Scene, fails
from .visitor import Visitor

pytestmark = pytest.mark.timeout(180)

KB = 1024
PAGE_MAX = 10 * KB
FIRST_MAX = {"html": 8 * KB, "css": 12 * KB, "js": 30 * KB, "svg": 5 * KB}
FIRST_ALL_MAX = 60 * KB
FIRST_REQUESTS_MAX = 8
ROWS = 100
ASSET = re.compile(r'(?:src|href)="(/console/static/[^"]+\.(css|js|svg))"')


@dataclass(slots=True)
class Busy:
    """A yard with a hundred jobs on the first page, and arrays of a thousand and of ten thousand half of which failed."""

    visitor: Visitor
    names: dict[str, str]

    def weigh(self, path: str) -> tuple[int, str]:
        """Return what comes over the wire for a page, and its text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.visitor.endpoint.port, timeout=30)
        headers = {"Cookie": self.visitor.cookie, "Accept-Encoding": "gzip"}
        connection.request("GET", path if path.startswith("/") else f"{ROOT}/{path}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200, body
        plain = gzip.decompress(body) if answer.headers.get("content-encoding") == "gzip" else body
        return len(body), plain.decode()


@pytest.fixture(scope="module")
def busy() -> Iterator[Busy]:
    """Return such a yard."""
    with Endpoint() as endpoint:
        scene = Scene(endpoint)
        names = {"single": scene.ended("one", OUT_OF_MEMORY)}
        for name, size in (("thousand", 1_000), ("large", 10_000)):
            names[name] = scene.waiting(name, arrayProperties={"size": size})
            endpoint.run(_stop_some(endpoint, names[name], size))
        ends = [SUCCEEDS, fails(1, reason="Essential container in task exited"), OUT_OF_MEMORY]
        for number in range(45):
            scene.ended(f"train-resnet-{number:03}", ends[number % 3])
        scene.array(30, set(range(0, 30, 4)))
        for number in range(54):
            scene.waiting(f"evaluate-{number % 7}-{number:04}", vcpus=5 + number)
        yield Busy(Visitor(endpoint).sign_in(), names)


async def _stop_some(endpoint: Endpoint, array_id: str, size: int) -> None:
    """Terminate some children here and there, so that half of the squares of the map differ from their neighbours."""
    left = iter(random.Random(1).sample(range(size), 500))

    async def stop() -> None:
        for index in left:
            await endpoint.client.terminate_job(f"{array_id}:{index}", "enough")

    await asyncio.gather(*(stop() for _ in range(20)))


def test_the_first_view_of_jobs(busy: Busy) -> None:
    weight, page = busy.weigh("jobs")
    assert page.count('<tr id="row-') == ROWS
    found = {"html": weight}
    addresses = ASSET.findall(page)
    for address, kind in addresses:
        found[kind] = found.get(kind, 0) + busy.weigh(address)[0]
    late = [html.unescape(each) for each in re.findall(r'hx-get="([^"]+)" hx-trigger="load', page)]
    assert {kind: weight for kind, weight in found.items() if weight > FIRST_MAX[kind]} == {}
    assert sum(found.values()) + sum(busy.weigh(each)[0] for each in late) <= FIRST_ALL_MAX
    events = 1
    assert 1 + len(addresses) + len(late) + events <= FIRST_REQUESTS_MAX


def test_500_rows_weigh_no_more_a_row(busy: Busy) -> None:
    """Nothing but rows grows with their number: the page names a job nowhere else."""
    fewer, page = busy.weigh("jobs?size=50")
    more, _ = busy.weigh("jobs")
    *_, job_id = re.findall(r'<tr id="row-([^"]+)"', page)
    assert page.count(job_id) == 3, "its row, its box, its link"
    assert more - fewer < FIRST_MAX["html"] / 2


@pytest.mark.parametrize(
    "path",
    [
        "/console/", "about", "queues", "queues/q", "queues/q/edit", "environments", "environments/ce", "hosts",
        "hosts?view=map", "hosts/alpha", "definitions", "definitions/d:1", "definitions/new", "jobs/new", "start",
        "start?step=environment", "keys", "secrets", "policies", "consumables", "search?q=train", "new/environment",
        "new/queue", "jobs/many?action=terminate&which=all", "jobs?state=FAILED",
        "jobs/{single}", "jobs/{large}", "jobs/{large}:1", "counts?part=totals", "jobs?part=rows&ids={ids}",
        *(
            f"jobs/{{{array}}}/children{query}"
            for array in ("thousand", "large")
            for query in ("", "?state=FAILED", "?part=map", "?part=bar", "?view=table", "?part=rows&ids={ids}")
        ),
    ],
)  # fmt: skip
def test_later_pages_and_parts(busy: Busy, path: str) -> None:
    ids = "+".join(re.findall(r'<tr id="row-([^"]+)"', busy.weigh("jobs")[1])) if "{ids}" in path else ""
    weight, _ = busy.weigh(path.format(**busy.names, ids=ids))
    assert weight <= PAGE_MAX


def test_a_log_weighs_its_text_and_little_more(endpoint: Endpoint, visitor: Visitor, tmp_path: Path) -> None:
    """64 KiB of text are more than a page's 10 KB, whatever is around them: see docs/decisions/0026."""
    text, count = _log()
    endpoint.run(endpoint.yard.furnish())
    with host(endpoint, tmp_path) as machine:
        (machine.folder / "text").write_bytes(text)
        job_id = machine.run("cat", str(machine.folder / "text"))
        _, page = Busy(visitor, {}).weigh(f"jobs/{job_id}/log")
    lines = page[page.index('<div class="slice"') :]
    assert lines.count('<div class="line') == count
    around = len(gzip.compress(lines.encode(), 6)) - len(gzip.compress(text, 6))
    assert around <= 16 * count


def _log() -> tuple[bytes, int]:
    """Return lines as programs write them, and how many."""
    dice = random.Random(1)
    words = ("loss", "accuracy", "epoch", "step", "batch", "gradient", "norm", "saved", "worker", "ready", "shard")
    lines = [
        f"2026-11-25 12:{number // 60:02}:{number % 60:02} INFO {' '.join(dice.sample(words, 4))} {dice.random():.6f}\n"
        for number in range(900)
    ]
    return "".join(lines).encode(), len(lines)


def test_the_map_of_a_thousand_hosts() -> None:
    """Beyond a page's 10 KB where each host has eight GPUs, on purpose: see docs/decisions/0026."""
    assert _map_of_hosts(gpus=0) <= PAGE_MAX
    assert _map_of_hosts(gpus=8) <= 20 * KB


def _map_of_hosts(gpus: int) -> int:
    """Return the weight of a map whose every host and GPU is held differently."""
    dice = random.Random(1)
    hosts = []
    for number in range(host_view.MAP_MAX):
        each = host_pb2.Host(id=str(number), state=host_pb2.HOST_STATE_READY)
        each.facts.name = f"host-{number:04}"
        each.facts.capacity.CopyFrom(resources_pb2.Resources(cpu_millis=64_000, gpu_millis=1000 * gpus))
        held = [dice.choice([0, 250, 500, 1000, 1000]) for _ in range(gpus)]
        for slot, millis in enumerate(held):
            each.facts.gpus.add(uuid=f"GPU-{number}-{slot}", allocated_millis=millis)
        each.allocated.CopyFrom(
            resources_pb2.Resources(cpu_millis=dice.randrange(64) * 1000, gpu_millis=sum(held))
        )  # fmt: skip
        hosts.append(each)
    view = {"cells": host_view.map_of(hosts), "rows": [], "state": "", "next": "", "is_first": True}
    page = Renderer(assets.load(), {}).render(Page(template="hosts.html", title="", view=view), None, "rows")
    return len(gzip.compress(page.encode(), 6))
