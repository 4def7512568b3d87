"""``python -m batchyard_controller``: the controller process."""

from __future__ import annotations

import asyncio
import logging
import sys

import click
import structlog

from batchyard.settings import defaults

from .app import serve
from .config import DEFAULT_LISTEN, Config, default_store
from .store.codec import CorruptRecordError
from .store.protocol import StoreError


@click.command(context_settings={"auto_envvar_prefix": "BATCHYARD_CONTROLLER", "show_default": True})
@click.option("--listen", default=DEFAULT_LISTEN, help="host:port of the gRPC listener.")
@click.option("--store", default=default_store, help="sqlite:///PATH, etcd://HOST:PORT[,...][/PREFIX] or memory://.")
@click.option("--metrics", default="", help="host:port of the Prometheus listener; none by default.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def main(listen: str, store: str, metrics: str, log_level: str) -> None:
    """Run the Batchyard controller."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        asyncio.run(serve(Config(listen=listen, store=store, metrics=metrics, log_level=log_level)))
    except* (OSError, ValueError, StoreError, CorruptRecordError) as errors:
        for error in errors.exceptions:
            click.echo(f"batchyard controller: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main(default_map=defaults("controller"))
