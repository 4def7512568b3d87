"""Exit codes of the command line, beyond a job's own."""

from __future__ import annotations

FAILED = 1
"""A job failed without an exit code; ``up`` lost one of its programs; our reader went away."""

USAGE = 2
REFUSED = 3
UNREACHABLE = 4
INTERNAL = 5
TIMEOUT = 124
"""As timeout(1)."""

INTERRUPTED = 130
"""As a shell: 128 and SIGINT."""
