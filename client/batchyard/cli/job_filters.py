"""Job filters: the flags that say which jobs are meant, and what the SDK's lists take for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from batchyard.cli import job_ids, names, options
from batchyard.cli.clock import now_ms
from batchyard.states import JobState

if TYPE_CHECKING:
    from batchyard.sync import Client

_FLAGS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "queues": (
        ("-q", "--queue"),
        {"multiple": True, "shell_complete": names.queues, "help": "Only jobs of this queue, or these."},
    ),
    "states": (
        ("-s", "--state"),
        {"multiple": True, "type": click.Choice([state.value for state in JobState], case_sensitive=False)},
    ),
    "array_job_id": (
        ("--array",),
        {
            "default": "",
            "metavar": "JOB",
            "shell_complete": names.jobs,
            "help": "The children of this array job, or the nodes of this multi-node job.",
        },
    ),
    "name": (("--name",), {"default": "", "help": "Only jobs of this name; a * at its end matches any rest."}),
    "definition": (
        ("-d", "--definition"),
        {
            "default": "",
            "metavar": "NAME[:REVISION]",
            "shell_complete": names.definitions,
            "help": "Only jobs of it; * as in --name.",
        },
    ),
    "tags": (
        ("--tag",),
        {"multiple": True, "metavar": "KEY[=VALUE]", "help": "Only jobs with this tag; several: with all."},
    ),
    "host": (
        ("--host",),
        {"default": "", "shell_complete": names.hosts, "help": "Only what has, or had, an attempt on it."},
    ),
    "owner": (("--user",), {"default": "", "help": "Only jobs of this user."}),
    "since_s": (
        ("--since",),
        {
            "type": options.positive_span,
            "metavar": "TIME",
            "help": "Only jobs submitted so lately: 90s, 15m, 1h30m, 1d.",
        },
    ),
}
"""By the names of parameters: flags and settings."""


def filters(function: options.F) -> options.F:
    """Add the flags; what they say comes as keyword arguments, which `wanted` takes."""
    for name, (flags, settings) in reversed(_FLAGS.items()):
        function = click.option(*flags, name, **settings)(function)
    return function


def is_given(flags: Mapping[str, Any]) -> bool:
    """Say whether any of the flags was given."""
    return any(flags[name] for name in _FLAGS)


def wanted(client: Client, flags: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the flags say as arguments of ``Client.list_jobs``.

    Raises:
        click.UsageError: a pattern has a ``*`` that is not its end.
        WorldError: as of `job_ids.full`.
    """
    for flag, pattern in (("--name", flags["name"]), ("--definition", flags["definition"])):
        if "*" in pattern[:-1]:
            raise click.UsageError(f"{flag} {pattern!r}: a * matches any rest, so it stands at the end")
    since_s = flags["since_s"]
    return {
        "queue": flags["queues"],
        "states": flags["states"],
        "array_job_id": job_ids.full(client, flags["array_job_id"]),
        "name": flags["name"],
        "job_definition": flags["definition"],
        "tags": {key: value if mark else None for key, mark, value in (tag.partition("=") for tag in flags["tags"])},
        "host": flags["host"],
        "owner": flags["owner"],
        "created_after_ms": now_ms() - int(since_s * 1000) if since_s else 0,
    }
