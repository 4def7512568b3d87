"""
Log slices: pieces of an attempt's log by offset, over what was dropped of its middle.

It must never know lines. Law: a call reads no more than it was asked for, whatever the length of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from batchyard.client import AsyncClient

BEYOND_ANY_LOG = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """
    Bytes in one piece.

    Attributes:
        start: The offset of the first.
        asked: From where on they were asked for: what is between was dropped.
    """

    data: bytes
    start: int
    asked: int

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.start + len(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """
    The log of one attempt, of several containers that of one.

    All methods raise `NotFoundError` where it is kept no longer, `FailedPreconditionError` where the
    attempt never ran, and `UnavailableError` where its host is away.
    """

    client: AsyncClient
    job_id: str
    attempt: int
    container: str = ""

    async def read(self, offset: int, length: int) -> Piece:
        """Return what stands from an offset on; it begins later if that was dropped, and ends where more was."""
        answer = await self.client.read_log_slice(
            self.job_id, attempt=self.attempt, container=self.container, offset=offset, limit_bytes=length
        )
        return Piece(data=answer.data, start=answer.next_offset - len(answer.data), asked=offset)

    async def end(self) -> int:
        """Return the log's length, with what was dropped."""
        return (await self.read(BEYOND_ANY_LOG, 1)).end

    async def read_before(self, end: int, length: int) -> Piece:
        """Return what stands in the *length* bytes before an offset; what stands before a gap if that is there."""
        offset = max(0, end - length)
        piece = await self.read(offset, end - offset)
        if piece.start >= end > 0:
            end = await self._gap_start(end)
            offset = max(0, end - length)
            piece = await self.read(offset, end - offset)
        if piece.end < end:
            behind = await self.read(piece.end, end - piece.end)
            piece = behind if behind.start < end else piece
        return replace(piece, data=piece.data[: max(0, end - piece.start)])

    async def _gap_start(self, offset: int) -> int:
        """Return where the log's middle was dropped, to find what stands before it; *offset* is not before its end."""
        low, high = 0, offset
        while high - low > 1:
            middle = (low + high) // 2
            if (await self.read(middle, 1)).start == middle:
                low = middle
            else:
                high = middle
        return high
