"""
Options that many commands share, and what they add up to: the session.

``-o`` and ``--address`` may stand before the command's name or after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from batchyard import resources, settings
from batchyard.cli import output as out
from batchyard.cli import spans
from batchyard.contexts import NONE

if TYPE_CHECKING:
    from batchyard.errors import WorldError
    from batchyard.sync import Client

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


_LISTS = ("jobs", "hosts", "usage", "list")
"""Commands, and those of groups, that can write comma-separated values."""


@dataclass(slots=True)
class Session:
    """
    What the flags before and after a command's name say together.

    Attributes:
        address: Where the controller is; None leaves it to settings.
        context: The context that says so; None leaves it to settings.
        output: One of ``output.FORMATS``, or ``output.CSV``.
        debug: Whether errors show where they come from.
        has_told_retry: Whether the person knows that the controller is away.
        has_told_stale: Whether they know that its store is.
        fault: What is wrong with settings; help and completion do not need them.
    """

    address: str | None = None
    context: str | None = None
    output: str = "table"
    debug: bool = False
    has_told_retry: bool = False
    has_told_stale: bool = False
    fault: click.UsageError | None = None

    def check(self) -> None:
        """Refuse wrong settings, before anything is done by them."""
        if self.fault is not None:
            raise self.fault

    def client(self) -> Client:
        """Return a client; loads gRPC, so only when a command is about to call."""
        quiet_grpc()
        from batchyard.errors import InvalidArgumentError
        from batchyard.sync import Client

        try:
            return Client(self.address, context=self.context, on_retry=self._tell_retry, on_stale=self._tell_stale)
        except InvalidArgumentError as err:
            raise click.UsageError(str(err)) from err

    @property
    def queue(self) -> str:
        """
        Where jobs are submitted, if no flag says.

        Raises:
            InvalidArgumentError: a setting or a context is none.
        """
        return str(settings.client_values(os.environ, context=self.context).get("queue") or "default")  # noqa: TID251

    @property
    def credentials(self) -> Path | None:
        """The file of credentials that settings name or that is there; None: there is none; raises as `queue`."""
        return settings.client_settings(context=self.context).credentials

    def _tell_retry(self, error: WorldError) -> None:
        if not self.has_told_retry:
            self.has_told_retry = True
            out.note(f"{error}; trying again")

    def _tell_stale(self, since_ms: int) -> None:
        if not self.has_told_stale:
            self.has_told_stale = True
            from batchyard.cli import spans
            from batchyard.cli.clock import now_ms

            when = spans.moment(since_ms, now_ms())
            out.note(f"the store is away: what follows was so at {when}, and may have changed; nothing can be changed")


def quiet_grpc() -> None:
    """Keep gRPC's own remarks, as on a controller that goes away, from stderr. Before gRPC is loaded."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # noqa: TID251  # gRPC has no other switch


def _set(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None and value is not False:
        setattr(ctx.ensure_object(Session), str(param.name), value)


def contexts(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the names of contexts, which are files of this user's."""
    return [name for name in [*settings.contexts().names(), NONE] if name.startswith(incomplete)]


def shared(function: F) -> F:
    """Add the options that every command that calls the controller takes."""
    for option in (
        click.option("--debug", is_flag=True, expose_value=False, callback=_set, help="Show tracebacks."),
        click.option(
            "--address",
            metavar="ADDRESS",
            expose_value=False,
            callback=_set,
            help="The controller, or several with commas (BATCHYARD_ADDRESS). Default: the socket of this user's `batchyard up`.",
        ),
        click.option(
            "--context",
            metavar="NAME",
            expose_value=False,
            callback=_set,
            shell_complete=contexts,
            help="The yard that is called so (BATCHYARD_CONTEXT); see `batchyard context`.",
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice([*out.FORMATS, out.CSV]),
            expose_value=False,
            callback=_set,
            help="What to write to stdout; csv of lists. Default table.",
        ),
    ):
        function = option(function)
    return function


def pair(value: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``; the value may be empty, the key not."""
    key, equals, rest = value.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{value!r} is not KEY=VALUE")
    return key, rest


def quantity(value: str) -> tuple[str, int]:
    """Read ``NAME=N``."""
    name, number = pair(value)
    try:
        return name, int(number)
    except ValueError as err:
        raise click.BadParameter(f"{value!r} is not NAME=N") from err


def amount(value: str) -> str:
    """Check a count such as ``2`` or ``0.5``; the SDK reads it again."""
    try:
        resources.parse_millis(value)
    except (ValueError, ArithmeticError) as err:
        raise click.BadParameter(str(err) or f"{value!r} is not a number") from err
    return value


def size(value: str) -> str:
    """Check a size such as ``512M`` or ``4G``; the SDK reads it again."""
    try:
        resources.parse_mib(value)
    except (ValueError, ArithmeticError) as err:
        raise click.BadParameter(str(err) or f"{value!r} is not a size") from err
    return value


def span(value: str) -> float:
    """Read a length of time such as ``90s`` or ``15m`` as seconds."""
    try:
        return spans.parse_span(value)
    except ValueError as err:
        raise click.BadParameter(str(err)) from err


def positive_span(value: str) -> float:
    """Read a length of time that is longer than nothing as seconds."""
    seconds = span(value)
    if not seconds:
        raise click.BadParameter(f"{value!r} is not longer than 0s")
    return seconds


def whole_span(value: str) -> int:
    """Read a length of time as whole seconds."""
    seconds = span(value)
    if seconds != int(seconds):
        raise click.BadParameter(f"{value!r} is no whole number of seconds")
    return int(seconds)


def fence(value: str) -> int:
    """Read a fence: a length of time, ``never`` (-1), or ``default`` (0)."""
    words = {"never": -1, "default": 0}
    return words[value] if value in words else whole_span(value)


_PAIRS: dict[str, Any] = {"type": pair, "metavar": "K=V", "multiple": True}


def pairs(flag: str, name: str, text: str) -> Callable[[F], F]:
    """Add an option ``KEY=VALUE`` that may be given several times."""
    return click.option(flag, name, **_PAIRS, help=text)


_TEMPLATE: dict[str, tuple[str, dict[str, Any]]] = {
    "attempts": (
        "--attempts",
        {"type": click.IntRange(min=1), "metavar": "N", "help": "Tries, not retries: 3 is at most 3. Default 1."},
    ),
    "evaluate_on_exit": (
        "--on-exit",
        {
            "multiple": True,
            "metavar": "ACTION:KIND=PATTERN[,...]",
            "help": "RETRY or EXIT by exit-code, reason or status-reason; the first rule that matches decides.",
        },
    ),
    "infrastructure_retries": (
        "--infrastructure-retries",
        {
            "type": click.IntRange(0, 100),
            "metavar": "N",
            "help": "Tries that their host failed, and that do not count, at most. Default 5.",
        },
    ),
    "spot_attempts": (
        "--spot-attempts",
        {
            "type": click.IntRange(1, 100),
            "metavar": "N",
            "help": "Tries reclaimed with their host, after which only on-demand hosts will do. Default: any number.",
        },
    ),
    "preemption_retries": (
        "--preemption-retries",
        {
            "type": click.IntRange(-1, 50),
            "metavar": "N",
            "help": "How often it runs again after it was preempted; 0: the first time ends it. Default: always.",
        },
    ),
    "timeout_s": (
        "--timeout",
        {"type": whole_span, "default": "0", "metavar": "TIME", "help": "How long a try may run: 90s, 15m, 1h30m, 1d."},
    ),
    "fence_s": (
        "--fence",
        {
            "type": fence,
            "default": "default",
            "metavar": "TIME",
            "help": "How long its host may be out of touch before a try is given up: 30s to 24h, or never. "
            "Default: as its queue.",
        },
    ),
    "scheduling_priority": ("--priority", {"type": int, "help": "Order within its fair share."}),
    "consumables": (
        "--consumable",
        {"type": quantity, "metavar": "NAME=N", "multiple": True, "help": "It holds so much of a consumable resource."},
    ),
    "parameters": ("--param", {**_PAIRS, "help": "Value for a Ref::K of the command."}),
    "tags": ("--tag", {**_PAIRS, "help": "Tag."}),
}
"""What jobs and job definitions have in common, by the SDK's names: flag and settings."""


def template(function: F) -> F:
    """Add the options that jobs and job definitions have in common; their values go to `template_arguments`."""
    for name, (flag, more) in reversed(_TEMPLATE.items()):
        function = click.option(flag, name, **more)(function)
    return function


def template_arguments(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what these options say, as arguments of the SDK."""
    from batchyard import arguments

    said = {name: flags[name] for name in _TEMPLATE}
    for name in ("parameters", "tags", "consumables"):
        said[name] = as_map(said[name])
    said["evaluate_on_exit"] = [arguments.exit_rule("on_exit", text) for text in said["evaluate_on_exit"]]
    return said


def as_map(values: tuple[tuple[str, V], ...]) -> Mapping[str, V]:
    """Return pairs as a mapping; the last of equal keys counts."""
    return dict(values)


def session(function: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Pass the session to a command, once its settings are found to be right."""

    def carry_out(*args: P.args, **kwargs: P.kwargs) -> R:
        ctx = click.get_current_context()
        found = ctx.ensure_object(Session)
        found.check()
        if found.output == out.CSV and ctx.info_name not in _LISTS:
            raise click.UsageError(f"{ctx.info_name} writes no list, so it cannot write {out.CSV}")
        return function(found, *args, **kwargs)

    update_wrapper(carry_out, function)
    return carry_out
