"""Events reach a receiver, all of them and in order, however often anybody on the way dies."""

from __future__ import annotations

import pytest
from bench.sinks import survive

pytestmark = pytest.mark.timeout(400)


async def test_no_move_is_missing_though_controller_relay_and_receiver_are_killed() -> None:
    tally = await survive(80, seed=3, pause_s=0.6)
    assert tally.is_kept, str(tally)
    assert tally.moves >= 320
    assert min(tally.kills) > 0, str(tally)
