"""A day with a yard of real processes, by browser: what failed is found, a secret arrives, and what dies comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from batchyard import container
from batchyard.states import JobState
from batchyard.wording import job_state

from .conftest import GONE, forgive, watched
from .real_yard import RealYard
from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def tab(chromium: Browser, furnished: RealYard, faults: list[str]) -> Iterator[Page]:
    """Return a tab that has signed in at the real yard; complaints that a test does not forgive fail it."""
    context = chromium.new_context(base_url=furnished.origin)
    context.add_cookies([furnished.sign_in()])
    yield watched(context, furnished.origin, faults)
    context.close()
    assert not faults, faults


def test_two_of_twenty_that_failed_are_found_from_the_overview_in_three_clicks(tab: Page) -> None:
    tab.goto("/console/")
    failures = tab.get_by_role("region", name="Last failures")
    failures.get_by_role("link", name="2 of 20 children failed").click()
    expect(tab.locator("tr[id^=row-]")).to_have_count(2)
    expect(tab.locator("#failed-indexes")).to_have_text("7,13")
    tab.locator("tr[id^=row-]").first.get_by_role("link").first.click()
    expect(tab.locator(".why")).to_contain_text("exit code 3")
    expect(tab.get_by_role("region", name="The end of its log")).to_contain_text("no such file: input.dat")


def test_a_secret_is_put_and_arrives_in_a_job(tab: Page, furnished: RealYard) -> None:
    tab.goto("/console/secrets")
    tab.get_by_label("Name").fill("day/password")
    tab.get_by_label("Value").fill("hush-hush")
    tab.get_by_role("button", name="Put secret").click()
    expect(tab.locator(".bar.good")).to_contain_text("day/password")
    shown = container(
        ["sh", "-c", "echo $PASSWORD | tr a-z A-Z"], vcpus=0.25, memory="64M", secrets={"PASSWORD": "day/password"}
    )
    with furnished.client() as client:
        client.register_job_definition("shows", container=shown)
    tab.goto("/console/definitions/shows:1")
    expect(tab.locator("main")).to_contain_text("day/password")
    tab.get_by_role("link", name="Submit").first.click()
    tab.get_by_label("Name", exact=True).fill("shows")
    tab.get_by_role("button", name="Review").click()
    tab.get_by_role("button", name="Submit").click()
    tab.wait_for_url("**/console/jobs/*")
    assert "hush-hush" not in tab.content()
    tab.get_by_role("link", name="Log", exact=True).first.click()
    expect(tab.locator(".line code")).to_have_text(["HUSH-HUSH"])


def test_a_controller_that_is_killed_greys_the_jobs_and_loses_none(
    tab: Page, furnished: RealYard, faults: list[str]
) -> None:
    tab.goto("/console/jobs")
    rows = tab.locator("tr[id^=row-]").evaluate_all("rows => rows.map(row => row.id)")
    long = tab.locator(f"[id='row-{furnished.names['job-long']}']")
    expect(long).to_contain_text("RUNNING")
    furnished.controller.kill()
    expect(tab.get_by_role("alert")).to_contain_text("The controller has not answered since")
    expect(tab.locator("html")).to_have_class("stale")
    assert tab.locator("tr[id^=row-]").evaluate_all("rows => rows.map(row => row.id)") == rows
    furnished.controller.start()
    expect(tab.get_by_role("alert")).to_be_hidden()
    expect(tab.locator("html")).not_to_have_class("stale")
    expect(long).to_contain_text("RUNNING")
    with furnished.client() as client:
        states = {job.id: job_state(job) for job in client.list_jobs()}
        assert len(states) == len(rows)
        assert states[furnished.names["job-long"]] is JobState.RUNNING
        client.terminate_job(furnished.names["job-long"], "enough")
    expect(long).to_contain_text("FAILED")
    forgive(faults, "503")


def test_a_gateway_that_is_killed_asks_to_sign_in_and_leads_back(
    tab: Page, furnished: RealYard, faults: list[str]
) -> None:
    here = f"{furnished.origin}/console/jobs?state=FAILED"
    tab.goto(here)
    rows = tab.locator("tr[id^=row-]").count()
    furnished.gateway.kill()
    expect(tab.get_by_role("alert")).to_contain_text("The gateway has not answered since")
    furnished.gateway.start()
    expect(tab.get_by_role("alert")).to_contain_text("You are signed out.")
    tab.get_by_role("link", name="Sign in again").click()
    tab.get_by_label("Access key id").fill(furnished.key_id)
    tab.get_by_label("Secret access key").fill(furnished.secret)
    tab.get_by_role("button", name="Sign in").click()
    expect(tab).to_have_url(here)
    expect(tab.locator("tr[id^=row-]")).to_have_count(rows)
    forgive(faults, "401", *GONE)


def test_a_key_is_made_signs_in_and_is_revoked(
    visitor: Visitor, window: Page, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session of the key ends by itself; how long a key is taken as good without asking is shortened here."""
    monkeypatch.setattr("batchyard_gateway.console.entry.entry.CHECK_S", 0.0)
    monkeypatch.setattr("batchyard_gateway.console.live.hub.BEAT_S", 0.5)
    window.goto(visitor.link())
    window.get_by_role("link", name="Access keys").click()
    window.get_by_label("Description").fill("for an hour")
    window.get_by_role("button", name="Create access key").click()
    key_id, secret = window.locator("#made-id").inner_text(), window.locator("#made-secret").inner_text()
    window.get_by_role("link", name="I have kept it").click()
    expect(window.locator("main")).to_contain_text("for an hour")
    assert secret not in window.content()
    other = chromium.new_context(base_url=f"http://127.0.0.1:{visitor.endpoint.port}").new_page()
    other.goto("/console/about")
    other.get_by_label("Access key id").fill(key_id)
    other.get_by_label("Secret access key").fill(secret)
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("About")
    window.get_by_role("button", name=f"Revoke {key_id}").click()
    expect(window.locator(".bar.good")).to_contain_text(key_id)
    expect(other.get_by_role("alert")).to_contain_text("You are signed out.")
    other.reload()
    expect(other.get_by_role("heading", level=1)).to_have_text("Sign in")
    other.context.close()
