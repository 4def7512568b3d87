"""Commands that tell of jobs: ``jobs``, ``describe``, ``wait``, ``explain``."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import job_filters, names, options, spans
from batchyard.cli import job_ids as ids
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.cli.job_page import exit_code_word, show_job, state_word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchyard.v1.job_pb2 import ExplainJobResponse, JobSummary


WATCH_S = 2
SORTS: dict[str, Callable[[JobSummary], Any]] = {
    "name": lambda job: job.name,
    "queue": lambda job: job.queue,
    "state": lambda job: job.state,
    "host": lambda job: job.host_name,
    "exit": lambda job: job.exit_code,
    "tries": lambda job: job.attempts,
    "age": lambda job: -job.created_at_ms,
    "ran": lambda job: (job.stopped_at_ms or now_ms()) - job.started_at_ms if job.started_at_ms else -1,
}
"""What lists are sorted by."""


@click.command()
@job_filters.filters
@click.option("--oldest-first", is_flag=True, help="In order of submission.")
@click.option(
    "--sort",
    type=click.Choice([sign + key for key in SORTS for sign in ("", "-")]),
    metavar="[-]KEY",
    help=f"Sort those that are listed: {', '.join(SORTS)}; with - the largest first.",
)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("-w", "--watch", "is_watched", is_flag=True, help="Show them again every 2 seconds, until Ctrl-C.")
@options.shared
@options.session
def jobs(
    session: options.Session, /, oldest_first: bool, sort: str | None, limit: int, is_watched: bool, **flags: Any
) -> None:
    """List jobs, newest first."""
    if is_watched and session.output not in ("table", "wide"):
        raise click.UsageError(f"--watch is for a person: it cannot write {session.output}")
    with session.client() as client:
        while True:
            found = client.list_jobs(
                **job_filters.wanted(client, flags), oldest_first=oldest_first, page_size=min(limit + 1, 1000)
            )
            rows = list(islice(found, limit + 1))
            found.close()
            if is_watched:
                click.clear()
            listed = rows[:limit]
            if sort:
                listed.sort(key=SORTS[sort.removeprefix("-")], reverse=sort.startswith("-"))
            show_jobs(session.output, listed, now_ms())
            if len(rows) > limit:
                which = "oldest" if oldest_first else "newest"
                out.note(f"there are more than the {which} {limit}: --limit N shows them")
            if not is_watched:
                return
            time.sleep(WATCH_S)


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True, shell_complete=names.jobs)
@options.shared
@options.session
def describe(session: options.Session, job_ids: tuple[str, ...]) -> None:
    """Show all about jobs, array children (ID:INDEX) or nodes (ID#INDEX). JSON is always a list."""
    from batchyard.errors import NotFoundError

    with session.client() as client:
        wanted = ids.all_full(client, job_ids)
        found = {job.id: job for job in client.describe_jobs(wanted)}
    described = [found[job_id] for job_id in wanted if job_id in found]
    match session.output:
        case "json":
            out.write_json([out.to_plain(job) for job in described])
        case "name":
            out.show_names(job.id for job in described)
        case _:
            for position, job in enumerate(described):
                if position:
                    click.echo()
                show_job(job, now_ms())
    missing = [job_id for job_id in wanted if job_id not in found]
    if missing:
        raise NotFoundError(f"no such job: {', '.join(missing)}")


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True, shell_complete=names.jobs)
@click.option(
    "--timeout", "timeout_s", type=options.positive_span, metavar="TIME", help="Give up after it: 90s, 15m, 1h30m, 1d."
)
@options.shared
@options.session
def wait(session: options.Session, job_ids: tuple[str, ...], timeout_s: float | None) -> int:
    """
    Wait until jobs have ended; exit with the highest exit code.

    Nothing goes to stdout, but the jobs with -o json. Goes on over a restart of
    the controller.
    """
    from batchyard.cli import progress

    with session.client() as client:
        wanted = ids.all_full(client, job_ids)
        with progress.Progress(wanted) as shown:
            ended = client.wait_all(wanted, timeout_s=timeout_s, on_event=shown.on_event)
        for job in ended:
            out.note(progress.outcome(job))
        code = progress.exit_code(client, ended)
    if session.output == "json":
        out.write_json([out.to_plain(job) for job in ended])
    return code


@click.command()
@click.argument("job_id", metavar="JOB", shell_complete=names.jobs)
@options.shared
@options.session
def explain(session: options.Session, job_id: str) -> None:
    """Say why a job is where it is. JSON is one object."""
    with session.client() as client:
        answer = client.explain_job(ids.full(client, job_id))
    match session.output:
        case "json":
            out.write_json(out.to_plain(answer))
        case "name":
            out.show_names([answer.job_id])
        case _:
            _show_explanation(answer)


def show_jobs(output: str, rows: Sequence[JobSummary], now: int) -> None:
    """Write a list of jobs; on a terminal so that it fits 80 columns, with short ids."""
    # Where a program reads, and where there is room, ids are whole.
    is_narrow = output == "table" and out.is_terminal()
    has_arrays = any(job.array.size for job in rows)
    listed = [job.id for job in rows]
    same_ms_length = ids.SAME_MS_LENGTH_MIN if has_arrays else ids.SAME_MS_LENGTH
    shown = dict(zip(listed, ids.short(listed, same_ms_length), strict=True)) if is_narrow else {}
    columns: list[out.Column[JobSummary]] = [
        out.Column(title="JOB", cell=lambda job: shown.get(job.id, job.id)),
        out.Column(title="NAME", cell=lambda job: job.name, is_elastic=True),
        out.Column(title="QUEUE", cell=lambda job: job.queue, is_elastic=True),
        out.Column(title="STATE", cell=state_word),
        out.Column(title="DONE", cell=_array_done, is_number=True),
        out.Column(title="EXIT", cell=exit_code_word, is_number=True),
        out.Column(title="RAN", cell=lambda job: spans.duration(job.started_at_ms, job.stopped_at_ms, now)),
        out.Column(title="AGE", cell=lambda job: spans.age(job.created_at_ms, now).partition(" ")[0]),
        out.Column(title="HOST", cell=lambda job: job.host_name or "-", is_elastic=True),
        out.Column(title="TRIES", cell=lambda job: str(job.attempts), is_wide=True, is_number=True),
        out.Column(title="DEFINITION", cell=lambda job: job.job_definition or "-", is_wide=True, is_elastic=True),
        out.Column(title="REASON", cell=lambda job: job.reason or job.status_reason, is_wide=True, is_elastic=True),
    ]
    if not has_arrays:
        columns = [column for column in columns if column.title != "DONE"]
    out.show_rows(output, rows, columns, lambda job: job.id)


def _array_done(job: JobSummary) -> str:
    if not job.array.size or job.array.HasField("index"):
        return ""
    done = job.array.status_summary.get("SUCCEEDED", 0) + job.array.status_summary.get("FAILED", 0)
    # From a thousand children on the numbers would take the room of the names.
    return f"{done}/{job.array.size}" if job.array.size < 1000 else f"{100 * done // job.array.size}%"


def _show_explanation(answer: ExplainJobResponse) -> None:
    out.show_fields(
        [
            ("Job", answer.job_id),
            ("State", _state_of(answer)),
            ("Why", answer.summary),
            ("Position", _position(answer)),
            ("Starts by", _estimate(answer)),
            ("Hosts", f"{answer.eligible_hosts} suit the job" if answer.refusals or answer.eligible_hosts else ""),
            ("Dependents", _dependents(answer)),
        ]
    )
    if answer.refusals:
        click.echo()
        out.show_table(
            ["RULE", "ASKED", "FREE", "MOST FREE", "LARGEST HOST", "MEANING"],
            [
                [
                    r.kind,
                    _amount(r.kind, r.asked, asked=True),
                    *(_amount(r.kind, n) for n in (r.free, r.largest_free, r.largest_capacity)),
                    r.message,
                ]
                for r in answer.refusals
            ],
            numbers=["ASKED", "FREE", "MOST FREE", "LARGEST HOST"],
            elastic=["MEANING"],
        )


def _position(answer: ExplainJobResponse) -> str:
    more = " or later" if answer.position_is_least else ""
    return f"{answer.position:,}{more}" if answer.position else ""


def _dependents(answer: ExplainJobResponse) -> str:
    """Return who waits for a job: all by id, or how many and the first ones."""
    named = ", ".join(answer.dependent_ids)
    if answer.dependents == len(answer.dependent_ids) and not answer.dependents_is_least:
        return named
    least = "at least " if answer.dependents_is_least else ""
    return f"{least}{answer.dependents:,} jobs, first {named}" if named else f"{least}{answer.dependents:,} jobs"


def _estimate(answer: ExplainJobResponse) -> str:
    at_ms = answer.estimated_start_at_ms
    return f"about {spans.moment(at_ms, now_ms())}" if at_ms else ""


def _state_of(answer: ExplainJobResponse) -> str:
    from batchyard.wording import job_state

    return job_state(answer).value


def _amount(kind: str, amount: int, *, asked: bool = False) -> str:
    if kind.endswith("_millis"):
        return spans.millis(amount)
    if kind.endswith("_mib"):
        return spans.mib(amount, asked=asked)
    return str(amount) if kind == "consumable" else "-"
