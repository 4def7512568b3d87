"""Prices: the linear programme of cutting GPUs into parts, told by its own laws."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard_controller.core.placement.prices import PRECISION, UNITS, price_parts

COUNTS = st.dictionaries(st.integers(1, 999), st.floats(0.01, 100), min_size=1, max_size=8)


def test_parts_of_which_two_fill_a_gpu_cost_half_of_one():
    prices = price_parts({500: 8.0})
    assert prices.prices == {50: pytest.approx(0.5)}
    assert prices.gpus == pytest.approx(4.0)
    assert [int(prices.worths[left]) for left in (0, 499, 500, 999, 1000)] == [0, 0, 500_000, 500_000, PRECISION]


def test_a_remainder_that_too_few_could_fill_is_worth_nothing():
    """Ten leave 190 each, and there is one part of 160 alone: there is room for it anyway."""
    prices = price_parts({810: 10.0, 160: 1.0})
    assert prices.gpus == pytest.approx(10.0)
    assert prices.prices == {16: pytest.approx(0.0), 81: pytest.approx(1.0)}
    assert int(prices.worths[190]) == 0


def test_a_remainder_that_many_wait_for_is_worth_its_part():
    """Six of 160 fill a GPU, and each of those that 810 leave saves a sixth."""
    prices = price_parts({810: 1.0, 160: 60.0})
    assert prices.prices[16] == pytest.approx(1 / 6)
    assert int(prices.worths[190]) == round(PRECISION / 6)


def test_no_parts_have_no_worth():
    assert int(price_parts({}).worths.sum()) == 0


@given(COUNTS)
def test_what_the_prices_say_is_what_the_programme_needs(counts: dict[int, float]):
    """
    Strong duality, seen from both sides.

    The prices are feasible for the dual, as no way to fill a GPU is worth more than one; their sum is a lower
    bound, which no fewer GPUs than the amounts alone ask for can be below; and it cannot be above one GPU a part.
    """
    prices = price_parts(counts)
    by_size: dict[int, float] = {}
    for millis, count in counts.items():
        by_size[-(-millis // 10)] = by_size.get(-(-millis // 10), 0.0) + count
    assert sum(by_size[size] * price for size, price in prices.prices.items()) == pytest.approx(prices.gpus)
    assert int(prices.worths[1000]) == pytest.approx(PRECISION, abs=UNITS)  # each price is rounded
    assert (prices.worths[1:] >= prices.worths[:-1]).all()
    assert prices.gpus >= sum(size * count for size, count in by_size.items()) / 100 - 1e-6
    assert prices.gpus <= sum(by_size.values()) + 1e-6
    for number in (1, 2, 3):
        for sizes in combinations_with_replacement(sorted(by_size), number):
            if sum(sizes) <= 100:
                assert sum(prices.prices[size] for size in sizes) <= 1 + 1e-6
