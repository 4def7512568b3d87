"""
Garbage: at which objects the interpreter looks for cycles.

A look at all of them takes longer the more jobs there are, and a turn waits for it. So
what a look at everything has spared is looked at no more. Nothing of the world is kept
by that: it makes no cycles (a test holds it to that), and goes when nobody names it any
more. What gRPC leaves in cycles is nearly always found before. See decision 0023.
"""

from __future__ import annotations

import gc

_ALL = 2
"""The generation of a look at everything that is not spared."""


def spare_survivors() -> None:
    """From now on, in this process, look once at whatever lives long."""
    if _spare not in gc.callbacks:
        gc.callbacks.append(_spare)


def _spare(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == _ALL:
        gc.freeze()


def look_at_all() -> None:
    """
    Look at everything once, what was spared too: for when little of it is left, as after a term.

    In a process that spares nothing the interpreter looks again by itself.
    """
    if _spare in gc.callbacks:
        gc.unfreeze()
        gc.collect()
