"""
What a person may set: flags over ``BATCHYARD_AGENT_*`` over the TOML file over defaults.

It reads values and checks them, and knows nothing of what they do.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from batchyard import settings
from batchyard.arns import ACCOUNT_ID_DEFAULT, REGION_DEFAULT, Account, parse_account_id, parse_region
from batchyard.errors import InvalidArgumentError
from batchyard.resources import parse_mib, parse_millis
from batchyard.runtimes import DOCKER, PROCESS, RUNTIMES
from batchyard.security import SecurityLevel
from batchyard_agent.logs import AGE_MAX_S, BYTES_MAX, TOTAL_BYTES_MAX
from batchyard_agent.probe.reclaim import EC2_METADATA
from batchyard_agent.runtimes.docker_spec import BRIDGE, HOST, NETWORKS
from batchyard_agent.runtimes.host_access import Allowed
from batchyard_agent.runtimes.job_user import OWNER_UID_MIN
from batchyard_agent.standing import Applicant

T = TypeVar("T")

AUTOMATIC = (DOCKER, PROCESS)
"""Offered, if they open, when nothing else is said."""

PLATFORMS = ("EC2", "FARGATE")
KEEP_FREE_MIB = 256
DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    How one agent runs.

    Attributes:
        controller: Address of the controller, or several with commas: sockets, or users' ports.
        join_token_file: What is shown there by a host that has not joined yet.
        is_insecure: Speak plain text with a port of loopback, for tests.
        state_dir: The agent's own folder.
        name: The host's name, unique in its yard.
        runtimes: Which to offer, all of them needed; empty: docker and process, if they open.
        cpu_millis: Instead of the machine's; None: all of it.
        memory_mib: Instead of the machine's; None: all but a small reserve.
        gpus: Offer so many at most; None: all.
        host_type: AWS: instance type.
        allowed: What jobs may reach of the host; default nothing.
        keep_free_mib: With less than this free on the disk of state or scratch, it takes no work.
        scratch_dir: Where processes get a working folder each; None: see ``scratch``.
        job_user: Whom processes run as; None: ``nobody`` where the agent is root.
        run_as_owner: Processes of a user's jobs run as the account of that name.
        owner_uid_min: No account with a lower uid is anybody's then.
        allow_root_jobs: Processes may run as root.
        security_level: What all jobs are kept to here, whatever their queue says less.
        closed_networks: What containers at a security level do not reach, beside host and controller.
        container_network: Which network containers are on; one of ``NETWORKS``.
        platforms: Which jobs the host takes (AWS: platform capabilities); empty: the controller's default, EC2.
        sandbox: The engine's runtime in which jobs of Fargate run; empty: its usual one.
        node_network: Which one those of nodes of multi-node jobs are on, which have to reach each other.
        node_address: Where other hosts reach this one; empty: see ``probe.address``.
        purchase_option: ``on-demand`` or ``spot``.
        reclaim_file: Exists when the machine is about to be taken away.
        reclaim_command: Succeeds when it is; run by a shell.
        reclaim_metadata: Address of a server that tells so, as that of EC2 does.
        account: What AWS names that attempts are told are made of; as the gateway's.
        log_bytes_max: How much of an attempt's log is kept when its job says nothing else.
        logs_age_max_s: How long logs of ended attempts are kept.
        logs_total_bytes_max: How much of them is kept.
    """

    controller: str
    state_dir: Path
    name: str
    join_token_file: Path | None = None
    is_insecure: bool = False
    runtimes: tuple[str, ...] = ()
    cpu_millis: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    host_type: str = "workstation"
    purchase_option: str = "on-demand"
    reclaim_file: Path | None = None
    reclaim_command: str = ""
    reclaim_metadata: str = ""
    zone: str = ""
    price_per_hour: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    allowed: Allowed = field(default_factory=Allowed)
    keep_free_mib: int = KEEP_FREE_MIB
    scratch_dir: Path | None = None
    job_user: str | None = None
    run_as_owner: bool = False
    owner_uid_min: int = OWNER_UID_MIN
    allow_root_jobs: bool = False
    security_level: SecurityLevel = SecurityLevel.PRIVILEGED
    closed_networks: tuple[str, ...] = ()
    container_network: str = BRIDGE
    platforms: tuple[str, ...] = ()
    sandbox: str = ""
    node_network: str = HOST
    node_address: str = ""
    log_level: str = "info"
    account: Account = field(default_factory=Account)
    log_bytes_max: int = BYTES_MAX
    logs_age_max_s: int = AGE_MAX_S
    logs_total_bytes_max: int = TOTAL_BYTES_MAX

    @property
    def applicant(self) -> Applicant:
        """As whom the host comes to its controller."""
        return Applicant(
            controller=self.controller,
            folder=self.state_dir,
            name=self.name,
            join_token_file=self.join_token_file,
            is_insecure=self.is_insecure,
        )

    @property
    def scratch(self) -> Path:
        """
        Where processes get a working folder each.

        Never in a folder that is closed to jobs, such as the agent's own and, by default,
        that of the user's whole yard above it.
        """
        top, state_dir = settings.state_dir(), self.state_dir
        if self.scratch_dir is not None:
            return self.scratch_dir
        if top in state_dir.parents:
            return top.with_name(f"{top.name}-scratch") / state_dir.relative_to(top)
        return state_dir.with_name(f"{state_dir.name}-scratch")


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text)) if text else ""


def keeper_dir(state_dir: Path) -> Path:
    """
    Return the keeper's own folder: its journal, its socket, and until when attempts may run.

    It is not in the state folder where there is one that ends with the machine's boot, as
    what is in it does: so a keeper is found again by the place of a state folder that was wiped.
    """
    return _of_boot("batchyard-keepers", state_dir) or state_dir / "keeper"


def secrets_dir(state_dir: Path) -> Path | None:
    """Return the folder of attempts' secret files, which is to be in memory; None: there is no place for one."""
    return _of_boot("batchyard-secrets", state_dir)


def mounts_dir(state_dir: Path) -> Path:
    """
    Return the folder in which volumes are mounted for containers.

    Like the keeper's it is not in the state folder where it can be elsewhere: who removes that,
    after the agent was killed, must not go through a mount into the folder of a user.
    """
    return _of_boot("batchyard-mounts", state_dir) or state_dir / "mounts"


def _of_boot(kind: str, state_dir: Path) -> Path | None:
    """Return a folder that ends with the machine's boot, by the place of a state folder; None: there is none."""
    runtime_dir = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"))
    if not os.access(runtime_dir, os.W_OK | os.X_OK):
        return None
    place = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]
    return runtime_dir / kind / place


def reads(parse: Callable[[Any], T]) -> Callable[[click.Context, click.Parameter, Any], T | None]:
    """Make a click callback of a parser; what the parser refuses is an error of that option."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> T | None:
        if value is None:
            return None
        try:
            return parse(value)
        except (ValueError, InvalidArgumentError) as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


def _amount(parse: Callable[[str], int]) -> Callable[[str], int]:
    def positive(text: str) -> int:
        amount = parse(text)
        if amount <= 0:
            raise ValueError(f"{text!r} is not above 0")
        return amount

    return positive


def _bytes(text: str) -> int:
    return _amount(parse_mib)(text) << 20


def _runtimes(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in RUNTIMES:
            raise ValueError(f"{name!r} is no runtime; there are {', '.join(RUNTIMES)}")
    return names


def _platforms(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(platform for platform in PLATFORMS if platform in texts)


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ValueError(f"{text!r} is not KEY=VALUE")
        labels[key] = value
    return labels


def _paths(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not text.startswith("/") or ".." in text.split("/"):
            raise ValueError(f"{text!r} is no absolute path without '..'")
    return tuple(dict.fromkeys(os.path.normpath("/" + text.lstrip("/")) for text in texts))


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ipaddress.IPv4Network(text, strict=False)) for text in texts)


def _metadata_url(text: str) -> str:
    url = EC2_METADATA if text == "ec2" else text
    if not re.fullmatch(r"https?://[^/\s]+/?", url):
        raise ValueError(f"{text!r} is neither ec2 nor an address such as {EC2_METADATA}")
    return url.rstrip("/")


OPTIONS = (
    click.Option(
        ["--controller"],
        default=settings.default_agents_address,
        show_default=True,
        metavar="HOST:PORT[,...]",
        callback=reads(settings.parse_addresses),
        help="Where the controller listens: its socket, or for a host of another machine users' port; "
        "several are controllers of one yard, of which one leads.",
    ),
    click.Option(
        ["--join-token-file"],
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="With a token of `batchyard join-token create`, for a host that has not joined yet. Default: none.",
    ),
    click.Option(
        ["is_insecure", "--insecure-loopback-only"],
        is_flag=True,
        help="For tests: speak plain text with a controller on a port of loopback. Default: no.",
    ),
    click.Option(
        ["--state-dir"],
        type=click.Path(file_okay=False, path_type=Path),
        help="The agent's own folder. Default: below the user's home, for root /var/lib/batchyard/agent.",
    ),
    click.Option(
        ["--scratch-dir"],
        type=click.Path(file_okay=False, path_type=Path),
        help="Where processes get a working folder each, below folders that all may enter; best on a disk of its own. "
        "Default: beside the state folder, for root /var/lib/batchyard-scratch/agent.",
    ),
    click.Option(
        ["keep_free_mib", "--keep-free"],
        default=f"{KEEP_FREE_MIB}M",
        show_default=True,
        callback=reads(parse_mib),
        metavar="SIZE",
        help="Take no work while less than this is free on the disk of state or scratch.",
    ),
    click.Option(
        ["--job-user"],
        metavar="NAME|UID",
        help="Whom processes run as. Default: nobody where the agent is root, else the agent's own user.",
    ),
    click.Option(
        ["--run-as-owner"],
        is_flag=True,
        help="Let processes run as the account that is called as their job's owner, and those of the administrator "
        "as --job-user. Needs an agent of root. Default: no.",
    ),
    click.Option(
        ["--owner-uid-min"],
        type=click.IntRange(min=1),
        default=OWNER_UID_MIN,
        show_default=True,
        metavar="UID",
        help="With --run-as-owner: refuse accounts with lower uids.",
    ),
    click.Option(
        ["--allow-root-jobs"],
        is_flag=True,
        help="Let processes run as root, all of them if --job-user names nobody else. Default: no.",
    ),
    click.Option(["--name"], help="The host's name, unique in its yard. Default: the machine's."),
    click.Option(
        ["--runtimes"],
        default="",
        callback=reads(_runtimes),
        metavar="NAME,...",
        help="What to run jobs with: docker, process, fake. Default: docker if its engine answers, and process.",
    ),
    click.Option(
        ["cpu_millis", "--cpus"],
        callback=reads(_amount(parse_millis)),
        metavar="COUNT",
        help="vCPUs to offer. Default: all.",
    ),
    click.Option(
        ["memory_mib", "--memory"],
        callback=reads(_amount(parse_mib)),
        metavar="SIZE",
        help="Memory to offer, such as 4G. Default: all but a small reserve.",
    ),
    click.Option(["--gpus"], type=click.IntRange(min=0), help="GPUs to offer at most. Default: all."),
    click.Option(["--host-type"], default="workstation", show_default=True, help="AWS: instance type."),
    click.Option(
        ["--purchase-option"],
        type=click.Choice(["on-demand", "spot"]),
        default="on-demand",
        show_default=True,
        help="spot: the host may be taken away.",
    ),
    click.Option(
        ["--reclaim-file"],
        type=click.Path(dir_okay=False, path_type=Path),
        help="Say that the host is reclaimed while this file exists: at the UTC time that it holds, "
        "such as 2026-01-31T12:00:00Z, else two minutes after it was written.",
    ),
    click.Option(
        ["--reclaim-command"],
        metavar="COMMAND",
        help="Run this every 5 s: while it succeeds, the host is reclaimed, at the time that it prints, as above.",
    ),
    click.Option(
        ["--reclaim-metadata"],
        metavar="ec2|URL",
        callback=reads(_metadata_url),
        help="Ask the machine's metadata, as Amazon EC2 serves it at http://169.254.169.254, whether the host is "
        "reclaimed.",
    ),
    click.Option(["--zone"], default="", help="Where the host stands."),
    click.Option(
        ["--price-per-hour"],
        type=click.FloatRange(min=0),
        default=0.0,
        help="What an hour of it costs, in one currency for all hosts; cheaper ones come first.",
    ),
    click.Option(
        ["--region"],
        default=REGION_DEFAULT,
        show_default=True,
        callback=reads(parse_region),
        help="AWS names: the region that attempts are told; as the gateway's.",
    ),
    click.Option(
        ["--account-id"],
        default=ACCOUNT_ID_DEFAULT,
        show_default=True,
        callback=reads(parse_account_id),
        help="AWS names: the account that attempts are told; as the gateway's.",
    ),
    click.Option(
        ["labels", "--label"],
        multiple=True,
        callback=reads(_labels),
        metavar="KEY=VALUE",
        help="May be given several times.",
    ),
    click.Option(["--allow-privileged"], is_flag=True, help="Let jobs be privileged: root on this host. Default: no."),
    click.Option(
        ["--allow-volume"],
        multiple=True,
        callback=reads(_paths),
        metavar="PATH",
        help="Folder that jobs may mount, with all below it. May be given several times. Default: none.",
    ),
    click.Option(
        ["--allow-device"],
        multiple=True,
        callback=reads(_paths),
        metavar="PATH",
        help="Device that jobs may use; a trailing * stands for any rest. May be given several times. Default: none.",
    ),
    click.Option(
        ["--container-network"],
        type=click.Choice(NETWORKS),
        default=BRIDGE,
        show_default=True,
        help="Which network containers are on: Docker's bridge, the host's own, or none.",
    ),
    click.Option(
        ["--security-level"],
        type=click.Choice(list(SecurityLevel), case_sensitive=False),
        default=SecurityLevel.PRIVILEGED,
        show_default=True,
        callback=reads(SecurityLevel),
        help="What jobs are kept to on this host, even where their queue allows more.",
    ),
    click.Option(
        ["closed_networks", "--closed-network"],
        multiple=True,
        callback=reads(_networks),
        metavar="ADDRESS",
        help="An IPv4 address, or a network such as 10.0.7.0/24, that containers at a security level do not reach, such "
        "as the store's. May be given several times. Always: this host, link-local ones, the controller's.",
    ),
    click.Option(
        ["platforms", "--platform"],
        type=click.Choice(PLATFORMS, case_sensitive=False),
        multiple=True,
        callback=reads(_platforms),
        help="Which jobs the host takes: those of EC2 and SPOT environments, or of FARGATE and FARGATE_SPOT. "
        "May be given twice, for both. Default: EC2.",
    ),
    click.Option(
        ["--sandbox"],
        default="",
        metavar="RUNTIME",
        help="Run jobs of Fargate in this runtime of the Docker Engine, such as runsc (gVisor). Default: the usual one.",
    ),
    click.Option(
        ["--node-network"],
        type=click.Choice(NETWORKS),
        default=HOST,
        show_default=True,
        help="Which network containers of multi-node jobs are on; on any but the host's other hosts do not reach them.",
    ),
    click.Option(
        ["--node-address"],
        default="",
        metavar="ADDRESS",
        callback=reads(_address),
        help="Where other hosts reach this one, an IP address: nodes of a job are told that of their main node. "
        "Default: this end of the connection to the controller.",
    ),
    click.Option(
        ["log_bytes_max", "--log-size"],
        default=f"{BYTES_MAX >> 20}M",
        show_default=True,
        callback=reads(_bytes),
        metavar="SIZE",
        help="How much of an attempt's output is kept, half from its beginning and half from its end.",
    ),
    click.Option(
        ["logs_age_max_s", "--keep-logs-days"],
        type=click.IntRange(min=1),
        default=AGE_MAX_S // DAY_S,
        show_default=True,
        callback=reads(lambda days: int(days) * DAY_S),
        help="How long logs of ended attempts are kept.",
    ),
    click.Option(
        ["logs_total_bytes_max", "--keep-logs-size"],
        default=f"{TOTAL_BYTES_MAX >> 30}G",
        show_default=True,
        callback=reads(_bytes),
        metavar="SIZE",
        help="How much of all logs is kept.",
    ),
    click.Option(
        ["--log-level"],
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="What the agent tells about itself.",
    ),
)


def config_from(values: Mapping[str, Any]) -> Config:
    """Fill in what depends on this machine and user."""
    chosen = {name: value for name, value in values.items() if value is not None}
    allowed = Allowed(
        privileged=chosen.pop("allow_privileged", False),
        volume_paths=chosen.pop("allow_volume", ()),
        device_paths=chosen.pop("allow_device", ()),
    )
    account = Account(
        region=chosen.pop("region", REGION_DEFAULT), account_id=chosen.pop("account_id", ACCOUNT_ID_DEFAULT)
    )
    here: dict[str, Any] = {
        "state_dir": settings.state_dir() / "agent",
        "name": socket.gethostname(),
        "allowed": allowed,
        "account": account,
    }
    return Config(**here | chosen)
