"""
Prices: what a part of a GPU is worth to those who ask for parts.

Parts of some sizes are to be cut from as few GPUs as can be: the cutting stock problem
of Gilmore and Gomory (Operations Research 9, 1961). The dual prices of its linear
relaxation say what one more part of a size would cost in GPUs, and the dearest set of
parts that fits into a remainder what that remainder is worth: nothing if it can only
take parts that others leave room for anyway. Pure and deterministic; numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchyard.resources import GPU_WHOLE

STEP = 10
"""Sizes are rounded up to so many thousandths, remainders down."""
UNITS = GPU_WHOLE // STEP
PRECISION = 1_000_000
"""Worths are whole numbers of such parts of a GPU, so that equal ones are equal."""
_PIVOTS_A_SIZE = 50
"""Far more than were ever seen; a bound all the same."""
_EPSILON = 1e-9

Worths = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """
    What parts of a GPU are worth.

    Attributes:
        prices: GPUs that one more part costs, by its size in units of `STEP`.
        gpus: How many GPUs, in fractions, hold all parts that were counted.
        worths: Of a remainder of so many thousandths, 0 to a whole GPU, in parts of `PRECISION`.
    """

    prices: Mapping[int, float]
    gpus: float
    worths: Worths


def price_parts(counts: Mapping[int, float]) -> Prices:
    """Return the prices of parts, given how many are asked of each size in thousandths of a GPU, below a whole one."""
    by_size: dict[int, float] = {}
    for millis, count in sorted(counts.items()):
        if count > 0:
            size = -(-millis // STEP)
            by_size[size] = by_size.get(size, 0.0) + count
    sizes = list(by_size)
    prices = _duals(sizes, np.array([by_size[size] for size in sizes])) if sizes else []
    best, _ = _fill(sizes, prices)
    whole = best[UNITS] or 1.0  # 1 but for rounding
    best, _ = _fill(sizes, [round(price / whole * PRECISION) for price in prices])  # parts of a size lose the same
    worths = np.array(best).astype(np.int64)
    total = sum(by_size[size] * price for size, price in zip(sizes, prices, strict=True))
    return Prices(
        prices=dict(zip(sizes, prices, strict=True)),
        gpus=total,
        worths=worths[np.arange(GPU_WHOLE + 1) // STEP],
    )


def _duals(sizes: Sequence[int], counts: npt.NDArray[np.float64]) -> list[float]:
    """
    Return the price of each size, by the revised simplex method with columns made as they are needed.

    A column is a way to fill a GPU, which costs 1, or takes one part of a size too many
    away, which costs nothing and is wanted where a price is less than that.
    """
    inverse = np.diag([1.0 / (UNITS // size) for size in sizes])
    costs = np.ones(len(sizes))
    amounts = inverse @ counts
    prices = costs @ inverse
    for _ in range(_PIVOTS_A_SIZE * len(sizes)):
        column, cost = np.zeros(len(sizes)), 0.0
        lowest = int(prices.argmin())
        if prices[lowest] < -_EPSILON:
            column[lowest] = -1.0
        else:
            best, pattern = _fill(sizes, prices.tolist())
            if best[UNITS] <= 1 + _EPSILON:
                break
            column[:], cost = pattern, 1.0
        step = inverse @ column
        rows = np.flatnonzero(step > _EPSILON)
        leaves = int(rows[(amounts[rows] / step[rows]).argmin()])
        inverse[leaves] /= step[leaves]
        amounts[leaves] /= step[leaves]
        step[leaves] = 0.0
        amounts -= step * amounts[leaves]
        inverse -= np.outer(step, inverse[leaves])
        costs[leaves] = cost
        prices = costs @ inverse
    return [max(0.0, price) for price in prices.tolist()]


def _fill(sizes: Sequence[int], prices: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return the most that parts in each number of units are worth together, and how many of each fill a GPU so."""
    priced = [(size, price, i) for i, (size, price) in enumerate(zip(sizes, prices, strict=True)) if price > 0]
    best, last = [0.0] * (UNITS + 1), [-1] * (UNITS + 1)
    for room in range(1, UNITS + 1):
        most, chosen = best[room - 1], -1
        for size, price, i in priced:
            if size > room:
                break
            if best[room - size] + price > most + _EPSILON:
                most, chosen = best[room - size] + price, i
        best[room], last[room] = most, chosen
    pattern, room = [0] * len(sizes), UNITS
    while room > 0:
        i = last[room]
        if i >= 0:
            pattern[i] += 1
        room -= sizes[i] if i >= 0 else 1
    return best, pattern
