"""
Network namespaces on a switch of their own, and what breaks between them: links and rules that drop.

    with Switch() as switch:
        host = switch.add("h1", "10.0.0.21")
        Program("agent", [*host.prefix, "batchyard", ...], log)
        host.cut()
        host.drop("INPUT", "10.0.0.11")
        host.heal()

Only the network is a space's own; files and process ids are the machine's. Nothing reaches the
machine's network, nor leaves it, so any number of switches may use the same addresses. What must
speak in a space without being started there enters it with a thread (`Space.call`).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable
from typing import Self, TypeVar

from tests.e2e.machines import ip

T = TypeVar("T")

_IPTABLES = shutil.which("iptables-legacy") or "iptables"
"""Kernels of small virtual machines lack nftables."""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Switch:
    """What spaces are plugged into; a context manager that takes all of them down."""

    def __init__(self) -> None:
        self._name = f"faults-{uuid.uuid4().hex[:8]}"
        self._spaces: list[Space] = []

    def __enter__(self) -> Self:
        ip("netns", "add", self._name)
        ip("-n", self._name, "link", "add", "switch", "type", "bridge")
        ip("-n", self._name, "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for space in self._spaces:
            ip("netns", "delete", space.name)
        ip("netns", "delete", self._name)

    def add(self, name: str, address: str) -> Space:
        """Make a space with an address such as ``10.0.0.1``."""
        space = Space(f"{self._name}-{name}", address, self._name, f"to{len(self._spaces)}")
        ip("netns", "add", space.name)
        ip("-n", self._name, "link", "add", space.port, "type", "veth", "peer", "name", "eth0", "netns", space.name)
        ip("-n", self._name, "link", "set", space.port, "master", "switch", "up")
        ip("-n", space.name, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", space.name, "link", "set", link, "up")
        self._spaces.append(space)
        return space


class Space:
    """
    One namespace.

    Attributes:
        name: As ``ip netns`` knows it.
        address: Its only one.
        port: Its end on the switch.
    """

    def __init__(self, name: str, address: str, switch: str, port: str) -> None:
        self.name = name
        self.address = address
        self.port = port
        self._switch = switch

    @property
    def prefix(self) -> list[str]:
        """What stands before a command that is to run in it; it is replaced by the command."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def cut(self) -> None:
        """Pull the plug."""
        ip("-n", self._switch, "link", "set", self.port, "down")

    def drop(self, chain: str, *peers: str) -> None:
        """Drop what comes (``INPUT``) or goes (``OUTPUT``), of all or of these peers alone."""
        side = "--source" if chain == "INPUT" else "--destination"
        for match in [[side, peer] for peer in peers] or [
            ["--in-interface" if chain == "INPUT" else "--out-interface", "eth0"]
        ]:
            self._iptables("--append", chain, *match, "--jump", "DROP")

    def drop_both(self, *peers: str) -> None:
        """Drop what comes from these peers and what goes to them."""
        for chain in ("INPUT", "OUTPUT"):
            self.drop(chain, *peers)

    def reset(self) -> None:
        """Reset every connection that says something from now on."""
        for chain in ("INPUT", "OUTPUT"):
            self._iptables("--append", chain, "--protocol", "tcp", "--jump", "REJECT", "--reject-with", "tcp-reset")

    def heal(self) -> None:
        """Plug it in, and drop nothing any more."""
        self._iptables("--flush")
        ip("-n", self._switch, "link", "set", self.port, "up")

    def call(self, function: Callable[[], T]) -> T:
        """Run *function* by a thread whose new sockets are of this space."""
        found: list[T] = []
        broken: list[BaseException] = []

        def run() -> None:
            try:
                _enter(self.name)
                found.append(function())
            except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
                broken.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if broken:
            raise broken[0]
        return found[0]

    def _iptables(self, *arguments: str) -> None:
        subprocess.run([*self.prefix, _IPTABLES, "--wait", *arguments], check=True)


def _enter(name: str) -> None:
    """Let this thread, which must never serve another, see the network of a space."""
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)
