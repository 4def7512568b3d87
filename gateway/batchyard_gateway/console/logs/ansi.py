"""
ANSI: what programs write for a terminal, as text and the few looks that a page gives it.

Only colours and weights are taken (ECMA-48 SGR); every other sequence is dropped, whatever it asks
a terminal to do. It must never know HTML. Law: no byte of a log becomes anything but text, and what
would hide or reorder text is made visible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_SGR_LENGTH_MAX = 100

_TOKEN = re.compile(
    rf"(?:\x1b\[|\x9b)(?P<sgr>[0-9;:]{{0,{_SGR_LENGTH_MAX}}})m"
    r"|(?P<dropped>(?:\x1b\[|\x9b)[0-?]{0,1000}[ -/]{0,10}[@-~]"  # other control sequences
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,4000}(?:\x07|\x1b\\|\x9c)"  # titles, links and the like
    r"|\x1b[ -/]{0,10}[0-~])"
    r"|(?P<again>\r)"
    r"|(?P<control>[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb])"
)
_DELETE = 0x7F


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """
    How text looks.

    Attributes:
        ink: 0 to 15 of the terminal's sixteen colours, -1 for its own.
        ground: The same behind the text.
    """

    ink: int = -1
    ground: int = -1
    bold: bool = False
    faint: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False

    @property
    def classes(self) -> str:
        """The CSS classes: ``f1`` to ``f6`` and ``f8`` (grey) for ink, ``g0`` to ``g6`` for ground, and letters."""
        ink, ground = (self.ground, self.ink) if self.inverse else (self.ink, self.ground)
        names = [
            # Black and white are what the reader's theme has for text.
            "f8" if ink == 8 else f"f{ink % 8}" if ink >= 0 and ink % 8 not in (0, 7) else "",
            f"g{ground % 8 % 7}" if ground >= 0 else "g0" if self.inverse else "",
            *(letter for letter, is_on in self._letters() if is_on),
        ]
        return " ".join(name for name in names if name)

    @property
    def text(self) -> str:
        """The numbers of a sequence that leads here from plain text; see ``style_from``."""
        numbers = [number for (_, is_on), number in zip(self._letters(), (1, 2, 3, 4), strict=True) if is_on]
        numbers += [7] if self.inverse else []
        for colour, dark, bright in ((self.ink, 30, 90), (self.ground, 40, 100)):
            if colour >= 0:
                numbers.append(dark + colour if colour < 8 else bright + colour - 8)
        return ";".join(map(str, numbers))

    def _letters(self) -> Sequence[tuple[str, bool]]:
        return ("b", self.bold), ("d", self.faint), ("i", self.italic), ("u", self.underline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Text that looks alike."""

    text: str
    classes: str


PLAIN = Style()

_SWITCHES: dict[int, dict[str, bool]] = {
    1: {"bold": True}, 2: {"faint": True}, 3: {"italic": True}, 4: {"underline": True}, 7: {"inverse": True},
    21: {"underline": True}, 22: {"bold": False, "faint": False}, 23: {"italic": False}, 24: {"underline": False},
    27: {"inverse": False},
}  # fmt: skip


def style_from(text: str) -> Style:
    """Return the style that a sequence's numbers lead to; plain where it is none of ours."""
    return _styled(PLAIN, text) if re.fullmatch(r"[0-9;]{0,100}", text, re.ASCII) else PLAIN


def parse_line(text: str, style: Style) -> tuple[list[Span], Style]:
    """
    Return a line's spans, and the style that the next one begins with.

    Args:
        text: Without its end. A carriage return begins the line anew, as progress bars do.
        style: In which it begins.
    """
    spans: list[Span] = []
    position, is_again = 0, False

    def add(piece: str) -> None:
        nonlocal is_again
        if not piece:
            return
        if is_again:
            spans.clear()
            is_again = False
        classes = style.classes
        if spans and spans[-1].classes == classes:
            piece = spans.pop().text + piece
        spans.append(Span(text=piece, classes=classes))

    for match in _TOKEN.finditer(text):
        add(text[position : match.start()])
        position = match.end()
        if match["sgr"] is not None:
            style = _styled(style, match["sgr"])
        elif match["again"]:
            is_again = True
        elif match["control"]:
            add(_shown(match["control"]))
    add(text[position:])
    return spans, style


def _shown(control: str) -> str:
    """Return a sign for a character that would be nothing, or would move what stands around it."""
    code = ord(control)
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == _DELETE else f"\u27e8U+{code:04X}\u27e9"


def _styled(style: Style, text: str) -> Style:
    numbers = [int(part[:9] or 0) for part in text.replace(":", ";").split(";")]
    while numbers:
        number = numbers.pop(0)
        if number in (38, 48):
            colour = _colour(numbers)
            if colour is not None:
                style = replace(style, ink=colour) if number == 38 else replace(style, ground=colour)
        else:
            style = _switched(style, number)
    return style


def _switched(style: Style, number: int) -> Style:
    if number == 0:
        return PLAIN
    if number in _SWITCHES:
        return replace(style, **_SWITCHES[number])
    tens, colour = divmod(number, 10)
    if tens in (3, 4, 9, 10) and (colour < 8 or (colour == 9 and tens < 9)):
        value = -1 if colour == 9 else colour + (8 if tens >= 9 else 0)
        return replace(style, ink=value) if tens in (3, 9) else replace(style, ground=value)
    return style


def _colour(numbers: list[int]) -> int | None:
    """Take a colour of 256 or of 24 bits from the front of *numbers*; return the closest of the sixteen."""
    kind = numbers.pop(0) if numbers else 0
    if kind == 5 and numbers:  # xterm: 16 of the terminal, a cube of 6, 24 greys
        index = numbers.pop(0)
        if index < 16:
            return index
        if index < 232:
            cube = index - 16
            return _closest(cube // 36 * 51, cube // 6 % 6 * 51, cube % 6 * 51)
        return _closest(*[8 + (min(index, 255) - 232) * 10] * 3)
    if kind == 2 and len(numbers) >= 3:
        red, green, blue = numbers[:3]
        del numbers[:3]
        return _closest(red, green, blue)
    numbers.clear()  # nobody can say where it would have ended
    return None


def _closest(*parts: int) -> int:
    """Return the colour of the sixteen that is closest to red, green and blue of 0 to 255."""
    most = max(min(part, 255) for part in parts)
    if most - min(parts) < 40:  # a grey
        return 0 if most < 64 else 8 if most < 160 else 7
    return sum(1 << place for place, part in enumerate(parts) if part * 2 > most) + (8 if most > 200 else 0)
