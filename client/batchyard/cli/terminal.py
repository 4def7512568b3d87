"""
This person's terminal joined with a command far away: keys, window, output, and the code in the end.

It knows no job. Law: however it is left, the terminal is again what it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

from batchyard.cli import exits
from batchyard.cli import output as out
from batchyard.cli.escapes import Escapes
from batchyard.errors import BatchyardError

if TYPE_CHECKING:
    from batchyard.sync import Execution

_READ_BYTES = 32 * 1024


def size() -> tuple[int, int]:
    """Return this terminal's rows and columns; zeros where there is none."""
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(stream)
            return rows, columns
    return 0, 0


def kind() -> str:
    """Return what this terminal calls itself; empty: it does not."""
    return os.environ.get("TERM", "")  # noqa: TID251  # the terminal's own word


def join(execution: Execution, *, stdin: bool, terminal: bool) -> int:
    """
    Hand on what is typed and what is written until the command ends, and return its exit code.

    Args:
        execution: It runs.
        stdin: It reads what is typed, or comes from a pipe.
        terminal: It has one of its own; then this one hands on each key, Ctrl-C too.

    Raises:
        BatchyardError: the stream broke off.
    """
    is_raw = stdin and terminal and sys.stdin.isatty()
    with (
        _raw() if is_raw else contextlib.nullcontext(),
        _following(execution) if terminal else contextlib.nullcontext(),
    ):
        if stdin:
            escapes = Escapes() if is_raw else None
            threading.Thread(target=_feed, args=(execution, escapes), daemon=True).start()
        for piece in execution:
            where = sys.stderr.buffer if piece.is_error else sys.stdout.buffer
            where.write(piece.data)
            where.flush()
    if execution.error:
        out.note(execution.error)
    return exits.UNREACHABLE if execution.exit_code is None else execution.exit_code


def _feed(execution: Execution, escapes: Escapes | None) -> None:
    """Hand on what is typed, in a thread of its own, which nobody waits for."""
    with contextlib.suppress(BatchyardError, OSError, RuntimeError):
        while typed := os.read(sys.stdin.fileno(), _READ_BYTES):
            execution.write(typed if escapes is None else escapes.take(typed))
            if escapes is not None and escapes.has_left:
                execution.close()
                signal.raise_signal(signal.SIGINT)
                return
        execution.close_stdin()


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following(execution: Execution) -> Iterator[None]:
    """Let the command's terminal have the size of this one, also when that changes."""

    def tell(*_: object) -> None:
        threading.Thread(target=_resize, args=(execution,), daemon=True).start()

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _resize(execution: Execution) -> None:
    with contextlib.suppress(BatchyardError, RuntimeError):
        execution.resize(*size())
