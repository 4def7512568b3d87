"""
Program: what a job runs to call one function. It is copied beside the calls, and runs there alone.

It must import nothing but the standard library and the cloudpickle that lies beside
it: hosts and images need Python, and nothing of ours. Its law: the outcome that it leaves
is that of its own attempt, whole or not at all.

    python program.py CALL

*CALL* holds two pickles: what the caller's surroundings were, and function with arguments.
The outcome is left in ``CALL.outcome``: whether it returned, then, pickled on its own, what
it returned or raised, and of what it raised the traceback.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

SUFFIX = ".outcome"


class _Reader(pickle.Unpickler):
    """Reads a call; what other calls returned is taken from their outcomes."""

    def persistent_load(self, pid: Any) -> object:
        with Path(pid + SUFFIX).open("rb") as file:
            _, value, _ = pickle.load(file)  # noqa: S301  # whoever may write here may have the caller's code run
        return pickle.loads(value)  # noqa: S301


def main(call: str) -> int:
    """Carry out a call and leave its outcome; return the job's exit code."""
    Path(call + SUFFIX).unlink(missing_ok=True)  # of an attempt before this
    try:
        outcome = (True, _dumps(_carry_out(call)), "")
    except BaseException as error:  # noqa: BLE001  # as of the standard library's executors: SystemExit, too
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(text)
        outcome = (False, _dumped_error(error), text)
    _leave(call + SUFFIX, pickle.dumps(outcome))
    return 0 if outcome[0] else 1


def _carry_out(call: str) -> object:
    with Path(call).open("rb") as file:
        surroundings = pickle.load(file)  # noqa: S301
        if sys.version_info[:2] != surroundings["python"]:
            mine, theirs = sys.version_info[:2], surroundings["python"]
            raise RuntimeError(f"the caller's Python is {_dotted(theirs)}, and that of the job is {_dotted(mine)}")
        # Where the caller's modules are here too, they can be imported; its folder is the job's.
        sys.path += [path for path in surroundings["path"] if path not in sys.path and Path(path).exists()]
        if Path(surroundings["folder"]).is_dir():
            os.chdir(surroundings["folder"])
        function, args, kwargs = _Reader(file).load()
    return function(*args, **kwargs)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _dumps(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  # of a class made here, by whatever it says
        from cloudpickle import dumps  # noqa: PLC0415  # loaded only where it is needed: it takes its time

        return bytes(dumps(value))


def _dumped_error(error: BaseException) -> bytes:
    try:
        dumped = _dumps(error)
        pickle.loads(dumped)  # noqa: S301  # one that cannot be read again is as bad as none
    except Exception:  # noqa: BLE001
        return b""
    return dumped


def _leave(path: str, data: bytes) -> None:
    # Under a name of its own: a host that comes back may run an attempt that is given up.
    part = Path(f"{path}.{os.urandom(4).hex()}")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
