"""``--fence``, ``host release-brake``, and what is said of a store that is away."""

from __future__ import annotations

from tests.cli.conftest import Run
from tests.sdk.yard import Yard


def test_a_fence_is_given_and_shown(run: Run, yard: Yard) -> None:
    job = run("submit", "--fence", "never", "-o", "name", "--", "true").out.strip()
    assert "Fence" in (shown := run("describe", job).out)
    assert shown.split("Fence")[1].split()[0] == "never"
    assert run("queue", "update", "default", "--fence", "15m").code == 0
    assert run("queue", "describe", "default").out.split("Fence")[1].split()[0] == "15m"
    assert run("queue", "update", "default", "--fence", "default").code == 0
    assert "Fence" not in run("queue", "describe", "default").out
    refused = run("submit", "--fence", "29s", "--", "true")
    assert refused.code == 3
    assert "fence_s: 29 seconds is neither between 30 and 86400, nor -1, which is never" in refused.err


def test_a_brake_that_does_not_hold_cannot_be_released(run: Run, yard: Yard) -> None:
    refused = run("host", "release-brake")
    assert (refused.code, "the brake does not hold: no host is waited for" in refused.err) == (3, True)
