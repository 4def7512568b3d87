"""
Keys: where each record lives in the store.

One flat name space, each kind with a prefix of its own. Nothing else builds or
splits a key.
"""

from __future__ import annotations

KINDS = (
    *("restore", "environment", "queue", "scheduling_policy", "quota_share", "consumable", "definition", "secret"),
    *("access_key", "binding", "token", "join_token", "member", "sink", "host", "launch", "job", "state", "children"),
    *("attempt", "left", "usage"),
)
"""Kinds of records, in the order in which they are needed to build the world."""


def key_of(kind: str, name: str) -> str:
    """Return the key of a record."""
    return f"{kind}/{name}"


def name_of(kind: str, key: str) -> str:
    """Return the name in a key of *kind*."""
    return key[len(kind) + 1 :]
