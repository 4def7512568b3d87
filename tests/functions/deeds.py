"""What calls do; imported by jobs and by a process pool, so it must be light."""

from __future__ import annotations

import os
import time
from pathlib import Path


class OwnError(Exception):
    """An exception that takes two arguments, and so is pickled by its own way."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(what, code)
        self.code = code


def add(one: int, other: int = 1) -> int:
    return one + other


def fail(what: str) -> None:
    raise OwnError(what, 7)


def leave() -> None:
    raise SystemExit(3)


def die() -> None:
    os._exit(9)


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return "came"


def one_by(number: int) -> float:
    return 1 / number
