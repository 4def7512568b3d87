"""Removals of attempts that are let go of one by one, of runtimes that ask somebody else for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence


async def all_at_once(attempt_ids: Sequence[str], remove: Callable[[str], Awaitable[None]]) -> Mapping[str, Exception]:
    """Remove each; return those that could not be, and why."""
    results = await asyncio.gather(*map(remove, attempt_ids), return_exceptions=True)
    pairs = zip(attempt_ids, results, strict=True)
    return {attempt_id: result for attempt_id, result in pairs if isinstance(result, Exception)}
