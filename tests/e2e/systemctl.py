"""
A stand-in for systemctl, on machines that systemd does not run: the units of this project only.

It starts a unit as systemd would: as its user, with its state folder, its credentials, its
environment, without capabilities, on a file system that is read-only where the unit says so.
What it does not do: private user namespaces, filters of system calls, restarts. A setting it
does not know is an error, so that each is thought about once.

It lies in a host as its ``systemctl``, and needs nothing but Python and util-linux.
"""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

UNITS = Path("/etc/systemd/system")
CREDENTIALS = Path("/run/credentials")
STATE = Path("/var/lib")
RUNTIME = Path("/run")
STOP_LIMIT_S = 30.0

USED = {
    "DynamicUser", "Environment", "EnvironmentFile", "ExecStart", "ExecStartPre", "LimitNOFILE", "LoadCredential", "NoNewPrivileges",
    "CapabilityBoundingSet", "Group", "ProtectHome", "ProtectSystem", "PrivateTmp", "RuntimeDirectory",
    "RuntimeDirectoryMode", "StateDirectory", "StateDirectoryMode", "UMask",
}  # fmt: skip
LEFT_TO_SYSTEMD = {
    "AmbientCapabilities", "Delegate", "DelegateSubgroup", "KeyringMode", "KillMode", "LockPersonality", "OOMPolicy",
    "PrivateDevices", "PrivateUsers", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "Restart", "RestartSec", "RestrictAddressFamilies",
    "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SendSIGKILL", "SystemCallArchitectures",
    "SystemCallErrorNumber", "SystemCallFilter", "TasksMax", "TimeoutStopSec", "Type",
}  # fmt: skip


class Unit:
    """One unit with its drop-ins, and where what belongs to its life is."""

    def __init__(self, name: str) -> None:
        self.name = name.removesuffix(".service")
        file = UNITS / f"{self.name}.service"
        self.settings: dict[str, list[str]] = {}
        for path in [file, *sorted(UNITS.glob(f"{file.name}.d/*.conf"))]:
            for key, value in service_lines(path):
                if key not in USED | LEFT_TO_SYSTEMD:
                    raise SystemExit(f"systemctl (stand-in): {path}: {key} is a setting that it does not know")
                self.settings.setdefault(key, []).append(value)
        self.pid_file = Path(f"/run/{self.name}.pid")
        self.log = Path(f"/var/log/{self.name}.log")
        self.credentials = CREDENTIALS / file.name
        self.uid = dynamic_id(self.name) if self.last("DynamicUser") == "yes" else 0
        self.gid = dynamic_id(self.last("Group") or self.name) if self.uid else 0

    def last(self, key: str) -> str:
        return self.settings.get(key, [""])[-1]

    def folders(self) -> dict[str, Path]:
        """Return the folders that the unit's user owns, by the setting that asks for them."""
        places = {"StateDirectory": STATE, "RuntimeDirectory": RUNTIME}
        return {key: place / self.last(key) for key, place in places.items() if self.last(key)}

    def environment(self) -> dict[str, str]:
        """Return what the program finds: nothing of the caller's."""
        found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
        found |= {"USER": self.name, "LOGNAME": self.name, "HOME": "/"} if self.uid else {}
        variables = {"StateDirectory": "STATE_DIRECTORY", "RuntimeDirectory": "RUNTIME_DIRECTORY"}
        found |= {variables[key]: str(folder) for key, folder in self.folders().items()}
        if "LoadCredential" in self.settings:
            found["CREDENTIALS_DIRECTORY"] = str(self.credentials)
        for line in self.settings.get("Environment", []):
            found |= dict(word.split("=", 1) for word in shlex.split(line.replace("%d", str(self.credentials))))
        for name in self.settings.get("EnvironmentFile", []):
            for line in Path(name.removeprefix("-")).read_text().splitlines():
                if line.strip() and not line.startswith(("#", ";")):
                    key, _, value = line.partition("=")
                    found[key.strip()] = value.strip()
        return found


def dynamic_id(name: str) -> int:
    """Return the id that a user or group of this name gets while its units run."""
    return 61184 + zlib.crc32(name.encode()) % 4000


def service_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the settings of a file's [Service] section."""
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and line.strip() and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def start(unit: Unit) -> None:
    if is_running(unit):
        return
    make_folders(unit)
    load_credentials(unit)
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, "become", unit.name]
    with unit.log.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    unit.pid_file.write_text(str(process.pid))


def stop(unit: Unit) -> None:
    if not is_running(unit):
        return
    pid = int(unit.pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + STOP_LIMIT_S
    while is_running(unit):
        if time.monotonic() > give_up_at:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(unit.credentials, ignore_errors=True)


def is_running(unit: Unit) -> bool:
    if not unit.pid_file.exists():
        return False
    try:
        return Path(f"/proc/{unit.pid_file.read_text()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_folders(unit: Unit) -> None:
    """Make the unit's folders and, as systemd's name service does, let its group be found by name."""
    for key, folder in unit.folders().items():
        folder.mkdir(exist_ok=True)
        folder.chmod(int(unit.last(f"{key}Mode") or "755", 8))
        os.chown(folder, unit.uid, unit.gid)
    groups = Path("/etc/group")
    line = f"{unit.last('Group')}:x:{unit.gid}:\n"
    if unit.last("Group") and line not in groups.read_text():
        with groups.open("a") as file:
            file.write(line)


def load_credentials(unit: Unit) -> None:
    """Copy what root alone can read to where the unit's user can, as systemd does: by access lists."""
    for line in unit.settings.get("LoadCredential", []):
        name, _, source = line.partition(":")
        unit.credentials.mkdir(parents=True, exist_ok=True, mode=0o700)
        let_read(unit.credentials, unit.uid, folder=True)
        (unit.credentials / name).write_bytes(Path(source).read_bytes())
        let_read(unit.credentials / name, unit.uid, folder=False)


def let_read(path: Path, uid: int, *, folder: bool) -> None:
    """Give *path* to root and one user for reading: the group's bits then show the list's mask."""
    bits, nobody = (5 if folder else 4), 0xFFFFFFFF
    # owner, the named user, group, mask, others: tag, permissions, id (linux/posix_acl_xattr.h)
    entries = [(1, bits, nobody), (2, bits, uid), (4, 0, nobody), (16, bits, nobody), (32, 0, nobody)]
    if not uid:
        path.chmod(0o500 if folder else 0o400)
        return
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", packed)


def become(unit: Unit) -> None:
    """Turn this process, in mounts of its own, into the unit's program."""
    if unit.last("ProtectHome") == "yes":
        for home in ("/root", "/home"):
            mount("-t", "tmpfs", "-o", "mode=000,ro", "tmpfs", home)
    if unit.last("PrivateTmp") == "yes":
        for temporary in ("/tmp", "/var/tmp"):
            mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", temporary)
    if unit.last("ProtectSystem") == "strict":
        protect_system(unit)
    limit = min(int(unit.last("LimitNOFILE")), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.umask(int(unit.last("UMask") or "022", 8))
    words = ["setpriv"]
    words += ["--no-new-privs"] if unit.last("NoNewPrivileges") == "yes" else []
    words += ["--bounding-set=-all", "--inh-caps=-all"] if "CapabilityBoundingSet" in unit.settings else []
    words += [f"--reuid={unit.uid}", f"--regid={unit.gid}", "--clear-groups"] if unit.uid else []
    os.chdir("/")
    for line in unit.settings.get("ExecStartPre", []):
        subprocess.run([*words, *shlex.split(line)], check=True, env=unit.environment())
    os.execvpe(words[0], [*words, *shlex.split(unit.last("ExecStart"))], unit.environment())


def protect_system(unit: Unit) -> None:
    """Make all but the unit's folders, temporary folders and the kernel's own read-only."""
    own = [str(folder) for folder in unit.folders().values()]
    for folder in own:
        mount("--bind", folder, folder)
    kept = (*own, "/dev", "/proc", "/sys", "/tmp", "/var/tmp", "/root", "/home")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if not any(target == each or target.startswith(f"{each}/") for each in kept):
            subprocess.run(["mount", "-o", "remount,bind,ro", target], check=False, capture_output=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main(action: str, names: list[str]) -> None:
    if action == "daemon-reload":
        return
    for name in names:
        unit = Unit(name)
        match action:
            case "enable" | "start":
                start(unit)
            case "stop":
                stop(unit)
            case "restart":
                stop(unit)
                start(unit)
            case "is-active":
                sys.exit(0 if is_running(unit) else 3)
            case "become":
                become(unit)
            case _:
                raise SystemExit(f"systemctl (stand-in): {action} is not known")


if __name__ == "__main__":
    main(sys.argv[1], [word for word in sys.argv[2:] if word != "--now"])
