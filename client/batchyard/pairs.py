"""Pairs: maps of texts as values that can be compared, hashed and kept."""

from __future__ import annotations

from collections.abc import Mapping

Pairs = tuple[tuple[str, str], ...]
"""A map with text keys and values, sorted by key."""


def pairs(mapping: Mapping[str, str]) -> Pairs:
    """Turn a map into sorted pairs."""
    return tuple(sorted(mapping.items()))
