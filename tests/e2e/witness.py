"""
A witness of what jobs really did, outside of any database of ours.

Each job takes a lock of its own and appends lines to one ledger. A job that is
run twice writes two lines; two copies at once meet at the lock. A job may also be
held until the test releases it, so that no test depends on how long things take.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = r"""
folder=$1 name=$2 code=$3 seconds=$4 vcpus=$5
if [ -n "$AWS_BATCH_JOB_ARRAY_INDEX" ]; then
    name=$name-$AWS_BATCH_JOB_ARRAY_INDEX
    case $AWS_BATCH_JOB_ARRAY_INDEX in *7) ;; *) code=0 ;; esac
fi
exec 9>>"$folder/locks/$name"
flock --nonblock 9 || { echo "OVERLAP $name 0 $vcpus $PWD" >>"$folder/ledger"; exit 99; }
echo "start $name $(date +%s%N) $vcpus $PWD" >>"$folder/ledger"
echo "begin $name"
if [ "$seconds" = held ]; then
    line=0
    until [ -e "$folder/release" ]; do
        line=$((line + 1))
        echo "line $line"
        sleep 0.1
    done
else
    sleep "$seconds"
fi
echo "finish $name" >&2
echo "end $name $(date +%s%N) $vcpus $PWD" >>"$folder/ledger"
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One line of the ledger.

    Attributes:
        word: ``start``, ``end`` or ``OVERLAP``.
        name: The job's.
        at_ns: When, by the wall clock.
        vcpus: What the job holds meanwhile.
        folder: Working folder, which lies in the state folder of the agent.
    """

    word: str
    name: str
    at_ns: int
    vcpus: float
    folder: str


class Witness:
    """The ledger and the locks below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "locks").mkdir(parents=True)
        self._script = folder / "job.sh"
        self._script.write_text(_SCRIPT)
        self._ledger = folder / "ledger"
        self._ledger.touch()

    def command(self, name: str, *, code: int = 0, seconds: float | str = 0.2, vcpus: float = 1) -> list[str]:
        """
        Return the command of a job.

        Args:
            name: Unique; an array's children add their index.
            code: Exit code; of an array, only children whose index ends in 7 have it.
            seconds: How long it works; ``held``: until :meth:`release`.
            vcpus: What it asks for.
        """
        return ["sh", str(self._script), str(self._folder), name, str(code), str(seconds), str(vcpus)]

    def held(self, name: str, *, code: int = 0) -> list[str]:
        """Return the command of a job that works until it is released, a log line every 0.1 s."""
        return self.command(name, code=code, seconds="held")

    def release(self) -> None:
        """Let held jobs end."""
        (self._folder / "release").touch()

    def lines(self) -> list[Line]:
        """Return the whole lines of the ledger."""
        text = self._ledger.read_text()
        found = (line.split(" ", 4) for line in text[: text.rfind("\n") + 1].splitlines())
        return [Line(word=w, name=n, at_ns=int(t), vcpus=float(v), folder=f) for w, n, t, v, f in found]

    def count(self, word: str) -> int:
        """Return how many lines begin with *word*."""
        return sum(line.word == word for line in self.lines())

    def check_once(self, names: list[str]) -> None:
        """Make sure that these jobs and no others ran, each once and to its end."""
        lines = self.lines()
        assert [line for line in lines if line.word == "OVERLAP"] == []
        wanted = Counter(names)
        assert max(wanted.values()) == 1
        for word in ("start", "end"):
            seen = Counter(line.name for line in lines if line.word == word)
            assert (seen - wanted, wanted - seen) == (Counter(), Counter()), f"{word}: (too often, missing)"


def peak_vcpus(lines: list[Line]) -> float:
    """Return the most vCPUs that jobs held at one moment."""
    signs = {"start": 1, "end": -1}
    held = peak = 0.0
    for line in sorted(lines, key=lambda line: (line.at_ns, signs[line.word])):
        held += signs[line.word] * line.vcpus
        peak = max(peak, held)
    return peak
