"""A Docker Engine of a test's own: it has no image, and, in a network of its own, gets none."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import why_no_engine
from tests.processes import running

START_LIMIT_S = 30


class OwnEngine:
    """A Docker Engine; where it is apart, in a network of its own."""

    def __init__(self, folder: Path, *flags: str, is_apart: bool) -> None:
        self._folder, self._flags = folder, flags
        self._start = ["unshare", "--net", "dockerd"] if is_apart else ["dockerd"]
        self.address = f"unix://{folder}/docker.sock"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it; in the end it is stopped as systemd does it, and ends its containers."""
        places = (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "docker.pid"))
        flags = [f"--{name}={self._folder}/{place}" for name, place in places]
        command = [*self._start, f"--host={self.address}", *flags, "--iptables=false", *self._flags]
        log = (self._folder / "engine.log").open("ab")
        with log, running(command, stdout=log, stderr=log) as engine:
            deadline = time.monotonic() + START_LIMIT_S
            while why_no_engine(self.address):
                assert engine.poll() is None, (self._folder / "engine.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            try:
                yield
            finally:
                engine.terminate()
                engine.wait(START_LIMIT_S)


@contextlib.contextmanager
def own_engine(*flags: str, is_apart: bool = True) -> Iterator[OwnEngine]:
    """
    Make an engine with further flags, to be run and run again, and in the end take away what it has left.

    One that is not apart must be told a bridge of its own: it would take another engine's for its own.
    """
    with tempfile.TemporaryDirectory() as folder:  # shorter than pytest's: an address holds 104 bytes
        yield OwnEngine(Path(folder), *flags, is_apart=is_apart)
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", mount], check=True)
