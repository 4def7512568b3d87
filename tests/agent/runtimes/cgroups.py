"""Whether this machine lets cgroups be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchyard_agent.runtimes import cgroup


def why_no_cgroup() -> str:
    try:
        parent = cgroup.find_parent(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text(), os.getpid()
        )
    except cgroup.CgroupUnavailableError as error:
        return str(error)
    parent.remove_empty()
    return ""


NO_CGROUP = why_no_cgroup()
needs_cgroup = pytest.mark.skipif(bool(NO_CGROUP), reason=f"no cgroup can be made here: {NO_CGROUP}")
