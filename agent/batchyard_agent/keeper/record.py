"""
The keeper's journal: what it has started, who runs, and how each ended.

One file of lines, to which it and its children between fork and exec append:

    keeper  1  BOOT                                  the first line: the machine's boot
    start   NAME  MARK  MS  GROUP...                 before anything is started
    fence   NAME  MS                                 with it, of one that has a fence of its own
    pid     NAME  PID                                by the child itself, just before it becomes the command
    note    NAME  WORD                               why it is about to be killed
    end     NAME  CODE  MS  STAGE  ERRNO  KIB  MS  MS  OOM   once nothing of it is left
    forget  NAME                                     the agent has let go of it

Laws: who has no ``pid`` line has never run (the lock that children hold until they
exec says when that is final). Nothing is synced: what it is for is this program's
death, and after a crash of the machine nothing runs. A line that means nothing, or is not
whole, is passed over, whatever stands in it.
"""

from __future__ import annotations

import errno
import os

NAME = "journal"
CLOSED = b"closed"
"""A file beside it that nobody but root may open; it stands in an attempt's own mounts for what that may not have."""
COMPACT_BYTES = 1 << 20
"""After so many more it is written anew."""


FENCE_OF_HOST = -1
"""In place of an attempt's fence: that of its host."""


class Kept:
    """
    An attempt that was started, until it is forgotten.

    Attributes:
        name: A plain name, by which the agent knows it.
        mark: Of its processes (``marks``).
        started_at_ms: Wall clock.
        groups: Folders of its cgroup; empty: it has none.
        fence_ms: After how long a silence it is ended; 0: never; else ``FENCE_OF_HOST``.
        pid: Of its command's own process; 0: it never came to run.
        notes: Why it was killed: ``memory``, ``disk``, ``fence``.
        ended: How it ended; None while anything of it may live.
    """

    __slots__ = ("ended", "fence_ms", "groups", "mark", "name", "notes", "pid", "started_at_ms")

    def __init__(
        self, name: str, mark: int, started_at_ms: int, groups: list[str], fence_ms: int = FENCE_OF_HOST
    ) -> None:
        self.name = name
        self.mark = mark
        self.started_at_ms = started_at_ms
        self.groups = groups
        self.fence_ms = fence_ms
        self.pid = 0
        self.notes: list[str] = []
        self.ended: Ended | None = None


class Ended:
    """
    How an attempt ended.

    Attributes:
        code: As a shell gives it: 128 + n after signal n; None: nobody knows.
        stopped_at_ms: Wall clock.
        stage: What failed before it became the command; empty: nothing.
        number: The errno of that.
        peak_kib: The most memory it held; 0: unknown.
        user_ms, system_ms: Processor time.
        out_of_memory: The kernel killed a process of it for its memory limit.
    """

    __slots__ = ("code", "number", "out_of_memory", "peak_kib", "stage", "stopped_at_ms", "system_ms", "user_ms")

    def __init__(
        self,
        code: int | None,
        stopped_at_ms: int,
        *,
        stage: str = "",
        number: int = 0,
        peak_kib: int = 0,
        user_ms: int = 0,
        system_ms: int = 0,
        out_of_memory: bool = False,
    ) -> None:
        self.code = code
        self.stopped_at_ms = stopped_at_ms
        self.stage = stage
        self.number = number
        self.peak_kib = peak_kib
        self.user_ms = user_ms
        self.system_ms = system_ms
        self.out_of_memory = out_of_memory

    def words(self) -> list[str]:
        """Return it as it stands in the journal and in messages."""
        return [
            "?" if self.code is None else str(self.code),
            *map(str, (self.stopped_at_ms, self.stage, self.number)),
            *map(str, (self.peak_kib, self.user_ms, self.system_ms, int(self.out_of_memory))),
        ]


def ended_from(words: list[str]) -> Ended:
    """
    Read what ``Ended.words`` gave.

    Raises:
        ValueError: it gave none of this.
    """
    code, stopped_at_ms, stage, number, peak_kib, user_ms, system_ms, oom = words
    return Ended(
        None if code == "?" else int(code),
        int(stopped_at_ms),
        stage=stage,
        number=int(number),
        peak_kib=int(peak_kib),
        user_ms=int(user_ms),
        system_ms=int(system_ms),
        out_of_memory=oom == "1",
    )


def line(*words: str) -> bytes:
    """Return a line of the journal; words may hold anything."""
    return "\t".join(word.encode("unicode_escape").decode() for word in words).encode() + b"\n"


def start_lines(kept: Kept) -> list[bytes]:
    """Return the lines of a start."""
    lines = [line("start", kept.name, str(kept.mark), str(kept.started_at_ms), *kept.groups)]
    return lines if kept.fence_ms == FENCE_OF_HOST else [*lines, line("fence", kept.name, str(kept.fence_ms))]


def end_line(kept: Kept) -> bytes:
    """Return the line of an end."""
    assert kept.ended is not None, kept.name
    return line("end", kept.name, *kept.ended.words())


def parse(content: bytes, boot_id: str) -> dict[str, Kept]:
    """
    Return what a journal holds, by name; nothing if it is of another boot. It never raises.

    The first ``pid`` of a name counts, and the first ``end``.
    """
    first, *lines = content.split(b"\n")[:-1] or [b""]
    if _words(first) != ["keeper", "1", boot_id]:
        return {}
    found: dict[str, Kept] = {}
    for each in lines:
        words = _words(each)
        try:
            _apply(found, words)
        except (ValueError, IndexError):
            continue
    return found


def _apply(found: dict[str, Kept], words: list[str]) -> None:
    what, name, *rest = words
    if what == "start":
        if name not in found:
            found[name] = Kept(name, int(rest[0]), int(rest[1]), rest[2:])
        return
    kept = found.get(name)
    if kept is None:
        return
    if what == "fence":
        kept.fence_ms = int(rest[0])
    elif what == "pid" and not kept.pid:
        kept.pid = int(rest[0])
    elif what == "note":
        kept.notes.append(rest[0])
    elif what == "end" and kept.ended is None:
        kept.ended = ended_from(rest)
    elif what == "forget" and kept.ended is not None:
        del found[name]


def _words(text: bytes) -> list[str]:
    try:
        return [word.encode().decode("unicode_escape") for word in text.decode("ascii").split("\t")]
    except UnicodeError:
        return [""]


class Journal:
    """
    The journal's file, open for appending.

    Attributes:
        fd: For children, who write their own line.
    """

    def __init__(self, folder: str, boot_id: str) -> None:
        self._path = f"{folder}/{NAME}"
        self._boot_id = boot_id
        self.fd = -1
        self._bytes = 0
        self._owed: list[bytes] = []

    def load(self) -> dict[str, Kept]:
        """Read what a former keeper left, and write it anew."""
        try:
            with open(self._path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            content = b""
        found = parse(content, self._boot_id)
        self.rewrite(found)
        return found

    def append(self, lines: list[bytes]) -> None:
        """
        Write lines, and before them those that a full disk has held up.

        Raises:
            OSError: none of them was written.
        """
        data = b"".join([*self._owed, *lines])
        if not data:
            return
        written = os.write(self.fd, data)
        if written < len(data):
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._owed.clear()
        self._bytes += written

    def append_later(self, lines: list[bytes]) -> None:
        """Write lines now, or if the disk is full with those that come next: this program knows them."""
        try:
            self.append(lines)
        except OSError:
            self._owed += lines

    def is_large(self) -> bool:
        """Say whether it is time for ``rewrite``."""
        return self._bytes > COMPACT_BYTES

    def rewrite(self, kept: dict[str, Kept]) -> None:
        """Write it anew with what is still kept; on a full disk the old file goes on."""
        lines = [line("keeper", "1", self._boot_id)]
        for each in kept.values():
            lines += start_lines(each)
            if each.pid:
                lines.append(line("pid", each.name, str(each.pid)))
            lines += [line("note", each.name, note) for note in each.notes]
            if each.ended is not None:
                lines.append(end_line(each))
        data = b"".join(lines)
        fd = os.open(self._path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, data)
            os.replace(self._path + ".new", self._path)
        except OSError:
            os.close(fd)
            if self.fd < 0:
                raise
            return
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self._bytes = fd, 0
        self._owed.clear()


def _write_all(fd: int, data: bytes) -> None:
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
