"""
Hubs: for each access key that has signed in its own look at the controller, as its owner sees it.

Law: what is read for one is shown to nobody else; a hub that nobody attends costs no call,
and there are only so many.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from .hub import Hub

HUBS_MAX = 1_000
"""As many as there may be sessions."""


class Hubs:
    """
    All of them.

    Args:
        make: Makes the hub of an access key.
    """

    def __init__(self, make: Callable[[str], Hub]) -> None:
        self._make = make
        self._of: OrderedDict[str, tuple[Hub, asyncio.Task[None]]] = OrderedDict()
        self._group: asyncio.TaskGroup | None = None
        self._is_closing = False

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Let hubs look on beside the server, in this group: what goes wrong in one ends all of it."""
        self._group = group

    def of(self, access_key_id: str) -> Hub:
        """Return the hub of an access key."""
        known = self._of.get(access_key_id)
        if known is None:
            assert self._group is not None, "pages are served after the beginning"
            hub = self._make(access_key_id)
            if self._is_closing:
                hub.close()
            known = self._of[access_key_id] = hub, self._group.create_task(hub.run())
            self._drop_idle()
        self._of.move_to_end(access_key_id)
        return known[0]

    def _drop_idle(self) -> None:
        """Forget those that nobody attends, the longest not asked for first, while there are too many."""
        for access_key_id in list(self._of)[:-1]:
            hub, task = self._of[access_key_id]
            if len(self._of) <= HUBS_MAX:
                return
            if not hub.is_attended:
                task.cancel()
                del self._of[access_key_id]

    def wake(self) -> None:
        """Let all streams ask whether they go on."""
        for hub, _ in self._of.values():
            hub.wake()

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._is_closing = True
        for hub, _ in self._of.values():
            hub.close()
