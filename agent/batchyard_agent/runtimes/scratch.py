"""What an attempt's working folder takes of the disk. It knows files, and nothing of attempts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_STAT_BLOCK_BYTES = 512
_MIB = 1 << 20


def used_mib(folder: Path) -> int:
    """Return what a folder and all below it takes, in blocks; links are not followed. May take long: call it in a thread."""
    blocks = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a job may remove it meanwhile
                blocks += os.lstat(os.path.join(parent, name)).st_blocks  # noqa: PTH118  # hot path
    return blocks * _STAT_BLOCK_BYTES // _MIB
