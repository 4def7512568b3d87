#!/usr/bin/env python3
"""
Provider ``command``: own machines that sleep until there is work.

A launch wakes a machine by a magic packet (Wake-on-LAN); a stop puts it to sleep. Each
machine runs an agent that `batchyard-agent.service` starts when it boots, whose labels are
read from a file that this script writes over SSH. Which machines there are, and which is
of which launch, is in a JSON file:

    {"machines": {"desk-1": {"type": "desk", "mac": "00:11:22:33:44:55", "ssh": "root@desk-1"}}}

In the controller's settings file:

    [provider.wake]
    kind = "command"
    command = ["/usr/local/bin/wake.py", "/etc/batchyard/machines.json"]
    controller = "yard:8470"
    timeout_s = 300
    [provider.wake.types.desk]
    vcpus = 8
    memory = "16G"
    count = 1

The two things that it does to a machine are commands, which may be replaced: ``wake``
(default: the magic packet) and ``ssh`` (default: ssh with a short timeout), each a list
beside ``machines``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

OPTIONS_FILE = "/etc/batchyard/launch.env"
"""Read by the agent's unit: ``EnvironmentFile=``, ``ExecStart=batchyard agent $AGENT_OPTIONS``."""
BOOT_LOOKS = 48
LOOK_S = 5.0
"""A machine that was woken is given four minutes to answer."""
SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]

Machine = dict[str, Any]


class Machines:
    """The machines of the file, and of which launch each is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    def all(self) -> list[Machine]:
        """Return every machine."""
        return list(self._content["machines"].values())

    def of(self, launch: str) -> Machine | None:
        """Return the machine of a launch."""
        return next((each for each in self.all() if each.get("launch") == launch), None)

    def take(self, launch: str, host_type: str) -> Machine:
        """Return the machine of a launch, or give it one of its type that is free."""
        free = (each for each in self.all() if each["type"] == host_type and not each.get("launch"))
        found = self.of(launch) or next(free, None)
        if found is None:
            fail(f"all machines of type {host_type} are awake already")
        found["launch"] = launch
        return found

    def keep(self) -> None:
        """Write the file anew; whoever reads it meanwhile finds the old one."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._content, indent=2) + "\n", encoding="utf-8")
        fresh.replace(self._path)

    def run(self, machine: Machine, command: str) -> bool:
        """Run a command on a machine; return whether it did."""
        ssh = self._content.get("ssh", SSH)
        return subprocess.run([*ssh, machine["ssh"], command], capture_output=True, check=False).returncode == 0

    def wake(self, machine: Machine) -> None:
        """Wake a machine, if it sleeps."""
        if "wake" in self._content:
            subprocess.run([*self._content["wake"], machine["mac"]], check=True)
            return
        packet = b"\xff" * 6 + bytes.fromhex(machine["mac"].replace(":", "")) * 16
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            out.sendto(packet, ("255.255.255.255", 9))


@contextlib.contextmanager
def changing(path: Path) -> Iterator[Machines]:
    """Let one at a time change the file, as several launches are carried out at once."""
    with path.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        machines = Machines(path)
        yield machines
        machines.keep()


def fail(why: str) -> NoReturn:
    """Say why it could not be done: the last line of the standard error is the reason that people see."""
    print(why, file=sys.stderr)  # noqa: T201  # a program's answer
    sys.exit(1)


def launch(path: Path, asked: dict[str, Any]) -> None:
    """Wake a machine and tell its agent of which launch it is. Asked twice for one launch, it takes the same."""
    with changing(path) as machines:
        machine = machines.take(asked["launch"], asked["type"])
    machines.wake(machine)
    options = shlex.join(["--controller", asked["controller"], *asked["agent_options"]])
    line = shlex.quote(f"AGENT_OPTIONS={options}")
    tell = f"printf '%s\\n' {line} > {OPTIONS_FILE} && systemctl restart batchyard-agent"
    for _ in range(BOOT_LOOKS):
        if machines.run(machine, tell):
            return
        time.sleep(LOOK_S)
    fail(f"{machine['ssh']} did not answer within {BOOT_LOOKS * LOOK_S:g} s after it was woken")


def stop(path: Path, asked: dict[str, Any]) -> None:
    """Put a machine to sleep; one that is of no launch, or does not answer, sleeps already."""
    machines = Machines(path)
    machine = machines.of(asked["launch"])
    if machine is not None:
        machines.run(machine, f"systemctl stop batchyard-agent; rm -f {OPTIONS_FILE}; systemctl suspend --no-wall")
        with changing(path) as now:
            (now.of(asked["launch"]) or {}).pop("launch", None)


def main() -> None:
    """Do what the controller asks."""
    path, asked = Path(sys.argv[1]), json.load(sys.stdin)
    match asked["operation"]:
        case "launch":
            launch(path, asked)
        case "stop":
            stop(path, asked)
        case "list":
            found = [each["launch"] for each in Machines(path).all() if each.get("launch")]
            print(json.dumps({"launches": found}))  # noqa: T201  # its answer
        case other:
            fail(f"{other} is no operation")


if __name__ == "__main__":
    main()
