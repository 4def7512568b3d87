"""``python -m batchyard_agent.kubernetes``: start the agent on Kubernetes."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import click

import batchyard_agent
from batchyard import program_log, program_settings
from batchyard_agent.kubernetes.config import OPTIONS, config_from


def run(**values: Any) -> None:
    """Run an agent with the values of the options."""
    if importlib.util.find_spec("lightkube") is None:
        raise click.ClickException('lightkube is not installed: pip install "batchyard[kubernetes]"')
    config = config_from(values)
    program_log.set_up(config.log_level)
    # What --help needs is little, and the library much.
    from batchyard_agent.joining import JoinError  # noqa: PLC0415
    from batchyard_agent.journal import StateDirectoryError  # noqa: PLC0415
    from batchyard_agent.kubernetes import app  # noqa: PLC0415
    from batchyard_agent.kubernetes.cluster import NoClusterError  # noqa: PLC0415
    from batchyard_agent.kubernetes.tenancy import TakenAwayError  # noqa: PLC0415
    from batchyard_agent.membership import BrokenMembershipError  # noqa: PLC0415
    from batchyard_agent.session import TwinError  # noqa: PLC0415

    known_errors = (StateDirectoryError, NoClusterError, TakenAwayError, TwinError, JoinError, BrokenMembershipError)
    try:
        if config.release:
            click.echo(f"finalizers taken off: {asyncio.run(app.release(config))}")
        else:
            asyncio.run(app.run(config))
    except known_errors as error:
        raise click.ClickException(str(error)) from error
    except ExceptionGroup as group:
        known, _ = group.split(known_errors)
        if known is None:
            raise
        raise click.ClickException(str(_first(known))) from None


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


main = click.version_option(batchyard_agent.__version__, prog_name="batchyard agent kubernetes")(
    click.Command(
        "kubernetes",
        callback=run,
        params=list(OPTIONS),
        help="Run jobs as pods: each chosen node of a Kubernetes cluster is a host.",
        context_settings={"show_default": False},
    )
)


if __name__ == "__main__":
    program_settings.start(main, "kubernetes", name="agent kubernetes")
