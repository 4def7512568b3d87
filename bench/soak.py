"""
Kill agent and keeper again and again, and see that nothing is lost, told wrongly, or run twice.

    .venv/bin/python bench/soak.py kills [--rounds 300] [--jobs 1000]
    .venv/bin/python bench/soak.py fences [--rounds 200] [--runtime docker]

``kills`` ends agent, keeper or both with SIGKILL at random moments while arrays of short jobs
run, and then asks for every exit code. ``fences`` cuts hosts off past the fence while agent, keeper
or both are dead or stand still, and says whether and how long after the end of all that ran
there the reruns on another host have begun (``reruns``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

# The checkout instead of this folder: its own packages are found by their full names.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import click  # noqa: E402  # after the path is set
from bench import reruns  # noqa: E402  # after the path is set
from bench.yard import Program, Yard, open_yard, small_job  # noqa: E402
from tests.agent.runtimes import process_records  # noqa: E402

from batchyard_agent.config import keeper_dir  # noqa: E402

WHO = ("agent", "keeper", "both")
PAUSE_S = 1.0
"""Between kills: an agent takes a second to start, and is killed in the midst of that, too."""


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
    found, done = Counter[str](), 0
    async with open_yard() as yard:
        agent = await yard.add_agent("process", 8)
        while done < rounds:
            done += await _one_array(yard, agent, rounds - done, jobs, dice, found)
    unknown = ", ".join(f"{count} {text[2:]}" for text, count in found.most_common() if text.startswith("? "))
    kills = ", ".join(f"{found[f'kills of {who}']} of {who}" for who in WHO)
    click.echo(
        f"{found['jobs']} jobs under {done} kills ({kills}): {found['lost']} lost, {found['wrong']} told wrongly, "
        f"{found['twice']} tries started twice, unknown: {unknown or 'none'}"
    )


async def _one_array(
    yard: Yard, agent: Program, kills: int, jobs: int, dice: random.Random, found: Counter[str]
) -> int:
    """Kill at random moments until an array is over; return how often."""
    folder, done = keeper_dir(yard.folder / "agent-1"), 0
    witness = yard.folder / f"witness-{found['jobs']}"
    witness.touch()
    witness.chmod(0o666)
    index = "$AWS_BATCH_JOB_ARRAY_INDEX"
    script = f"echo {index} $AWS_BATCH_JOB_ATTEMPT >>{witness}; sleep 0.05; exit $(({index} % 100))"
    job_id = await yard.submit(small_job("", "sh", "-c", script), array_size=jobs)
    while done < kills and not await _is_over(yard, job_id):
        await asyncio.sleep(dice.uniform(0.0, 2 * PAUSE_S))
        who = dice.choice(WHO)
        _kill(who, agent, folder)
        found[f"kills of {who}"] += 1
        done += 1
        await yard.client.uncordon_host("agent-1")  # one on which so many tries are lost gets no work for a while
    while not await _is_over(yard, job_id):
        await asyncio.sleep(0.5)
        await yard.client.uncordon_host("agent-1")
    await _judge(yard, job_id, jobs, witness, found)
    click.echo(f"{done} kills, {dict(found)}", err=True)
    return done


def _kill(who: str, agent: Program, folder: Path) -> None:
    if who != "agent" and (pid := process_records.keeper(folder)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if who != "keeper":
        agent.kill()
        agent.start()


async def _is_over(yard: Yard, job_id: str) -> bool:
    job = await yard.client.describe_job(job_id)
    counts = job.array.status_summary
    return int(counts.get("SUCCEEDED", 0)) + int(counts.get("FAILED", 0)) >= job.array.size


async def _judge(yard: Yard, job_id: str, jobs: int, witness: Path, found: Counter[str]) -> None:
    starts = Counter(witness.read_text().splitlines())
    found["twice"] += sum(count > 1 for count in starts.values())
    found["jobs"] += jobs
    found["lost"] += jobs - len({line.split()[0] for line in starts})
    async for child in yard.client.list_jobs(array_job_id=job_id):
        *before, last = (await yard.client.describe_job(child.id)).attempts
        found.update(f"? {attempt.reason}" for attempt in before)
        index = int(child.id.rpartition(":")[2])
        found["wrong"] += last.exit_code != index % 100


@main.command()
@click.option("--rounds", default=200, show_default=True)
@click.option("--hosts", default=20, show_default=True, help="So many rounds at once.")
@click.option("--runtime", type=click.Choice(["process", "docker"]), default="process", show_default=True)
@click.option("--fence", default=30, show_default=True, help="In seconds.")
@click.option("--seed", default=0, show_default=True)
def fences(rounds: int, hosts: int, runtime: str, fence: int, seed: int) -> None:
    """Cut hosts off past the fence while somebody is dead or stands still; another host takes the reruns."""
    asyncio.run(reruns.run(rounds, hosts, runtime, fence, random.Random(seed)))


if __name__ == "__main__":
    main()
