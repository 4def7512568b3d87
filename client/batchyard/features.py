"""
Features: what agents can do that older ones cannot, by the names that they tell.

An agent says in its host's facts which it has; the controller sends work that needs one
only to hosts that said so.
"""

from __future__ import annotations

SEVERAL_CONTAINERS = "several-containers"
"""Attempts of several containers, or of containers that share their processes or memory segments."""

FEATURES = (SEVERAL_CONTAINERS,)
"""All that agents of this version have."""
