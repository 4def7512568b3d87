"""The log viewer in a real browser: following, filtering, searching, and lines that would be more than text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect
from tests.gateway.endpoint import Endpoint

from .conftest import forgive
from .host import Host, host
from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def yard(endpoint: Endpoint, tmp_path: Path) -> Iterator[Host]:
    """Return a host that runs processes."""
    endpoint.run(endpoint.yard.furnish())
    with host(endpoint, tmp_path) as connected:
        yield connected


def open_log(tab: Tab, visitor: Visitor, job_id: str, query: str = "") -> None:
    tab.goto(visitor.link())
    tab.goto(f"/console/jobs/{job_id}/log{query}")


def test_a_log_is_followed_to_its_end(visitor: Visitor, window: Tab, yard: Host) -> None:
    with yard.talker() as talker:
        open_log(window, visitor, talker.job_id)
        expect(window.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
        talker.say(b"\x1b[31mone\ntw")
        expect(window.locator(".line code")).to_have_text(["one", "tw"])
        talker.say(b"o\x1b[0m\n\"><script>document.title='x'</script>\n")
        expect(window.locator(".line code")).to_have_text(["one", "two", "\"><script>document.title='x'</script>"])
        expect(window.locator(".line a")).to_have_text(["1", "2", "3"])
        expect(window.locator(".f1")).to_have_text(["one", "two"])
    expect(window.locator("#log-state")).to_have_text("The attempt has ended: this is all of its log.")
    expect(window.locator("#part-about")).to_contain_text("SUCCEEDED")
    expect(window.locator(".line")).to_have_count(3)
    expect(window).to_have_title("Log of talker \u00b7 Batchyard us-east-1")


def test_who_follows_the_latest_attempt_goes_on_with_the_next(visitor: Visitor, window: Tab, yard: Host) -> None:
    with yard.talker(attempts=2, end="exit 1") as talker:
        open_log(window, visitor, talker.job_id)
        talker.say(b"first try\n")
        expect(window.locator(".line code")).to_have_text(["first try"])
        talker.hang_up()
        talker.say(b"second try\n")
        expect(window.locator(".line code")).to_have_text(["second try"])
        expect(window.get_by_role("link", name="Attempt 1 (exit 1)")).to_be_visible()


def test_only_lines_that_match_are_seen_also_those_that_come(visitor: Visitor, window: Tab, yard: Host) -> None:
    with yard.talker() as talker:
        open_log(window, visitor, talker.job_id)
        talker.say(b"an Error\nfine\n")
        expect(window.locator(".line")).to_have_count(2)
        window.get_by_label("Search loaded lines").fill("error")
        window.get_by_label("Only lines that match").check()
        expect(window.locator("#log-found")).to_have_text("1 line")
        talker.say(b"fine again\nerror again\n")
        expect(window.locator("#log-found")).to_have_text("2 lines")
        expect(window.locator(".line:visible code")).to_have_text(["an Error", "error again"])
        window.get_by_role("button", name="Next").click()
        expect(window.locator("#log-found")).to_have_text("1 of 2 lines")
        expect(window.locator(".line.now code")).to_have_text("an Error")
        window.get_by_role("button", name="Previous").click()
        expect(window.locator(".line.now code")).to_have_text("error again")
        expect(window.get_by_role("button", name="Copy link to line")).to_be_enabled()
        window.get_by_label("Search loaded lines").fill("")
        expect(window.locator(".line:visible")).to_have_count(4)


def test_older_lines_come_before_without_moving_what_is_read(visitor: Visitor, window: Tab, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "seq 100000 116000")  # more than a page holds
    open_log(window, visitor, job_id)
    expect(window.locator(".line code").last).to_have_text("116000")
    expect(window.locator(".line code").last).to_be_in_viewport()
    loaded = window.locator(".line").count()
    window.locator("#log").evaluate("log => { log.scrollTop = 0; }")
    top = window.locator(".line").first
    offset = top.get_attribute("id")
    before = top.bounding_box()
    window.get_by_role("link", name="Older lines").click()
    expect(window.locator(".slice")).to_have_count(2)
    after = window.locator(f"#{offset}").bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    assert window.locator(".line").count() > loaded
    while window.locator(".slice").first.get_attribute("data-older"):
        slices = window.locator(".slice").first.get_attribute("data-older")
        window.get_by_role("link", name="Older lines").click()
        expect(window.locator(".slice").first).not_to_have_attribute("data-older", str(slices))
        assert window.locator(".line").count() <= 10_000
    expect(window.locator(".line code").first).to_have_text("100000")
    expect(window.locator(".line a").first).to_have_text("1")
    expect(window.get_by_role("link", name="Older lines")).to_be_hidden()
    window.get_by_role("link", name="To the bottom").click()
    expect(window.locator(".line code").last).to_have_text("116000")


def test_a_link_to_a_line_leads_to_it(visitor: Visitor, window: Tab, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "seq 100000 140000")
    open_log(window, visitor, job_id, "?at=140000#b140000")
    expect(window.locator(".line.now code")).to_have_text("120000")
    expect(window.locator(".line.now")).to_be_in_viewport()
    window.locator("#b140007 > a").click()
    assert window.url.endswith("at=140007#b140007")
    window.reload()
    expect(window.locator(".line.now code")).to_have_text("120001")


def test_a_busy_log_keeps_to_so_many_lines(visitor: Visitor, window: Tab, yard: Host) -> None:
    with yard.talker() as talker:
        open_log(window, visitor, talker.job_id)
        for start in range(0, 15_000, 1500):
            talker.say(b"".join(b"%d\n" % number for number in range(start, start + 1500)))
        expect(window.locator(".line code").last).to_have_text("14999")
        assert 8_000 <= window.locator(".line").count() <= 10_000
        expect(window.locator(".line a").last).to_have_text("15000")
        window.get_by_role("button", name="Wrap lines").click()
        expect(window.locator("#log")).to_have_class("log straight")
        window.keyboard.press("f")
        expect(window.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")


def test_a_session_that_is_over_stops_following(visitor: Visitor, window: Tab, yard: Host, faults: list[str]) -> None:
    with yard.talker() as talker:
        open_log(window, visitor, talker.job_id)
        talker.say(b"one\n")
        expect(window.locator(".line")).to_have_count(1)
        other = window.context.new_page()
        other.goto("/console/about")
        other.get_by_role("button", name="Sign out").click()
        expect(window.get_by_role("link", name="Sign in again")).to_be_visible()
        expect(window.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
        forgive(faults, "401")
