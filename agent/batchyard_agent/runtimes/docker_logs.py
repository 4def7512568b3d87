"""
A container's output, brought into the attempt's log file.

The engine can send a container's output again from its beginning, always the same bytes,
which is what a log file can be filled from (``log_file``). Knows the engine only as a
stream of bytes.

The engine stores output as text: bytes that are no UTF-8 reach us as U+FFFD.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import structlog

from batchyard_agent.runtimes.docker_engine import EngineError, EngineSilentError, Stream
from batchyard_agent.runtimes.log_file import LogFile

STOP_TIMEOUT_S = 5

_END_LINES = 20

_log = structlog.get_logger(__name__)


class Output(Protocol):
    """Where a container's output can be read from its beginning, or its last lines."""

    def output(self, container: str, *, follow: bool, tail_lines: int | None = None) -> Stream[bytes]:
        """Return the stream."""


class Pump:
    """
    Follows the output of one running container, in a thread of its own.

    No other thread may write the log before ``stop`` or ``finish`` returned.
    """

    def __init__(self, engine: Output, container: str, path: Path, bytes_max: int) -> None:
        self._engine = engine
        self._container = container
        self._path = path
        self._bytes_max = bytes_max
        self._stream: Stream[bytes] | None = None
        self._is_stopped = False
        self._is_whole = False
        # A daemon: the agent's end must not wait for a job's.
        self._thread = threading.Thread(target=self._run, name=f"log {container[:12]}", daemon=True)
        self._thread.start()

    @property
    def is_broken(self) -> bool:
        """Whether it has ended without bringing all that there was."""
        return not self._thread.is_alive() and not self._is_whole

    def stop(self) -> None:
        """Stop following. Blocks for a moment."""
        self._is_stopped = True
        if self._stream is not None:
            self._stream.close()
        self._thread.join(STOP_TIMEOUT_S)

    def finish(self) -> bool:
        """Wait until the output of an ended container is in the file; False if it may not be whole."""
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            self.stop()
        return self._is_whole

    def _run(self) -> None:
        try:
            with LogFile(self._path, self._bytes_max) as log_file:
                self._stream = self._engine.output(self._container, follow=True)
                if self._is_stopped:
                    self._stream.close()
                _pour(self._stream, log_file)
            self._is_whole = not self._is_stopped
        except (EngineError, EngineSilentError, OSError) as error:
            # Whoever awaits the container's end follows anew, and reads the rest then.
            _log.warning("following a log broke off", container=self._container, error=str(error))


def has_end(engine: Output, container: str, path: Path) -> bool:
    """
    Say whether the log of an ended container holds its last words.

    A stream that is followed ends cleanly and too soon where the engine has begun a new
    file of its own meanwhile (seen with 20.10).

    Raises:
        EngineError: the engine has no output of it.
        EngineSilentError: the engine does not answer.
        OSError: the file cannot be read.
    """
    end = b"".join(engine.output(container, follow=False, tail_lines=_END_LINES))
    return read_tail(path, len(end)) == end


def read_rest(engine: Output, container: str, path: Path, bytes_max: int) -> None:
    """
    Bring all output of an ended container into its log.

    Raises:
        EngineError: the engine has no output of it.
        EngineSilentError: the engine does not answer.
        OSError: the file cannot be written.
    """
    with LogFile(path, bytes_max) as log_file:
        _pour(engine.output(container, follow=False), log_file)


def read_tail(path: Path, size: int) -> bytes:
    """Return up to *size* bytes from the end of a log."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read(size)


def _pour(stream: Stream[bytes], log_file: LogFile) -> None:
    for data in stream:
        log_file.take(data)
