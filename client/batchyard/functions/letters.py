"""
Letters: calls without a folder. A call is what its job reads, and its outcome a line of the job's log.

So hosts need to share nothing, and the yard keeps both, which bounds them. A call whose arguments are
other calls' outcomes is held here until it has them. It knows a controller only as where logs are read.

Whoever may write a job's log may run code as the caller: that is the job, and its host.
"""

from __future__ import annotations

import base64
import pickle
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from batchyard.errors import BatchyardError
from batchyard.functions import program
from batchyard.functions.calls import Outcome, pickled, read_outcome
from batchyard.sync import Client
from batchyard.v1 import job_pb2 as pb
from batchyard.v1.job_definition_pb2 import ContainerProperties

BYTES_MAX = 64 << 10
"""What a job reads may have so many (docs/jobs.md)."""

_OPEN = (
    "import pickle,sys,zlib;l=pickle.loads(zlib.decompress(sys.stdin.buffer.read()));p={'__name__':'batchyard_call'};"
    "exec(l['program'],p);sys.exit(p['answer'](l))"
)


class Letters:
    """
    The calls of one executor that has no folder.

    Args:
        client: Of the controller.
    """

    is_held = True
    """Whether a call waits here for the outcomes among its arguments."""
    patience_s = 0.0
    """How long an outcome may come after the end of its job."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._calls: dict[str, bytes] = {}

    def command(self, python: str, _name: str) -> list[str]:
        """Return what runs a call."""
        return [python, "-c", _OPEN]

    def furnish(self, container: ContainerProperties) -> None:
        """Give a container what it needs: nothing."""

    def reference(self, name: str) -> str:
        """Return as what another call's outcome is meant."""
        return name

    def write(self, name: str, call: tuple[object, ...], reference: Callable[[object], str | None]) -> None:
        """Take a call as it is now; see `CallFolder.write`."""
        self._calls[name] = pickled(call, reference)

    def seal(self, request: pb.SubmitJobRequest, outcomes: Mapping[str, object]) -> None:
        """
        Put a call into the request of its job.

        Args:
            request: Of the job; its request id is the call's name.
            outcomes: What other calls among its arguments came to, by their names.

        Raises:
            ValueError: it is too large.
            Exception: whatever an outcome says that cannot be pickled.
        """
        call = self._calls.pop(request.request_id)
        values = {name: cloudpickle.dumps(value) for name, value in outcomes.items()}
        needs = any(b"cloudpickle" in each for each in (call, *values.values()))
        letter: dict[str, Any] = {
            "program": Path(program.__file__).read_text(encoding="utf-8"),
            "modules": _modules() if needs else {},
            "token": request.request_id,
            "call": call,
            "values": values,
        }
        data = zlib.compress(pickle.dumps(letter), 9)
        if len(data) > BYTES_MAX:
            raise ValueError(f"the call takes {len(data)} bytes, and may take {BYTES_MAX}: give the executor a folder")
        request.container.stdin = data

    def outcome(self, name: str, job: pb.Job) -> Outcome | None:
        """Return what a call came to, by its job's log; None if that does not say."""
        try:
            log = b"".join(self._client.read_logs(job.id))
        except BatchyardError as error:
            return Outcome(error=error)
        line = re.compile(rb"^%s %s ([A-Za-z0-9+/=]+)$" % (program.ANSWER_MARK.encode(), name.encode()), re.MULTILINE)
        found = line.findall(log)
        return read_outcome(zlib.decompress(base64.b64decode(found[-1]))) if found else None

    def remove(self) -> None:
        """Forget all."""
        self._calls.clear()


def _modules() -> dict[str, str]:
    """Return what functions of the calling program need to be read, which hosts and images need not have."""
    source = Path(cloudpickle.cloudpickle.__file__).read_text(encoding="utf-8")
    return {"cloudpickle": "", "cloudpickle.cloudpickle": source}
