"""The day with jobs in a real browser: what failed is found, filtered, stopped, cloned, and nothing jumps meanwhile."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from tests.gateway.endpoint import Endpoint

from batchyard_gateway.console.jobs import jobs as jobs_page

from .scene import Scene, fails
from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def scene(endpoint: Endpoint) -> Scene:
    return Scene(endpoint)


@pytest.fixture
def tab(visitor: Visitor, window: Page) -> Page:
    """Return a tab that has signed in."""
    window.goto(visitor.link())
    return window


def look_again(tab: Page, topic: str = "jobs") -> None:
    """Tell the page what its stream of events would tell it, and wait until it has looked."""
    with tab.expect_response(lambda reply: "/jobs" in reply.url and "part=" in reply.url):
        tab.evaluate(f"document.body.dispatchEvent(new Event('live-{topic}'))")


def test_two_of_twenty_that_failed_are_found_with_reason_and_log(tab: Page, scene: Scene) -> None:
    """From where the overview's count of failed jobs leads: the array, the child, and why."""
    scene.ended("fine")
    scene.array(20, {3, 17}, reports=fails(1, reason="no such input"))
    scene.waiting("waits")
    tab.goto("/console/jobs?state=FAILED")
    expect(tab.locator("tr[id^=row-]")).to_have_count(1)
    tab.get_by_role("link", name="grid", exact=True).click()
    expect(tab.get_by_role("heading", name="Why it failed")).to_be_visible()
    expect(tab.get_by_role("table", name="2 of 20 children failed")).to_contain_text("no such input")
    scene.answers_logs(b"step 1\nstep 2\nTraceback: no such input\n")
    tab.get_by_role("link", name="grid :17").click()
    expect(tab.locator(".why")).to_contain_text("no such input")
    expect(tab.get_by_role("region", name="The end of its log")).to_contain_text("Traceback: no such input")
    tab.go_back()
    tab.get_by_role("link", name="All children that failed").click()
    expect(tab.locator("tr[id^=row-]")).to_have_count(2)
    expect(tab.locator("#failed-indexes")).to_have_text("3,17")
    tab.get_by_label("Go to index").fill("3")
    tab.get_by_role("button", name="Go", exact=True).click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("grid :3")


def test_filters_are_set_and_dropped(tab: Page, scene: Scene) -> None:
    scene.ended("fine", tags={"team": "blue"})
    scene.ended("broken", fails(1))
    scene.waiting("waits")
    tab.goto("/console/jobs")
    tab.get_by_role("checkbox", name="Failed", exact=True).check()
    tab.get_by_role("checkbox", name="Succeeded", exact=True).check()
    tab.get_by_text("More filters").click()
    tab.get_by_label("Tag", exact=True).fill("team")
    tab.get_by_role("button", name="Filter").click()
    expect(tab.locator("tr[id^=row-]")).to_have_count(1)
    assert "state=SUCCEEDED" in tab.url
    assert "state=FAILED" in tab.url
    tab.get_by_role("link", name="drop tag team").click()
    expect(tab.locator("tr[id^=row-]")).to_have_count(2)
    tab.get_by_label("Name", exact=True).fill("zz*")
    tab.get_by_label("Name", exact=True).press("Enter")
    expect(tab.get_by_text("No jobs match")).to_be_visible()
    tab.get_by_role("link", name="drop name zz*").click()
    expect(tab.locator("tr[id^=row-]")).to_have_count(2)


def test_ticks_focus_and_what_is_half_typed_survive_updates(tab: Page, scene: Scene) -> None:
    ids = [scene.waiting(f"j{number}") for number in range(3)]
    tab.goto("/console/jobs?state=RUNNABLE")
    tab.locator(f"input[value='{ids[1]}']").check()
    tab.get_by_label("Name", exact=True).fill("half ty")
    scene.yard.batch.terminate_job(jobId=ids[2], reason="enough")
    order = tab.locator("tr[id^=row-]").evaluate_all("rows => rows.map(row => row.id)")
    for _ in range(50):
        look_again(tab)
    expect(tab.locator(f"[id='row-{ids[2]}']")).to_contain_text("FAILED")
    assert tab.locator("tr[id^=row-]").evaluate_all("rows => rows.map(row => row.id)") == order
    expect(tab.locator(f"input[value='{ids[1]}']")).to_be_checked()
    expect(tab.get_by_label("Name", exact=True)).to_have_value("half ty")
    expect(tab.get_by_label("Name", exact=True)).to_be_focused()


def test_a_change_is_seen_by_itself(tab: Page, scene: Scene) -> None:
    """By the stream of events, on the list, on the job's page and among the children."""
    waits = scene.waiting("waits", arrayProperties={"size": 3})
    tab.goto("/console/jobs?state=RUNNABLE&state=PENDING")
    other = tab.context.new_page()
    other.goto(f"/console/jobs/{waits}/children")
    expect(other.locator(".map use[href='#map-waiting']")).to_have_count(3)
    expect(other.locator(".map use").first).to_be_visible()
    scene.yard.batch.terminate_job(jobId=f"{waits}:1", reason="enough")
    expect(other.locator(".map use[href='#map-failed']")).to_have_count(1)
    expect(other.locator(f"[id='row-{waits}:1']")).to_contain_text("enough")
    expect(other.locator(".states")).to_contain_text("FAILED 1")
    tab.bring_to_front()
    expect(tab.locator(f"[id='row-{waits}']")).to_contain_text("1 failed")
    other.close()


def test_new_jobs_are_announced_and_not_inserted(tab: Page, scene: Scene) -> None:
    scene.waiting("a")
    tab.goto("/console/jobs")
    scene.waiting("b")
    look_again(tab, "counts")
    expect(tab.locator("tr[id^=row-]")).to_have_count(1)
    tab.get_by_role("link", name="1 new: show").click()
    expect(tab.locator("tr[id^=row-]")).to_have_count(2)


def test_a_short_page_goes_on_by_itself(tab: Page, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        scene.waiting(f"j{number}")
    monkeypatch.setattr(jobs_page, "LOOK_S", 0.0)
    monkeypatch.setattr("batchyard_controller.core.views.listing.LOOKS_MAX", 2)
    tab.goto("/console/jobs")
    expect(tab.locator("tr[id^=row-]")).to_have_count(5)
    expect(tab.get_by_text("Looking on")).to_have_count(0)
    look_again(tab)
    expect(tab.locator("tr[id^=row-]")).to_have_count(5)


def test_all_that_match_over_three_pages_are_cancelled(tab: Page, scene: Scene) -> None:
    ids = [scene.waiting(f"j{number}") for number in range(120)]
    other = scene.waiting("other")
    tab.goto("/console/jobs?name=j*&size=50")
    tab.get_by_label("With").select_option("all")
    tab.get_by_role("button", name="Cancel…").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Cancel 120 jobs?")
    expect(tab.get_by_role("table")).to_contain_text("RUNNABLE120will be cancelled")
    tab.get_by_label("Reason").fill("a wrong input")
    tab.get_by_role("button", name="Cancel 120").click()
    expect(tab.locator(".bar.good")).to_contain_text("120 jobs are cancelled")
    assert {scene.yard.job(job_id)["statusReason"] for job_id in ids} == {"a wrong input"}
    assert scene.yard.job(other)["status"] == "RUNNABLE"


def test_a_job_leads_to_its_clone(tab: Page, scene: Scene) -> None:
    fine = scene.ended("fine")
    tab.goto("/console/jobs")
    tab.get_by_role("link", name="fine", exact=True).click()
    expect(tab.get_by_role("link", name="Clone")).to_have_attribute("href", f"/console/jobs/new?clone={fine}")


def test_why_it_waits_goes_on_being_asked(tab: Page, scene: Scene) -> None:
    """Without a stream of events: the panel asks by itself until there is nothing to wait for."""
    waits = scene.waiting("waits")
    tab.goto(f"/console/jobs/{waits}")
    tab.get_by_label("Key", exact=True).fill("half")
    expect(tab.get_by_role("heading", name="Why it waits")).to_be_visible()
    scene.yard.batch.terminate_job(jobId=waits, reason="enough")
    expect(tab.get_by_role("heading", name="Why it failed")).to_be_visible()
    expect(tab.locator(".why")).to_contain_text("enough")
    expect(tab.get_by_label("Key", exact=True)).to_have_value("half")


def test_without_scripts_all_but_live_works(tab: Page, scene: Scene, visitor: Visitor) -> None:
    for number in range(60):
        scene.waiting(f"j{number}")
    browser = tab.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, base_url=f"http://127.0.0.1:{scene.endpoint.port}")
    name, _, value = visitor.cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": f"http://127.0.0.1:{scene.endpoint.port}/console"}])
    plain = context.new_page()
    plain.goto("/console/jobs?size=50")
    plain.get_by_role("link", name="Older").click()
    expect(plain.locator("tr[id^=row-]")).to_have_count(10)
    plain.get_by_label("With").select_option("all")
    plain.get_by_role("button", name="Terminate…").click()
    plain.get_by_role("button", name="Terminate 60").click()
    expect(plain.locator(".bar.good")).to_contain_text("60 jobs are terminated")
    context.close()


def test_the_id_of_a_row_is_copied_whole(tab: Page, scene: Scene) -> None:
    waits = scene.waiting("waits")
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto("/console/jobs")
    row = tab.locator(f"[id='row-{waits}']")
    expect(row).to_contain_text("waits for a host")  # by then it is not drawn anew any more, with what is said in it
    tab.evaluate("() => { window.setTimeout = () => 0; }")  # what is said stays until it is seen
    row.get_by_role("button", name="Copy the id").click()
    expect(row).to_contain_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == waits
    tab.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('denied'); }; }")
    row.get_by_role("button", name="Copy the id").click()
    expect(row).to_contain_text("Not copied")
