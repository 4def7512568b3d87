"""
The root of the command line: commands, global options, errors to exit codes.

Its law: a person never sees a traceback (but with ``--debug``), a script always
gets the exit code promised in ``--help``. gRPC and rich are loaded by the commands
that need them, so that ``--help`` and completion stay quick.
"""

from __future__ import annotations

import importlib
import keyword
import os
import traceback
from collections.abc import Iterator, MutableMapping, Sequence

import click

from batchyard import errors, settings
from batchyard.cli import exits, harmless, options, output

COMMANDS = {
    "up": ("up", "Start a whole yard on this machine."),
    "controller": ("up", "Start a controller."),
    "agent": ("up", "Start an agent."),
    "gateway": ("up", "Start a gateway: the AWS Batch API over HTTP."),
    "relay": ("up", "Start a relay: it passes events on to the yard's sinks."),
    "env": ("gateway_access", "Write what tells this yard, and its key, to a shell."),
    "console": ("gateway_access", "Write a link that signs you in to the console, a yard in a browser."),
    "submit": ("submit", "Submit a job."),
    "run": ("submit", "Run a job at this terminal."),
    "submit-jobs": ("submit_jobs", "Submit many jobs."),
    "jobs": ("jobs", "List jobs, newest first."),
    "search": ("search", "Find jobs, queues, environments, definitions and hosts."),
    "usage": ("usage", "Sum what jobs took and used, by user, queue, definition or day."),
    "describe": ("jobs", "Show all about jobs."),
    "wait": ("jobs", "Wait until jobs have ended; exit with their exit code."),
    "logs": ("logs", "Write the log of a job."),
    "events": ("events", "Show what became of jobs and hosts, and why."),
    "exec": ("entry", "Run a command in a job that runs."),
    "attach": ("entry", "Go to a job's terminal, or follow what it writes from now on."),
    "explain": ("jobs", "Say why a job is where it is."),
    "cancel": ("stops", "Cancel jobs that have not started."),
    "retry": ("retry", "Submit jobs, or the failed children of arrays, again."),
    "update-job": ("stops", "Change the priority of jobs that have not ended."),
    "terminate": ("stops", "Stop jobs in whatever state they are."),
    "top": ("doctor", "Show what the yard does now."),
    "doctor": ("doctor", "Look at what a yard needs so that jobs run."),
    "hosts": ("hosts", "List hosts, or show one."),
    "drain": ("hosts", "Empty a host: no new work, what runs goes on."),
    "cordon": ("hosts", "Give a host no new work."),
    "uncordon": ("hosts", "Give a host work again."),
    "host": ("hosts", "Remove a host that is gone."),
    "restored": ("restored", "Show what came of a restore of the store."),
    "compute-environment": ("compute_environment", "Compute environments: which hosts a queue may use."),
    "queue": ("queue", "Job queues: where jobs wait."),
    "scheduling-policy": ("scheduling_policy", "Scheduling policies: how the shares of a queue take turns."),
    "quota-share": ("quota_share", "Quota shares: parts of a queue with capacity of their own."),
    "consumable-resource": ("consumable_resource", "Consumable resources: what jobs hold beside hosts."),
    "job-definition": ("job_definition", "Job definitions: numbered templates of jobs."),
    "apply": ("apply", "Have the yard be what a file says."),
    "import": ("apply", "Take over an AWS account's definitions, queues and environments."),
    "tag": ("tag", "Tags of what is there already."),
    "secret": ("secret", "Secrets: what jobs get as variables and nobody can read back."),
    "context": ("context", "Contexts: several yards by name."),
    "login": ("login", "Log in with the yard's OpenID provider."),
    "whoami": ("role", "Say who you are to the controller."),
    "role": ("role", "Roles: what users may do."),
    "token": ("token", "Tokens: by which users are known to the controller."),
    "access-key": ("access_key", "Access keys: by which users call the AWS Batch gateway."),
    "sink": ("sink", "Sinks: to whom events are passed on."),
    "audit": ("audit", "The audit log: who changed what."),
    "join-token": ("join_token", "Join tokens: with what hosts join the yard."),
    "completion": ("completion", "Write a shell's completion script."),
}
"""Every command: the module of ``batchyard.cli`` that holds it, and what it does."""

_EPILOG = """
\b
Exit codes:
  0    done; with submit --wait, submit --follow and wait: the job succeeded
  N    with these: the job's own exit code, the highest of several;
       1 when a job failed without one
  2    wrong usage or settings
  3    refused: not found, or a rule is broken
  4    the controller, or the host that has a log, cannot be reached
  5    the controller failed
  124  no answer, or no end, in time
  130  interrupted

\b
JSON has the fields of protos/batchyard/v1 by their names there, 64-bit numbers
as numbers, enums as tables show them. Commands that list or describe by name give a list, others an object.

\b
Settings: flags, then BATCHYARD_* (ADDRESS, CREDENTIALS, OUTPUT, QUEUE, TIMEOUT_S,
RETRY_S, CONFIG, CONTEXT), then the context in use, then ~/.config/batchyard/config.toml
or /etc/batchyard/config.toml.
"""


class _Loader(MutableMapping[str, click.Command]):
    """Commands by name; one is loaded when it is looked up, so that ``--help`` loads none."""

    def __init__(self) -> None:
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module = importlib.import_module(f"batchyard.cli.{COMMANDS[name][0]}")
            self._loaded[name] = getattr(module, f"{name.replace('-', '_')}{'_' * keyword.iskeyword(name)}")
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Root(click.Group):
    """Lists commands in the order of ``COMMANDS``, and with its texts."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands, what one needs first first."""
        return list(self.commands)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"batchyard {version('batchyard')}")
    ctx.exit()


@click.group(cls=_Root, commands=_Loader(), context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@options.shared
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def app() -> None:
    """AWS Batch for your own machines."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line and return its exit code."""
    session = options.Session()
    try:
        session.fault = _settle(session)
        if "_BATCHYARD_COMPLETE" in os.environ:
            importlib.import_module("batchyard.cli.completion").prepare()
        result = app.main(args=arguments, prog_name="batchyard", obj=session, standalone_mode=False)
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except errors.BatchyardError as err:
        if session.debug:
            traceback.print_exc()
        return report(err)
    except Exception as err:  # the last line of defence: a bug is told in one line too
        if session.debug:
            raise
        click.echo(f"batchyard: internal error: {type(err).__name__}: {err} (--debug shows where)", err=True)
        return exits.INTERNAL
    return result if isinstance(result, int) else 0


def report(error: errors.BatchyardError) -> int:
    """Write an error, each broken rule on a line of its own, and return its exit code."""
    match error:
        case errors.InvalidArgumentError(violations=(violation,)):
            output.note(str(violation))
        case errors.InvalidArgumentError(violations=violations) if violations:
            output.note(f"{len(violations)} rules are broken")
            for violation in violations:
                click.echo(harmless.line(f"  {violation}"), err=True)
        case _:
            output.note(str(error))
    match error:
        case errors.UnavailableError():
            return exits.UNREACHABLE
        case errors.DeadlineExceededError():
            return exits.TIMEOUT
        case errors.RequestError():
            return exits.REFUSED
        case _:
            return exits.INTERNAL


def _settle(session: options.Session) -> click.UsageError | None:
    """Take over what the environment and the file say; return what is wrong with it."""
    try:
        settings.check_environment(os.environ, settings.CLIENT_KEYS)
        values = settings.defaults("client", known=settings.CLIENT_KEYS)
    except errors.InvalidArgumentError as err:
        return click.UsageError(str(err))
    session.output = os.environ.get("BATCHYARD_OUTPUT") or str(values.get("output", session.output))
    if session.output not in output.FORMATS:
        return click.UsageError(f"output must be one of {', '.join(output.FORMATS)}, not {session.output!r}")
    return None
