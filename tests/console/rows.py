"""The table of the console's pages as addresses of a yard with something of every kind in it."""

from __future__ import annotations

from collections.abc import Mapping

from batchyard_gateway.console.routes import ROWS

NO_PAGES = (
    "/clock", "/jobs/many", "/jobs/many/{bulk}", "/jobs/{id}/log.txt", "/live", "/queues/{name}/new-share",
    "/queues/{name}/shares/{share}",
)  # fmt: skip
"""Rows that no person looks at, or that are empty without more of an address."""

PAGES = tuple(row.path for row in ROWS if row.path not in NO_PAGES)


def filled(path: str, names: Mapping[str, str], of_kind: Mapping[str, str]) -> str:
    """Return a path with a yard's own names; ``{name}`` stands for something of the path's first word."""
    return path.format(**{**names, "name": of_kind.get(path.split("/")[1], "default")})
