"""
Commands that start something: ``up`` (a whole yard), ``controller``, ``agent``, ``gateway``.

The client never imports what it starts: they are programs.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchyard import settings
from batchyard.cli import exits, gateway_access, harmless, options, spans
from batchyard.cli import output as out
from batchyard.cli.children import Children, ChildSpec, last_words
from batchyard.cli.clock import now_ms
from batchyard.cli.job_page import resources_line
from batchyard.state_folder import make_private_folder

if TYPE_CHECKING:
    from batchyard.sync import Client

CONTROLLER = "batchyard_controller"
AGENT = "batchyard_agent"
AGENT_ON_KUBERNETES = "batchyard_agent.kubernetes"
GATEWAY = "batchyard_gateway"
RELAY = "batchyard_gateway.relay"

START_LIMIT_S = 60.0
"""How long the controller may take to answer, and the agents to appear."""

_LOOK_S = 0.2

_UP_HELP = """
Start a whole yard on this machine: a controller, agents and a gateway.

Needs no root, no etcd and no Docker. State is kept and found again by the next
`batchyard up`; Ctrl-C stops the yard, but not the jobs that run.
"""


ROOT_SCRATCH = Path("/var/lib/batchyard-scratch")


def is_open_to_all(folder: Path) -> bool:
    """Say whether anybody may pass through a folder."""
    return bool(folder.stat().st_mode & stat.S_IXOTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class YardPlan:
    """
    What ``up`` starts.

    Attributes:
        listen: Address of the controller for users of other machines; empty for none.
        listen_agents: The same for hosts that join; empty for none.
        http: Address of the gateway; empty for none.
        state_dir: Where everything is kept.
        store: The controller's store.
        secrets_key: Its key file; empty leaves it to the controller.
        host_names: One for each agent.
        runtimes: What agents may run; empty leaves it to them.
        cpu_millis: Each agent's share; 0 leaves it to the agent.
        memory_mib: Each agent's share; 0 leaves it to the agent.
    """

    listen: str
    listen_agents: str = ""
    http: str
    state_dir: Path
    store: str
    secrets_key: str = ""
    host_names: tuple[str, ...]
    runtimes: str = ""
    cpu_millis: int = 0
    memory_mib: int = 0

    @property
    def scratch_dir(self) -> Path:
        """
        Where jobs work: beside the state folder, which is closed to the user as whom a root's jobs run.

        Where that user cannot get there either, as below ``/root``, it is a folder of its own.
        """
        beside = self.state_dir.absolute().with_name(f"{self.state_dir.name}-scratch")
        if os.geteuid() != 0 or all(is_open_to_all(folder) for folder in beside.parents if folder.exists()):
            return beside
        return ROOT_SCRATCH / "-".join(beside.parts[1:])

    @property
    def socket(self) -> Path:
        """Where the controller listens for this user alone."""
        return self.state_dir / settings.SOCKET_NAME

    @property
    def address(self) -> str:
        """How this user's clients, agents and gateway reach the controller."""
        return f"unix:{self.socket}"

    @property
    def ca(self) -> Path:
        """The yard's CA, with the first administrator's credentials beside it."""
        return self.state_dir / "ca.pem"

    def init(self) -> tuple[str, ...]:
        """Return what makes the CA."""
        told = ("--address", self.listen) if self.listen else ()
        return (sys.executable, "-m", CONTROLLER, "init", "--ca", str(self.ca), "--if-missing", *told)

    def controller(self) -> ChildSpec:
        """Return the controller to start."""
        arguments = [sys.executable, "-m", CONTROLLER, "--socket", str(self.socket), "--store", self.store]
        arguments += [
            "--local-hosts",
            str(self.state_dir / "hosts"),
            "--local-scratch",
            str(self.scratch_dir / "hosts"),
        ]
        arguments += ["--ca", str(self.ca)]
        arguments += ["--listen", self.listen] if self.listen else []
        arguments += ["--listen-agents", self.listen_agents] if self.listen_agents else []
        arguments += ["--secrets-key", self.secrets_key] if self.secrets_key else []
        return ChildSpec(name="controller", arguments=tuple(arguments), log=self.state_dir / "controller.log")

    def gateway(self) -> ChildSpec:
        """Return the gateway to start."""
        return ChildSpec(
            name="gateway",
            arguments=(sys.executable, "-m", GATEWAY, "--listen", self.http, "--controller", self.address),
            log=self.state_dir / "gateway.log",
        )

    def agents(self) -> Iterator[ChildSpec]:
        """Yield the agents to start."""
        for number, host_name in enumerate(self.host_names, start=1):
            name = f"agent-{number}"
            arguments = [sys.executable, "-m", AGENT, "--controller", self.address]
            arguments += ["--state-dir", str(self.state_dir / name), "--name", host_name]
            arguments += ["--scratch-dir", str(self.scratch_dir / name), "--platform", "EC2", "--platform", "FARGATE"]
            arguments += ["--runtimes", self.runtimes] if self.runtimes else []
            arguments += ["--cpus", spans.millis(self.cpu_millis)] if self.cpu_millis else []
            arguments += ["--memory", f"{self.memory_mib}M"] if self.memory_mib else []
            yield ChildSpec(name=name, arguments=tuple(arguments), log=self.state_dir / f"{name}.log")


@click.command(help=_UP_HELP, short_help="Start a whole yard on this machine.")
@click.option(
    "--listen",
    default="",
    metavar="HOST:PORT",
    help="Listen there too, with TLS, for who has the credentials that lie in the state directory "
    "(administrator.toml). Default: a socket for you alone.",
)
@click.option(
    "--listen-agents",
    default="",
    metavar="HOST:PORT",
    help="Listen there for hosts that join (`batchyard join-token create`), beside --listen. Default: nowhere.",
)
@click.option(
    "--http",
    default="127.0.0.1:8471",
    show_default=True,
    metavar="HOST:PORT",
    help="The gateway's; '' starts no gateway. `batchyard env` tells AWS's tools its key.",
)
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path), help="Default: below the user's home.")
@click.option("--agents", type=click.IntRange(1, 64), default=1, show_default=True, help="Agents to start.")
@click.option("--runtimes", default="", help="What agents may run: docker,process. Default: what the machine has.")
@click.option("--store", help="sqlite:///FILE or etcd://HOST:PORT. Default: sqlite in the state directory.")
@click.option("-v", "--verbose", is_flag=True, help="Show the logs; they are in the state directory either way.")
@options.session
def up(
    _session: options.Session,
    /,
    listen: str,
    listen_agents: str,
    http: str,
    state_dir: Path | None,
    agents: int,
    runtimes: str,
    store: str | None,
    verbose: bool,
) -> int:
    """Start a whole yard (the text of --help is ``_UP_HELP``)."""
    require(CONTROLLER, AGENT, *([] if http == "" else [GATEWAY]))
    directory = (state_dir or settings.state_dir()).absolute()
    plan = yard_plan(listen, http, directory, agents, runtimes, store)
    if listen_agents:
        plan = replace(plan, listen_agents=settings.parse_address(listen_agents))
    for address, flag in (
        (plan.listen, "--listen"),
        (plan.listen_agents, "--listen-agents"),
        (plan.http, "--http"),
    ):
        if address:
            _check_free(address, flag)
    with _only_one(directory), _stop_signals() as stop:
        children = Children()
        try:
            return _run(plan, children, stop, verbose=verbose)
        finally:
            _stop(children, plan)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def controller(arguments: tuple[str, ...]) -> None:
    """Start a controller; --help shows its options."""
    _become(CONTROLLER, arguments)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def agent(arguments: tuple[str, ...]) -> None:
    """Start an agent, with `kubernetes` one of a cluster's nodes; --help shows its options."""
    if arguments[:1] == ("kubernetes",):
        _become(AGENT_ON_KUBERNETES, arguments[1:])
    _become(AGENT, arguments)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def gateway(arguments: tuple[str, ...]) -> None:
    """Start a gateway; --help shows its options."""
    _become(GATEWAY, arguments)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def relay(arguments: tuple[str, ...]) -> None:
    """Start a relay; --help shows its options."""
    _become(RELAY, arguments)


def require(*modules: str) -> None:
    """
    Make sure that programs are installed.

    Raises:
        click.ClickException: one is not.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise click.ClickException(
            f'{" and ".join(missing)} not installed; install everything with: pip install "batchyard[all]"'
        )


def yard_plan(listen: str, http: str, state_dir: Path, agents: int, runtimes: str, store: str | None) -> YardPlan:
    """Decide what to start; several agents get an equal share of the machine each."""
    host = socket.gethostname()
    # Beside the file of an embedded store the controller makes one itself.
    has_own = not store or store.startswith(("sqlite:", "memory:"))
    secrets_key = "" if has_own or _is_key_file_set() else str(state_dir / "secrets.key")
    cpus, memory_mib = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return YardPlan(
        listen=listen and settings.parse_address(listen),
        http=http and settings.parse_address(http),
        state_dir=state_dir,
        secrets_key=secrets_key,
        store=store or f"sqlite:///{state_dir / 'controller.sqlite'}",
        host_names=(host,) if agents == 1 else tuple(f"{host}-{i}" for i in range(1, agents + 1)),
        runtimes=runtimes,
        cpu_millis=0 if agents == 1 else cpus * 1000 // agents,
        memory_mib=0 if agents == 1 else memory_mib // agents,
    )


def _is_key_file_set() -> bool:
    """Say whether the controller is told its key file by environment or settings file."""
    told = os.environ.get("BATCHYARD_CONTROLLER_SECRETS_KEY")  # noqa: TID251  # what the child is going to read
    return bool(told or settings.defaults("controller").get("secrets_key"))


def _run(plan: YardPlan, children: Children, stop: threading.Event, *, verbose: bool) -> int:
    """Start everything, make it ready, and look after it until a signal comes or a child dies."""
    options.quiet_grpc()
    from batchyard.sync import Client

    out.note(f"state and logs are in {plan.state_dir}")
    if plan.secrets_key:
        gateway_access.make_key_file(Path(plan.secrets_key))
    if not plan.ca.exists():
        made = subprocess.run(plan.init(), capture_output=True, text=True, check=False)
        if made.returncode:
            return _ended(children, stop, made.stderr.strip())
    children.start(plan.controller())
    with Client(plan.address, timeout_s=5) as client:
        if not _until(lambda: _answers(client), children, stop, verbose=verbose):
            return _ended(children, stop, f"the controller did not answer within {START_LIMIT_S:g} s")
        for spec in plan.agents():
            children.start(spec)
        if not _until(lambda: _has_hosts(client, plan.host_names), children, stop, verbose=verbose):
            return _ended(children, stop, f"the agents were not ready within {START_LIMIT_S:g} s")
        if not _until(lambda: _has_defaults(client), children, stop, verbose=verbose):
            return _ended(children, stop, f"the default queue was not ready within {START_LIMIT_S:g} s")
        if plan.http:
            gateway_access.hand_over(client, plan.state_dir, plan.http)
            children.start(plan.gateway())
            if not _until(lambda: _listens(plan.http), children, stop, verbose=verbose):
                return _ended(children, stop, f"the gateway did not answer within {START_LIMIT_S:g} s")
        _tell_ready(client, plan)
        while not stop.is_set() and children.dead() is None:
            _show_logs(children, verbose=verbose)
            stop.wait(_LOOK_S)
        return _ended(children, stop, "")


def _until(check: Callable[[], bool], children: Children, stop: threading.Event, *, verbose: bool) -> bool:
    """Wait until *check* holds; give up on a signal, a dead child or after ``START_LIMIT_S``."""
    from batchyard.errors import WorldError

    trouble = ""
    for _ in range(int(START_LIMIT_S / _LOOK_S)):
        _show_logs(children, verbose=verbose)
        try:
            if check():
                return True
        except WorldError as err:
            if verbose and str(err) != trouble:
                trouble = str(err)
                out.note(f"not ready yet: {err}")
        if stop.wait(_LOOK_S) or children.dead() is not None:
            return False
    return False


def _answers(client: Client) -> bool:
    list(client.list_hosts())
    return True


def _has_hosts(client: Client, names: Sequence[str]) -> bool:
    from batchyard.v1.host_pb2 import HOST_STATE_UNREACHABLE

    # A host that was cordoned before the last stop still is: that is no fault.
    connected = {host.facts.name for host in client.list_hosts() if host.state != HOST_STATE_UNREACHABLE}
    return connected.issuperset(names)


def _has_defaults(client: Client) -> bool:
    """Create the compute environment and the queue ``default`` where missing; say whether both are there."""
    from batchyard.v1 import compute_environment_pb2 as pb

    if client.describe_job_queues(["default"]):
        return True
    environments = client.describe_compute_environments(["default"])
    if not environments:
        resources = pb.ComputeResources(
            type=pb.CAPACITY_TYPE_EC2, allocation_strategy=pb.ALLOCATION_STRATEGY_BEST_FIT_PROGRESSIVE
        )
        client.create_compute_environment("default", compute_resources=resources)
        return False
    if environments[0].status == pb.RESOURCE_STATUS_VALID:
        client.create_job_queue("default", priority=1, compute_environments=["default"])
    return False


def _tell_ready(client: Client, plan: YardPlan) -> None:
    hosts = [host for host in client.list_hosts() if host.facts.name in plan.host_names]
    running = sum(host.attempts for host in hosts)
    out.note(
        f"ready at {plan.listen or plan.address}" + (f"; AWS Batch API at http://{plan.http}" if plan.http else "")
    )
    if plan.listen:
        out.note(f"credentials for users of other machines: {plan.ca.with_name('administrator.toml')}")
    for host in hosts:
        capacity = host.facts.capacity
        amounts = resources_line(capacity.cpu_millis, capacity.memory_mib, capacity.gpu_millis, 0)
        out.note(f"  host {host.facts.name}: {amounts}; runs {', '.join(host.facts.runtimes)}")
    if running:
        out.note(f"attempts found running: {running}")
    is_default = plan.state_dir == settings.state_dir().absolute()
    prefix = "" if is_default else f"BATCHYARD_ADDRESS={shlex.quote(plan.address)} "
    out.note(f"in another terminal: {prefix}batchyard submit --follow -- echo hello")
    if plan.http:
        flag = "" if is_default else f" --state-dir {shlex.quote(str(plan.state_dir))}"
        out.note(f'or: eval "$(batchyard env{flag})"; aws batch describe-job-queues')
        access = gateway_access.read(plan.state_dir / gateway_access.FILE_NAME)
        out.note(f"console, signed in for whoever opens this first: {gateway_access.console_link(access, now_ms())}")
        out.note(f"         later: batchyard console{flag}")
    out.note("Ctrl-C stops it")


def _ended(children: Children, stop: threading.Event, trouble: str) -> int:
    """Say why the yard ends and return the exit code."""
    if stop.is_set():
        return 0
    child = children.dead()
    if child is None:
        out.note(trouble)
        return exits.FAILED
    out.note(f"{child.spec.name} ended unexpectedly ({_how(child.process.returncode)}); stopping the others")
    for line in last_words(child.spec):
        click.echo(harmless.line(f"{child.spec.name} | {line}"), err=True)
    return exits.FAILED


def _stop(children: Children, plan: YardPlan) -> None:
    running = _attempts(plan) if children.running and children.dead() is None else 0
    out.note("stopping")
    for name in children.stop():
        out.note(f"{name} did not stop in time and was killed")
    if running:
        out.note(f"attempts still running: {running}; they go on, and the next `batchyard up` finds them again")


def _attempts(plan: YardPlan) -> int:
    from batchyard.errors import BatchyardError
    from batchyard.sync import Client

    try:
        with Client(plan.address, timeout_s=2) as client:
            return sum(host.attempts for host in client.list_hosts())
    except BatchyardError as err:
        out.note(f"cannot count what is running: {err}")
        return 0


def _show_logs(children: Children, *, verbose: bool) -> None:
    if verbose:
        for line in children.new_log_lines():
            click.echo(harmless.line(line), err=True)


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _become(module: str, arguments: Sequence[str]) -> None:
    require(module)
    if "--help" not in arguments:
        click.get_current_context().ensure_object(options.Session).check()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606  # no shell on purpose


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the state directory for this process alone."""
    try:
        make_private_folder(directory)
        lock = (directory / "up.lock").open("w")
    except OSError as err:
        raise click.ClickException(f"cannot write to the state directory {directory}: {err.strerror or err}") from err
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(f"another `batchyard up` uses {directory}; give another --state-dir") from None
        yield


def _check_free(address: str, flag: str) -> None:
    """Refuse an address that is taken: our own program's silence would be hidden by the other's answers."""
    if _listens(address):
        raise click.ClickException(f"something listens at {address} already; stop it or give another {flag}")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn SIGINT, SIGTERM and SIGHUP into an event."""
    stop = threading.Event()
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
