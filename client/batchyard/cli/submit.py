"""The command ``submit``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import array_input, container, exits, job_ids, job_scripts, logs, names, options, remarks
from batchyard.cli import output as out
from batchyard.ids import NAME_LENGTH_MAX

if TYPE_CHECKING:
    from batchyard.array_values import ArrayValues
    from batchyard.sync import Client
    from batchyard.v1.job_pb2 import ContainerOverrides, Dependency

_HELP = """
Submit a job: what follows the options is its command, word by word, no shell.

\b
  batchyard submit -- echo hello
  batchyard submit --wait --image busybox:latest -- sh -c 'exit 7'
  batchyard submit --array 20 --vcpus 0.5 --memory 1G -- ./part.sh
  batchyard submit --each-line inputs.txt -- ./fit Ref::item
  batchyard submit --sweep lr=0.1,0.2 --sweep seed=1..5 -- ./train Ref::lr Ref::seed
  batchyard submit --nodes 4 --vcpus 8 -- ./train.sh
  batchyard submit --definition train:3 --param epochs=5
  batchyard submit fit.sh a b

Without --image the command is a plain process on the host, and starts in this
folder where the host has it. A file that begins with #!, with no -- before it, goes
with the job; options in its lines #BATCHYARD, and common ones of #SBATCH, count as
if they were given first. Writes the job's id.
With --wait or --follow the exit code is the job's own; an interrupt leaves the
job running.
"""


class _WithScripts(click.Command):
    """A command whose first word, where no ``--`` stands before it, may be a script that says more options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the options that a script holds before those that are given, which so win."""
        found, _, _ = self.make_parser(ctx).parse_args(list(args))
        command = found["command"] if isinstance(found.get("command"), tuple | list) else ()
        given = args[: len(args) - len(command)]
        if command and given[-1:] != ["--"] and (text := _script(command[0])) is not None:
            name = PurePath(command[0]).name
            try:
                script = job_scripts.read(text, name)
            except ValueError as err:
                raise click.UsageError(str(err), ctx) from err
            for each in script.ignored:
                out.note(each)
            stem = ["--name", derived_name((PurePath(name).stem,), "")]
            args = [*stem, *script.options, *given, "--", *script.command, *command[1:]]
        return super().parse_args(ctx, args)


def _script(path: str) -> str | None:
    """Return the text of a script; None of all other words."""
    try:
        with Path(path).open("rb") as file:
            if file.read(2) != b"#!":
                return None
            return "#!" + file.read().decode()
    except (OSError, ValueError):
        return None


@click.command(
    cls=_WithScripts,
    context_settings={"allow_interspersed_args": False},
    help=_HELP,
    short_help="Submit a job.",
)
@click.option("-q", "--queue", shell_complete=names.queues, help="Where it waits (BATCHYARD_QUEUE). Default default.")
@click.option(
    "-d",
    "--definition",
    default="",
    metavar="NAME[:REVISION]",
    shell_complete=names.definitions,
    help="Job definition to start from.",
)
@click.option("--name", help="Default: made from the command's or definition's name.")
@container.described
@click.option("--container", "part", metavar="NAME", help="Which of the definition's several containers is overridden.")
@click.option(
    "--array",
    metavar="N|NUMBERS",
    help="Children of an array job: how many, or their numbers, as 1-100:5 or 3,7,9-12; of items, which.",
)
@click.option("--each-line", type=click.File("rb"), help="An array with a child for each line of FILE; - is stdin.")
@click.option(
    "--from-json", type=click.File("rb"), help="An array with a child for each element of the JSON array in FILE."
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUES",
    help="An array with a child for each combination: lr=0.1,0.2 or seed=1..5 or n=0..100..10.",
)
@click.option(
    "--max-fails",
    type=click.IntRange(min=0),
    metavar="N",
    help="Once more children have failed, what is left of the array is stopped. Default: never.",
)
@click.option(
    "--concurrency",
    "array_concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most children of the array at once. Default: no bound.",
)
@click.option(
    "--nodes",
    "node_count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Nodes of a multi-node job, which are placed together; of a definition, in place of its number.",
)
@click.option(
    "--main-node", type=click.IntRange(min=0), metavar="I", help="With --nodes: whose end is the job's. Default 0."
)
@click.option("--fail-together", is_flag=True, help="With --nodes: any node that fails ends the attempt.")
@click.option(
    "--one-host-each", is_flag=True, help="With --nodes: no two on one host, also where there are fewer hosts."
)
@click.option(
    "--depends-on",
    "depends_on",
    multiple=True,
    metavar="JOB[,KIND]|SEQUENTIAL",
    shell_complete=names.jobs,
    help="Wait for JOB's success. KIND N_TO_N: for its child of the same index; AFTER_ANY: for any end; "
    "AFTER_FAILURE: for its failure. SEQUENTIAL: for the previous child.",
)
@options.template
@click.option(
    "--share",
    "share_identifier",
    default="",
    help="Fair share it counts towards; required where the queue has a policy.",
)
@click.option("--request-id", help="A repeated submit with the same id returns the first job.")
@click.option("-w", "--wait", is_flag=True, help="Wait for the end.")
@click.option("-f", "--follow", is_flag=True, help="Write the job's log as it comes, then as --wait.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [COMMAND...]")
@options.shared
@options.session
def submit(session: options.Session, /, wait: bool, follow: bool, **flags: Any) -> int:
    """Submit a job (the text of --help is ``_HELP``)."""
    flags["array_size"], flags["array_values"] = _array(flags)
    _check(flags, follow=follow)
    remarks.on_sizes(flags)
    with session.client() as client:
        answer = client.submit_job(**_request(client, session, flags))
        job_ids.remember(answer.job_id)
        match session.output:
            case "json":
                out.write_json(out.to_plain(answer))
            case _:
                out.show_names([answer.job_id])
        remarks.on_job(client, answer.job_id, flags["command"], options.as_map(flags["parameters"]))
        if not wait and not follow:
            return 0
        return _until_end(client, answer.job_id, follow=follow)


_RUN_HELP = """
Run a job at this terminal: as submit, which has the same options, and then be at its terminal.

\b
  batchyard run --pty -- bash
  batchyard run --pty --gpus 1 --memory 16G --image pytorch -- python
  batchyard attach last                  # from another terminal, or after a break

It is submitted, waited for (why it waits is told) and then started; the exit code is its own. What
it shows is not kept as a log. At the beginning of a line ~. leaves: the job ends if nobody attaches
within --grace, as after a broken connection. An interrupt before it starts ends it.
Without --pty: submit --follow, an interrupt of which leaves the job running.
"""
_NOT_OF_RUNS = {
    *("wait", "follow", "array", "each_line", "from_json", "sweeps", "max_fails", "array_concurrency"),
    *("node_count", "main_node", "fail_together", "one_host_each"),
}
_NOTHING: Mapping[str, Any] = {
    "array": None,
    "each_line": None,
    "from_json": None,
    "sweeps": (),
    "max_fails": None,
    "array_concurrency": None,
    "node_count": None,
    "main_node": None,
    "fail_together": False,
    "one_host_each": False,
    "array_size": 0,
    "array_values": None,
}


@options.session
def _run(session: options.Session, /, pty: bool, grace_s: int, **flags: Any) -> int:
    flags |= _NOTHING
    flags["array_size"], flags["array_values"] = _array(flags)
    _check(flags, follow=False)
    if pty and flags["definition"]:
        raise click.UsageError("--pty cannot be given with --definition: only the definition can say it")
    remarks.on_sizes(flags)
    with session.client() as client:
        request = _request(client, session, flags)
        if pty:
            request["container"].terminal_grace_s = grace_s
        answer = client.submit_job(**request)
        job_ids.remember(answer.job_id)
        if not pty:
            out.note(f"job {answer.job_id}")
            return _until_end(client, answer.job_id, follow=True)
        from batchyard.cli import entry

        return entry.be_at(client, answer.job_id, grace_s)


run = _WithScripts(
    "run",
    callback=_run,
    params=[
        click.Option(["--pty"], is_flag=True, help="Give the job a terminal, and be at it."),
        click.Option(
            ["--grace", "grace_s"],
            type=click.IntRange(5, 86_400),
            default=60,
            show_default=True,
            metavar="SECONDS",
            help="With --pty: how long the job goes on with nobody at its terminal.",
        ),
        *(each for each in submit.params if each.name not in _NOT_OF_RUNS),
    ],
    context_settings={"allow_interspersed_args": False},
    help=_RUN_HELP,
    short_help="Run a job at this terminal.",
)


def _array(flags: Mapping[str, Any]) -> tuple[int, ArrayValues]:
    try:
        return array_input.read(flags["array"] or "", flags["each_line"], flags["from_json"], flags["sweeps"])
    except ValueError as err:
        raise click.UsageError(str(err)) from err


def _check(flags: Mapping[str, Any], *, follow: bool) -> None:
    if not flags["command"] and not flags["definition"]:
        raise click.UsageError("say what to run: batchyard submit [OPTIONS] -- COMMAND..., or --definition NAME")
    if flags["definition"] and flags["image"] is not None:
        raise click.UsageError("--image cannot be given with --definition: the image is the definition's")
    if flags["definition"] and (flags["secrets"] or flags["secret_files"]):
        option = "--secret" if flags["secrets"] else "--secret-file"
        raise click.UsageError(f"{option} cannot be given with --definition: secrets are the definition's")
    if flags["part"] and not flags["definition"]:
        raise click.UsageError("--container needs --definition: it names one of the definition's containers")
    given = [flag for name, flag in container.FLAGS.items() if flags[name]]
    if flags["definition"] and given:
        raise click.UsageError(f"{given[0]} cannot be given with --definition: only the definition can say it")
    _check_nodes(flags)
    if flags["max_fails"] is not None and not flags["array_size"]:
        raise click.UsageError("--max-fails is only for an array")
    if follow and flags["array_size"]:
        raise click.UsageError("--follow cannot be given with --array: an array has a log for each child")


def _check_nodes(flags: Mapping[str, Any]) -> None:
    said = {"--main-node": flags["main_node"] is not None}
    said |= {"--fail-together": flags["fail_together"], "--one-host-each": flags["one_host_each"]}
    given = [flag for flag, is_given in said.items() if is_given]
    if given and not flags["node_count"]:
        raise click.UsageError(f"{given[0]} needs --nodes")
    if given and flags["definition"]:
        raise click.UsageError(f"{given[0]} cannot be given with --definition: only the definition can say it")
    if flags["node_count"] and flags["array_size"]:
        raise click.UsageError("--nodes cannot be given with --array")
    overridden = "--container" if flags["part"] else container.given(flags)
    if flags["node_count"] and flags["definition"] and overridden:
        raise click.UsageError(f"{overridden} cannot be given with --nodes and --definition: ranges of nodes have it")


def _request(client: Client, session: options.Session, flags: Mapping[str, Any]) -> dict[str, Any]:
    request = {
        "name": flags["name"] or derived_name(flags["command"], flags["definition"]),
        "queue": flags["queue"] or session.queue,
        "array_size": flags["array_size"] or 0,
        "array_concurrency": flags["array_concurrency"] or 0,
        "array_values": array_input.message(flags["array_values"]),
        "array_max_fails": flags["max_fails"],
        "depends_on": [_dependency(client, text) for text in flags["depends_on"]],
        "share_identifier": flags["share_identifier"],
        "request_id": flags["request_id"],
        **options.template_arguments(flags),
    }
    if flags["definition"] and flags["node_count"]:
        from batchyard.v1.job_pb2 import NodeOverrides

        return {
            **request,
            "job_definition": flags["definition"],
            "node_overrides": NodeOverrides(num_nodes=flags["node_count"]),
        }
    if flags["definition"] and flags["part"]:
        overrides = _overrides(flags)
        overrides.name = flags["part"]
        return {**request, "job_definition": flags["definition"], "container_overrides": [overrides]}
    if flags["definition"]:
        return {**request, "job_definition": flags["definition"], "overrides": _overrides(flags)}
    from batchyard.v1.job_definition_pb2 import ContainerProperties

    wanted = container.fill(ContainerProperties(), flags)
    container.start_here(wanted)
    if not flags["node_count"]:
        return {**request, "container": wanted}
    from batchyard import nodes

    how = {"main_node": flags["main_node"] or 0, "fail_together": flags["fail_together"]}
    return {**request, "nodes": nodes(flags["node_count"], wanted, one_host_each=flags["one_host_each"], **how)}


def _overrides(flags: Mapping[str, Any]) -> ContainerOverrides:
    from batchyard import overrides

    amounts = {kind: flags[kind] for kind in ("vcpus", "memory", "gpus", "disk")}
    return overrides(flags["command"], environment=container.environment(flags), **amounts)


def derived_name(command: tuple[str, ...], definition: str) -> str:
    """Make a job's name from what it runs: letters, digits, ``-`` and ``_``, first a letter or digit."""
    source = definition.partition(":")[0] or PurePath(command[0] if command else "").name
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", source).lstrip("-_").rstrip("-")
    return name[:NAME_LENGTH_MAX] or "job"


def _dependency(client: Client, text: str) -> Dependency:
    from batchyard import arguments

    job_id, comma, kind = text.rpartition(",")
    if text.upper() == "SEQUENTIAL":
        return arguments.dependency("", text)
    if comma:
        return arguments.dependency(job_ids.full(client, job_id), kind)
    return arguments.dependencies([job_ids.full(client, text)])[0]


def _until_end(client: Client, job_id: str, *, follow: bool) -> int:
    from batchyard.cli import progress

    try:
        if follow:
            _follow(client, job_id)
            ended = client.wait(job_id)
        else:
            with progress.Progress([job_id]) as shown:
                (ended,) = client.wait_all([job_id], on_event=shown.on_event)
    except KeyboardInterrupt:
        out.note(f"the job goes on; stop it with: batchyard terminate {job_id}")
        return exits.INTERRUPTED
    out.note(progress.outcome(ended))
    return progress.exit_code(client, [ended])


def _follow(client: Client, job_id: str) -> None:
    """Write the job's log as it comes; that its host is away is no reason not to wait for the job."""
    from batchyard.errors import HOST_AWAY, UnavailableError

    try:
        logs.follow_job(client, job_id, logs.parts_of(client.describe_job(job_id)))
    except UnavailableError as err:
        if err.reason not in HOST_AWAY:
            raise
        out.note(f"{err}; the job is waited for without its log")
