#!/usr/bin/env python3
"""
Run alone, and once more, what failed in the last run of pytest (its cache says what): for .ci/run.

A test that drives real processes shares the machine with a dozen others, and can fail for
that alone. One that fails alone too has failed; so have all where more than ``MOST`` failed, and
tests of decisions, which depend on nothing but their input. What failed once is printed last.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MOST = 3
PURE = ("tests/core/", "tests/scenarios/", "tests/agent/core/", "tests/sim/", "tests/house/", "tests/contract/")


def main() -> int:
    """Return 0 where all that failed passes alone."""
    failed = sorted(json.loads(Path(".pytest_cache/v/cache/lastfailed").read_text(encoding="utf-8")))
    if not 0 < len(failed) <= MOST or any(name.startswith(PURE) for name in failed):
        return 1
    print("Once more, alone:", *failed, sep="\n  ", flush=True)
    ended = subprocess.run([sys.executable, "-m", "pytest", "--numprocesses=0", *failed], check=False)
    if ended.returncode == 0:
        print("These failed among the others, and passed alone:", *failed, sep="\n  ", flush=True)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
