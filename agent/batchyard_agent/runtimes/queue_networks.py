"""
Networks of queues: where containers of a security level are, and what these do not reach.

Each queue has a network of Docker's on a host, made when it is needed. Its containers
reach neither each other nor the host, but for the attempts' metadata; nor the addresses
at which machines are told about themselves, nor what else is closed, as the controller.
That is said to the kernel's packet filter, through the same iptables as Docker's own
rules. Law: no container is started there unless the rules stand.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from batchyard_agent.runtimes.docker_engine import ConflictError, Engine, EngineError
from batchyard_agent.runtimes.docker_spec import HOST_LABEL, bridge_name, bridge_prefix, network_name

LINK_LOCAL = "169.254.0.0/16"
"""At 169.254.169.254, and beside it, clouds tell machines about themselves (RFC 3927; AWS, Azure, GCP)."""

DOCKER_CHAIN = "DOCKER-USER"
"""Looked at before Docker's own rules, for what is forwarded (Docker, "Packet filtering and firewalls")."""

_LIMIT_S = 10
_IN_USE_MS = 600_000
"""A network that was asked for so lately may be of a container that is just being made."""

_log = structlog.get_logger(__name__)

Door = Callable[[], tuple[str, int] | None]
"""Tells address and port of the attempts' metadata; None where there is none."""


class FenceError(Exception):
    """A queue's network cannot be had, or not be closed off; the text says why."""


class QueueNetworks:
    """
    The networks of one agent.

    All methods block; ``require`` may be called in several threads.

    Args:
        scope: The agent's, as of its containers.
        controller: ``HOST:PORT`` of the controller, which containers do not reach; empty, or a socket: of this machine.
        closed: Addresses or networks that they do not reach beside that, the host and link-local ones.
        door: Where the attempts' metadata is.
    """

    def __init__(
        self, scope: str, *, controller: str = "", closed: Iterable[str] = (), door: Door = lambda: None
    ) -> None:
        self._scope = scope
        self._controller = controller
        self._closed = self._own_closed = tuple(closed)
        self._door = door
        self._written = ""
        self._asked_at_ms: dict[str, int] = {}

    def check(self) -> None:
        """
        See whether networks can be closed off; nothing is written before one is needed.

        Raises:
            FenceError: that cannot be done on this machine.
        """
        if shutil.which("iptables") is None or shutil.which("iptables-restore") is None:
            raise FenceError("there is no iptables")
        if not _runs("iptables", "-w", "-n", "-L", DOCKER_CHAIN):
            raise FenceError(f"iptables has no chain {DOCKER_CHAIN} for this user and in this network namespace")
        self._closed = (*addresses_of(self._controller), *self._own_closed)

    def require(self, engine: Engine, queue: str, now_ms: int) -> None:
        """
        Make sure of a queue's network, and that it is closed off.

        Args:
            engine: Whose network it is.
            queue: Of any name.
            now_ms: By any clock that does not go back.

        Raises:
            FenceError: it cannot be had so.
            EngineSilentError: the engine does not answer.
        """
        self._close_off()
        name = network_name(self._scope, queue)
        self._asked_at_ms[name] = now_ms
        labels = {HOST_LABEL: self._scope}
        for is_last in (False, True):
            try:
                engine.make_network(name, bridge_name(self._scope, queue), labels)
            except ConflictError:
                return
            except EngineError as error:
                if is_last:
                    raise FenceError(f"the queue's network cannot be made: {error.message}") from error
                # The engine has addresses for some thirty networks: those of queues that rest make room.
                keep = {each for each, at_ms in list(self._asked_at_ms.items()) if now_ms - at_ms < _IN_USE_MS}
                with suppress(EngineError):
                    engine.remove_networks(HOST_LABEL, self._scope, keep)
            else:
                return

    def _close_off(self) -> None:
        prefix = bridge_prefix(self._scope)
        text = rules(prefix, self._closed, self._door())
        stands = all(_runs("iptables", "-w", "-C", chain, *jump) for chain, jump in jumps(prefix))
        if stands and text == self._written:
            return
        _run("iptables-restore", "-w", "--noflush", standard_input=text)
        for chain, jump in jumps(prefix):
            if not _runs("iptables", "-w", "-C", chain, *jump):
                _run("iptables", "-w", "-I", chain, "1", *jump)
        self._written = text
        _log.info("networks of queues are closed off", interfaces=f"{prefix}+", closed=list(self._closed))


def rules(prefix: str, closed: Iterable[str], door: tuple[str, int] | None) -> str:
    """
    Return what iptables-restore makes of an agent's two chains; what was in them before is forgotten.

    Names are looked up everywhere: on some clouds the resolver is at a link-local address, or on the host.
    """
    host, away = _chains(prefix)
    names = [f"-A {chain} -p {protocol} --dport 53 -j RETURN" for chain in (host, away) for protocol in ("udp", "tcp")]
    metadata = [f"-A {host} -d {door[0]} -p tcp --dport {door[1]} -j RETURN"] if door else []
    lines = [
        "*filter",
        f":{host} - [0:0]",
        f":{away} - [0:0]",
        f"-A {host} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        *names,
        *metadata,
        f"-A {host} -j REJECT",
        *(f"-A {away} -d {network} -j REJECT" for network in (LINK_LOCAL, *closed)),
        "COMMIT",
        "",
    ]
    return "\n".join(lines)


def jumps(prefix: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return from which chain, and with which words, packets of an agent's networks get to its chains."""
    host, away = _chains(prefix)
    return ("INPUT", ("-i", f"{prefix}+", "-j", host)), (DOCKER_CHAIN, ("-i", f"{prefix}+", "-j", away))


def _chains(prefix: str) -> tuple[str, str]:
    name = prefix.rstrip("-").upper()
    return f"BATCHYARD-{name}-HOST", f"BATCHYARD-{name}-AWAY"


def addresses_of(target: str) -> tuple[str, ...]:
    """Return the IPv4 addresses of a controller's ``HOST:PORT``; none of a socket or of this machine. It may block."""
    host, colon, _ = target.rpartition(":")
    if not colon or target.startswith("unix:"):
        return ()
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        _log.warning("the controller's address cannot be closed to jobs", controller=target, reason=str(error))
        return ()
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    return tuple(address for address in addresses if not ipaddress.ip_address(address).is_loopback)


def _runs(*command: str) -> bool:
    try:
        _run(*command)
    except FenceError:
        return False
    return True


def _run(*command: str, standard_input: str = "") -> None:
    try:
        done = subprocess.run(
            command, input=standard_input, check=False, capture_output=True, text=True, timeout=_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FenceError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise FenceError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
