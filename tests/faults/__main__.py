"""
The fault suite: ``make faults FAULTS=1000 SEED=1``.

Real processes in namespaces of their own: three members of etcd, controllers, four hosts, users;
what fails is drawn from the seed. Several yards side by side share the faults. Ends with 1 if
anything was lost, ran twice or beside itself, was told wrongly, or is left over; then its folder is kept.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from .faults import SHORT
from .image import ensure_image
from .judge import Verdict, judge
from .nemesis import Nemesis
from .yard import Yard, open_yard

WORKLOAD_LIMIT_S = 180.0

_over = threading.Event()
"""Set when somebody wants this to end."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="how many, in all yards together (1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--yards", type=int, default=2, help="side by side (2)")
    parser.add_argument("--controllers", type=int, default=3, help="of each yard (3)")
    parser.add_argument("--every", type=float, default=4.0, help="mean seconds between faults of a yard (4)")
    parser.add_argument("--ahead", type=int, default=40, help="units at most that wait or run in a yard (40)")
    parser.add_argument("--only", default="", help="kinds of faults, with commas")
    parser.add_argument("--short", action="store_true", help="none that takes a minute to get over")
    parser.add_argument("--folder", type=Path, help="where all is kept; default: one that goes where nothing is wrong")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _over.set())
    kinds = tuple(filter(None, given.only.split(",")))
    if given.short:
        kinds = SHORT
    folder = given.folder or Path(tempfile.mkdtemp(prefix="batchyard-faults-"))
    began = time.monotonic()
    with ThreadPoolExecutor(given.yards) as workers:
        shares = [given.faults // given.yards + (n < given.faults % given.yards) for n in range(given.yards)]
        found = workers.map(
            lambda n: played(
                folder / f"y{n}",
                shares[n],
                seed=given.seed * 1000 + n,
                controllers=given.controllers,
                every_s=given.every,
                ahead=given.ahead,
                kinds=kinds,
                is_kept=given.folder is not None,
            ),
            range(given.yards),
        )
        verdict = Verdict()
        for each in found:
            verdict.add(each)
    for violation in verdict.violations:
        print("VIOLATED", violation)
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(
        f"{time.strftime('%Y-%m-%d')} at {revision}, seed {given.seed}, {given.yards} yards, "
        f"{(time.monotonic() - began) / 60:.0f} min, load {Path('/proc/loadavg').read_text().split()[2]}"
    )
    print(verdict.report())
    if verdict.violations:
        print(f"logs: {folder}")
    elif given.folder is None:
        folder.rmdir()
    return 1 if verdict.violations else 0


def played(folder: Path, faults: int, **how: Any) -> Verdict:
    """Return what `play` does; where it broke itself, that, so that the other yards' verdicts are told too."""
    try:
        return play(folder, faults, **how)
    except Exception:  # noqa: BLE001  # whatever it was
        verdict = Verdict()
        verdict.violated("broken", f"{folder.name}: the suite: {traceback.format_exc()}")
        return verdict


def play(
    folder: Path,
    faults: int,
    *,
    seed: int,
    controllers: int = 2,
    every_s: float = 4.0,
    ahead: int = 40,
    kinds: tuple[str, ...] = (),
    is_kept: bool = False,
) -> Verdict:
    """Let so many faults befall a yard under load, mend all, and judge."""
    with open_yard(folder, controllers) as yard:
        if yard.has_engine:
            ensure_image()
        workload = {"address": yard.users_address, "seed": seed, "has_engine": yard.has_engine, "ahead": ahead}
        (folder / "workload.json").write_text(json.dumps(workload))
        yard.workload.start()
        nemesis = Nemesis(yard, Random(seed), every_s, kinds)
        told = time.monotonic()
        try:
            while len(nemesis.struck) < faults and not _over.is_set():
                nemesis.strike()
                if time.monotonic() - told > 30:
                    told = time.monotonic()
                    print(f"{folder.name}: {len(nemesis.struck)} faults, {_seen(yard)}", file=sys.stderr, flush=True)
            if not _over.is_set():
                nemesis.outlast()
        finally:
            nemesis.mend()
        (folder / "stop").touch()
        code = yard.workload.wait(WORKLOAD_LIMIT_S)
        print(f"{folder.name}: all is mended, {_seen(yard)}", file=sys.stderr, flush=True)
        verdict = judge(yard, nemesis.struck)
        for text in nemesis.broken:
            verdict.violated("broken", text)
        if code:
            verdict.violated("broken", f"the workload ended with {code}: {yard.workload.tail()}")
        verdict.counts.update(
            {f"fault {kind}": count for kind, count in Counter(s.kind for s in nemesis.struck).items()}
        )
        verdict.violations = [f"{folder.name} {text}" for text in verdict.violations]
        if verdict.violations:
            (folder / "violations").write_text("\n".join(verdict.violations))
    if not verdict.violations and not is_kept:
        yard.remove()
    return verdict


def _seen(yard: Yard) -> str:
    witness = yard.witness
    return ", ".join(f"{witness.count(word)} {word}" for word in ("START", "END", "OVERLAP"))


if __name__ == "__main__":
    sys.exit(main())
