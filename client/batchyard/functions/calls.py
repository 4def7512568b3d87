"""
Calls: how functions and arguments come to a job, and what became of them back: as files of a folder.

It knows no controller. Its law: what a call was given is what it was when it was given;
nothing that is changed afterwards reaches the job.

Whoever may write in the folder may run code as the caller, and as the jobs' user: both
read pickles in it.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

from batchyard.functions import program
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.job_definition_pb2 import ContainerProperties, MountPoint, Volume

try:
    import cloudpickle
except ImportError as missing:  # pragma: no cover  # an installation without the extra
    raise ImportError("batchyard.Executor needs cloudpickle: pip install 'batchyard[functions]'") from missing


VOLUME = "batchyard-calls"
OUTCOME_PATIENCE_S = 60.0


class RemoteTraceback(Exception):  # noqa: N818  # as concurrent.futures calls its own
    """Where in a job an exception was raised; the cause of the exception that the caller sees."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What a call came to.

    Attributes:
        value: What it returned; None if it raised.
        error: What it raised; None if it returned.
    """

    value: object = None
    error: BaseException | None = None


class _Writer(cloudpickle.CloudPickler):  # type: ignore[misc]  # it has no types
    """Writes a call; of arguments that are other calls' outcomes it writes where those will be."""

    def __init__(self, file: BytesIO, reference: Callable[[object], str | None]) -> None:
        super().__init__(file)
        self._reference = reference

    def persistent_id(self, obj: object) -> str | None:
        return self._reference(obj)


class Carrier(Protocol):
    """What brings calls to jobs, and outcomes back."""

    @property
    def is_held(self) -> bool:
        """Whether a call waits here for the outcomes among its arguments."""

    @property
    def patience_s(self) -> float:
        """How long an outcome may come after the end of its job."""

    def command(self, python: str, name: str) -> list[str]:
        """Return what runs the call of a name."""

    def furnish(self, container: ContainerProperties) -> None:
        """Give a container what it needs for that."""

    def reference(self, name: str) -> str:
        """Return as what another call's outcome is meant among arguments."""

    def write(self, name: str, call: tuple[object, ...], reference: Callable[[object], str | None]) -> None:
        """Take a call as it is now."""

    def seal(self, request: pb.SubmitJobRequest, outcomes: Mapping[str, object]) -> None:
        """Be told that a call is about to be sent, with what other calls that it waited for here came to."""

    def outcome(self, name: str, job: pb.Job) -> Outcome | None:
        """Return what a call came to, whose job has ended; None if nothing is known of it."""

    def remove(self) -> None:
        """Keep nothing any more."""


class CallFolder:
    """
    A new folder for the calls of one executor, with the program that carries them out.

    Args:
        parent: In which it is made; every host that may run a job has it under the same path.
        name: What it is called there.

    Raises:
        OSError: *parent* is no folder, or nothing can be written in it.
    """

    def __init__(self, parent: Path, name: str) -> None:
        self.path = parent.resolve() / name
        self.path.mkdir()
        self.is_held, self.patience_s = False, OUTCOME_PATIENCE_S  # over a network files come late
        self.program = self.path / "program.py"
        shutil.copyfile(program.__file__, self.program)
        shutil.copytree(
            Path(cloudpickle.__file__).parent, self.path / "cloudpickle", ignore=shutil.ignore_patterns("__pycache__")
        )

    def call(self, name: str) -> Path:
        """Return where the call of a name is."""
        return self.path / name

    def command(self, python: str, name: str) -> list[str]:
        """See `Carrier`."""
        return [python, str(self.program), str(self.call(name))]

    def furnish(self, container: ContainerProperties) -> None:
        """Mount the folder where it is on hosts."""
        container.volumes.append(Volume(name=VOLUME, host_source_path=str(self.path)))
        container.mount_points.append(MountPoint(source_volume=VOLUME, container_path=str(self.path)))

    def reference(self, name: str) -> str:
        """See `Carrier`."""
        return str(self.call(name))

    def seal(self, request: pb.SubmitJobRequest, outcomes: Mapping[str, object]) -> None:
        """See `Carrier`: all of it is in the folder."""

    def write(self, name: str, call: tuple[object, ...], reference: Callable[[object], str | None]) -> None:
        """
        Write a call.

        Args:
            name: Of the call.
            call: Function, arguments, keyword arguments.
            reference: Says of any object in it the path of another call whose outcome is meant; None: the object.

        Raises:
            Exception: whatever an object says that cannot be pickled.
        """
        data = pickled(call, reference)
        part = self.path / f"{name}.part"
        part.write_bytes(data)
        part.replace(self.call(name))

    def outcome(self, name: str, _job: pb.Job) -> Outcome | None:
        """Return what the call of a name came to; None if nothing was left."""
        # Listed first: over a network a file that was looked for too early is missing for a while otherwise.
        if f"{name}{program.SUFFIX}" not in os.listdir(self.path):  # noqa: PTH208
            return None
        with Path(f"{self.call(name)}{program.SUFFIX}").open("rb") as file:
            return read_outcome(file.read())

    def remove(self) -> None:
        """Remove it; what cannot be removed is left."""
        shutil.rmtree(self.path, ignore_errors=True)


def pickled(call: tuple[object, ...], reference: Callable[[object], str | None]) -> bytes:
    """Pickle the caller's surroundings and a call; arguments and errors as of `CallFolder.write`."""
    surroundings = {"python": sys.version_info[:2], "path": sys.path, "folder": str(Path.cwd())}
    file = BytesIO()
    pickle.dump(surroundings, file)
    _Writer(file, reference).dump(call)
    return file.getvalue()


def read_outcome(left: bytes) -> Outcome:
    """Read what `program` left of a call."""
    is_returned, data, text = pickle.loads(left)  # noqa: S301  # said above
    try:
        told = pickle.loads(data) if data else None  # noqa: S301
    except Exception as error:  # noqa: BLE001  # whatever it says of classes that this side lacks
        return Outcome(error=_told_by_text(f"what the call left cannot be read here: {error!r}", text))
    if is_returned:
        return Outcome(value=told)
    if not isinstance(told, BaseException):
        return Outcome(error=_told_by_text("the call raised what cannot be sent", text))
    told.__cause__ = RemoteTraceback(text)
    return Outcome(error=told)


def _told_by_text(what: str, text: str) -> BaseException:
    error = pickle.PickleError(what)
    error.__cause__ = RemoteTraceback(text)
    return error
