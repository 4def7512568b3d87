"""The commands ``exec`` and ``attach``, and being at a job's terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from batchyard.cli import exits, job_ids, names, options
from batchyard.cli import output as out

if TYPE_CHECKING:
    from batchyard.sync import Client

RETRY_S = 0.5

_HELP = """
Run a command in a job that runs: in its container, or beside its process.

\b
  batchyard exec JOB -- ps aux
  batchyard exec -it last -- bash
  batchyard exec JOB#1/sidecar -- cat /tmp/state
  tar c data | batchyard exec -i JOB -- tar x

JOB is a job, an array child (ID:INDEX) or a node (ID#INDEX); /NAME behind it says which
of several containers. The command has the job's user, rights, folder, variables and limits,
and ends with the attempt. The exit code is its own: 126 or 127 if it cannot be started.
With a terminal, ~. at the beginning of a line leaves.
"""


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    help=_HELP,
    short_help="Run a command in a job that runs.",
)
@click.option("-i", "--stdin", "stdin", is_flag=True, help="Hand on what is typed, or comes from a pipe.")
@click.option("-t", "--tty", "terminal", is_flag=True, help="Give the command a terminal.")
@click.argument("job", metavar="JOB[/CONTAINER]", shell_complete=names.jobs)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] COMMAND...", required=True)
@options.shared
@options.session
def exec(  # noqa: A001  # the command's name
    session: options.Session, /, stdin: bool, terminal: bool, job: str, command: tuple[str, ...]
) -> int:
    """Run a command in a job that runs (the text of --help is ``_HELP``)."""
    from batchyard.cli import terminal as terminals

    words = command[1:] if command[0] == "--" else command  # which ends options, and here they have ended
    if not words:
        raise click.UsageError("say what to run: batchyard exec [OPTIONS] JOB -- COMMAND...")
    job_id, _, container = job.partition("/")
    rows, columns = terminals.size() if terminal else (0, 0)
    with (
        session.client() as client,
        client.exec(
            job_ids.full(client, job_id),
            words,
            container=container,
            stdin=stdin,
            terminal=terminal,
            rows=rows,
            columns=columns,
            terminal_type=terminals.kind(),
        ) as execution,
    ):
        try:
            return terminals.join(execution, stdin=stdin, terminal=terminal)
        except KeyboardInterrupt:
            out.note("left")
            return exits.INTERRUPTED


@click.command()
@click.argument("job", shell_complete=names.jobs)
@options.shared
@options.session
def attach(session: options.Session, job: str) -> int:
    """
    Go to a job's terminal, or follow what it writes from now on.

    A job of `run --pty` has a terminal: who was at it leaves, and ~. at the beginning of a line
    leaves again, which ends the job once nobody has been there for as long as it says.
    The exit code is the job's own. Of all other jobs the log is written as it comes, and an
    interrupt leaves them running.
    """
    from batchyard.cli import logs
    from batchyard.errors import FailedPreconditionError, Reason

    with session.client() as client:
        job_id = job_ids.full(client, job)
        try:
            return _attached(client, job_id)
        except FailedPreconditionError as err:
            if err.reason != Reason.ENTRY_NOT_POSSIBLE:
                raise
        try:
            logs.follow_from_now(client, job_id)
        except KeyboardInterrupt:
            out.note("left; the job goes on")
            return exits.INTERRUPTED
        return 0


def be_at(client: Client, job_id: str, grace_s: int) -> int:
    """Wait for a job with a terminal to start, be at it to its end, and return its exit code."""
    from batchyard.errors import HOST_AWAY, Reason, UnavailableError

    try:
        _until_started(client, job_id)
    except KeyboardInterrupt:
        client.terminate_job(job_id, "interrupted before it started")
        return exits.INTERRUPTED
    passing = {Reason.ENTRY_BROKEN, Reason.NOT_LEADING, Reason.LEADERSHIP_LOST, Reason.CONTROLLER_UNREACHABLE}
    passing |= {Reason.CONNECTION_BROKEN, *HOST_AWAY}
    for tries_left in reversed(range(int(grace_s / RETRY_S))):
        try:
            return _attached(client, job_id)
        except UnavailableError as err:
            if not tries_left or err.reason not in passing:
                raise
            out.note(f"{err}; attaching again")
            time.sleep(RETRY_S)
    raise AssertionError("a grace has room for a try")


def _attached(client: Client, job_id: str) -> int:
    from batchyard.cli import terminal as terminals

    rows, columns = terminals.size()
    with client.attach(job_id, rows=rows, columns=columns, terminal_type=terminals.kind()) as execution:
        try:
            return terminals.join(execution, stdin=True, terminal=True)
        except KeyboardInterrupt:
            out.note(f"left; to come back: batchyard attach {job_id}")
            return exits.INTERRUPTED


def _until_started(client: Client, job_id: str) -> None:
    """Wait until a job runs, and say why it does not, whenever that changes."""
    from batchyard.states import JobState
    from batchyard.wording import job_state

    told = ""
    while True:
        state = job_state(client.describe_job(job_id))
        if state is JobState.RUNNING or state.is_final:
            return  # who attaches is told how it ended
        why = client.explain_job(job_id).summary
        if why != told:
            out.note(f"job {job_id}: {why}")
            told = why
        time.sleep(RETRY_S)
