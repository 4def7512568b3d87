"""Live pages in a real browser, on a page of the tests' own: a filter, and rows with a box each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import jinja2
import pytest
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab
from tests.gateway.endpoint import ARN, PATIENCE_S, Endpoint, Yard
from tests.ports import hold_address
from tests.services.controller import MemoryController

from batchyard.client import AsyncClient
from batchyard.errors import UnavailableError
from batchyard_controller.store.memory import MemoryData
from batchyard_controller.vault import Vault, make_keys
from batchyard_gateway.console import application
from batchyard_gateway.console.answers import rendering
from batchyard_gateway.console.routes import ROWS, Row
from batchyard_gateway.console.visit import Answer, Page, Visit

from .conftest import forgive
from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SOON_MS = 20_000

ROWS_PAGE = """
{% extends "base.html" %}
{% block content %}
<form><label for="name">Name</label><input id="name" name="name"></form>
<details id="more"><summary>More</summary>Text</details>
<div {{ live(visit, "rows", "jobs") }}>{% block rows %}
<table><caption>Jobs</caption><tbody>
{% for job in jobs %}<tr id="job-{{ job.id }}"><td><input type="checkbox" name="id" value="{{ job.id }}" aria-label="{{ job.name }}"></td>
<td class="state">{{ job.state }}</td><td><details><summary>{{ job.tag }}</summary>Text</details></td></tr>{% endfor %}
</tbody></table>
{% endblock %}</div>
{% endblock %}
"""


async def show(visit: Visit) -> Answer:
    """Show the jobs of a queue."""
    jobs = await visit.client.describe_jobs([job.id async for job in visit.client.list_jobs(queue="q")])
    jobs.sort(key=lambda job: job.created_at_ms)
    rows = [{"id": job.id, "name": job.name, "state": job.state, "tag": job.tags.get("n", "-")} for job in jobs]
    return Page(template="try.html", title="Try", view={"jobs": rows}, live=["jobs"], ids=[job.id for job in jobs])


class Controllers:
    """One controller after the other at one address, over one store."""

    def __init__(self) -> None:
        self.address = hold_address()
        self._data, self._vault = MemoryData(), Vault(make_keys())
        self._now: MemoryController | None = None

    def start(self, endpoint: Endpoint) -> None:
        """Start one and wait until it leads."""
        endpoint.run(self._start())
        endpoint.run(self._until_reached(endpoint.client))

    def stop(self, endpoint: Endpoint) -> None:
        """Stop the one that runs."""
        assert self._now is not None
        endpoint.run(self._now.__aexit__())
        self._now = None

    async def _start(self) -> None:
        self._now = MemoryController(self._data, self._vault, address=self.address)
        await self._now.__aenter__()
        await self._now.until_leads()

    async def _until_reached(self, client: AsyncClient) -> None:
        """Wait while the gateway, which looked for a controller before there was one, holds back its next try."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(UnavailableError):
                    await client.summarize_hosts()
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
def controllers() -> Controllers:
    """Return controllers, none started."""
    return Controllers()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, controllers: Controllers) -> Iterator[Endpoint]:
    """Return a gateway whose console has a page more, and whose controller can be stopped."""
    monkeypatch.setattr(application, "ROWS", (*ROWS, Row("/try", show)))
    pages = jinja2.DictLoader({"try.html": ROWS_PAGE})
    own = jinja2.PackageLoader("batchyard_gateway.console")
    monkeypatch.setattr(rendering, "PackageLoader", lambda name: jinja2.ChoiceLoader([pages, own]))
    with Endpoint(controller=controllers.address) as started:
        controllers.start(started)
        yield started
        if controllers._now is not None:
            controllers.stop(started)


def streams(tab: Tab) -> list[str]:
    """Return the streams that a tab has asked for, as they come."""
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url) if "/console/live?" in request.url else None)
    return asked


def test_a_row_changes_where_it_is(visitor: Visitor, window: Tab, yard: Yard) -> None:
    ids = [yard.submit(f"job-{number}") for number in range(3)]
    window.goto(visitor.link())
    window.goto("/console/try")
    row = window.locator(f"#job-{ids[1]}")
    expect(row.locator(".state")).to_have_text("3")
    row.evaluate("row => { row.mark = 'the same' }")
    before = row.bounding_box()
    yard.batch.terminate_job(jobId=ids[1], reason="enough")
    expect(row.locator(".state")).to_have_text("7")
    assert row.evaluate("row => row.mark") == "the same"
    assert row.bounding_box() == before
    expect(window.locator("tbody tr")).to_have_count(3)


def test_what_one_is_doing_survives_fifty_updates(visitor: Visitor, window: Tab, yard: Yard) -> None:
    ids = [yard.submit(f"job-{number}") for number in range(3)]
    window.goto(visitor.link())
    window.goto("/console/try")
    window.get_by_label("job-1").check()
    window.locator("#more summary").click()
    window.locator("tbody details summary").nth(2).click()
    window.get_by_label("Name").press_sequentially("half-ty")
    window.evaluate("() => { swaps = 0; document.body.addEventListener('htmx:after:swap', () => { swaps += 1; }) }")
    for number in range(50):
        yard.batch.tag_resource(resourceArn=f"{ARN}job/{ids[0]}", tags={"n": str(number)})
        window.evaluate("() => document.body.dispatchEvent(new CustomEvent('live-jobs'))")
        expect(window.locator("tbody summary").first).to_have_text(str(number))
    assert window.evaluate("swaps") >= 50
    expect(window.get_by_label("Name")).to_be_focused()
    expect(window.get_by_label("Name")).to_have_value("half-ty")
    window.keyboard.type("ped")
    expect(window.get_by_label("Name")).to_have_value("half-typed")
    expect(window.get_by_label("job-1")).to_be_checked()
    assert window.locator("details[open]").count() == 2


def test_a_hidden_tab_closes_its_stream_and_a_seen_one_looks_again(visitor: Visitor, window: Tab, yard: Yard) -> None:
    job_id = yard.submit()
    asked = streams(window)
    window.goto(visitor.link())
    window.goto("/console/try")
    expect(window.locator(".totals")).to_contain_text("1 waiting")
    with window.expect_event("requestfailed", lambda request: "/console/live?" in request.url):
        hide(window, True)
    yard.batch.terminate_job(jobId=job_id, reason="enough")
    before = len(asked)
    hide(window, False)
    expect(window.locator(f"#job-{job_id} .state")).to_have_text("7")
    expect(window.locator(".totals")).to_contain_text("1 failed")
    assert len(asked) == before + 1


def hide(tab: Tab, is_hidden: bool) -> None:
    """Tell a page that it is hidden, as a browser does: without a head it hides none."""
    tab.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        is_hidden,
    )


def test_a_controller_that_dies_greys_the_page_and_one_that_is_back_clears_it(
    visitor: Visitor, window: Tab, yard: Yard, endpoint: Endpoint, controllers: Controllers, faults: list[str]
) -> None:
    job_id = yard.submit()
    window.goto(visitor.link())
    window.goto("/console/try")
    expect(window.locator(".totals")).to_contain_text("1 waiting")
    controllers.stop(endpoint)
    expect(window.get_by_role("alert")).to_contain_text("The controller has not answered since", timeout=SOON_MS)
    expect(window.get_by_role("alert")).to_contain_text("Jobs that run go on")
    expect(window.locator("html")).to_have_class("stale")
    expect(window.locator(f"#job-{job_id}")).to_be_visible()
    controllers.start(endpoint)
    expect(window.get_by_role("alert")).to_be_hidden(timeout=SOON_MS)
    expect(window.locator("html")).not_to_have_class("stale")
    yard.batch.terminate_job(jobId=job_id, reason="enough")
    expect(window.locator(f"#job-{job_id} .state")).to_have_text("7", timeout=SOON_MS)
    forgive(faults, "503")


def test_a_gateway_that_restarts_asks_to_sign_in_and_leads_back(
    visitor: Visitor, chromium: Browser, yard: Yard, controllers: Controllers
) -> None:
    yard.submit()
    address = hold_address()
    here = f"http://{address}/console/about?a=b"
    tab = chromium.new_page()
    with Endpoint(controller=controllers.address, listen=address):
        tab.goto(f"http://{address}{visitor.link()}")
        tab.goto(here)
        expect(tab.locator(".totals")).to_contain_text("1 waiting")
    expect(tab.get_by_role("alert")).to_contain_text("The gateway has not answered since", timeout=SOON_MS)
    with Endpoint(controller=controllers.address, listen=address):
        expect(tab.get_by_role("alert")).to_contain_text("You are signed out.", timeout=SOON_MS)
        tab.get_by_role("link", name="Sign in again").click()
        tab.get_by_label("Access key id").fill(visitor.key_id)
        tab.get_by_label("Secret access key").fill(visitor.secret)
        tab.get_by_role("button", name="Sign in").click()
        expect(tab).to_have_url(here)
        expect(tab.locator(".totals")).to_contain_text("1 waiting")
    tab.close()


def test_signing_out_in_another_tab_is_seen_in_this_one(visitor: Visitor, window: Tab, faults: list[str]) -> None:
    window.goto(visitor.link())
    window.goto("/console/about")
    expect(window.locator(".totals")).to_be_visible()
    other = window.context.new_page()
    other.goto("/console/about")
    other.get_by_role("button", name="Sign out").click()
    expect(window.get_by_role("alert")).to_contain_text("You are signed out.", timeout=SOON_MS)
    expect(window.get_by_role("link", name="Sign in again")).to_have_attribute(
        "href", "/console/sign-in?next=%2Fconsole%2Fabout"
    )
    forgive(faults, "401")  # of a fragment that was under way


def test_without_a_stream_the_page_looks_by_itself(
    visitor: Visitor, window: Tab, yard: Yard, monkeypatch: pytest.MonkeyPatch, faults: list[str]
) -> None:
    monkeypatch.setattr("batchyard_gateway.console.live.hub.TABS_MAX", 0)
    job_id = yard.submit()
    window.goto(visitor.link())
    window.goto("/console/try")
    expect(window.locator(".totals")).to_contain_text("1 waiting")
    yard.batch.terminate_job(jobId=job_id, reason="enough")
    expect(window.locator(f"#job-{job_id} .state")).to_have_text("7", timeout=SOON_MS)
    expect(window.get_by_role("alert")).to_be_hidden()
    forgive(faults, "503")


def test_ends_are_said_in_one_sentence(visitor: Visitor, window: Tab, yard: Yard) -> None:
    ids = [yard.submit() for _ in range(3)]
    window.goto(visitor.link())
    window.goto("/console/try")
    expect(window.locator(".totals")).to_contain_text("3 waiting")
    for job_id in ids:
        yard.batch.terminate_job(jobId=job_id, reason="enough")
    expect(window.locator("#said")).to_have_text("3 jobs ended, 3 failed", timeout=SOON_MS)
