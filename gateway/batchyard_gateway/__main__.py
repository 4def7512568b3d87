"""``python -m batchyard_gateway``: the gateway process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import click

from batchyard import program_log, program_settings, settings
from batchyard.arns import ACCOUNT_ID_DEFAULT, REGION_DEFAULT, parse_account_id, parse_region
from batchyard.errors import InvalidArgumentError

from .app import serve
from .config import DEFAULT_LISTEN, Config, parse_listen, parse_url

PEM = click.Path(exists=True, dir_okay=False)


def reads(parse: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str], str]:
    """Make a click callback of a parser; what the parser refuses is an error of that option."""

    def callback(ctx: click.Context, param: click.Parameter, value: str) -> str:
        try:
            return parse(value)
        except (ValueError, InvalidArgumentError) as err:
            raise click.BadParameter(str(err), ctx, param) from err

    return callback


@click.command(context_settings={"show_default": True})
@click.option("--listen", default=DEFAULT_LISTEN, callback=reads(parse_listen), help="host:port of the HTTP listener.")
@click.option(
    "--controller",
    default=settings.default_address,
    callback=reads(settings.parse_addresses),
    help="Where the controller listens; it must be a socket of this machine, as only there it tells signing keys.",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="What clients call the gateway by, besides its address, this machine's name and localhost; may be repeated.",
)
@click.option("--account-id", default=ACCOUNT_ID_DEFAULT, callback=reads(parse_account_id), help="For ARNs: 12 digits.")
@click.option(
    "--region",
    default=REGION_DEFAULT,
    callback=reads(parse_region),
    help="For ARNs; signed requests must be for it.",
)
@click.option("--tls-cert", type=PEM, help="Certificate and chain, as PEM: HTTPS instead of HTTP.")
@click.option("--tls-key", type=PEM, help="The certificate's key, as PEM.")
@click.option(
    "--calls-per-second",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Most calls a second, over all callers; beyond it they are told to slow down. 0: no limit.",
)
@click.option("--console/--no-console", default=True, help="Serve the console, a yard in a browser, below /console/.")
@click.option(
    "--metrics-url",
    default="",
    callback=reads(parse_url),
    metavar="URL",
    help="Where the console's charts link to for figures of longer ago, as of a Prometheus.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def main(**values: Any) -> None:
    """Speak the AWS Batch API for a Batchyard controller."""
    config = Config(**values)
    if bool(config.tls_cert) != bool(config.tls_key):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    program_log.set_up(config.log_level)
    try:
        asyncio.run(serve(config))
    except OSError as err:
        raise click.ClickException(str(err)) from err


if __name__ == "__main__":
    program_settings.start(main, "gateway")
