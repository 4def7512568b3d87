"""
Every page in every state, in light and in dark, on a phone, a tablet and a desk.

What a program can see is tested (axe-core's rules, nothing beside the screen, nothing of another
machine, no complaint of the browser); the pictures are kept below ``build/console`` for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page
from tests.wheels import ROOT

from batchyard_gateway.console.routes import ROWS
from batchyard_gateway.console.visit import ROOT as CONSOLE

from .conftest import watched
from .real_yard import RealYard

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AXE = (Path(__file__).parent / "vendor/axe.min.js").read_text()
PICTURES = ROOT / "build/console"
WIDTHS = (1440, 768, 320)
SCHEMES: Mapping[Literal["light", "dark"], Mapping[str, Any]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""What axe looks for in each: colours are all that differs. It looks at the narrowest, where the menu folds."""

NO_PAGES = ("/clock", "/jobs/many", "/jobs/many/{bulk}", "/jobs/{id}/log.txt", "/live")
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


@dataclass(frozen=True, slots=True)
class Furnished:
    """
    A yard with something of every kind in it.

    Attributes:
        origin: Of its console.
        names: Of what is in it, for paths.
        cookies: Of who has signed in.
    """

    origin: str
    names: Mapping[str, str]
    cookies: Any


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """Return one for all pages."""
    yard = RealYard(tmp_path_factory.mktemp("looks"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        yard.open("alpha", "beta")
        yield Furnished(yard.origin, yard.furnish(), [yard.sign_in()])
    finally:
        yard.sweep()


def _sections() -> Mapping[str, Mapping[str, str]]:
    """Return by section, which is the path's first word, the paths of its pages by the names of their pictures."""
    rows = [row.path for row in ROWS if row.path not in NO_PAGES]
    found = {path.strip("/").replace("/", "-").replace("{", "").replace("}", "") or "overview": path for path in rows}
    sections: dict[str, dict[str, str]] = {}
    for name, path in {**found, **OTHER_STATES}.items():
        sections.setdefault(path.partition("?")[0].split("/")[1] or "overview", {})[name] = path
    return sections


def _filled(path: str, names: Mapping[str, str]) -> str:
    """Return a path with the furnished yard's own names."""
    kind = path.split("/")[1]
    name = {"consumables": "licence", "policies": "fair", "hosts": "alpha", "definitions": "train:1"}.get(
        kind, "default"
    )
    return path.format(**{**names, "name": name})


@pytest.mark.parametrize("section", _sections())
def test_every_page_can_be_read_by_everybody(
    chromium: Browser, furnished: Furnished, faults: list[str], section: str
) -> None:
    context = chromium.new_context(base_url=furnished.origin)
    context.add_cookies(furnished.cookies)
    context.add_init_script(AXE)
    page = watched(context, furnished.origin, faults)
    for name, path in _sections()[section].items():
        before = len(faults)
        page.goto(f"{CONSOLE}{_filled(path, furnished.names)}")
        faults += _faults_of(page, name)
        faults[before:] = [f"{path}: {fault}" for fault in faults[before:]]
    context.close()
    assert not faults, "\n".join(faults)


def _faults_of(page: Page, name: str) -> list[str]:
    """Take a page's pictures and return what is wrong with how it looks."""
    faults: list[str] = []
    for scheme, rules in SCHEMES.items():
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            picture = PICTURES / f"{name}-{width}-{scheme}.jpeg"
            page.screenshot(path=picture, full_page=True, type="jpeg", quality=80)  # a third quicker than PNG
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            faults += [f"{wide} px beside the screen at {width}"] if wide > 0 else []
        found = page.evaluate("rules => axe.run(rules)", rules)
        faults += [f"{scheme}: {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"]]
    return faults
