"""
What jobs may reach of this host: what its operator allows, and paths as they really are.

It reads the file system and changes nothing. It must never trust the controller's
word on a path. Law: a path is judged by where it leads, all symbolic links followed,
and what is handed to the engine is that place and not the name it was asked by.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

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


def resolve(spec: LaunchSpec, allowed: Allowed) -> LaunchSpec:
    """
    Return *spec* with its paths on the host as they really are. May block: it looks at the disk.

    What was resolved resolves to itself, unless a link was put in its way meanwhile.

    Raises:
        NotAllowedError: the operator does not allow something, or a path does not exist.
    """
    if spec.container.privileged and not allowed.privileged:
        raise NotAllowedError("this host allows no privileged containers")
    return replace(
        spec,
        mounts=tuple(_resolve_mount(mount, allowed.volume_paths) for mount in spec.mounts),
        devices=tuple(_resolve_device(device, allowed.device_paths) for device in spec.devices),
    )


def _resolve_mount(mount: Mount, allowed: tuple[str, ...]) -> Mount:
    if not mount.host_path:
        return mount
    real = _real(mount.host_path)
    folders = [folder for path in allowed if (folder := _existing(path)) is not None]
    if not any(real.is_relative_to(folder) for folder in folders):
        raise NotAllowedError(f"this host does not allow to mount {_shown(mount.host_path, real)} ({_list(allowed)})")
    return replace(mount, host_path=str(real))


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
