"""A store that is nearly full: no new jobs, and what is there goes on."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard

from batchyard.errors import Reason, ResourceExhaustedError
from batchyard.states import JobState
from batchyard_controller.core.events import Ticked
from batchyard_controller.core.model.room import Room

MIB = 1 << 20


def measure(yard: Yard, used: int) -> None:
    room = Room(size_bytes=2000 * MIB, used_bytes=used * MIB, quota_bytes=2048 * MIB, reserve_bytes=410 * MIB)
    yard.apply(Ticked(room=room))


def test_jobs_that_are_there_go_on_where_new_ones_are_refused() -> None:
    yard = Yard()
    yard.environment()
    yard.queue()
    yard.host("h")
    measure(yard, used=1600)
    first = yard.submit(request_id="mine")
    measure(yard, used=1700)
    with pytest.raises(ResourceExhaustedError, match="holds 1,700 MiB of at most 2,048 MiB") as refused:
        yard.submit()
    assert refused.value.reason is Reason.STORE_FULL
    assert refused.value.metadata == {"used_bytes": str(1700 * MIB), "limit": str(2048 * MIB)}
    assert yard.submit(request_id="mine") is first
    yard.run_all()
    assert yard.state(first.id) is JobState.SUCCEEDED
    measure(yard, used=1600)
    yard.submit()
