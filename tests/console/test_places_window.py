"""Queues, environments and hosts in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from tests.gateway.endpoint import Yard, environment, queue
from tests.services.hand_agent import running

from .conftest import forgive
from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def refusals(faults: list[str]) -> Iterator[None]:
    """Forgive that the browser complains of pages that tell a refusal: these are meant."""
    yield
    forgive(faults, "status of 422")


def test_a_host_is_drained_while_one_watches(visitor: Visitor, yard: Yard, window: Page) -> None:
    agent = yard.endpoint.agent()
    yard.submit("busy")
    (spec,) = yard.endpoint.run(agent.hear_starts())
    yard.endpoint.run(agent.report(running(spec.attempt_id)))
    window.goto(visitor.link())
    window.get_by_role("link", name="Hosts", exact=True).first.click()
    window.get_by_role("link", name="alpha").click()
    window.get_by_role("button", name="Drain").click()
    expect(window.get_by_text("attempts that still run: 1")).to_be_visible()
    expect(window.get_by_role("link", name="busy", exact=True)).to_be_visible()
    yard.endpoint.run(agent.finish(spec.attempt_id))
    expect(window.get_by_text("nothing runs any more")).to_be_visible()
    expect(window.locator(".state").filter(has_text="DRAINED")).to_be_visible()
    window.get_by_role("button", name="Uncordon").click()
    expect(window.get_by_text("alpha gets work again.")).to_be_visible()


def test_a_queue_that_selects_no_host_says_which_rule(visitor: Visitor, yard: Yard, window: Page) -> None:
    yard.endpoint.agent(host_type="workstation")
    yard.batch.create_compute_environment(**environment("none", instanceTypes=["p4d.24xlarge"]))
    yard.batch.create_job_queue(**queue("stuck", "none"))
    yard.submit(jobQueue="stuck")
    window.goto(visitor.link())
    window.get_by_role("link", name="stuck").click()
    expect(window.get_by_role("table", name="Who waits for a host")).to_contain_text("waits for a host")
    window.get_by_role("link", name="none", exact=True).click()
    table = window.get_by_role("table", name="Which rule leaves which hosts out")
    expect(table).to_contain_text("compute_resources.instance_types")
    expect(table).to_contain_text("its type is workstation")
    expect(table.get_by_role("link", name="alpha")).to_be_visible()


def test_a_queue_is_made_changed_and_deleted(visitor: Visitor, yard: Yard, window: Page, refusals: None) -> None:
    window.goto(visitor.link())
    window.goto("/console/queues")
    window.get_by_role("link", name="Create a queue").click()
    window.get_by_label("Name").fill("q")
    window.get_by_role("group", name="Compute environments, row 1").get_by_label("Environment").select_option("ce")
    window.get_by_role("button", name="Create queue").click()
    alert = window.get_by_role("alert").filter(has_text="not right")
    expect(alert).to_be_focused()
    alert.get_by_role("link").click()
    expect(window.get_by_label("Name")).to_be_focused()
    expect(window.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    window.get_by_label("Name").fill("other")
    window.get_by_role("button", name="Create queue").click()
    expect(window.get_by_text("other was created.")).to_be_visible()
    window.get_by_role("link", name="Edit").click()
    window.get_by_label("Priority").fill("9")
    window.get_by_role("button", name="Save").click()
    window.get_by_role("link", name="Delete").click()
    window.get_by_role("button", name="Delete other").click()
    expect(window.get_by_text("Cannot delete, resource must be in the DISABLED state")).to_be_visible()
    window.get_by_role("button", name="Disable other").click()
    window.get_by_role("link", name="Delete").click()
    window.get_by_role("button", name="Delete other").click()
    expect(window.get_by_text("other was deleted.")).to_be_visible()


def test_an_environment_in_use_says_by_whom(visitor: Visitor, yard: Yard, window: Page, refusals: None) -> None:
    window.goto(visitor.link())
    window.goto("/console/environments/ce")
    window.get_by_role("link", name="Delete").click()
    expect(window.get_by_text("Queues use ce")).to_be_visible()
    window.get_by_role("button", name="Delete ce").click()
    expect(window.get_by_role("alert").filter(has_text="found existing JobQueue relationship: q")).to_be_visible()
    window.get_by_role("link", name="Keep it").click()
    window.get_by_role("button", name="Disable").click()
    expect(window.get_by_text("DISABLED")).to_be_visible()


def test_counts_change_and_charts_have_tables(visitor: Visitor, yard: Yard, window: Page) -> None:
    window.goto(visitor.link())
    expect(window.get_by_text("no jobs")).to_be_visible()
    yard.submit()
    tile = window.get_by_role("region", name="Queues")
    expect(tile.get_by_role("link", name="RUNNABLE")).to_be_visible()
    expect(window.get_by_role("img", name="Jobs by state")).to_be_visible()
    window.get_by_text("As a table").first.click()
    expect(window.get_by_role("table", name="Jobs by state")).to_contain_text("RUNNABLE")
    window.get_by_role("link", name="24 hours").click()
    expect(window).to_have_url(re.compile(r"period=24h"))
    expect(window.get_by_text("18 h").first).to_be_visible()


def test_a_table_that_was_opened_stays_open(visitor: Visitor, yard: Yard, window: Page) -> None:
    window.goto(visitor.link())
    window.get_by_text("As a table").first.click()
    with window.expect_response(lambda response: "part=figures" in response.url):
        window.evaluate("document.body.dispatchEvent(new Event('live-hosts'))")
    expect(window.get_by_role("table", name="Jobs by state")).to_be_visible()
