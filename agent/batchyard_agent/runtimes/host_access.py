"""
What jobs may reach of this host: what its operator allows, and what their queue's security level does.

It must never trust the controller's
word on a path. Law: what is mounted is opened first, and judged by what was opened, all
symbolic links followed, and where it can be is held by that until the engine has it, so
that whoever renames things meanwhile changes nothing (CWE-367).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from batchyard.security import is_number, is_root, not_allowed
from batchyard.tasks import Task
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.protocol import Device, LaunchSpec, Mount


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """
    What the host's operator allows.

    Attributes:
        privileged: Privileged containers; they can do all that root can.
        volume_paths: Folders that may be mounted, with all below them.
        device_paths: Devices; a trailing ``*`` stands for any rest.
    """

    privileged: bool = False
    volume_paths: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()


class NotAllowedError(Exception):
    """The attempt asks for what this host does not allow, or does not have; the text says what."""


class Granted:
    """
    What an attempt was granted of the host; it is held until ``close``.

    Attributes:
        spec: The attempt, with paths that the engine is to use.
    """

    def __init__(self, spec: LaunchSpec, mounts: HeldMounts | None = None) -> None:
        self.spec = spec
        self._mounts = mounts
        self._held: list[Path] = []

    def close(self) -> None:
        """Let go of what is held; what the engine has mounted stays."""
        while self._held:
            assert self._mounts is not None
            self._mounts.release(self._held.pop())

    def mount(self, mount: Mount, allowed: tuple[str, ...]) -> Mount:
        """
        Open what is to be mounted, and return it with a path that leads to just that.

        Raises:
            NotAllowedError: it is none of the operator's.
        """
        if not mount.host_path:
            return mount
        descriptor = _open(mount.host_path)
        try:
            # The kernel's word on where it is, which no name that is changed meanwhile alters.
            real = Path(f"/proc/self/fd/{descriptor}").readlink()
            folders = [folder for path in allowed if (folder := _existing(path)) is not None]
            if not any(real.is_relative_to(folder) for folder in folders):
                shown = _shown(mount.host_path, real)
                raise NotAllowedError(f"this host does not allow to mount {shown} ({_list(allowed)})")
            if self._mounts is None:
                return replace(mount, host_path=str(real))
            place = self._mounts.hold(descriptor)
        except OSError as error:
            raise NotAllowedError(f"{mount.host_path} cannot be used on this host: {error.strerror}") from error
        finally:
            os.close(descriptor)
        self._held.append(place)
        return replace(mount, host_path=str(place))


def grant(spec: LaunchSpec, allowed: Allowed, mounts: HeldMounts | None = None) -> Granted:
    """
    Open what *spec* asks of the host. May block: it looks at the disk.

    Without *mounts* it returns paths as they were, which may lead elsewhere by the time they
    are used; what was granted is granted as it is, unless a link was put in its way.

    Args:
        spec: The attempt.
        allowed: What the operator allows.
        mounts: Where what is to be mounted is held; None: the engine does not see what this process mounts.

    Raises:
        NotAllowedError: the operator or the security level does not allow something, or a path does not exist.
    """
    for _, _, what in not_allowed(Task(containers=(spec.container,)), spec.security_level):
        raise NotAllowedError(f"security level {spec.security_level} does not allow {what}")
    if spec.security_level.is_secured and spec.node_address is not None:
        raise NotAllowedError(f"security level {spec.security_level} does not allow nodes of multi-node jobs")
    if spec.container.privileged and not allowed.privileged:
        raise NotAllowedError("this host allows no privileged containers")
    granted = Granted(spec, mounts)
    try:
        resolved = [granted.mount(mount, allowed.volume_paths) for mount in spec.mounts]
        devices = [_resolve_device(device, allowed.device_paths) for device in spec.devices]
    except NotAllowedError:
        granted.close()
        raise
    granted.spec = replace(spec, mounts=tuple(resolved), devices=tuple(devices))
    return granted


NOBODY = "65534:65534"
"""As whom containers run that would be root and may not (Linux: the overflow user and group)."""


def unprivileged(image_user: str) -> str:
    """
    Return as whom a container may run whose job names no user, by the user that its image names.

    Raises:
        NotAllowedError: the image gives a name: who that is only what is in it could tell.
    """
    if is_root(image_user):
        return NOBODY
    if not is_number(image_user.partition(":")[0]):
        text = f"the image's user {image_user!r} is no number, and may be root: give the job a number as its user"
        raise NotAllowedError(text)
    return image_user


def _open(path: str) -> int:
    if not path.startswith("/"):
        raise NotAllowedError(f"{path} is no absolute path")
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise NotAllowedError(f"{path} cannot be used on this host: {text}") from error


def _resolve_device(device: Device, allowed: tuple[str, ...]) -> Device:
    real = _real(device.host_path)
    if not any(_matches(str(real), pattern) for pattern in allowed):
        shown = _shown(device.host_path, real)
        raise NotAllowedError(f"this host does not allow the device {shown} ({_list(allowed)})")
    try:
        mode = real.stat().st_mode
    except OSError as error:
        raise NotAllowedError(f"{device.host_path} cannot be used on this host: {error.strerror}") from error
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        raise NotAllowedError(f"{_shown(device.host_path, real)} is no device")
    return replace(device, host_path=str(real))


def _matches(real: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return real.startswith(pattern[:-1])
    named = _existing(pattern)
    return named is not None and real == str(named)


def _real(path: str) -> Path:
    if not path.startswith("/"):
        raise NotAllowedError(f"{path} is no absolute path")
    try:
        return Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a ring, before Python 3.13
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise NotAllowedError(f"{path} cannot be used on this host: {text}") from error


def _existing(path: str) -> Path | None:
    """Return where a path of the operator's leads; None where there is nothing now."""
    try:
        return Path(path).resolve(strict=True)
    except (OSError, RuntimeError):
        return None


def _shown(asked: str, real: Path) -> str:
    return asked if asked == str(real) else f"{asked}, which is {real}"


def _list(allowed: Iterable[str]) -> str:
    return f"allowed: {', '.join(allowed) or 'nothing'}"
