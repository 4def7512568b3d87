"""
Every page in every state, in light and in dark, on a phone, a tablet and a desk.

What a program can see is tested (axe-core's rules, nothing beside the screen, nothing of another
machine, no complaint of the browser); the pictures are kept below ``build/console`` for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.wheels import ROOT

from batchyard_gateway.console.routes import ROWS
from batchyard_gateway.console.visit import ROOT as CONSOLE

from .real_yard import RealYard

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.xdist_group("looks")]

AXE = (Path(__file__).parent / "vendor/axe.min.js").read_text()
PICTURES = ROOT / "build/console"
WIDTHS = (320, 768, 1440)
NO_PAGES = (
    "/clock", "/jobs/many", "/jobs/many/{bulk}", "/jobs/{id}/log.txt", "/live", "/queues/{name}/new-share",
    "/queues/{name}/shares/{share}",
)  # fmt: skip
"""Rows that no person looks at, or that are empty without more of an address."""

OTHER_STATES: Mapping[str, str] = {
    "jobs-failed": "/jobs?state=FAILED&name=s*&tag=team&from=2026-01-01",
    "jobs-id-after-one-that-failed": "/jobs/{job-after}",
    "jobs-id-array": "/jobs/{array}",
    "jobs-id-child": "/jobs/{child}",
    "jobs-id-done": "/jobs/{job-done}",
    "jobs-id-running": "/jobs/{job-long}",
    "jobs-id-waiting": "/jobs/{job-large}",
    "jobs-array-children-failed": "/jobs/{array}/children?state=FAILED",
    "jobs-array-children-none": "/jobs/{array}/children?state=RUNNING",
    "jobs-many-all": "/jobs/many?action=terminate&which=all",
    "jobs-many-tag": "/jobs/many?action=tag&id={job-done}",
    "environments-nowhere": "/environments/nowhere",
    "environment-fargate": "/new/environment?of=FARGATE",
    "environment-unmanaged": "/new/environment?of=UNMANAGED",
    "policies-quota": "/policies/quota",
    "queues-with-shares": "/queues/labs",
    "queues-share": "/queues/labs/shares/physics",
    "queues-share-new": "/queues/labs/new-share",
    "hosts-map": "/hosts?view=map",
    "hosts-none": "/hosts?state=DRAINED",
    "queues-hour": "/queues/default?period=1h",
    "definition-compared": "/definitions/train:2?with=1",
    "definition-new-of": "/definitions/new?of=train:2",
    "job-new-clone": "/jobs/new?clone={id}",
    "job-new-definition": "/jobs/new?of=definition",
    **{f"start-{step}": f"/start?step={step}" for step in ("environment", "queue", "definition", "job", "review")},
    "jobs-id-log-of-an-array": "/jobs/{array}/log",
    "jobs-id-log-not-started": "/jobs/{job-large}/log",
    "jobs-id-log-followed": "/jobs/{job-long}/log",
    "jobs-id-log-from-the-top": "/jobs/{job-done}/log?from=0",
}
"""Further states of pages, by the name of their picture: paths with the names of the furnished yard."""


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealYard, Mapping[str, str]]]:
    """Return a yard with something of every kind in it, and the names of these."""
    yard = RealYard(tmp_path_factory.mktemp("looks"))
    try:
        yard.open("alpha", "beta")
        yield yard, yard.furnish()
    finally:
        yard.sweep()


def paths(names: Mapping[str, str]) -> Mapping[str, str]:
    """Return the address of every page, by the name of its picture."""
    of_kind = {
        **names,
        "name": {"consumables": "licence", "policies": "fair", "hosts": "alpha", "definitions": "train:1"},
    }
    found = {}
    for row in ROWS:
        if row.path in NO_PAGES:
            continue
        kind = row.path.split("/")[1]
        path = re.sub(
            r"\{(\w+)\}",
            lambda match, kind=kind: of_kind["name"].get(kind, "default") if match[1] == "name" else names[match[1]],
            row.path,
        )
        found[row.path.strip("/").replace("/", "-").replace("{", "").replace("}", "") or "overview"] = path
    return {**found, **{name: path.format(**names) for name, path in OTHER_STATES.items()}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody(
    chromium: Browser, furnished: tuple[RealYard, Mapping[str, str]], scheme: str
) -> None:
    yard, names = furnished
    PICTURES.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    context = chromium.new_context(base_url=yard.origin, color_scheme=scheme)
    context.on("request", lambda request: None if request.url.startswith(yard.origin) else faults.append(request.url))
    page = context.new_page()
    page.on(
        "console", lambda message: faults.append(f"{page.url}: {message.text}") if message.type == "error" else None
    )
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.goto(yard.link())
    for name, path in paths(names).items():
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(f"{CONSOLE}{path}")
            page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)
            faults += [f"{path} at {width}, {scheme}: {fault}" for fault in faults_of(page)]
    context.close()
    assert not faults, "\n".join(faults)


def faults_of(page: Page) -> list[str]:
    """Return what is wrong with a page as it is now."""
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("axe.run()")
    faults = [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return faults + ([f"{wide} px beside the screen"] if wide > 0 else [])
