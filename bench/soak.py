"""
Kill agent and keeper again and again, and see that nothing is lost, told wrongly, or run twice.

    .venv/bin/python bench/soak.py kills [--rounds 300] [--jobs 1000]
    .venv/bin/python bench/soak.py fences [--rounds 200]

``kills`` ends agent, keeper or both with SIGKILL at random moments while an array of short jobs
runs, and then asks for every exit code. ``fences`` lets a deadline pass while agent, keeper or
both are dead or stand still, starts another agent a second later as a unit does, and says how
long after the deadline the last process of the attempt was gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# The checkout instead of this folder: its own packages are found by their full names.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import click  # noqa: E402  # after the path is set
from bench.yard import Program, Yard, open_yard, small_job  # noqa: E402
from tests.agent.runtimes import process_records, test_keeper_guard  # noqa: E402

from batchyard_agent.config import keeper_dir  # noqa: E402
from batchyard_agent.keeper import marks  # noqa: E402

WHO = ("agent", "keeper", "both")
PAUSE_S = 2.0
"""Between kills: an agent takes a second to start, and is killed in the midst of that, too."""
UNIT_S = 1.0
"""How long a unit waits before it starts an agent again."""


@click.group(help=__doc__)
def main() -> None:
    """Choose what is tried."""


@main.command()
@click.option("--rounds", default=300, show_default=True)
@click.option("--jobs", default=1_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def kills(rounds: int, jobs: int, seed: int) -> None:
    """Kill at random moments under an array of short jobs."""
    asyncio.run(_kills(rounds, jobs, random.Random(seed)))


async def _kills(rounds: int, jobs: int, dice: random.Random) -> None:
    async with open_yard() as yard:
        agent = await yard.add_agent("process", 8)
        folder = keeper_dir(yard.folder / "agent-1")
        witness = yard.folder / "witness"
        witness.touch()
        witness.chmod(0o666)
        index = "$AWS_BATCH_JOB_ARRAY_INDEX"
        script = f"echo {index} $AWS_BATCH_JOB_ATTEMPT >>{witness}; sleep 0.05; exit $(({index} % 100))"
        job_id = await yard.submit(small_job("", "sh", "-c", script), array_size=jobs)
        done = 0
        while done < rounds and not await _is_over(yard, job_id):
            await asyncio.sleep(dice.uniform(0.0, 2 * PAUSE_S))
            _kill(dice.choice(WHO), agent, folder)
            done += 1
        while not await _is_over(yard, job_id):
            await asyncio.sleep(0.5)
        await _judge(yard, job_id, jobs, done, witness)


def _kill(who: str, agent: Program, folder: Path) -> None:
    if who != "agent" and (pid := process_records.keeper(folder)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if who != "keeper":
        agent.restart()


async def _is_over(yard: Yard, job_id: str) -> bool:
    job = await yard.client.describe_job(job_id)
    counts = job.array.status_summary
    return int(counts.get("SUCCEEDED", 0)) + int(counts.get("FAILED", 0)) >= job.array.size


async def _judge(yard: Yard, job_id: str, jobs: int, kills: int, witness: Path) -> None:
    starts = Counter(witness.read_text().splitlines())
    wrong, unknown, reasons = 0, 0, Counter[str]()
    async for child in yard.client.list_jobs(array_job_id=job_id):
        found = await yard.client.describe_job(child.id)
        *before, last = found.attempts
        unknown += len(before)
        reasons.update(attempt.reason for attempt in before)
        wrong += last.exit_code != found.array.index % 100
    twice = sum(count > 1 for count in starts.values())
    click.echo(f"{jobs} jobs under {kills} kills: {wrong} told wrongly, {twice} tries started twice, {unknown} unknown")
    for reason, count in reasons.most_common():
        click.echo(f"  {count}: {reason}")


@main.command()
@click.option("--rounds", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def fences(rounds: int, seed: int) -> None:
    """Let the guard's deadline pass while somebody is dead or stands still."""
    dice = random.Random(seed)
    late: dict[str, list[float]] = {}
    for _ in range(rounds):
        who = f"{dice.choice(WHO)} {dice.choice(['killed', 'stopped'])}"
        if who != "both stopped":  # that no program can help against
            late.setdefault(who, []).append(_one_fence(who))
    for who, seconds in sorted(late.items()):
        click.echo(f"{who}: {len(seconds)} rounds, all gone {max(seconds):.2f} s after the deadline at the latest")


def _one_fence(who: str) -> float:
    """Return how long after the deadline the last process was gone."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        keeper = folder / "keeper"
        with contextlib.ExitStack() as stack:
            agent = stack.enter_context(test_keeper_guard.fenced_agent(folder, "auto", 1_500))
            while not (keeper / "deadline").exists():  # it is told after the start
                time.sleep(0.01)
            (kept,) = process_records.kept(keeper).values()
            deadline_ms = int((keeper / "deadline").read_text().split()[1])
            number = signal.SIGSTOP if who.endswith("stopped") else signal.SIGKILL
            for pid in ([process_records.keeper(keeper)] * (not who.startswith("agent"))) + (
                [agent.pid] * (not who.startswith("keeper"))
            ):
                os.kill(pid, number)
            if who in {"both killed", "agent killed"}:
                time.sleep(UNIT_S)
                stack.enter_context(_restarted(folder))
            while marks.marked(kept.mark):
                time.sleep(0.01)
            late_s = (test_keeper_guard.boot_ms() - deadline_ms) / 1000
        process_records.end_attempts(keeper)
    return late_s


@contextlib.contextmanager
def _restarted(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Run another agent, which finds what the former one left."""
    code = test_keeper_guard.FENCED_AGENT.replace("await host.runtime.launch", "id").replace(
        "host.runtime._link.guard", "dict"
    )
    arguments = [str(Path(test_keeper_guard.__file__).parent), str(folder), "auto", "true", "0"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
