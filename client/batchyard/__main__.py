"""``python -m batchyard`` is ``batchyard``."""

from __future__ import annotations

import sys

from batchyard.cli import main

if __name__ == "__main__":
    sys.exit(main())
