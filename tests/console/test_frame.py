"""The frame of every page in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from .conftest import forgive
from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_one_signs_in_by_a_link_and_finds_the_keys(visitor: Visitor, window: Page, faults: list[str]) -> None:
    window.goto(visitor.link())
    window.goto("/console/about")
    expect(window.get_by_role("heading", level=1)).to_have_text("About")
    window.keyboard.press("?")
    expect(window.get_by_role("dialog")).to_contain_text("Jobs")
    window.keyboard.press("Escape")
    window.get_by_label("Times").select_option("relative")
    window.get_by_role("button", name="Set").click()
    expect(window.get_by_label("Times")).to_have_value("relative")
    window.get_by_role("button", name="Sign out").click()
    expect(window.get_by_role("heading", level=1)).to_have_text("Sign in")
    forgive(faults, "401")  # of a fragment that was under way


def test_one_signs_in_by_a_secret(visitor: Visitor, window: Page) -> None:
    window.goto("/console/about")
    window.get_by_label("Access key id").fill(visitor.key_id)
    window.get_by_label("Secret access key").fill(visitor.secret)
    window.get_by_role("button", name="Sign in").click()
    expect(window.get_by_role("heading", level=1)).to_have_text("About")
