"""
Program: what a job runs to call one function. It is copied beside the calls, and runs there alone.

It must import nothing but the standard library and the cloudpickle that lies beside
it: hosts and images need Python, and nothing of ours. Its law: the outcome that it leaves
is that of its own attempt, whole or not at all.

    python program.py CALL

*CALL* holds two pickles: what the caller's surroundings were, and function with arguments.
The outcome is left in ``CALL.outcome``: whether it returned, then, pickled on its own, what
it returned or raised, and of what it raised the traceback.

Without a folder the call is a letter, of which this program's own text is a part (``letters``),
and the outcome is a line of the log.
"""

from __future__ import annotations

import base64
import io
import os
import pickle
import sys
import traceback
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

SUFFIX = ".outcome"
ANSWER_MARK = "batchyard-outcome"
ANSWER_BYTES_MAX = 1 << 20
"""What an outcome may take of a log, of which both ends are kept."""


class _Reader(pickle.Unpickler):
    """Reads a call; what other calls returned is found by *find*, pickled."""

    def __init__(self, file: BinaryIO, find: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._find = find

    def persistent_load(self, pid: Any) -> object:
        return pickle.loads(self._find(pid))  # noqa: S301  # whoever may write it may have the caller's code run


def main(call: str) -> int:
    """Carry out a call and leave its outcome; return the job's exit code."""
    Path(call + SUFFIX).unlink(missing_ok=True)  # of an attempt before this

    def carry_out() -> object:
        with Path(call).open("rb") as file:
            return _carry_out(file, _left)

    outcome = _outcome_of(carry_out)
    _leave(call + SUFFIX, pickle.dumps(outcome))
    return 0 if outcome[0] else 1


def answer(letter: dict[str, Any]) -> int:
    """Carry out the call in a letter and say its outcome, as a line of the log; return the job's exit code."""
    for name, source in letter["modules"].items():
        _be_imported(name, source)
    outcome = _outcome_of(lambda: _carry_out(io.BytesIO(letter["call"]), letter["values"].__getitem__))
    data = base64.b64encode(zlib.compress(pickle.dumps(outcome)))
    if len(data) > ANSWER_BYTES_MAX:
        text = f"the outcome takes {len(data)} bytes of the log, and may take {ANSWER_BYTES_MAX}: give the executor a folder"
        outcome = (False, pickle.dumps(ValueError(text)), text)
        data = base64.b64encode(zlib.compress(pickle.dumps(outcome)))
    sys.stdout.flush()
    line = f"\n{ANSWER_MARK} {letter['token']} {data.decode()}\n".encode()
    while line:
        line = line[os.write(1, line) :]
    return 0 if outcome[0] else 1


def _be_imported(name: str, source: str) -> None:
    """Have a module that came along be one: in a package, after that, which is run when the last of it is there."""
    module = sys.modules[name] = types.ModuleType(name)
    package, _, own = name.rpartition(".")
    module.__package__ = package or name
    if package:
        setattr(sys.modules[package], own, module)
    else:
        module.__path__ = []
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)  # noqa: S102  # it is the caller's


def _outcome_of(carry_out: Callable[[], object]) -> tuple[bool, bytes, str]:
    try:
        return True, _dumps(carry_out()), ""
    except BaseException as error:  # noqa: BLE001  # as of the standard library's executors: SystemExit, too
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(text)
        return False, _dumped_error(error), text


def _left(call: str) -> bytes:
    """Return what a call before this returned, pickled."""
    with Path(call + SUFFIX).open("rb") as file:
        _, value, _ = pickle.load(file)  # noqa: S301  # said above
    return bytes(value)


def _carry_out(file: BinaryIO, find: Callable[[str], bytes]) -> object:
    surroundings = pickle.load(file)  # noqa: S301
    if sys.version_info[:2] != surroundings["python"]:
        mine, theirs = sys.version_info[:2], surroundings["python"]
        raise RuntimeError(f"the caller's Python is {_dotted(theirs)}, and that of the job is {_dotted(mine)}")
    # Where the caller's modules are here too, they can be imported; its folder is the job's.
    sys.path += [path for path in surroundings["path"] if path not in sys.path and Path(path).exists()]
    if Path(surroundings["folder"]).is_dir():
        os.chdir(surroundings["folder"])
    function, args, kwargs = _Reader(file, find).load()
    return function(*args, **kwargs)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _dumps(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  # of a class made here, by whatever it says
        from cloudpickle.cloudpickle import dumps  # noqa: PLC0415  # loaded only where it is needed: it takes its time

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
