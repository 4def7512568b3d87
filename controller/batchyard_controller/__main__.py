"""``python -m batchyard_controller``: the controller process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import click

from batchyard import program_log, program_settings, settings
from batchyard.audit_log import BrokenChainError
from batchyard.errors import InvalidArgumentError
from batchyard_controller.core import limits
from batchyard_controller.core.jobs.retention import DAY_MS, Retention

from . import garbage
from .app import serve
from .authority_commands import CA_OPTION, COMMANDS
from .config import Config, default_audit, default_store, parse_brake, parse_fence, read_login, read_offers
from .restore_command import restore
from .store.codec import CorruptRecordError
from .store.protocol import StoreError
from .trail import TrailBounds


def _read(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group(
    "controller", invoke_without_command=True, commands=[*COMMANDS, restore], context_settings={"show_default": True}
)
@click.option(
    "--socket",
    type=click.Path(dir_okay=False, path_type=Path),
    default=lambda: settings.state_dir() / settings.SOCKET_NAME,
    help="The gRPC socket, for this user alone.",
)
@click.option("--socket-group", default="", metavar="GROUP", help="A group that may connect to the socket too.")
@click.option(
    "--listen", default="", help="host:port of a listener for users of other machines, with TLS; none by default."
)
@click.option(
    "--listen-agents",
    default="",
    help="host:port of a listener for hosts that have joined, with TLS on both sides; none by default.",
)
@CA_OPTION
@click.option(
    "is_insecure",
    "--insecure-loopback-only",
    is_flag=True,
    help="For tests: let everybody in at --listen, an address of loopback, as plain text. Default: no.",
)
@click.option("--store", default=default_store, help="sqlite:///PATH, etcd://HOST:PORT[,...][/PREFIX] or memory://.")
@click.option(
    "--audit",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the audit log, for this user alone. Default: beside the file of a sqlite store, "
    "else in this user's state folder.",
)
@click.option(
    "--oidc-issuer",
    default="",
    metavar="URL",
    help="OpenID provider with which users log in (batchyard login). Default: none.",
)
@click.option("--oidc-client-id", default="", metavar="ID", help="As which this yard is known to it.")
@click.option("--oidc-user-claim", default="sub", metavar="CLAIM", help="What of its tokens is the user's name.")
@click.option("--oidc-groups-claim", default="groups", metavar="CLAIM", help="What of them are the user's groups.")
@click.option(
    "oidc_roles",
    "--oidc-role",
    multiple=True,
    metavar="GROUP=ROLE[@QUEUE]",
    help="What a group's members are, in the yard or in one queue; repeatable.",
)
@click.option("--metrics", default="", help="host:port of the Prometheus listener; none by default.")
@click.option(
    "--secrets-key",
    default="",
    metavar="FILE",
    help="Keys that encrypt secrets and access keys, ID:BASE64 a line, the encrypting one first. "
    "By default beside the file of a sqlite store, made when missing.",
)
@click.option(
    "--keep-jobs-days",
    type=click.FloatRange(min=0, min_open=True),
    default=Retention().age_ms / DAY_MS,
    help="How long ended jobs are kept.",
)
@click.option("--keep-jobs", type=click.IntRange(min=1), default=Retention().count, help="Most ended jobs kept.")
@click.option(
    "--keep-usage-days",
    type=click.FloatRange(min=1),
    default=Retention().usage_age_ms / DAY_MS,
    help="How long it is known what jobs took that are no longer kept, by day.",
)
@click.option(
    "--keep-hosts-days",
    type=click.FloatRange(min=0.01),
    default=Retention().host_age_ms / DAY_MS,
    show_default=True,
    help="Days after which a host that was not heard of is forgotten.",
)
@click.option(
    "--keep-moves",
    type=click.IntRange(min=1_000, max=10_000_000),
    default=TrailBounds().moves_max,
    show_default=True,
    help="Most moves of jobs and hosts that `batchyard events` knows of.",
)
@click.option(
    "--keep-moves-days",
    type=click.FloatRange(min=0, min_open=True),
    default=TrailBounds().age_ms / DAY_MS,
    show_default=True,
    help="For how long, at most.",
)
@click.option(
    "--sink-backlog",
    type=click.IntRange(min=1_000, max=10_000_000),
    default=TrailBounds().backlog_max,
    show_default=True,
    help="Most moves that are kept for a sink which does not take them; older ones are lost to it.",
)
@click.option(
    "fence_ms",
    "--fence",
    default=str(limits.FENCE_MS // 1000),
    callback=lambda _, __, text: _read(parse_fence, text),
    metavar="SECONDS|never",
    help="After how long without this controller hosts kill what they run, so that it can be tried elsewhere: "
    f"{limits.FENCE_S_MIN} to {limits.FENCE_S_MAX} seconds. All controllers of a store need the same.",
)
@click.option(
    "brake_percent",
    "--brake",
    default=str(limits.BRAKE_PERCENT),
    show_default=True,
    callback=lambda _, __, text: _read(parse_brake, text),
    metavar="PERCENT|off",
    help="When more of the hosts than this fall silent within a minute, give none of them up, whatever its fence.",
)
@click.option(
    "--local-hosts",
    type=click.Path(file_okay=False, path_type=Path),
    help="Offer provider `local`, which starts agents on this machine, each with its state in a folder of its own "
    "below this one. Default: none but what [provider.NAME] of the settings file declares.",
)
@click.option(
    "--local-scratch",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where processes of local hosts work, below folders that all may enter. Default: beside --local-hosts.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    socket: Path,
    socket_group: str,
    listen: str,
    listen_agents: str,
    ca: Path,
    is_insecure: bool,
    store: str,
    audit: Path | None,
    oidc_issuer: str,
    oidc_client_id: str,
    oidc_user_claim: str,
    oidc_groups_claim: str,
    oidc_roles: tuple[str, ...],
    metrics: str,
    secrets_key: str,
    keep_jobs_days: float,
    keep_jobs: int,
    keep_usage_days: float,
    keep_hosts_days: float,
    keep_moves: int,
    keep_moves_days: float,
    sink_backlog: int,
    fence_ms: int,
    brake_percent: int,
    local_hosts: Path | None,
    local_scratch: Path | None,
    log_level: str,
) -> None:
    """Run the Batchyard controller, or see to its CA."""
    if ctx.invoked_subcommand is not None:
        return
    program_log.set_up(log_level)
    failed = False
    try:
        retention = Retention(
            age_ms=int(keep_jobs_days * DAY_MS),
            count=keep_jobs,
            host_age_ms=int(keep_hosts_days * DAY_MS),
            usage_age_ms=int(keep_usage_days * DAY_MS),
        )
        config = Config(
            socket=socket,
            socket_group=socket_group,
            listen=listen,
            listen_agents=listen_agents,
            ca=ca,
            is_insecure=is_insecure,
            store=store,
            audit=audit or default_audit(store),
            login=read_login(oidc_issuer, oidc_client_id, oidc_user_claim, oidc_groups_claim, oidc_roles),
            metrics=metrics,
            secrets_key=secrets_key,
            log_level=log_level,
            retention=retention,
            fence_ms=fence_ms,
            trail=TrailBounds(
                moves_max=keep_moves, age_ms=int(keep_moves_days * DAY_MS), backlog_max=max(sink_backlog, keep_moves)
            ),
            brake_percent=brake_percent,
            offers=read_offers(socket, local_hosts, local_scratch),
        )
        garbage.spare_survivors()
        asyncio.run(serve(config))
    except* (OSError, ValueError, StoreError, CorruptRecordError, BrokenChainError, InvalidArgumentError) as errors:
        for error in errors.exceptions:
            click.echo(f"batchyard controller: {error}", err=True)
        failed = True
    if failed:  # not above: Python before 3.11.4 would wrap the exit into a group
        sys.exit(1)


if __name__ == "__main__":
    program_settings.start(main, "controller")
