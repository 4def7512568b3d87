"""The command ``logs``, and following a job's attempts one after the other."""

from __future__ import annotations

import sys
from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import job_ids as ids
from batchyard.cli import names, options
from batchyard.cli import output as out
from batchyard.cli.harmless import TerminalFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batchyard.sync import Client
    from batchyard.v1.job_pb2 import Job

FOLLOWED_MAX = 50
"""Each is a thread and a stream of its own."""

_LINES = Lock()
"""Held while whole lines are written."""


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True, shell_complete=names.jobs)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("-n", "--tail", "tail_lines", type=click.IntRange(min=0), help="Only the last so many lines.")
@click.option("--container", "part", metavar="NAME", help="Which of several containers. Default: all, by lines.")
@click.option("--attempt", type=click.IntRange(min=1), help="Which attempt, from 1. Default: the latest.")
@options.shared
@options.session
def logs(
    session: options.Session,
    job_ids: tuple[str, ...],
    follow: bool,
    tail_lines: int | None,
    part: str | None,
    attempt: int | None,
) -> None:
    """
    Write the log of a job, array child (ID:INDEX) or node (ID#INDEX), output and errors together.

    With --follow and no --attempt, later attempts are followed too. Of several
    containers each line begins with the name of its own; of several jobs, or children
    (ID:1-5,9), with the beginning of its id. With --follow that is at most 50 of them.
    """
    with session.client() as client:
        meant = ids.all_full(client, job_ids)
        if len(meant) == 1:
            _logs_of_one(client, meant[0], part, follow=follow, tail_lines=tail_lines, attempt=attempt)
        elif follow and len(meant) > FOLLOWED_MAX:
            raise click.UsageError(f"--follow of {len(meant)} jobs: at most {FOLLOWED_MAX} are followed at once")
        else:
            _logs_of_many(client, meant, part, follow=follow, tail_lines=tail_lines, attempt=attempt)


def _logs_of_many(client: Client, job_ids: Sequence[str], part: str | None, *, follow: bool, **wanted: Any) -> None:
    """Write logs line by line, each with its job before it; of one that has none that is told, and the rest goes on."""
    from concurrent.futures import ThreadPoolExecutor

    from batchyard.errors import RequestError

    def write(job_id: str, label: str) -> None:
        try:
            _logs_of_one(client, job_id, part, follow=follow, label=label, **wanted)
        except RequestError as err:
            out.note(str(err))

    # One after the other where nothing is waited for, so that each log stands together.
    with ThreadPoolExecutor(len(job_ids) if follow else 1) as pool:
        for done in [pool.submit(write, *each) for each in zip(job_ids, ids.short(job_ids), strict=True)]:
            done.result()


def _logs_of_one(
    client: Client,
    job_id: str,
    part: str | None,
    *,
    follow: bool,
    tail_lines: int | None,
    attempt: int | None,
    label: str = "",
) -> None:
    from batchyard.errors import FailedPreconditionError

    job = client.describe_job(job_id)
    if job.array.size and not job.array.HasField("index"):
        raise FailedPreconditionError(
            f"{job_id} is an array; its children have logs: {job_id}:0, or {job_id}:0-{job.array.size - 1} of all"
        )
    _check_ran(job)
    parts = [part] if part else parts_of(job)
    if follow and attempt is None:
        first = max(len(job.attempts), 1)
        follow_job(client, job_id, parts, first=first, tail_lines=tail_lines, label=label)
        _check_ran(client.describe_job(job_id))
    elif not job.attempts:
        raise FailedPreconditionError(f"{job_id} has not started; `batchyard explain {job_id}` says why")
    else:
        _write_all(client, job_id, parts, label=label, attempt=attempt or 0, tail_lines=tail_lines, follow=follow)
        _note_reason(client, job_id, attempt or 0)


def _check_ran(job: Job) -> None:
    """Refuse a job that has ended without an attempt: there is no log, and there will be none."""
    from batchyard.errors import FailedPreconditionError, Reason
    from batchyard.wording import job_state

    if job_state(job).is_final and not job.attempts:
        text = f"{job.id} never ran: {job.ending_cause}"
        raise FailedPreconditionError(text, reason=Reason.JOB_NEVER_RAN, metadata={"job_id": job.id})


def _note_reason(client: Client, job_id: str, number: int) -> None:
    """Say what a log cannot: that its attempt was killed for its memory, or by its host."""
    for attempt in client.describe_job(job_id).attempts[number - 1 :][:1]:
        if attempt.reason:
            out.note(f"attempt {attempt.number}: {attempt.reason}")


def parts_of(job: Job) -> list[str]:
    """Return the names of a job's several containers; of a plain job that of none."""
    return [container.name for container in (*job.task.init_containers, *job.task.containers)] or [""]


def follow_job(
    client: Client,
    job_id: str,
    parts: Sequence[str],
    *,
    first: int = 1,
    tail_lines: int | None = None,
    label: str = "",
) -> None:
    """Write the logs of a job's attempts to stdout as they come, from attempt *first*, until the job has ended."""
    from batchyard.errors import RequestError
    from batchyard.states import JobState
    from batchyard.wording import job_state

    following, told = first, ""
    with closing(client.watch_jobs([job_id])) as events:
        for event in events:
            state = job_state(event.job)
            # The log of an attempt begins when it runs; those of several containers begin while it starts.
            begun = event.job.attempts - (state is JobState.STARTING and parts == [""])
            for number in range(following, begun + 1):
                try:
                    _write_all(client, job_id, parts, label=label, attempt=number, tail_lines=tail_lines, follow=True)
                except RequestError as err:
                    told = f"no log of attempt {number}: {err}"
                    out.note(told)
                tail_lines = None
            following = max(following, begun + 1)
            if state.is_final:
                if event.job.reason and begun and event.job.reason not in told:
                    out.note(f"attempt {begun}: {event.job.reason}")
                return


def _write_all(client: Client, job_id: str, parts: Sequence[str], *, label: str, **wanted: Any) -> None:
    """Write the logs of an attempt's containers; of several by whole lines, as they come, each with the name before it."""
    if len(parts) == 1 and not label:
        _write(client.read_logs(job_id, container=parts[0], **wanted))
        return
    from concurrent.futures import ThreadPoolExecutor

    width = max(map(len, parts))

    def write(part: str) -> None:
        rest, before = b"", " ".join(filter(None, [label, f"{part:{width}}"])) + " | "
        for chunk in client.read_logs(job_id, container=part, **wanted):
            *lines, rest = (rest + chunk).split(b"\n")
            with _LINES:
                _write(before.encode() + line + b"\n" for line in lines)
        if rest:
            with _LINES:
                _write([before.encode() + rest + b"\n"])

    with ThreadPoolExecutor(len(parts)) as pool:
        # Without --follow one after the other, as nothing tells what came first.
        running = [pool.submit(write, part) for part in parts] if wanted["follow"] else []
        for future in running:
            future.result()
        if not running:
            for part in parts:
                write(part)


def follow_from_now(client: Client, job_id: str) -> None:
    """Write what a job writes from now on, to the attempt's end."""
    _write(client.read_logs(job_id, tail_lines=0, follow=True))


def _write(chunks: Iterable[bytes]) -> None:
    """Write a log as it is; to a terminal without what that would obey."""
    if sys.stdout.isatty():
        chunks = _harmless(chunks)
    stdout = sys.stdout.buffer
    for chunk in chunks:
        rest = memoryview(chunk)
        # Without a buffer (PYTHONUNBUFFERED) a write may take a part, as of a reader that then goes away.
        while rest:
            rest = rest[stdout.write(rest) :]
        stdout.flush()


def _harmless(chunks: Iterable[bytes]) -> Iterator[bytes]:
    through = TerminalFilter()
    for chunk in chunks:
        yield through.feed(chunk)
    yield through.end()
