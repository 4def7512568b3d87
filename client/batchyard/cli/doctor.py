"""Commands that look at a whole yard: ``doctor`` and ``top``."""

from __future__ import annotations

import time
from collections import Counter
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING

import click

from batchyard.cli import checkup, exits, harmless, jobs, options
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.states import ACTIVE_STATES, WAITING_STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchyard.cli.checkup import Finding
    from batchyard.sync import Client

JOBS_SHOWN = 20
COUNTED_MAX = 10_000
LOOK_S = 2


@click.command()
@options.shared
@options.session
def doctor(session: options.Session) -> int:
    """
    Look at what a yard needs so that jobs run: controller, its store, queues, hosts, Docker, versions, clocks, disks.

    Exits with 1 if anything keeps all jobs from running, with 4 if the controller cannot
    be reached.
    """
    from batchyard.errors import UnavailableError

    try:
        with session.client() as client:
            yard = checkup.Yard(
                version=version("batchyard"),
                environments=list(client.list_compute_environments(page_size=1000)),
                queues=list(client.list_job_queues(page_size=1000)),
                hosts=list(client.list_hosts(page_size=1000)),
                summary=client.summarize_hosts(),
            )
            reached = checkup.Finding(grade=checkup.OK, about="controller", text=f"answers at {client.address}")
    except UnavailableError as err:
        advice = "batchyard up, or say where it is: --address, BATCHYARD_ADDRESS"
        _show(session.output, [checkup.Finding(grade=checkup.FAULT, about="controller", text=str(err), advice=advice)])
        return exits.UNREACHABLE
    found = [reached, *checkup.findings(yard)]
    _show(session.output, found)
    return exits.FAILED if any(each.grade == checkup.FAULT for each in found) else 0


def _show(output: str, found: Sequence[Finding]) -> None:
    if output == "json":
        out.write_json(
            [{"grade": each.grade, "about": each.about, "text": each.text, "advice": each.advice} for each in found]
        )
        return
    for each in found:
        click.echo(harmless.line(f"{each.grade:8}{each.about}: {each.text}"))
        if each.advice:
            click.echo(harmless.line(f"{'':8}{each.advice}"))


@click.command()
@click.option("-n", "--times", type=click.IntRange(min=1), help="Only so often. Default: until Ctrl-C.")
@options.shared
@options.session
def top(session: options.Session, times: int | None) -> None:
    """Show what the yard does now, again every 2 seconds: hosts, jobs by state, what runs longest."""
    if session.output not in ("table", "wide"):
        raise click.UsageError(f"top is for a person: it cannot write {session.output}")
    with session.client() as client:
        left = times
        while left is None or left > 0:
            lines = _summary(client)
            running = list(islice(client.list_jobs(states=list(ACTIVE_STATES), page_size=1000), COUNTED_MAX))
            running.sort(key=jobs.SORTS["ran"], reverse=True)
            if out.is_terminal():
                click.clear()
            for line in lines:
                click.echo(harmless.line(line))
            click.echo()
            jobs.show_jobs(session.output, running[:JOBS_SHOWN], now_ms())
            if len(running) > JOBS_SHOWN:
                out.note(f"{len(running) - JOBS_SHOWN} more run")
            left = None if left is None else left - 1
            if left != 0:
                time.sleep(LOOK_S)


def _summary(client: Client) -> list[str]:
    """Say how many hosts there are and what of them is held, and how many jobs wait and run."""
    from batchyard.cli import spans
    from batchyard.wording import job_state

    hosts = client.summarize_hosts()
    states = ", ".join(f"{count} {state}" for state, count in sorted(hosts.hosts_by_state.items())) or "none"
    held, there = hosts.allocated, hosts.capacity
    unended = client.list_jobs(states=[*WAITING_STATES, *ACTIVE_STATES], page_size=1000)
    listed = list(islice(unended, COUNTED_MAX + 1))
    unended.close()
    counts = Counter(job_state(job) for job in listed)
    more = " (of the newest)" if len(listed) > COUNTED_MAX else ""
    amounts = (
        f"{spans.millis(held.cpu_millis)}/{spans.millis(there.cpu_millis)} vCPUs",
        f"{spans.mib(held.memory_mib)}/{spans.mib(there.memory_mib)} memory",
        f"{spans.millis(held.gpu_millis)}/{spans.millis(there.gpu_millis)} GPUs",
    )
    jobs_said = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none that has not ended"
    return [f"hosts  {states}", f"held   {', '.join(amounts)}", f"jobs   {jobs_said}{more}"]
