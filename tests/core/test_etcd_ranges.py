"""Ranges: whatever the keys are, each is read once and in order, and etcd looks at few more than there are."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.ids import uuid7
from batchyard_controller.store.etcd_ranges import Ranges

PREFIX = b"/yard/"
END = b"/yard0"


def read(keys: list[bytes], limit: int) -> tuple[list[bytes], int, int]:
    """Return what is read of sorted keys, how many were looked at for it, and in how many ranges."""
    ranges, found, looked, asked = Ranges(PREFIX, END), list[bytes](), 0, 0
    while True:
        assert ranges.start < ranges.end <= END
        inside = keys[bisect_left(keys, ranges.start) : bisect_left(keys, ranges.end)]
        found += inside[:limit]
        looked += len(inside)
        asked += 1
        last = inside[:limit][-1] if inside else b""
        if not ranges.pass_on(last, is_more=len(inside) > limit):
            return found, looked, asked


@given(st.lists(st.binary(max_size=80), unique=True, max_size=60), st.integers(1, 5))
def test_all_is_read_once_and_in_order(names: list[bytes], limit: int) -> None:
    keys = sorted(PREFIX + name.replace(b"\xff", b"\xfe") for name in set(names))
    keys = sorted(set(keys))
    assert read(keys, limit)[0] == keys


@pytest.mark.parametrize("bursts", [1, 7, 300])
def test_what_is_looked_at_grows_with_the_number_of_keys(bursts: int) -> None:
    """Jobs that came in bursts hours apart, an attempt of some, and a few of other kinds, as a store has them."""
    dice = random.Random(bursts)
    ids = [
        uuid7(1_790_000_000_000 + 7_200_000 * (i % bursts) + i // bursts // 2, dice.randbytes(10))
        for i in range(60_000)
    ]
    names = [f"job/{each}" for each in ids] + [f"attempt/{each}/1" for each in ids[::3]]
    names += [f"{kind}/{n}" for kind in ("host", "queue", "environment", "moves", "secret") for n in range(10)]
    keys = sorted(PREFIX + name.encode() for name in names)
    found, looked, asked = read(keys, 500)
    assert found == keys
    # The first looks at all; pages of one open range would look at 80 times as many.
    assert looked < 12 * len(keys)
    assert asked < 20 * max(bursts, len(keys) // 500)
