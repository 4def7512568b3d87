"""The command line, ``batchyard``: one file per noun. See :mod:`batchyard.cli.app`."""

from __future__ import annotations

from batchyard.cli.app import main

__all__ = ["main"]
