"""``restored``: what came of it that the store was put back from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batchyard.cli import clock, options, spans
from batchyard.cli import output as out

if TYPE_CHECKING:
    from batchyard.v1.host_pb2 import DescribeRestoreResponse, Stray


@click.command()
@click.option(
    "--stop",
    "attempt_id",
    metavar="ATTEMPT",
    help="Stop an attempt that a host keeps and that this store does not know.",
)
@options.shared
@options.session
def restored(session: options.Session, attempt_id: str | None) -> None:
    """
    Show what came of it that the store was put back from a backup.

    What ran of jobs that the backup knows has become part of them. What runs of others is left alone and
    listed here: its jobs were submitted after the backup, and have to be submitted again if they are wanted.
    """
    with session.client() as client:
        if attempt_id is not None:
            client.stop_stray(attempt_id)
            out.note(f"{attempt_id} is told to stop")
            return
        answer = client.describe_restore()
    match session.output:
        case "json":
            out.write_json(out.to_plain(answer))
        case "name":
            out.show_names([stray.attempt_id for stray in answer.strays])
        case _:
            _show(answer)


def _show(answer: DescribeRestoreResponse) -> None:
    now = clock.now_ms()
    if not answer.restored_at_ms:
        out.note("the store was never put back from a backup")
        return
    waits = f"waits for hosts {', '.join(answer.waits_for)}" if answer.waits_for else "waits for hosts that come back"
    out.show_fields(
        [
            ("Restored", spans.moment(answer.restored_at_ms, now)),
            ("Generation", str(answer.generation)),
            ("State", "all has been learnt that can be" if answer.is_over else waits),
            ("Adopted", f"{answer.adopted} attempts that run, {answer.ended} that had ended"),
            ("Not known", "\n".join(answer.unlearnt)),
        ]
    )
    if not answer.strays:
        return
    click.echo()
    columns: list[out.Column[Stray]] = [
        out.Column(title="STRAY", cell=lambda stray: stray.attempt_id),
        out.Column(title="HOST", cell=lambda stray: stray.host_name),
        out.Column(title="SINCE", cell=lambda stray: spans.moment(stray.started_at_ms, now) or "-"),
    ]
    out.show_rows("table", answer.strays, columns, lambda stray: stray.attempt_id)
    out.note("strays are of no job that this store knows; `batchyard restored --stop ATTEMPT` ends one")
