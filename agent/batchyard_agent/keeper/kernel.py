"""The system calls that Python has no name for yet."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_INFO_EXIT = 1 << 3

_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND = 1 << 12
_MNT_DETACH = 2
_O_PATH = 0o10000000  # os has no name for it
_MS_REC = 1 << 14
_MS_SLAVE = 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Become the parent of all descendants that lose theirs."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def hand_on_no_privileges() -> None:
    """Have all descendants gain nothing from set-user-id programs, and inherit no capability over a change of user."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)  # twice: effective, permitted, inheritable
    _check(_libc.capget(ctypes.create_string_buffer(header), held))
    low, high = struct.unpack("=III III", held.raw[:24])[:3], struct.unpack("=III III", held.raw[:24])[3:]
    kept = struct.pack("=III III", low[0], low[1], 0, high[0], high[1], 0)
    _check(_libc.capset(ctypes.create_string_buffer(header), ctypes.create_string_buffer(kept)))


def can_isolate() -> bool:
    """Say whether processes can be started where they neither see nor reach others; tried in a child."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            isolate_children(True)
            if not os.fork():
                hide_others()
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.wait()[1])
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def isolate_children(is_on: bool, own: int = -1) -> None:
    """
    Have the next child begin a pid namespace, as its first process; or take that back.

    Args:
        is_on: Whether.
        own: This process's own pid namespace, opened; to take it back.
    """
    _check(_libc.unshare(_CLONE_NEWPID) if is_on else _libc.setns(own, _CLONE_NEWPID))


def is_apart(pid: int) -> bool:
    """
    Say whether a process is in another pid namespace than this one.

    Raises:
        OSError: there is no such process.
    """
    return os.stat(f"/proc/{pid}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino


def enter_pids(pid: int) -> None:
    """Have the next child be in the pid namespace of a process; ``isolate_children`` takes that back."""
    namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(namespace, _CLONE_NEWPID))
    finally:
        os.close(namespace)


def enter_mounts(namespace: int) -> None:
    """See what is mounted in a mount namespace, which is open, from its root."""
    _check(_libc.setns(namespace, _CLONE_NEWNS))


def hide_others() -> None:
    """In a pid namespace's first process: have a /proc of its own, in mounts of its own, which follow the machine's."""
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None))
    _check(_libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None))


def put_over(source: bytes, path: bytes) -> None:
    """In mounts of its own: have a file stand in the place of another one."""
    _check(_libc.mount(source, path, None, _MS_BIND, None))


def show_alone(folder: bytes, own: bytes) -> None:
    """In mounts of its own: let a folder hold nothing but *own*, a folder that may be in it."""
    is_in_it = os.path.dirname(own) == folder
    fd = os.open(own, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if is_in_it else -1
    _check(_libc.mount(b"none", folder, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=711,size=4k,nr_inodes=2"))
    if is_in_it:
        os.mkdir(own)
        _check(_libc.mount(b"/proc/self/fd/%d" % fd, own, None, _MS_BIND, None))
        os.close(fd)


def uncover(path: bytes) -> None:
    """In mounts of its own: take off what was put over a path."""
    _check(_libc.umount2(path, _MNT_DETACH))


def exit_code_of_reaped(pidfd: int) -> int | None:
    """Return the exit code, as of a shell, of a process that somebody else has waited for; None: nobody knows."""
    buffer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)  # from Linux 6.15
    except OSError:
        return None
    mask, *_, status = _PIDFD_INFO.unpack(buffer)
    return shell_code(os.waitstatus_to_exitcode(status)) if mask & _PIDFD_INFO_EXIT else None


def shell_code(code: int) -> int:
    """Return an exit code as a shell gives it, of one that is below 0 for a signal."""
    return code if code >= 0 else 128 - code
