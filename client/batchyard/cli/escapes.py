"""
Escapes: keys that are for this program and not for what runs far away.

As ssh has them: at the beginning of a line ``~.`` leaves, and ``~~`` is one ``~``. It is pure: bytes
in, bytes out. Law: all else goes through unchanged, and nothing is held back but a ``~``.
"""

from __future__ import annotations

_NEW_LINES = b"\r\n"
_ESCAPE = ord("~")
_LEAVE = ord(".")


class Escapes:
    """
    What was typed so far, as far as it matters.

    Attributes:
        has_left: ``~.`` was typed; nothing goes through any more.
    """

    def __init__(self) -> None:
        self._is_at_start = True
        self._is_held = False
        self.has_left = False

    def take(self, typed: bytes) -> bytes:
        """Return what of *typed*, and of what was held before, is for the other side."""
        passed = bytearray()
        for byte in typed:
            if self.has_left:
                break
            if self._is_held:
                self._is_held = False
                if byte == _LEAVE:
                    self.has_left = True
                    break
                passed += b"~" if byte == _ESCAPE else bytes((_ESCAPE, byte))
            elif self._is_at_start and byte == _ESCAPE:
                self._is_held = True
                continue
            else:
                passed.append(byte)
            self._is_at_start = byte in _NEW_LINES
        return bytes(passed)
