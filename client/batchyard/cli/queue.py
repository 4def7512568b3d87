"""Commands about job queues: ``queue create|list|describe|snapshot|update|delete``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from batchyard.cli import names as offered
from batchyard.cli import options, spans
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.cli.compute_environment import RESOURCE_STATES
from batchyard.states import ACTIVE_STATES, WAITING_STATES, JobState

if TYPE_CHECKING:
    from batchyard.v1.job_queue_pb2 import GetJobQueueSnapshotResponse, JobQueue

_ENVIRONMENT_HELP = "Where its jobs run; give several in the order to try them."


_TIME_LIMIT_HELP = "Cancel a job that cannot be placed for this reason and was first in line for so long: 30m, 2h."


def _time_limit(value: str) -> tuple[str, int]:
    """Read ``REASON=TIME``."""
    reason, text = options.pair(value)
    return reason, options.whole_span(text)


_MAX_RUNNING_HELP = "Most jobs and children that run at once; 0 is no bound."
_MAX_VCPUS_HELP = "Most vCPUs that they have at once; 0 is no bound."
_ORDERS = ["DUE_TIME", "SUBMISSION_TIME", "STRICT"]
_ORDER_HELP = (
    "How equals go: short ones sooner, as submitted, or as submitted and nobody passes one that cannot start yet."
)
_MAX_OVERTAKE_HELP = (
    "By due times: nobody submitted so much later goes first: 30m, 2d; 0 is five times a job's timeout, or 7d without."
)
_PREEMPTIONS = ["NEVER", "LOWER_PRIORITY"]
_PREEMPTION_HELP = "Whom it has stopped when a job of it lacks room: jobs of preemptible queues of lower priority."
_PREEMPTIBLE_HELP = "Whether its own jobs may be stopped so; they run again."

_LEVELS = ["PRIVILEGED", "BASELINE", "RESTRICTED"]
_LEVEL_HELP = (
    "What its jobs are kept to: what the host allows; no privileged containers, devices or host network; "
    "never root and no capabilities besides."
)
_FENCE_HELP = (
    "How long a host may be out of touch before what it runs of this queue is tried elsewhere: 30s to 24h, never, or "
    "default, as the controller says."
)


@click.group()
def queue() -> None:
    """Job queues: where jobs wait."""


@queue.command()
@click.argument("name")
@click.option("--priority", type=int, default=1, show_default=True, help="Higher is served first.")
@click.option(
    "--compute-environment",
    "environments",
    multiple=True,
    default=["default"],
    show_default=True,
    shell_complete=offered.environments,
    help=_ENVIRONMENT_HELP,
)
@click.option("--state", type=click.Choice(RESOURCE_STATES, case_sensitive=False), default="ENABLED")
@click.option(
    "--scheduling-policy",
    default="",
    shell_complete=offered.policies,
    help="How its shares take turns. A queue that is made without one never gets one.",
)
@click.option("--max-running", type=int, default=0, help=_MAX_RUNNING_HELP)
@click.option("--max-vcpus", type=int, default=0, help=_MAX_VCPUS_HELP)
@click.option(
    "--dispatch-order",
    type=click.Choice(_ORDERS, case_sensitive=False),
    default="DUE_TIME",
    show_default=True,
    help=_ORDER_HELP,
)
@click.option(
    "--max-overtake", "max_overtake_s", type=options.whole_span, default="0", metavar="TIME", help=_MAX_OVERTAKE_HELP
)
@click.option(
    "--preemption",
    type=click.Choice(_PREEMPTIONS, case_sensitive=False),
    default="NEVER",
    show_default=True,
    help=_PREEMPTION_HELP,
)
@click.option("--preemptible/--not-preemptible", default=False, help=_PREEMPTIBLE_HELP)
@click.option(
    "--security-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="PRIVILEGED",
    show_default=True,
    help=_LEVEL_HELP,
)
@click.option("--fence", "fence_s", type=options.fence, default="default", metavar="TIME", help=_FENCE_HELP)
@click.option(
    "--time-limit", "time_limits", type=_time_limit, metavar="REASON=TIME", multiple=True, help=_TIME_LIMIT_HELP
)
@options.pairs("--tag", "tags", "Tag.")
@options.shared
@options.session
def create(
    session: options.Session,
    name: str,
    priority: int,
    environments: tuple[str, ...],
    state: str,
    scheduling_policy: str,
    max_running: int,
    max_vcpus: int,
    dispatch_order: str,
    max_overtake_s: int,
    preemption: str,
    preemptible: bool,
    security_level: str,
    fence_s: int,
    time_limits: tuple[tuple[str, int], ...],
    tags: tuple[tuple[str, str], ...],
) -> None:
    """Create a job queue."""
    with session.client() as client:
        made = client.create_job_queue(
            name,
            priority=priority,
            compute_environments=environments,
            state=state,
            scheduling_policy=scheduling_policy,
            max_running=max_running,
            max_vcpus=max_vcpus,
            dispatch_order=dispatch_order,
            max_overtake_s=max_overtake_s,
            preemption=preemption,
            preemptible=preemptible,
            security_level=security_level,
            fence_s=fence_s,
            time_limits=dict(time_limits),
            tags=options.as_map(tags),
        )
    _show_one(session.output, made, "created")


@queue.command("list")
@options.shared
@options.session
def list_(session: options.Session) -> None:
    """List job queues."""
    with session.client() as client:
        rows = list(client.list_job_queues(page_size=1000))
    columns: list[out.Column[JobQueue]] = [
        out.Column(title="NAME", cell=lambda row: row.name),
        out.Column(title="STATE", cell=_state),
        out.Column(title="STATUS", cell=_status),
        out.Column(title="PRIORITY", cell=lambda row: str(row.priority), is_number=True),
        out.Column(title="WAITING", cell=lambda row: _count(row, WAITING_STATES), is_number=True),
        out.Column(title="ACTIVE", cell=lambda row: _count(row, ACTIVE_STATES), is_number=True),
        out.Column(title="SUCCEEDED", cell=lambda row: str(row.job_counts.get("SUCCEEDED", 0)), is_number=True),
        out.Column(title="FAILED", cell=lambda row: str(row.job_counts.get("FAILED", 0)), is_number=True),
        out.Column(title="ENVIRONMENTS", cell=_environments, is_elastic=True),
        out.Column(title="REASON", cell=lambda row: row.status_reason, is_wide=True, is_elastic=True),
    ]
    out.show_rows(session.output, rows, columns, lambda row: row.name)


@queue.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=offered.queues)
@options.shared
@options.session
def describe(session: options.Session, names: tuple[str, ...]) -> None:
    """Show all about job queues. JSON is always a list."""
    with session.client() as client:
        found = {row.name: row for row in client.describe_job_queues(names)}
    out.show_described(session.output, "queue", names, found, _fields)


@queue.command()
@click.argument("name", shell_complete=offered.queues)
@options.shared
@options.session
def snapshot(session: options.Session, name: str) -> None:
    """Show who is served first, up to 100, and what the jobs of a queue hold. JSON is one object."""
    with session.client() as client:
        answer = client.get_job_queue_snapshot(name)
    match session.output:
        case "json":
            out.write_json(out.to_plain(answer))
        case "name":
            out.show_names([each.job_id for each in answer.front])
        case _:
            _show_snapshot(name, answer)


@queue.command()
@click.argument("name", shell_complete=offered.queues)
@click.option("--state", type=click.Choice(RESOURCE_STATES, case_sensitive=False))
@click.option("--priority", type=int, help="Higher is served first.")
@click.option(
    "--compute-environment", "environments", multiple=True, shell_complete=offered.environments, help=_ENVIRONMENT_HELP
)
@click.option("--scheduling-policy", shell_complete=offered.policies, help="Another policy in place of the one it has.")
@click.option("--max-running", type=int, help=_MAX_RUNNING_HELP)
@click.option("--max-vcpus", type=int, help=_MAX_VCPUS_HELP)
@click.option("--dispatch-order", type=click.Choice(_ORDERS, case_sensitive=False), help=_ORDER_HELP)
@click.option("--max-overtake", "max_overtake_s", type=options.whole_span, metavar="TIME", help=_MAX_OVERTAKE_HELP)
@click.option("--preemption", type=click.Choice(_PREEMPTIONS, case_sensitive=False), help=_PREEMPTION_HELP)
@click.option("--preemptible/--not-preemptible", default=None, help=_PREEMPTIBLE_HELP)
@click.option("--security-level", type=click.Choice(_LEVELS, case_sensitive=False), help=_LEVEL_HELP)
@click.option("--fence", "fence_s", type=options.fence, metavar="TIME", help=_FENCE_HELP)
@click.option(
    "--time-limit",
    "time_limits",
    type=_time_limit,
    metavar="REASON=TIME",
    multiple=True,
    help=f"{_TIME_LIMIT_HELP} Replaces all there are.",
)
@click.option("--no-time-limits", is_flag=True, help="Let jobs wait for ever.")
@options.shared
@options.session
def update(
    session: options.Session,
    name: str,
    state: str | None,
    priority: int | None,
    environments: tuple[str, ...],
    scheduling_policy: str | None,
    max_running: int | None,
    max_vcpus: int | None,
    dispatch_order: str | None,
    max_overtake_s: int | None,
    preemption: str | None,
    preemptible: bool | None,
    security_level: str | None,
    fence_s: int | None,
    time_limits: tuple[tuple[str, int], ...],
    no_time_limits: bool,
) -> None:
    """Change what is given; the rest stays."""
    if time_limits and no_time_limits:
        raise click.UsageError("--no-time-limits does not go with --time-limit")
    with session.client() as client:
        changed = client.update_job_queue(
            name,
            state=state,
            priority=priority,
            compute_environments=environments,
            scheduling_policy=scheduling_policy,
            max_running=max_running,
            max_vcpus=max_vcpus,
            dispatch_order=dispatch_order,
            max_overtake_s=max_overtake_s,
            preemption=preemption,
            preemptible=preemptible,
            security_level=security_level,
            fence_s=fence_s,
            time_limits=dict(time_limits) if time_limits or no_time_limits else None,
        )
    _show_one(session.output, changed, "updated")


@queue.command()
@click.argument("name", shell_complete=offered.queues)
@options.shared
@options.session
def delete(session: options.Session, name: str) -> None:
    """Delete a DISABLED job queue; jobs left in it end FAILED."""
    with session.client() as client:
        client.delete_job_queue(name)
    out.note(f"deleted queue {name}")


def _show_one(output: str, row: JobQueue, done: str) -> None:
    match output:
        case "json":
            out.write_json(out.to_plain(row))
        case "name":
            out.show_names([row.name])
        case _:
            out.note(f"{done} queue {row.name} ({_state(row)}, {_status(row)}, priority {row.priority})")


def _show_snapshot(name: str, answer: GetJobQueueSnapshotResponse) -> None:
    shares = ", ".join(f"{each.share_identifier} {spans.millis(each.cpu_millis)}" for each in answer.top_shares)
    out.show_fields(
        [
            ("Queue", name),
            ("vCPUs in use", spans.millis(answer.cpu_millis)),
            ("Shares", f"{answer.active_shares} active: {shares}" if shares else ""),
        ]
    )
    if answer.quota_shares:
        from batchyard.cli.quota_share import used

        click.echo()
        rows = [[each.name, " ".join(map(used, each.use)), each.first.job_id] for each in answer.quota_shares]
        out.show_table(["QUOTA SHARE", "USED", "FIRST"], rows)
    if answer.front:
        click.echo()
        rows = [
            [str(place), each.job_id, spans.moment(each.since_ms, now_ms())]
            for place, each in enumerate(answer.front, 1)
        ]
        out.show_table(["PLACE", "JOB", "THERE SINCE"], rows, numbers=["PLACE"])


def _fields(row: JobQueue) -> Sequence[tuple[str, str]]:
    return [
        ("Name", row.name),
        ("State", _state(row)),
        ("Status", _status(row)),
        ("Reason", row.status_reason),
        ("Priority", str(row.priority)),
        ("Environments", _environments(row)),
        ("Policy", row.scheduling_policy),
        ("At most", _caps(row)),
        ("Order", _order(row)),
        ("Preemption", _preemption(row)),
        ("Security level", _security_level(row)),
        ("Fence", spans.fence(row.fence_s)),
        (
            "Time limits",
            " ".join(
                f"{t.reason}={spans.whole(t.max_time_s).replace(' ', '')}" for t in row.job_state_time_limit_actions
            ),
        ),
        ("Jobs", ", ".join(f"{row.job_counts[s]} {s}" for s in JobState if row.job_counts.get(s)) or "none"),
        ("Tags", " ".join(f"{k}={v}" for k, v in sorted(row.tags.items()))),
        ("Created", spans.moment(row.created_at_ms, now_ms())),
    ]


def _caps(row: JobQueue) -> str:
    caps = [f"{row.max_running} running"] if row.max_running else []
    return ", ".join(caps + ([f"{row.max_vcpus} vCPUs"] if row.max_vcpus else []))


def _order(row: JobQueue) -> str:
    from batchyard.v1.job_queue_pb2 import DispatchOrder
    from batchyard.wording import word

    name = word(DispatchOrder, row.dispatch_order)
    return name + (f", overtaken for {spans.whole(row.max_overtake_s)} at most" if row.max_overtake_s else "")


def _preemption(row: JobQueue) -> str:
    from batchyard.v1.job_queue_pb2 import PREEMPTION_LOWER_PRIORITY

    parts = ["LOWER_PRIORITY"] if row.preemption == PREEMPTION_LOWER_PRIORITY else []
    return ", ".join(parts + (["preemptible"] if row.preemptible else []))


def _security_level(row: JobQueue) -> str:
    from batchyard.v1.security_pb2 import SecurityLevel
    from batchyard.wording import word

    return word(SecurityLevel, row.security_level)


def _state(row: JobQueue) -> str:
    from batchyard.v1.compute_environment_pb2 import ResourceState
    from batchyard.wording import word

    return word(ResourceState, row.state)


def _status(row: JobQueue) -> str:
    from batchyard.v1.compute_environment_pb2 import ResourceStatus
    from batchyard.wording import word

    return word(ResourceStatus, row.status)


def _environments(row: JobQueue) -> str:
    ordered = sorted(row.compute_environment_order, key=lambda entry: entry.order)
    return ",".join(entry.compute_environment for entry in ordered)


def _count(row: JobQueue, states: Iterable[JobState]) -> str:
    return str(sum(row.job_counts.get(state, 0) for state in states))
