"""Every page of the table: with a hostile yard, with links that lead somewhere, with nothing of a name, without a controller."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, urldefrag, urljoin, urlsplit

import pytest
from playwright.sync_api import Page
from tests.gateway.endpoint import Endpoint

from batchyard_gateway.console.routes import ROWS
from batchyard_gateway.console.visit import ROOT

from .conftest import forgive
from .hostile import HOSTILE, RAW, TOTAL, HostileYard
from .rows import PAGES, filled
from .visitor import Visitor

OF_KIND = {
    "consumables": "licence", "policies": "fair", "definitions": "train:1", "environments": "narrow",
    "queues": "stuck",
}  # fmt: skip

MORE = (
    "/definitions/train:2?with=1", "/definitions/new?of=train:2", "/hosts?view=map", "/jobs/new?clone={id}",
    "/jobs/new?definition=train:1", "/jobs/{array}", "/jobs/{array}:1", "/jobs/{array}/children?state=FAILED",
    "/jobs/{job-large}", "/jobs/{job-late}", "/jobs/{job-late}/log", "/jobs/{job-early}", "/jobs/{job-stopped}", "/jobs/{job-long}", "/jobs/{job-long}/log?at=1",
    "/jobs/many?action=terminate&which=all", "/jobs/many?action=tag&id={job-done}", "/queues/q", "/environments/ce", "/search?q=%22",
    *(f"/start?step={step}" for step in ("environment", "queue", "definition", "job", "review")),
)  # fmt: skip

ASKED = (
    "/search?q={}", "/jobs?name={}", "/jobs?tag={}&state={}&from={}&host={}", "/jobs/many?action={}&id={}&back={}",
    "/jobs/new?clone={}", "/jobs/new?definition={}", "/start?step={}", "/hosts?view={}&state={}", "/queues/{}",
    "/definitions/{}?with={}", "/definitions/new?of={}", "/jobs/{}/log?at={}", "/jobs/{}", "/{}", "/?period={}",
    "/sign-in?next={}", "/sign-in?key={}&made={}&signature={}",
)  # fmt: skip
"""What shows an address's own words again."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """Return one gateway for all tests that change nothing."""
    with Endpoint() as started:
        yield started


@pytest.fixture(scope="module")
def visitor(endpoint: Endpoint) -> Visitor:
    """Return who has signed in and lives where days begin early."""
    visitor = Visitor(endpoint).sign_in()
    visitor.cookie += "; batchyard-clock=local; batchyard-zone=Asia/Tokyo"
    return visitor


@pytest.fixture(scope="module")
def yard(endpoint: Endpoint) -> HostileYard:
    made = HostileYard(endpoint)
    made.answer_logs()
    return made


def pages(yard: HostileYard) -> list[str]:
    """Return the addresses of all pages."""
    kinds = {**OF_KIND, "hosts": yard.names["host"]}
    other = f"{ROOT}/hosts/{yard.other.host_id}"
    return [other, *(f"{ROOT}{filled(path, yard.names, kinds)}" for path in (*PAGES, *MORE))]


def attacks() -> list[str]:
    """Return addresses with an attack in each place of which a page shows something."""
    return [f"{ROOT}{path.replace('{}', quote(HOSTILE, safe=''))}" for path in ASKED]


@pytest.mark.timeout(120)
def test_a_hostile_yard_is_text_on_every_page(visitor: Visitor, yard: HostileYard) -> None:
    seen, paths = 0, [*pages(yard), *attacks()]
    for path in paths:
        reply = visitor.get(path)
        assert reply.status in (200, 303, 400, 403, 404, 422), path
        assert RAW not in reply.text, path
        assert TOTAL not in reply.text, path
        seen += "&lt;script&gt;x()" in reply.text
    assert seen > len(paths) / 2, "most pages show something of it"


@pytest.mark.browser
@pytest.mark.timeout(180)
def test_a_hostile_yard_does_nothing_in_a_browser(
    visitor: Visitor, yard: HostileYard, window: Page, faults: list[str]
) -> None:
    window.goto(visitor.link())
    for path in (*pages(yard), *attacks()):
        window.goto(path, wait_until="load")
        assert window.evaluate("typeof x") == "undefined", path
        assert window.locator("script:not([src])").count() == 0, path
        told = [fault for fault in faults if not re.search(r"status of 4\d\d", fault)]
        assert not told, (path, told)
        faults.clear()
        window.goto(visitor.link()) if "sign-in" in path else None
    forgive(faults, "status of 4")


@pytest.mark.timeout(180)
def test_every_link_and_every_form_leads_somewhere(visitor: Visitor, yard: HostileYard) -> None:
    """From every page, one step on: what is asked for by GET is there, and what is sent by POST is a row that takes it."""
    takes = [re.compile(re.sub(r"{.*?}", "[^/]+", f"{ROOT}{row.path}") + "$") for row in ROWS if row.change]
    takes.append(re.compile(f"{ROOT}/sign-(in|out)$"))
    seen: dict[str, str] = {}
    for path in pages(yard):
        links = Links(visitor.get(path).text)
        for there in links.posts:
            address = urlsplit(urljoin(path, there)).path
            assert any(each.match(address) for each in takes), f"{path}: nothing takes {there}"
        for there in links.gets:
            seen.setdefault(urldefrag(urljoin(path, there)).url, path)
    dead = [f"{there} of {path}" for there, path in seen.items() if visitor.get(there).status not in (200, 303)]
    assert not dead, "\n".join(dead)


class Links(HTMLParser):
    """
    What a page leads to.

    Attributes:
        gets: Links, parts, forms that ask, and files.
        posts: Forms that change something.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.posts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element's addresses."""
        of = {name: value or "" for name, value in attrs}
        if tag == "form":
            return self._note(of.get("action", ""), self.posts if of.get("method", "").lower() == "post" else self.gets)
        for name in ("href", "src", "hx-get"):
            self._note(of.get(name, ""), self.gets)
        self._note(of.get("formaction", ""), self.posts)
        return None

    def _note(self, address: str, kind: list[str]) -> None:
        if address.startswith(("/", "?")) and not address.startswith(f"{ROOT}/static"):
            kind.append(address)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", [row.path for row in ROWS if "{" in row.path])
def test_what_is_not_there_is_404(visitor: Visitor, path: str) -> None:
    reply = visitor.get(ROOT + re.sub(r"{.*?}", "nobody", path))
    assert reply.status == 404
    assert "nobody" in reply.text


@pytest.mark.timeout(120)
def test_without_a_controller_every_page_says_so_and_when_to_come_again() -> None:
    with Endpoint() as endpoint:
        visitor = Visitor(endpoint).sign_in()
        endpoint.run(endpoint.yard.stop_serving())
        for row in ROWS:
            path = f"{ROOT}{row.path.replace('{', '').replace('}', '')}"
            if row.path in WITHOUT_CONTROLLER:
                continue
            reply = visitor.get(path)
            assert reply.status == 503, path
            assert int(reply.headers["retry-after"]) > 0, path
            assert "The controller does not answer" in reply.text, path


WITHOUT_CONTROLLER = (
    "/about",
    "/clock",
    "/jobs/many",
    "/jobs/many/{bulk}",
    "/live",
    "/new/environment",
    "/search",
    "/words",
)
"""Rows that ask it nothing, or nothing without more of an address."""
