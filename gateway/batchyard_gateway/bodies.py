"""
Bodies: reading them within bounds, each and all together.

It must never know what bodies say. Law: what is kept of bodies that are still to come is
at most `FREE_BYTES` each and `SHARED_BYTES` over all, so that long ones never crowd out
the short ones that calls have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect

from .errors import ApiError, BusyException

BODY_BYTES_MAX = 5 << 20
"""Ours: longer than any input that is taken, so that a list far too long still gets the service's own error."""

FREE_BYTES = 64 << 10
"""Of each body: longer than a job that AWS takes."""

SHARED_BYTES = 64 << 20
"""What all bodies under way may have beyond that."""


class Bodies:
    """The bodies under way."""

    def __init__(self, *, shared_bytes_max: int = SHARED_BYTES) -> None:
        self._left = shared_bytes_max

    async def read(self, parts: AsyncIterator[bytes], *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """
        Return a body of so many bytes at most.

        Raises:
            ApiError: it is too long, or did not come to its end.
            BusyException: too much is under way already.
        """
        body, shared = bytearray(), 0
        try:
            async for part in parts:
                body += part
                if len(body) > bytes_max:
                    raise ApiError("RequestEntityTooLargeException", f"The body has more than {bytes_max} bytes.", 413)
                more = max(0, len(body) - FREE_BYTES) - shared
                if more > self._left:
                    raise BusyException
                self._left -= more
                shared += more
        except ClientDisconnect as err:
            raise ApiError("RequestAbortedException", "The body did not come to its end.") from err
        finally:
            self._left += shared
        return bytes(body)
