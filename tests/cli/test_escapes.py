"""Keys that leave a terminal far away: at the beginning of a line alone, however they come in pieces."""

from __future__ import annotations

import pytest

from batchyard.cli.escapes import Escapes


@pytest.mark.parametrize(
    ("typed", "passed", "has_left"),
    [
        (b"ls\r", b"ls\r", False),
        (b"~.", b"", True),
        (b"a~.", b"a~.", False),
        (b"ls\r~.rest", b"ls\r", True),
        (b"~~.", b"~.", False),
        (b"~x~.", b"~x~.", False),
        (b"~\r~.", b"~\r", True),
        (b"\x03\xff~", b"\x03\xff~", False),
    ],
)
def test_only_its_own_keys_are_taken(typed: bytes, passed: bytes, has_left: bool) -> None:
    for size in (1, 2, len(typed)):
        escapes = Escapes()
        pieces = [escapes.take(typed[start : start + size]) for start in range(0, len(typed), size)]
        assert (b"".join(pieces), escapes.has_left) == (passed, has_left), size
