"""
Harmless: texts of jobs and strangers as a terminal may get them.

A terminal obeys what it is sent: it sets titles and the clipboard, moves the cursor over
what stood there, writes from right to left. Law: of all that it would obey, line ends,
tabs, returns to the line's beginning and colours get through; in JSON nothing does, and nothing is lost.
"""

from __future__ import annotations

import codecs
import json
import re

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_COLOUR = r"\x1b\[[0-9;:]{0,64}m"
_HARMFUL = re.compile(rf"({_COLOUR})|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDI}]")
_BEGUN = re.compile(r"\x1b(\[[0-9;:]{0,64})?\Z")
_UNESCAPED = re.compile(rf"[\x7f-\x9f\u2028\u2029{_BIDI}]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_PLAIN = "\x1b[0m"


class TerminalFilter:
    """Makes a stream of bytes harmless, whatever its pieces are cut at."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._is_coloured = False

    def feed(self, data: bytes) -> bytes:
        """Return what may be written now; the beginning of a colour is held back."""
        text = self._held + self._decoder.decode(data)
        begun = _BEGUN.search(text)
        self._held = text[begun.start() :] if begun else ""
        return self._clean(text[: begun.start()] if begun else text)

    def end(self) -> bytes:
        """Return what was held back, and an end of colours if there were any."""
        rest = self._clean(self._held + self._decoder.decode(b"", final=True))
        return rest + (_PLAIN.encode() if self._is_coloured else b"")

    def _clean(self, text: str) -> bytes:
        def replaced(found: re.Match[str]) -> str:
            self._is_coloured = self._is_coloured or found[1] is not None
            return found[1] or _REPLACEMENT

        return _HARMFUL.sub(replaced, text).encode()


def line(text: str) -> str:
    """Return a text in which white space is blanks and what cannot be printed is replaced."""
    return "".join(c if c.isprintable() else " " if c.isspace() else _REPLACEMENT for c in text)


def json_text(plain: object, indent: int | None = None) -> str:
    """Return JSON in which letters stay letters and what a terminal would obey is escaped."""
    text = json.dumps(plain, indent=indent, ensure_ascii=False)
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
