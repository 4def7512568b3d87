"""A lease: for how long it may be relied on, and the thread that renews it."""

from __future__ import annotations

import asyncio
import time

import pytest

from batchyard_controller.store import lease as lease_module
from batchyard_controller.store.lease import STALL_S, Lease, LeaseKeeper, now
from batchyard_controller.store.protocol import StoreUnavailableError


def test_lease_is_held_for_two_thirds_of_its_life() -> None:
    lease = Lease(ttl_s=6, renewed_at=100, answered_at=100)
    assert (lease.renews_at, lease.ends_at) == (102, 104)
    assert lease.is_held(103.9)
    assert not lease.is_held(104)


def test_leader_whose_loop_stands_still_does_not_renew() -> None:
    lease = Lease(ttl_s=6, renewed_at=100, answered_at=103 - STALL_S)
    assert lease.is_held(103)
    assert not lease.may_renew(103)
    assert lease.may_renew(102.9)


class HandLine:
    """A line whose answers are given by hand."""

    def __init__(self) -> None:
        self.renewals = 0
        self.is_closed = False
        self.is_held = True
        self.is_reached = True

    def renew(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        if not self.is_reached:
            raise StoreUnavailableError("away")
        self.renewals += 1
        return self.is_held

    def close(self) -> None:
        self.is_closed = True


async def _until_over(keeper: LeaseKeeper) -> None:
    async with asyncio.timeout(5):
        await keeper.over.wait()


async def test_lease_is_renewed_while_the_loop_is_busy() -> None:
    """A turn that lasts longer than a lease is held loses nothing."""
    line = HandLine()
    keeper = LeaseKeeper(line, 3, now())
    while line.renewals < 3 and not line.is_closed:
        time.sleep(0.05)  # the turn that takes long
    assert keeper.is_held()
    keeper.stop()
    assert not keeper.is_held()
    assert keeper.over.is_set()


async def test_loop_that_stands_still_for_good_loses_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "STALL_S", 0.5)
    line = HandLine()
    keeper = LeaseKeeper(line, 0.6, now())
    time.sleep(1.5)
    assert not keeper.is_held()
    await _until_over(keeper)
    assert line.is_closed


async def test_lease_that_cannot_be_renewed_is_over_before_it_runs_out() -> None:
    line = HandLine()
    began = now()
    keeper = LeaseKeeper(line, 0.6, began)
    line.is_reached = False
    await _until_over(keeper)
    assert now() - began >= 0.4
    assert not keeper.is_held()


async def test_lease_that_was_taken_away_is_over_at_once() -> None:
    line = HandLine()
    line.is_held = False
    keeper = LeaseKeeper(line, 60.0, now() - 20)  # due at once
    await _until_over(keeper)
