"""Paging: opaque tokens that survive a restart, and page sizes with a limit."""

from __future__ import annotations

import base64
import binascii

from batchyard.errors import InvalidArgumentError, Violation
from batchyard_controller.core import limits


def page_size(asked: int) -> int:
    """
    Return the size of the page to give; 0 asks for the default.

    Raises:
        InvalidArgumentError: it is negative or above the limit.
    """
    if not 0 <= asked <= limits.PAGE_SIZE_MAX:
        raise InvalidArgumentError.from_violations(
            [Violation("page_size", f"{asked} is not between 0 and {limits.PAGE_SIZE_MAX}")]
        )
    return asked or limits.PAGE_SIZE_DEFAULT


def encode_token(place: str) -> str:
    """Return a token for the place after which the next page begins."""
    return base64.urlsafe_b64encode(f"1:{place}".encode()).decode()


def decode_token(token: str) -> str | None:
    """
    Return the place that a token names; None for no token.

    Raises:
        InvalidArgumentError: it is no token of ours.
    """
    if not token:
        return None
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError):
        text = ""
    version, _, place = text.partition(":")
    if version != "1":
        raise InvalidArgumentError.from_violations([Violation("page_token", "is not a token this controller gave out")])
    return place
