"""Paging: opaque tokens that survive a restart and fit one list alone, and page sizes with a limit."""

from __future__ import annotations

import base64
import binascii

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard_controller.core import limits

NUMBER_LENGTH_MAX = 18
"""Longest number in a token; it fits 64 bits."""


def page_size(asked: int) -> int:
    """
    Return the size of the page to give; 0 asks for the default.

    Raises:
        InvalidArgumentError: it is negative or above the limit.
    """
    if not 0 <= asked <= limits.PAGE_SIZE_MAX:
        text = f"{asked} is not between 0 and {limits.PAGE_SIZE_MAX}"
        raise InvalidArgumentError.from_violations([Violation("page_size", text, Reason.OUT_OF_RANGE)])
    return asked or limits.PAGE_SIZE_DEFAULT


def encode_token(listed: str, place: str) -> str:
    """Return a token for the place of a list after which its next page begins."""
    return base64.urlsafe_b64encode(f"1:{listed}:{place}".encode()).decode()


def decode_token(listed: str, token: str) -> str:
    """
    Return the place that a token names; nothing for no token.

    Raises:
        InvalidArgumentError: it is no token of this list.
    """
    if not token:
        return ""
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        text = ""
    mark = f"1:{listed}:"
    if not text.startswith(mark) or text == mark:
        raise _bad_token()
    return text.removeprefix(mark)


def as_number(text: str) -> int:
    """
    Return a number out of a token.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_LENGTH_MAX):
        raise _bad_token()
    return int(text)


def _bad_token() -> InvalidArgumentError:
    text = "is not a token that this list gave out"
    return InvalidArgumentError.from_violations([Violation("page_token", text, Reason.UNKNOWN_PAGE_TOKEN)])
