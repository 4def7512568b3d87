"""``python -m batchyard_gateway.relay``: the relay process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import click

from batchyard import program_log, program_settings, settings
from batchyard.arns import ACCOUNT_ID_DEFAULT, REGION_DEFAULT, parse_account_id, parse_region
from batchyard_gateway.__main__ import reads

from .app import serve
from .config import Config


@click.command(context_settings={"show_default": True})
@click.option(
    "--controller",
    default=settings.default_address,
    callback=reads(settings.parse_addresses),
    help="Where the controller listens; several with commas.",
)
@click.option(
    "--name",
    default=lambda: f"{socket.gethostname()}/{os.getpid()}",
    show_default="host and process",
    help="What it is called; of two relays the second waits until the first is gone.",
)
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: settings.state_dir() / "events",
    show_default="events, below the user's state folder",
    help="Folder in which `file:NAME` sinks are.",
)
@click.option(
    "--programs",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder of the programs that `exec:NAME` sinks may run. Default: none may.",
)
@click.option("--allow-loopback", is_flag=True, help="Let webhooks call this machine.")
@click.option("--account-id", default=ACCOUNT_ID_DEFAULT, callback=reads(parse_account_id), help="For ARNs: 12 digits.")
@click.option("--region", default=REGION_DEFAULT, callback=reads(parse_region), help="For ARNs.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def main(**values: Any) -> None:
    """Pass events of a Batchyard controller on to its sinks."""
    config = Config(**values)
    program_log.set_up(config.log_level)
    asyncio.run(serve(config, _stop_signal))


def _stop_signal() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    program_settings.start(main, "relay")
