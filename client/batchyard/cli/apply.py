"""The commands ``apply`` and ``import``: have a yard be what files say."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from batchyard.cli import exits, harmless, options, yard_files
from batchyard.cli import output as out

if TYPE_CHECKING:
    from batchyard.cli.yard_files import Change, Wanted
    from batchyard.sync import Client

_APPLY_HELP = """
Have the yard be what a file says: TOML, YAML or JSON, by its name; - is TOML from stdin.

\b
  [compute_environments.rack]
  type = "MANAGED"
  [job_queues.nightly]
  priority = 5
  compute_environment_order = ["rack"]
  [job_definitions.train]
  container = {command = ["./train"], resources = {cpu_millis = 4000, memory_mib = 8192}}

The fields are those of the requests that make such a thing, in protos/batchyard/v1. What
is not there is made, what is otherwise is changed, a definition gets a revision; what the
file does not name is left alone, so nothing is ever removed. Carried out twice it does
nothing the second time.
"""

_IMPORT_HELP = """
Take over an AWS account's compute environments, queues, policies and job definitions.

\b
  aws batch describe-job-definitions --status ACTIVE > definitions.json
  aws batch describe-compute-environments > environments.json
  aws batch describe-job-queues > queues.json
  batchyard import definitions.json environments.json queues.json

Each FILE (- is stdin) is what such a command wrote, or the input of one that makes one
of these. Of several revisions the latest that is ACTIVE counts. What
cannot be made here is told, and the rest goes on. It needs what the gateway
needs; how AWS's members are understood is in docs/aws.md. Then it goes on as apply does.
"""


@click.command("apply", help=_APPLY_HELP, short_help="Have the yard be what a file says.")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@options.shared
@options.session
def apply(session: options.Session, file: BinaryIO, dry_run: bool) -> int:
    """Have the yard be what a file says (the text of --help is ``_APPLY_HELP``)."""
    try:
        wanted = yard_files.read(_document(file))
    except ValueError as err:
        raise click.UsageError(f"{file.name}: {err}") from err
    return _carry_out(session, wanted, is_dry=dry_run)


@click.command("import", help=_IMPORT_HELP, short_help="Take over an AWS account's definitions, queues, environments.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@options.shared
@options.session
def import_(session: options.Session, files: tuple[BinaryIO, ...], dry_run: bool) -> int:
    """Take over what AWS says of an account (the text of --help is ``_IMPORT_HELP``)."""
    try:
        aws = importlib.import_module("batchyard_gateway.batch.importing")
    except ImportError as err:
        raise click.UsageError(f"it needs the gateway, pip install 'batchyard[gateway]': {err}") from err
    requests: list[tuple[str, Any]] = []
    has_refused = False
    for file in files:
        try:
            found, refused = aws.requests_of(_parsed("json", file.read()))
        except ValueError as err:
            raise click.UsageError(f"{file.name}: {err}") from err
        requests += found
        for each in refused:
            out.note(f"{file.name}: {each}")
        has_refused = has_refused or bool(refused)
    wanted = [yard_files.of_message(section, request) for section, request in requests]
    wanted.sort(key=lambda each: yard_files.SECTIONS.index(each.section))
    return _carry_out(session, wanted, is_dry=dry_run) or (exits.REFUSED if has_refused else 0)


def _document(file: BinaryIO) -> Any:
    ending = file.name.rpartition(".")[2].lower() if isinstance(file.name, str) else "toml"
    return _parsed({"yml": "yaml", "yaml": "yaml", "json": "json"}.get(ending, "toml"), file.read())


def _parsed(form: str, data: bytes) -> Any:
    """
    Read a document.

    Raises:
        ValueError: it is none of that form.
    """
    text = data.decode()
    match form:
        case "json":
            import json

            return json.loads(text)
        case "toml":
            import tomllib

            return tomllib.loads(text)
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as err:
        raise click.UsageError("YAML needs PyYAML: pip install 'batchyard[yaml]'; TOML and JSON need nothing") from err
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ValueError(f"it is no YAML: {err}") from err


def _carry_out(session: options.Session, wanted: Sequence[Wanted], *, is_dry: bool) -> int:
    from batchyard.errors import RequestError

    counts = {"made": 0, "changed": 0, "as they are": 0, "refused": 0}
    shown = []
    with session.client() as client:
        for each in wanted:
            change = yard_files.change(each, _present(client, each))
            what, why = _kind(change), ""
            try:
                if not is_dry:
                    _send(client, change)
            except RequestError as err:
                what, why = "refused", str(err)
            counts[what] += 1
            shown.append({"what": what, "kind": yard_files.singular(each.section), "name": each.name,
                          "changes": list(change.lines), "why": why})  # fmt: skip
            if session.output != "json":
                _show(change, what, why)
    if session.output == "json":
        out.write_json(shown)
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing is asked for"
    out.note(f"{said}; nothing was done, as asked" if is_dry else said)
    return exits.REFUSED if counts["refused"] else 0


def _present(client: Client, wanted: Wanted) -> Any:
    match wanted.section:
        case "compute_environments":
            found: Sequence[Any] = client.describe_compute_environments([wanted.name])
        case "scheduling_policies":
            found = client.describe_scheduling_policies([wanted.name])
        case "job_queues":
            found = client.describe_job_queues([wanted.name])
        case _:
            found = client.describe_job_definitions([wanted.name])
    return max(found, key=lambda each: getattr(each, "revision", 0), default=None)


def _kind(change: Change) -> str:
    if change.is_new:
        return "made"
    if change.stuck:
        return "refused"
    return "changed" if change.lines else "as they are"


def _send(client: Client, change: Change) -> None:
    calls, one = client.client.calls, yard_files.singular(change.wanted.section)
    if change.stuck:
        return  # half of it would be neither the one nor the other
    if change.request is not None:
        verb = "register" if one == "job_definition" else "create" if change.is_new else "update"
        client.run(getattr(calls, f"{verb}_{one}")(change.request))
    if change.tags:
        client.tag_resource(one.upper(), change.wanted.name, change.tags)


def _show(change: Change, what: str, why: str) -> None:
    if what == "as they are":
        return
    sign = {"made": "+", "changed": "~", "refused": "!"}[what]
    if change.stuck:
        why = f"{', '.join(change.stuck)} cannot be changed: delete it first, or give it another name"
    click.echo(harmless.line(f"{sign} {change.wanted.title}{': ' if why else ''}{why}"))
    for line in change.lines:
        click.echo(harmless.line(f"    {line}"))
