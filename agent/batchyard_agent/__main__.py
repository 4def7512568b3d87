"""``python -m batchyard_agent``: start the agent."""

from __future__ import annotations

import asyncio
from typing import Any

import click

import batchyard_agent
from batchyard import program_log, program_settings
from batchyard_agent import keeper_link
from batchyard_agent.config import OPTIONS, config_from, keeper_dir


def run(**values: Any) -> None:
    """Run an agent with the values of the options."""
    config = config_from(values)
    program_log.set_up(config.log_level)
    keeper = keeper_link.begin(keeper_dir(config.state_dir))
    # Most of what an agent is, and of its start, comes after the keeper has one.
    from batchyard_agent import app  # noqa: PLC0415
    from batchyard_agent.joining import JoinError  # noqa: PLC0415
    from batchyard_agent.journal import StateDirectoryError  # noqa: PLC0415
    from batchyard_agent.membership import BrokenMembershipError  # noqa: PLC0415
    from batchyard_agent.runtimes.protocol import RuntimeUnavailableError  # noqa: PLC0415
    from batchyard_agent.session import TwinError  # noqa: PLC0415

    try:
        asyncio.run(app.run(config, keeper))
    except (StateDirectoryError, RuntimeUnavailableError, TwinError, JoinError, BrokenMembershipError) as error:
        raise click.ClickException(str(error)) from error


main = click.version_option(batchyard_agent.__version__, prog_name="batchyard agent")(
    click.Command(
        "agent",
        callback=run,
        params=list(OPTIONS),
        help="Run the jobs that a Batchyard controller gives to this host.",
        context_settings={"show_default": False},
    )
)


if __name__ == "__main__":
    program_settings.start(main, "agent")
