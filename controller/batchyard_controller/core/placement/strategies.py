"""
Strategies: in which order an environment's hosts are filled.

A strategy is one pure function from the free amounts of hosts, one column a host, to a
sort key; of those that can take a job the lowest key gets it, and of equal ones the
host that joined first. The spot strategies order like best fit until hosts report
interruptions and prices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from batchyard_controller.core.model.settings import AllocationStrategy

Amounts = npt.NDArray[np.int64]
Keys = npt.NDArray[np.float64]
Strategy = Callable[[Amounts, Amounts, Amounts], Keys]


def tightest_fit(free: Amounts, capacity: Amounts, asked: Amounts) -> Keys:
    """Return, per host, the share of it that stays free after one more job."""
    left = (free - asked[:, np.newaxis]) / np.maximum(capacity, 1)
    keys: Keys = left.sum(axis=0)
    return keys


STRATEGIES: dict[AllocationStrategy, Strategy] = dict.fromkeys(AllocationStrategy, tightest_fit)
