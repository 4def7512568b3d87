"""Programs: events as lines of JSON on the input of a program, for everything else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .bodies import Body
from .receivers import DeliveryError

LIMIT_S = 60.0
"""How long a program may take for what it is given at once."""
_WORDS_MAX = 300


class ProgramReceiver:
    """Runs a program of the relay's own folder for some events; what it exits 0 for is delivered."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, bodies: Sequence[Body], secret: str) -> None:
        """See ``Receiver``."""
        lines = "".join(f"{body.text()}\n" for body in bodies).encode()
        path = os.environ.get("PATH", os.defpath)  # noqa: TID251  # what it starts is to be found as it is here
        try:
            done = subprocess.run(
                [self._path], input=lines, env={"PATH": path}, capture_output=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"{self._path.name} took longer than {LIMIT_S:g} s") from None
        except OSError as err:
            raise DeliveryError(f"{self._path.name} cannot be run: {err.strerror}") from err
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-_WORDS_MAX:]
            raise DeliveryError(f"{self._path.name} exited with {done.returncode}: {said}")

    def close(self) -> None:
        """See ``Receiver``."""
