"""
Pace: how many steps a slice of a plan may take, so that it keeps the loop for a short time.

The core has no clock: who makes plans says how long each took. Law: however wrong the
last slice was, the next is half to twice as long, and no slice does nothing.
"""

from __future__ import annotations

SLICE_MS = 15
"""Planning and applying; encoding and sending what was placed comes on top."""
STEPS_FIRST = 128
STEPS_MIN = 32
STEPS_MAX = 16_384


class Pace:
    """What was learnt from the slices so far."""

    def __init__(self) -> None:
        self.steps_max = STEPS_FIRST

    def note(self, steps: int, took_ms: float) -> None:
        """Learn from a slice, unless it was too short to tell anything."""
        if steps < STEPS_MIN:
            return
        fitting = int(steps * SLICE_MS / took_ms) if took_ms else STEPS_MAX
        fitting = min(max(fitting, self.steps_max // 2), self.steps_max * 2)
        self.steps_max = min(max(fitting, STEPS_MIN), STEPS_MAX)
