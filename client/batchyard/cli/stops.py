"""Commands that change jobs: ``cancel``, ``update-job``, ``terminate``; some by id, or all that match."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import exits, job_filters, names, options
from batchyard.cli import job_ids as ids
from batchyard.cli import output as out
from batchyard.states import ACTIVE_STATES, WAITING_STATES, JobState

if TYPE_CHECKING:
    from batchyard.sync import Client
    from batchyard.v1.job_pb2 import Job

_UNENDED = (*WAITING_STATES, *ACTIVE_STATES)


def chosen(function: options.F) -> options.F:
    """Add what says which jobs are meant: ids, or filters."""
    for add in (
        click.argument("job_ids", metavar="[JOB...]", nargs=-1, shell_complete=names.jobs),
        job_filters.filters,
        click.option("-y", "--yes", is_flag=True, help="With filters: do it without asking."),
    ):
        function = add(function)
    return function


def jobs_meant(
    client: Client, job_ids: Sequence[str], flags: dict[str, Any], states: Iterable[JobState], verb: str
) -> list[str]:
    """
    Return the ids of the jobs that are meant; of filters say how many match, and ask whether they shall be.

    Args:
        client: Is asked.
        job_ids: As they were given.
        flags: Of the command.
        states: In which the jobs are that filters mean, where they name none.
        verb: What will be done to them.

    Raises:
        click.UsageError: ids and filters were given, or neither; or nobody can be asked.
        click.Abort: the person says no.
    """
    if bool(job_ids) == job_filters.is_given(flags):
        raise click.UsageError("Give either jobs, or flags that say which are meant.")
    if job_ids:
        return ids.all_full(client, job_ids)
    wanted = job_filters.wanted(client, flags)
    wanted["states"] = wanted["states"] or [state.value for state in states]
    matching = [job.id for job in client.list_jobs(**wanted, page_size=1000)]
    many = f"{len(matching):,} job{'' if len(matching) == 1 else 's'}"
    if not matching or flags["yes"]:
        out.note(f"{many} match{'es' if len(matching) == 1 else ''}")
    elif sys.stdin.isatty():
        click.confirm(f"{verb} {many}?", abort=True, err=True)
    else:
        raise click.UsageError(f"{many} would be meant: --yes does it without asking.")
    return matching


@click.command()
@chosen
@click.option("--reason", default="Cancelled by the user", show_default=True, help="Becomes the status reason.")
@options.shared
@options.session
def cancel(session: options.Session, /, job_ids: tuple[str, ...], reason: str, **flags: Any) -> int:
    """
    Cancel jobs that have not started; started ones go on (see terminate).

    JOBs are ids; or flags say which are meant, of those that wait.

    Exits with 3 if one of them, or a child of one, had started, or if one had ended.
    """
    code = 0
    with session.client() as client:
        for job_id in jobs_meant(client, job_ids, flags, WAITING_STATES, "Cancel"):
            # One that is unknown is refused in the words of what is asked for.
            waited = sum(_children(job, WAITING_STATES) for job in client.describe_jobs([job_id]))
            client.cancel_job(job_id, reason)
            job = client.describe_job(job_id)
            code = code if _is_cancelled(job) else exits.REFUSED
            out.note(_cancelled(job, waited))
    return code


def _children(job: Job, states: Iterable[JobState]) -> int:
    return sum(job.array.status_summary.get(state, 0) for state in states)


def _is_cancelled(job: Job) -> bool:
    """Say whether nothing of a job goes on, or came to an end of its own; an array counts as cancelled all the same."""
    from batchyard.wording import job_state

    return job.is_cancelled and job_state(job) != JobState.SUCCEEDED and not _children(job, ACTIVE_STATES)


def _cancelled(job: Job, waited: int) -> str:
    """Say what became of the wish to cancel a job, by what it is just after and how many children had waited."""
    from batchyard.wording import job_state

    state = job_state(job)
    if _is_cancelled(job):
        return f"{job.id} is cancelled"
    if state.is_final:
        return f"{job.id} has ended ({state}): there is nothing to cancel"
    if active := _children(job, ACTIVE_STATES):
        cancelled = "what waited is cancelled; " if waited else ""
        go_on, them = ("1 child goes on", "it") if active == 1 else (f"{active} children go on", "them")
        return f"{job.id}: {cancelled}{go_on} (`batchyard terminate {job.id}` stops {them})"
    return f"{job.id} is {state} and goes on; `batchyard terminate {job.id}` stops it"


@click.command("update-job")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True, shell_complete=names.jobs)
@click.option("--priority", type=int, required=True, help="Order within its fair share: 0 to 9999, higher first.")
@options.shared
@options.session
def update_job(session: options.Session, job_ids: tuple[str, ...], priority: int) -> None:
    """Change the priority of jobs that have not ended; of an array, of all children. Who waits moves in line."""
    with session.client() as client:
        for job_id in ids.all_full(client, job_ids):
            client.update_job(job_id, scheduling_priority=priority)
            out.note(f"{job_id} has priority {priority}")


@click.command()
@chosen
@click.option("--reason", default="Terminated by the user", show_default=True, help="Becomes the status reason.")
@options.shared
@options.session
def terminate(session: options.Session, /, job_ids: tuple[str, ...], reason: str, **flags: Any) -> None:
    """
    Stop jobs in whatever state they are; they end FAILED and are not retried.

    JOBs are ids; or flags say which are meant, of those that have not ended.
    """
    with session.client() as client:
        for job_id in jobs_meant(client, job_ids, flags, _UNENDED, "Terminate"):
            client.terminate_job(job_id, reason)
            out.note(f"termination asked for {job_id}")
