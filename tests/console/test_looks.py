"""
Every page in every state, in light and in dark, on a phone, a tablet and a desk.

What a program can see is tested (axe-core's rules, nothing beside the screen, nothing of another
machine, no complaint of the browser). For people there are pictures, in the folder that ``PICTURES`` names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.wheels import ROOT

from batchyard_gateway.console.visit import ROOT as CONSOLE

from .conftest import watched
from .real_yard import RealYard
from .rows import PAGES, filled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

OF_KIND = {"consumables": "licence", "policies": "fair", "hosts": "alpha", "definitions": "train:1"}
AXE = (Path(__file__).parent / "vendor/axe.min.js").read_text()
PICTURES = os.environ.get("PICTURES", "")
"""They take a third of the time, so nobody has them who does not ask."""

SCHEMES: Mapping[Literal["light", "dark"], Sequence[int]] = {"light": (1440, 768, 320), "dark": (320, 768, 1440)}
"""At which widths each is looked at; axe, which is slow, looks at the last."""

SHARE = 7
"""Pages of one test, so that the processes of a run share them."""

VIOLATIONS = """async () => (await axe.run({ resultTypes: ["violations"] })).violations
    .map(each => `${each.id}: ${each.nodes[0].html.slice(0, 200)}`)"""

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
    "jobs-array-children-table": "/jobs/{array}/children?view=table",
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


def _sections() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Return pages as the names of their pictures and their paths, by the path's first word and some at a time."""
    named = {path.strip("/").replace("/", "-").replace("{", "").replace("}", "") or "overview": path for path in PAGES}
    of_word: dict[str, list[tuple[str, str]]] = {}
    for name, path in {**named, **OTHER_STATES}.items():
        of_word.setdefault(path.partition("?")[0].split("/")[1] or "overview", []).append((name, path))
    return {
        f"{word}-{start // SHARE + 1}": pages[start : start + SHARE]
        for word, pages in of_word.items()
        for start in range(0, len(pages), SHARE)
    }


@pytest.mark.parametrize("section", _sections())
def test_every_page_can_be_read_by_everybody(
    chromium: Browser, furnished: RealYard, faults: list[str], section: str
) -> None:
    context = chromium.new_context(base_url=furnished.origin)
    context.add_cookies([furnished.sign_in()])
    context.add_init_script(AXE)
    page = watched(context, furnished.origin, faults)
    for name, path in _sections()[section]:
        before = len(faults)
        page.goto(f"{CONSOLE}{filled(path, furnished.names, OF_KIND)}")
        expect(page.locator("figure.map svg[aria-hidden]")).to_have_count(0)  # the map has come
        faults += _faults_of(page, name)
        faults[before:] = [f"{path}: {fault}" for fault in faults[before:]]
    context.close()
    assert not faults, "\n".join(faults)


def _faults_of(page: Page, name: str) -> list[str]:
    """Return what is wrong with how a page looks; take its pictures if they are asked for."""
    faults: list[str] = []
    for scheme, widths in SCHEMES.items():
        page.emulate_media(color_scheme=scheme)
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            if PICTURES:
                picture = ROOT / PICTURES / f"{name}-{width}-{scheme}.jpeg"
                page.screenshot(path=picture, full_page=True, type="jpeg", quality=80)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            faults += [f"{wide} px beside the screen at {width}"] if wide > 0 else []
        faults += [f"{scheme}: {fault}" for fault in page.evaluate(VIOLATIONS)]
    return faults
