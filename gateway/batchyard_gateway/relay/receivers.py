"""Receivers: what takes events, of whichever kind, and how it says that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from .bodies import Body

BATCH_MAX = 10
"""AWS: entries of PutEvents, SendMessageBatch and PublishBatch."""
BATCH_BYTES_MAX = 200 << 10
"""AWS: 256 KiB for all of them, with what they are wrapped in."""


class DeliveryError(Exception):
    """
    Events were not taken.

    Attributes:
        delivered: How many of them were, from the first on.
        is_gone: The receiver wants no more, ever.
    """

    def __init__(self, text: str, delivered: int = 0, *, is_gone: bool = False) -> None:
        super().__init__(text)
        self.delivered = delivered
        self.is_gone = is_gone


class Receiver(Protocol):
    """Takes events in their order. Blocks; it is called in a thread."""

    def deliver(self, bodies: Sequence[Body], secret: str) -> None:
        """
        Return once all are taken, for good.

        Raises:
            DeliveryError: some were not.
        """

    def close(self) -> None:
        """Let go of what is open."""


def batches(bodies: Sequence[Body]) -> Iterator[Sequence[Body]]:
    """
    Cut events into what AWS's services take at once, nothing in it twice about the same.

    So whichever of a batch is refused, what is about the same comes behind it.
    """
    start = size = 0
    about: set[str] = set()
    for place, body in enumerate(bodies):
        length = len(body.text().encode())
        if place > start and (place - start == BATCH_MAX or size + length > BATCH_BYTES_MAX or body.about in about):
            yield bodies[start:place]
            start, size, about = place, 0, set()
        size += length
        about.add(body.about)
    if start < len(bodies):
        yield bodies[start:]
