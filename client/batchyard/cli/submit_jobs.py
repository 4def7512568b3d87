"""The command ``submit-jobs``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

import click

from batchyard.cli import exits, harmless, job_ids, json_input, names, options
from batchyard.cli import output as out

if TYPE_CHECKING:
    from batchyard.v1.job_pb2 import SubmitJobRequest, SubmitResult

LINES_AT_ONCE = 5000
"""Lines that are read before they are sent."""

_HELP = """
Submit many jobs: each line of FILE (- is stdin) is a job as JSON.

\b
  {"name": "a", "request_id": "a", "container": {"command": ["true"],
   "resources": {"cpu_millis": 1000, "memory_mib": 128}}}
  {"name": "b", "job_definition": "train", "depends_on": [{"job_id": "request:a"}]}

The fields are those of SubmitJobRequest in protos/batchyard/v1/job.proto. Writes a
line for each, in order: the job's id, or "refused: ..."; with -o json the whole
result. With a request_id in each line the command can be repeated without harm.
Exits with 3 if any was refused.
"""


@click.command(help=_HELP, short_help="Submit many jobs.")
@click.argument("file", type=click.File("rb"))
@click.option(
    "-q",
    "--queue",
    shell_complete=names.queues,
    help="Where those wait that name no queue (BATCHYARD_QUEUE). Default default.",
)
@options.shared
@options.session
def submit_jobs(session: options.Session, file: BinaryIO, queue: str | None) -> int:
    """Submit many jobs (the text of --help is ``_HELP``)."""
    lines = (line for line in file if line.strip())
    refused, last = 0, ""
    try:
        with session.client() as client:
            # Read here and not by the client, whose thread an interrupt does not reach.
            while some := list(islice(lines, LINES_AT_ONCE)):
                parsed = [_parse(line, queue or session.queue) for line in some]
                results = client.submit_jobs([each for each in parsed if not isinstance(each, str)])
                for result in _in_order(parsed, results):
                    refused += result.HasField("refusal")
                    last = result.job.job_id or last
                    _show(session.output, result)
    finally:  # what was submitted before an error or an interrupt counts too
        if last:
            job_ids.remember(last)
    return exits.REFUSED if refused else 0


def _parse(line: bytes, queue: str) -> SubmitJobRequest | str:
    """Return a line as a request, or why it is none."""
    from google.protobuf import json_format

    from batchyard.v1.job_pb2 import SubmitJobRequest

    try:
        request = json_input.parse(line, SubmitJobRequest())
    except (json_format.ParseError, UnicodeDecodeError) as err:
        return f"no job as JSON: {err}"
    request.queue = request.queue or queue
    return request


def _in_order(parsed: Iterable[SubmitJobRequest | str], results: Iterator[SubmitResult]) -> Iterator[SubmitResult]:
    """Yield a result for each line, those that were not sent in their places."""
    from batchyard.errors import Reason
    from batchyard.v1.job_pb2 import SubmitRefusal, SubmitResult

    for each in parsed:
        if isinstance(each, str):
            refusal = SubmitRefusal(code="InvalidArgument", message=each, reason=Reason.INVALID_ARGUMENT)
            yield SubmitResult(refusal=refusal)
        else:
            yield next(results)


def _show(output: str, result: SubmitResult) -> None:
    if output == "json":
        click.echo(harmless.json_text(out.to_plain(result)))
    elif result.HasField("job"):
        click.echo(result.job.job_id)
    else:
        click.echo(harmless.line(f"refused: {result.refusal.message}"))
