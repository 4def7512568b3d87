"""``python -m batchyard_agent``: start the agent."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import click
import structlog

import batchyard_agent
from batchyard.errors import InvalidArgumentError
from batchyard_agent import app
from batchyard_agent.config import OPTIONS, Config, config_from, file_defaults
from batchyard_agent.journal import StateDirectoryError
from batchyard_agent.runtimes.protocol import RuntimeUnavailableError

ENVIRONMENT_PREFIX = "BATCHYARD_AGENT"


def set_up_logging(config: Config) -> None:
    """Have structlog write to stderr: for a person on a terminal, as key=value elsewhere."""
    renderer: Any = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[config.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def run(**values: Any) -> None:
    """Run an agent with the values of the options."""
    config = config_from(values)
    set_up_logging(config)
    try:
        asyncio.run(app.run(config))
    except (StateDirectoryError, RuntimeUnavailableError) as error:
        raise click.ClickException(str(error)) from error


main = click.version_option(batchyard_agent.__version__, prog_name="batchyard agent")(
    click.Command(
        "agent",
        callback=run,
        params=list(OPTIONS),
        help="Run the jobs that a Batchyard controller gives to this host.",
        context_settings={"auto_envvar_prefix": ENVIRONMENT_PREFIX, "show_default": False},
    )
)


def entry() -> None:
    """Read the file's defaults, then start."""
    try:
        default_map = file_defaults()
    except InvalidArgumentError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    main(prog_name="batchyard agent", default_map=default_map)


if __name__ == "__main__":
    entry()
