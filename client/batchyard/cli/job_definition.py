"""Commands about job definitions: ``job-definition register|list|describe|deregister``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from batchyard.cli import container, json_input, options, remarks, spans
from batchyard.cli import names as offered
from batchyard.cli import output as out
from batchyard.cli.clock import now_ms
from batchyard.cli.job_page import asked_of, container_lines, containers_of, node_lines, resources_line, retries_line

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from batchyard.v1.job_definition_pb2 import ContainerProperties, JobDefinition, TaskProperties

    M = TypeVar("M", bound=Message)

_REGISTER_HELP = """
Register the next revision of a job definition.

\b
  batchyard job-definition register train --image busybox:latest --vcpus 2 -- ./train Ref::epochs
  batchyard job-definition register train --file container.json

--file reads the container from JSON as the contract spells it
(batchyard.v1.ContainerProperties, with all that has no flag here; as in
describe -o json); flags and a command then replace its parts, or add to its lists.
Several containers are read from a batchyard.v1.TaskProperties, which says it all.
With --pod the one container runs as a pod of Kubernetes, on nodes of clusters alone;
a TaskProperties with "pod" says that itself. A command is then what the image's
entrypoint gets, unless --entrypoint takes its place.
"""


@click.group("job-definition")
def job_definition() -> None:
    """Job definitions: numbered templates of jobs."""


@job_definition.command(help=_REGISTER_HELP, short_help="Register the next revision.")
@click.argument("name", shell_complete=offered.definitions)
@click.option("--file", type=click.File(), help="Container, or several, as JSON; - is stdin.")
@container.described
@click.option("--pod", "is_pod", is_flag=True, help="Run it as a pod of Kubernetes.")
@click.option("--entrypoint", multiple=True, metavar="WORD", help="With --pod: in place of the image's; a word each.")
@click.option("--service-account", help="With --pod: account of the cluster that it has. Default: none.")
@options.template
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@options.shared
@options.session
def register(session: options.Session, /, name: str, file: IO[str] | None, **flags: Any) -> None:
    """Register the next revision (the text of --help is ``_REGISTER_HELP``)."""
    text = _read(file)
    remarks.on_sizes(flags)
    if task := _several(text):
        if given := container.given(flags) or next((name for name, flag in _POD.items() if flags[flag]), ""):
            raise click.UsageError(f"{given} cannot be given with several containers: --file says it all")
        wanted: dict[str, Any] = {"task": task}
        commands = [[*part.entrypoint, *part.command] for part in (*task.containers, *task.init_containers)]
    else:
        one = container.fill(_one(text), flags)
        commands = [[*flags["entrypoint"], *one.command]]
        wanted = {"task": _as_pod(one, flags)} if flags["is_pod"] else {"container": one}
        if given := next((name for name, flag in _POD.items() if flags[flag] and not flags["is_pod"]), ""):
            raise click.UsageError(f"{given} is for pods alone: give --pod")
    remarks.on_parameters([word for command in commands for word in command], options.as_map(flags["parameters"]))
    with session.client() as client:
        made = client.register_job_definition(name, **wanted, **options.template_arguments(flags))
    match session.output:
        case "json":
            out.write_json(out.to_plain(made))
        case "name":
            out.show_names([_id(made)])
        case _:
            out.note(f"registered job definition {_id(made)}")


_POD = {"--pod": "is_pod", "--entrypoint": "entrypoint", "--service-account": "service_account"}


def _as_pod(one: ContainerProperties, flags: dict[str, Any]) -> TaskProperties:
    """Return a pod of one container, which takes the container's volumes along."""
    from batchyard import arguments
    from batchyard.pod_arguments import pod

    one.name = one.name or "default"
    one.entrypoint[:] = arguments.texts("entrypoint", flags["entrypoint"]) or one.entrypoint
    made = pod(one, volumes=[*one.volumes], service_account=flags["service_account"] or "")
    del made.containers[0].volumes[:]
    return made


def _read(file: IO[str] | None) -> str:
    try:
        return "" if file is None else file.read()
    except UnicodeDecodeError as err:
        raise click.UsageError(f"--file is no ContainerProperties: {err}") from err


def _several(text: str) -> TaskProperties | None:
    """Read several containers; None where the text is of one."""
    import json

    from batchyard.v1.job_definition_pb2 import TaskProperties

    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None  # told better by who reads it as one container
    if not isinstance(found, dict) or "containers" not in found:
        return None
    return _parsed(text, TaskProperties())


def _one(text: str) -> ContainerProperties:
    from batchyard.v1.job_definition_pb2 import ContainerProperties

    return _parsed(text, ContainerProperties()) if text else ContainerProperties()


def _parsed(text: str, wanted: M) -> M:
    from google.protobuf import json_format

    try:
        json_input.parse(text, wanted)
    except json_format.ParseError as err:
        raise click.UsageError(f"--file is no {wanted.DESCRIPTOR.name}: {err}") from err
    return wanted


@job_definition.command("list")
@click.option("--name", default="", help="Only revisions of this name.")
@click.option("--status", type=click.Choice(["ACTIVE", "INACTIVE"], case_sensitive=False), default=None)
@options.shared
@options.session
def list_(session: options.Session, name: str, status: str | None) -> None:
    """List job definitions, newest revision first."""
    now = now_ms()
    with session.client() as client:
        rows = list(client.list_job_definitions(name=name, status=status or "", page_size=1000))
    columns: list[out.Column[JobDefinition]] = [
        out.Column(title="DEFINITION", cell=_id),
        out.Column(title="STATUS", cell=_status),
        out.Column(title="IMAGE", cell=_images, is_elastic=True),
        out.Column(title="ASKS FOR", cell=_resources),
        out.Column(title="COMMAND", cell=_command, is_elastic=True),
        out.Column(title="AGE", cell=lambda row: spans.age(row.created_at_ms, now)),
    ]
    out.show_rows(session.output, rows, columns, _id)


@job_definition.command()
@click.argument("names", metavar="NAME[:REVISION]...", nargs=-1, required=True, shell_complete=offered.definitions)
@options.shared
@options.session
def describe(session: options.Session, names: tuple[str, ...]) -> None:
    """Show all about job definitions; a bare name is all its revisions. JSON is always a list."""
    with session.client() as client:
        found = {_id(row): row for row in client.describe_job_definitions(names)}
    known = {row.name for row in found.values()}
    missing = [name for name in names if name not in found and name not in known]
    out.show_described(session.output, "job definition", [*found, *missing], found, _fields)


@job_definition.command()
@click.argument("definition", metavar="NAME:REVISION", shell_complete=offered.revisions)
@options.shared
@options.session
def deregister(session: options.Session, definition: str) -> None:
    """Make one revision INACTIVE; jobs submitted from it go on."""
    with session.client() as client:
        client.deregister_job_definition(definition)
    out.note(f"deregistered job definition {definition}")


def _id(row: JobDefinition) -> str:
    return f"{row.name}:{row.revision}"


def _status(row: JobDefinition) -> str:
    from batchyard.v1.job_definition_pb2 import JobDefinitionStatus
    from batchyard.wording import word

    return word(JobDefinitionStatus, row.status)


def _resources(row: JobDefinition) -> str:
    return "" if row.HasField("nodes") else resources_line(*asked_of(row))


def _command(row: JobDefinition) -> str:
    several = [container.name for container in row.task.containers]
    if row.task.HasField("pod"):
        return f"a pod of {', '.join(several)}"
    return f"of {len(several)} containers: {', '.join(several)}" if several else shlex.join(row.container.command)


def _images(row: JobDefinition) -> str:
    of = row.nodes.ranges if row.HasField("nodes") else [row]
    return ", ".join(dict.fromkeys(part.image for each in of for part in containers_of(each))) or "-"


def _fields(row: JobDefinition) -> Sequence[tuple[str, str]]:
    return [
        ("Definition", _id(row)),
        ("Status", _status(row)),
        ("Nodes", str(row.nodes.num_nodes) if row.HasField("nodes") else ""),
        *(node_lines(row) if row.HasField("nodes") else container_lines(row)),
        ("Consumables", " ".join(f"{k}={v}" for k, v in sorted(row.consumables.items()))),
        ("Parameters", " ".join(f"{k}={v}" for k, v in sorted(row.parameters.items()))),
        ("Attempts", retries_line(row.retry_strategy)),
        ("Timeout", spans.whole(row.timeout_s) if row.timeout_s else ""),
        ("Fence", spans.fence(row.fence_s)),
        ("Tags", " ".join(f"{k}={v}" for k, v in sorted(row.tags.items()))),
        ("Created", spans.moment(row.created_at_ms, now_ms())),
    ]
