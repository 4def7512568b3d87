"""Switching: what jobs go through, enabled and disabled by the buttons of its page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from batchyard.errors import RequestError
from batchyard_gateway.console.forms.faults import Faults, faults_of
from batchyard_gateway.console.visit import Answer, Page, Redirect, Visit
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members


async def switch(
    visit: Visit, operation: str, members: Members, name: str, remarks: Mapping[str, str],
    page: Callable[[Faults], Awaitable[Page]],
) -> Answer:  # fmt: skip
    """
    Enable or disable a thing, as the form says.

    Args:
        visit: Whose form has the ``action``.
        operation: Of AWS's, that takes the new ``state``.
        members: The rest of its input.
        name: What it is called.
        remarks: What it means, by ``enable`` and ``disable``, with a place for the name.
        page: The thing's own page, with what is not right.
    """
    action = visit.form.get("action", "")
    if action not in remarks:
        return (await page({"": f"There is no action {action!r}."})).refused()
    try:
        await visit.operate(operation, {**members, "state": f"{action.upper()}D"})
    except (ApiError, RequestError) as err:
        return (await page(faults_of(err, {}))).refused()
    visit.session.notices.append(remarks[action].format(name))
    return Redirect(location=visit.path)
