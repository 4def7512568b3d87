"""
What attempts did, by their own word: each appends to one ledger when it starts and when it ends.

Each unit (a job, a child of an array) has a lock that an attempt and all of its processes hold
while any of them lives: who finds it held runs beside another. So an attempt that is killed, and so
writes no end, is seen as well. Times are those of the machine's uptime, which nobody steps.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

SCRIPT = r"""
folder=$1 label=$2 code=$3 seconds=$4
unit=$label
if [ -n "$AWS_BATCH_JOB_ARRAY_INDEX" ]; then
    unit=$label.$AWS_BATCH_JOB_ARRAY_INDEX
    case $AWS_BATCH_JOB_ARRAY_INDEX in *3) ;; *) code=0 ;; esac
fi
who="$unit $AWS_BATCH_JOB_ID $AWS_BATCH_JOB_ATTEMPT $PWD"
exec 9>>"$folder/locks/$unit"
read now _ </proc/uptime
flock -n 9 || { echo "OVERLAP $now 99 $who" >>"$folder/ledger"; exit 99; }
echo "START $now 0 $who" >>"$folder/ledger"
sleep "$seconds"
read now _ </proc/uptime
echo "END $now $code $who" >>"$folder/ledger"
exit "$code"
"""


def code_of_child(index: int, code: int) -> int:
    """Return how a child ends of an array whose jobs are told to end with *code*: not all do."""
    return code if index % 10 == 3 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One line of the ledger.

    Attributes:
        word: ``START``, ``END`` or ``OVERLAP``.
        at_s: The machine's uptime.
        code: With which it is about to exit.
        unit: Whose attempt it is: a job's label, of a child with its index behind a dot.
        job_id: As the attempt was told.
        attempt: Its number, as it was told.
        folder: Where it works: of processes below a folder of its agent.
    """

    word: str
    at_s: float
    code: int
    unit: str
    job_id: str
    attempt: int
    folder: str


class Witness:
    """Ledger, locks and script below one folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        self.script = folder / "job.sh"
        if not self.script.exists():
            self.script.write_text(SCRIPT)
            (folder / "ledger").touch()

    def command(self, label: str, code: int, seconds: float) -> list[str]:
        """Return the command of a job."""
        return ["sh", str(self.script), str(self.folder), label, str(code), f"{seconds:.2f}"]

    def count(self, word: str) -> int:
        """Return how many whole lines begin with *word*."""
        return self._text().count(f"\n{word} ") + self._text().startswith(f"{word} ")

    def lines(self) -> list[Line]:
        """Return the ledger."""
        found = (line.split(" ", 6) for line in self._text().splitlines())
        return [
            Line(word=w, at_s=float(t), code=int(c), unit=u, job_id=j, attempt=int(a), folder=f)
            for w, t, c, u, j, a, f in found
        ]

    def held(self) -> list[str]:
        """Return the units of which something lives."""
        found = []
        for path in (self.folder / "locks").iterdir():
            fd = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path.name)
            finally:
                os.close(fd)
        return sorted(found)

    def _text(self) -> str:
        return (self.folder / "ledger").read_text()
