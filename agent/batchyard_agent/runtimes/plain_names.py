"""Plain names for attempts, as of files and cgroups, and the way back."""

from __future__ import annotations

import re

_NOT_PLAIN = re.compile(rb"[^A-Za-z0-9-]")


def plain_name(attempt_id: str) -> str:
    """Return a name for files and cgroups: letters, digits and ``-``, all else as ``_`` and hex."""
    return _NOT_PLAIN.sub(lambda match: b"_%02x" % match[0][0], attempt_id.encode()).decode()


def attempt_id_of(name: str) -> str:
    """Return the attempt id that ``plain_name`` was given."""
    return re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), name.encode()).decode()
