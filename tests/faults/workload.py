"""
The users: three clients that submit jobs over the network, and repeat what was not answered until it is.

    python -m tests.faults.workload FOLDER

Each submit has a request id, its job's label. What was acknowledged stands in ``acknowledged`` below
FOLDER, a line of JSON each, one written once the answer is here; some are submitted again
afterwards, and must be the same job. They stop when there is a file ``stop``. One that is refused, or
answered with a fault of the program, stands in ``refused``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from batchyard import Client, container
from batchyard.errors import BatchyardError, InternalError, WorldError
from batchyard.v1.job_definition_pb2 import ContainerProperties, MountPoint, Volume

from .image import IMAGE
from .witness import Witness

CLIENTS = 3
CALL_LIMIT_S = 3.0
PAUSE_S = 0.2
ARRAY_SIZE = 4
INFRASTRUCTURE_RETRIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """
    One job that was acknowledged.

    Attributes:
        label: Its name, and its request id.
        code: With which it is told to exit; of an array, with which some children are.
        size: Children; 0: a single job.
        depends_on: Label of the job for which it waits; empty: for none.
    """

    label: str
    job_id: str
    code: int
    size: int
    depends_on: str


def read_acknowledged(folder: Path) -> list[Acknowledged]:
    """Return what was acknowledged, the oldest first."""
    path = folder / "acknowledged"
    return [Acknowledged(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> int:
    """Submit until told to stop."""
    folder = Path(sys.argv[1])
    given = json.loads((folder / "workload.json").read_text())
    users = Users(folder, **given)
    threads = [threading.Thread(target=users.submit_all, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


class Users:
    """
    All clients of one yard.

    Args:
        folder: Its own.
        address: Of all controllers.
        seed: Of what is submitted.
        has_engine: Some jobs are containers.
        ahead: So many units at most are acknowledged and have not ended.
    """

    def __init__(self, folder: Path, address: str, seed: int, has_engine: bool, ahead: int) -> None:
        self._folder = folder
        self._address = address
        self._seed = seed
        self._has_engine = has_engine
        self._ahead = ahead
        self._witness = Witness(folder / "witness")
        self._lock = threading.Lock()
        self._units = 0
        self._plain: list[Acknowledged] = []
        """Jobs that others may wait for."""

    def submit_all(self, number: int) -> None:
        """Be one client."""
        dice = Random(f"{self._seed} {number}")
        credentials = self._folder / "administrator.toml"
        with Client(self._address, credentials=credentials, timeout_s=CALL_LIMIT_S, retry_s=CALL_LIMIT_S) as client:
            count = 0
            while not self._is_over():
                if self._units - self._witness.count("END") > self._ahead:
                    time.sleep(PAUSE_S)
                    continue
                self._submit_one(client, f"u{number}-{count}", dice)
                count += 1

    def _submit_one(self, client: Client, label: str, dice: Random) -> None:
        kind, code = dice.random(), dice.choice((3, 41, 117)) if dice.random() < 0.1 else 0
        seconds = min(5.0, 0.2 + dice.expovariate(1.0))
        size = ARRAY_SIZE if kind < 0.06 else 0
        waits_for = dice.choice(self._plain[-20:]) if self._plain and 0.06 <= kind < 0.16 else None
        is_container = self._has_engine and kind > 0.9
        fields = {
            "name": label,
            "container": self._container(label, code, seconds, is_container=is_container),
            "array_size": size,
            "depends_on": [waits_for.job_id] if waits_for is not None else [],
            "infrastructure_retries": INFRASTRUCTURE_RETRIES,
            "request_id": label,
        }
        if (job_id := self._until_answered(client, fields)) is None:
            return
        done = Acknowledged(
            label=label, job_id=job_id, code=code, size=size, depends_on=waits_for.label if waits_for else ""
        )
        self._write("acknowledged", json.dumps(asdict(done)))
        with self._lock:
            self._units += size or 1
            if not code and not size:
                self._plain.append(done)
        if dice.random() < 0.1 and (again := self._until_answered(client, fields)) not in (job_id, None):
            self._write("refused", f"{label} is two jobs, {job_id} and {again}")

    def _until_answered(self, client: Client, fields: dict[str, object]) -> str | None:
        while True:
            try:
                return client.submit_job(**fields).job_id  # type: ignore[arg-type]
            except InternalError as error:
                self._write("refused", f"{fields['name']}: {error!r}")
                return None
            except WorldError:
                time.sleep(PAUSE_S)
            except BatchyardError as error:
                self._write("refused", f"{fields['name']}: {error!r}")
                return None

    def _container(self, label: str, code: int, seconds: float, *, is_container: bool) -> ContainerProperties:
        command = self._witness.command(label, code, seconds)
        if not is_container:
            return container(command, memory=32)
        what = container(command, image=IMAGE, memory=32)
        folder = str(self._witness.folder)
        what.volumes.append(Volume(name="witness", host_source_path=folder))
        what.mount_points.append(MountPoint(source_volume="witness", container_path=folder))
        return what

    def _is_over(self) -> bool:
        return (self._folder / "stop").exists()

    def _write(self, file: str, line: str) -> None:
        with self._lock, (self._folder / file).open("a") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
