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
_CREDIT = 0.8
"""Of the time that a step took, so much is expected of the next ones at least: lines that are refused at once tell little."""


class Pace:
    """What was learnt from the slices so far."""

    def __init__(self) -> None:
        self.steps_max = STEPS_FIRST
        self._step_ms = 0.0

    def note(self, steps: int, took_ms: float) -> None:
        """Learn from a slice, unless it was too short to tell anything."""
        if steps < STEPS_MIN:
            return
        self._step_ms = max(took_ms / steps, self._step_ms * _CREDIT if took_ms else 0.0)
        fitting = int(SLICE_MS / self._step_ms) if took_ms else STEPS_MAX
        fitting = min(max(fitting, self.steps_max // 2), self.steps_max * 2)
        self.steps_max = min(max(fitting, STEPS_MIN), STEPS_MAX)
