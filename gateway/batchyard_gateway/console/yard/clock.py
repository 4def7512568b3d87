"""The clock: how a reader wants times written, kept in a cookie."""

from __future__ import annotations

from batchyard_gateway.console.visit import ROOT, Answer, Redirect, Visit, own_path
from batchyard_gateway.console.writing.moments import STYLES


async def show(visit: Visit) -> Answer:
    """Lead back to the first page: there is nothing to see."""
    return Redirect(location=f"{ROOT}/")


async def choose(visit: Visit) -> Answer:
    """Keep the choice and go back to the page where it was made."""
    style = visit.form.get("style", "")
    cookies = {"batchyard-clock": style} if style in STYLES else {}
    return Redirect(location=own_path(visit.form.get("back", "")), cookies=cookies)
