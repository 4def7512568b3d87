"""
Functions as jobs: a call, a map, futures as arguments, a failure, a cancel.

    python examples/functions.py FOLDER

needs a yard (``batchyard up``) whose hosts have *FOLDER*, as this machine has.
"""

from __future__ import annotations

import sys

from batchyard import Executor


def error_of(rate: float) -> tuple[float, float]:
    """Stand in for what takes hours: how far off a rate is."""
    if rate < 0:
        raise ValueError(f"not a rate: {rate}")
    return abs(rate - 0.3), rate


def main(folder: str) -> None:
    """Run some calls; each job may use a tenth of a vCPU."""
    with Executor(folder, vcpus=0.1, memory="64M") as pool:
        print(f"2 ** 10 = {pool.submit(pow, 2, 10).result()}")

        @pool.job(attempts=3)
        def best(tried: list[tuple[float, float]]) -> tuple[float, float]:
            return min(tried)

        # The job of `best` waits for those of the futures that it is given.
        error, rate = best([pool.submit(error_of, rate / 10) for rate in range(5)]).result()
        print(f"best of 5: {rate}, with an error of {error:.4f}")

        try:
            list(pool.map(error_of, [0.2, -1.0]))
        except ValueError as wrong:
            print(wrong)

        print(f"cancelled: {pool.submit(best, [pool.submit(error_of, 0.1)]).cancel()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
