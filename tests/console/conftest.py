"""A gateway with its console over an empty controller, who looks at it, and a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from tests.conftest import chromium_path
from tests.gateway.conftest import logged
from tests.gateway.endpoint import Endpoint, Yard

from .real_yard import RealYard
from .visitor import Visitor

__all__ = ["logged"]

# On a busy machine a page takes longer than the five seconds that Playwright gives it, or the thirty for a click.
SOON_MS = 60_000
expect.set_options(timeout=SOON_MS)

# What a browser says of a server that is gone, whether it was asked by a page, a fragment or a stream.
GONE = ("ERR_", "Failed to fetch", "EventSource")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Return a gateway over an empty controller."""
    with Endpoint() as started:
        yield started


@pytest.fixture
def stranger(endpoint: Endpoint) -> Visitor:
    """Return who has not signed in."""
    return Visitor(endpoint)


@pytest.fixture
def visitor(endpoint: Endpoint) -> Visitor:
    """Return who has signed in."""
    return Visitor(endpoint).sign_in()


@pytest.fixture
def yard(endpoint: Endpoint) -> Yard:
    """Return a yard with an environment ``ce``, a queue ``q`` and a definition ``d``."""
    return Yard(endpoint, endpoint.batch())


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealYard]:
    """Return a yard of real processes with something of every kind in it, for all tests of a module."""
    yard = RealYard(tmp_path_factory.mktemp("furnished"))
    try:
        yard.open("alpha", "beta")
        yard.furnish()
        yield yard
    finally:
        yard.sweep()


@pytest.fixture(scope="session")
def launched() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop | None]]:
    """Return the system's Chromium, started once, and the loop by which this thread talks with it."""
    path = chromium_path()
    if path is None:
        pytest.skip("needs chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()


@pytest.fixture
def chromium(launched: tuple[Browser, asyncio.AbstractEventLoop | None]) -> Iterator[Browser]:
    """Return it for one test; Playwright's loop runs in this thread meanwhile, and no other could."""
    browser, loop = launched
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture
def faults() -> list[str]:
    """Return what the browser complained of; a test that leaves any fails."""
    return []


@pytest.fixture
def window(chromium: Browser, endpoint: Endpoint, faults: list[str]) -> Iterator[Page]:
    """Return a tab of a browser that knows the console's address; complaints and strangers' addresses fail the test."""
    context = chromium.new_context(base_url=f"http://127.0.0.1:{endpoint.port}")
    yield watched(context, f"http://127.0.0.1:{endpoint.port}", faults)
    context.close()
    assert not faults, faults


def forgive(faults: list[str], *words: str) -> None:
    """Drop complaints of answers that the test means to bring about."""
    faults[:] = [fault for fault in faults if not any(word in fault for word in words)]


def is_fault(message: ConsoleMessage) -> bool:
    """Say whether what a browser tells is our fault: other tests' containers come and go, and so do networks."""
    return message.type == "error" and "ERR_NETWORK_CHANGED" not in message.text


def watched(context: BrowserContext, origin: str, faults: list[str]) -> Page:
    """Open a tab; what it or the browser complains of, and what it asks of strangers, becomes a fault."""
    context.on("request", lambda request: None if request.url.startswith(origin) else faults.append(request.url))
    page = context.new_page()
    page.set_default_timeout(SOON_MS)
    page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    return page
