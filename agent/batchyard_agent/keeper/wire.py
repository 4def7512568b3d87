"""
How agent and keeper speak over their socket: messages, which are lists of byte strings.

Each is preceded by its length; a field that is a list itself is packed into one. It
knows no message: those are named where they are sent and where they are taken.
"""

from __future__ import annotations

VERSION = b"4"
"""Of all messages together. An agent of another version has its keeper become one of its own."""

MESSAGE_BYTES_MAX = 64 << 20
"""More is no message; arguments and environment of a process may have 2 MiB by default."""

_LENGTH_BYTES = 4


class NotSpokenError(Exception):
    """What came is no message of ours; the text says why."""


def pack(fields: list[bytes]) -> bytes:
    """Return fields as one byte string."""
    parts: list[bytes] = []
    for field in fields:
        parts += (len(field).to_bytes(_LENGTH_BYTES, "big"), field)
    return b"".join(parts)


def unpack(data: bytes) -> list[bytes]:
    """
    Return the fields that were packed.

    Raises:
        NotSpokenError: these bytes were not packed here.
    """
    fields, position = [], 0
    while position < len(data):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "big")
        if position > len(data):
            raise NotSpokenError("a field is longer than its message")
        fields.append(data[start:position])
    return fields


def message(*fields: bytes) -> bytes:
    """Return a message ready to be sent."""
    return pack([pack(list(fields))])


class Inbox:
    """Bytes as they come in, and the messages among them."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def take(self, data: bytes) -> list[list[bytes]]:
        """
        Return the messages that are whole with these bytes; none is empty.

        Raises:
            NotSpokenError: what came is no message.
        """
        self._bytes += data
        messages, position = [], 0
        while position + _LENGTH_BYTES <= len(self._bytes):
            start = position + _LENGTH_BYTES
            length = int.from_bytes(self._bytes[position:start], "big")
            if length > MESSAGE_BYTES_MAX:
                raise NotSpokenError(f"a message of {length} bytes")
            if start + length > len(self._bytes):
                break
            position = start + length
            fields = unpack(bytes(self._bytes[start:position]))
            if not fields:
                raise NotSpokenError("an empty message")
            messages.append(fields)
        del self._bytes[:position]
        return messages
