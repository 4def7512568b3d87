"""
Machines made of namespaces: each has its own network, name, processes and system folders.

They are joined by a switch in a namespace of its own, so that nothing reaches the real
machine's network, nor leaves it, and any number of tests may use the same addresses. What is
written to ``/etc``, ``/opt`` and the like stays in the machine and goes with it. Its processes
end with it.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path
from typing import Self

FOLDERS = ("/etc", "/opt", "/usr/local", "/var/lib", "/var/log")
"""What a machine has of its own, over the real one's."""

STAND_IN = Path(__file__).with_name("systemctl.py")

# Python and the packages lie under /mnt, where users may look: here they may be below root's home.
_SET_UP = """
set -eu
mount -t tmpfs tmpfs /mnt
for folder in {folders}; do
    mkdir -p "/mnt/own$folder/upper" "/mnt/own$folder/work"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=/mnt/own$folder/upper,workdir=/mnt/own$folder/work" "$folder"
done
mkdir -p /mnt/python /mnt/packages /mnt/wheel /mnt/bin
mount --bind {python} /mnt/python
mount --bind {packages} /mnt/packages
mount --bind {wheel} /mnt/wheel
mount -t tmpfs tmpfs /run
{{ echo '#!/mnt/python/bin/python3'; cat {stand_in}; }} > /mnt/bin/systemctl
chmod 755 /mnt/bin/systemctl
rm -rf /etc/batchyard /etc/systemd/system/batchyard-*
mkdir -p /etc/systemd/system
# Python's own library, for users that cannot look where it was built.
echo /mnt/python/lib > /etc/ld.so.conf.d/00-python.conf
ldconfig
hostname {name}
echo up
exec sleep infinity
"""

_ENVIRONMENT = {
    "PATH": "/mnt/bin:/mnt/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    # No index of packages is reached: the wheel is ours, and what it needs is there already.
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/mnt/wheel",
    "PIP_NO_DEPS": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}


class Switch:
    """What machines are plugged into; a context manager that takes all of them down."""

    def __init__(self, wheel_folder: Path) -> None:
        self._wheel_folder = wheel_folder
        self._name = f"yard-{uuid.uuid4().hex[:8]}"
        self._machines: list[Machine] = []

    def __enter__(self) -> Self:
        ip("netns", "add", self._name)
        ip("-n", self._name, "link", "add", "switch", "type", "bridge")
        ip("-n", self._name, "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._machines:
            machine.end()
        ip("netns", "delete", self._name)

    def add(self, name: str, address: str) -> Machine:
        """Start a machine with an address such as ``10.0.0.1``."""
        space = f"{self._name}-{name}"
        ip("netns", "add", space)
        port = f"to{len(self._machines)}"
        ip("-n", self._name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("-n", self._name, "link", "set", port, "master", "switch", "up")
        ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", space, "link", "set", link, "up")
        machine = Machine(name, space, self._wheel_folder)
        self._machines.append(machine)
        return machine


class Machine:
    """One machine; commands on it are run by its root."""

    def __init__(self, name: str, space: str, wheel_folder: Path) -> None:
        self.name = name
        self._space = space
        script = _SET_UP.format(
            folders=" ".join(FOLDERS),
            python=sys.base_prefix,
            packages=sysconfig.get_path("purelib"),
            wheel=wheel_folder,
            stand_in=STAND_IN,
            name=name,
        )
        own = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._init = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{space}", *own, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == b"up\n", f"{name} does not come up"

    def run(self, script: str, *, check: bool = True, limit_s: float = 240) -> str:
        """Run a script as somebody at the prompt does, line by line, until one fails; return what it wrote."""
        answer = subprocess.run(
            ["nsenter", f"--target={self._child()}", "--all", "--wd=/root", "sh", "-eux", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            env=_ENVIRONMENT,
            timeout=limit_s,
        )
        said = f"$ {script}\n{answer.stdout}{answer.stderr}"
        assert not check or answer.returncode == 0, f"{self.name}: exit code {answer.returncode}\n{said}{self.logs()}"
        return answer.stdout

    def logs(self) -> str:
        """Return what the units have written."""
        return self.run("tail -n 40 /var/log/batchyard-*.log || true", check=False)

    def end(self) -> None:
        """End all its processes, then its network."""
        self._init.kill()
        self._init.wait()
        assert self._init.stdout is not None
        self._init.stdout.close()
        ip("netns", "delete", self._space)

    def _child(self) -> str:
        """Return the process id, seen from outside, of the machine's first process."""
        return Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()[0]


def ip(*arguments: str) -> None:
    """Run the command ``ip``."""
    subprocess.run(["ip", *arguments], check=True)
