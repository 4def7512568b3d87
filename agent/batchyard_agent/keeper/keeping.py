"""
The attempts of a host as its keeper knows them: started once, followed to their end, and all of each ended.

It decides nothing about attempts but that nothing of one outlives it. Laws: a start is in
the journal before anything is forked; an end is told only when nothing is left of
the attempt; and what is a child of this program is an attempt's or is killed.
"""

from __future__ import annotations

import os
import time
from _signal import SIGKILL, SIGSTOP, pidfd_send_signal  # type: ignore[import-not-found]  # without enum, which costs memory

from batchyard_agent.keeper import birth, entering, groups, kernel, marks
from batchyard_agent.keeper.jails import Jail, Jails
from batchyard_agent.keeper.leaving import Adrift, Leaving
from batchyard_agent.keeper.record import Ended, Journal, Kept, end_line, line, start_lines

TYPE_CHECKING = False  # as in typing, which costs memory
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage

RETRY_S_MIN = 0.002
RETRY_S_MAX = 0.25
STRAYS_S = 1.0
"""Time between looks for processes that belong to no living attempt."""

CODE_WAIT_S = 3.0
"""How long a former keeper's attempt that has ended may wait for its parent to say its exit code."""


class Attempts:
    """
    All attempts that are kept.

    Args:
        number: Of this folder's keepers (``marks``).
        lock: Of the folder, open.
        wall_ms: Reads the wall clock.
        boot_s: Reads CLOCK_BOOTTIME.

    Attributes:
        can_isolate: Processes of another user get pids, and a view of processes, of their own.
        kept: By name.
        adrift: By name.
        jails: Where those of another user run, if they are isolated.
        started: Attempts that have begun to run since this list was last emptied.
        ended: Likewise those that have ended.
        visits: Commands that were let into attempts, by their processes.
        left: Those that have ended since this list was last emptied, by the agent's number, and their codes.
    """

    def __init__(
        self, journal: Journal, number: int, lock: int, wall_ms: Callable[[], int], boot_s: Callable[[], float]
    ) -> None:
        self._number = number
        self._mark = 0
        self._lock = lock
        self._journal = journal
        self._wall_ms = wall_ms
        self._boot_s = boot_s
        self.can_isolate = os.geteuid() == 0 and kernel.can_isolate()
        self._namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if self.can_isolate else -1
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._mains: dict[int, Kept] = {}
        self._failures: dict[str, tuple[str, int]] = {}
        self._leaving: dict[str, Leaving] = {}
        self._groups: list[list[str]] = []
        """Those of ended attempts, to be removed yet."""
        self._helpers: set[int] = set()
        self._hands_on_privileges = True
        self._strays_at_s = 0.0
        self.kept: dict[str, Kept] = {}
        self.adrift: dict[str, Adrift] = {}
        self.jails = Jails(self._null, self._namespace, self._new_mark, boot_s)
        self.started: list[Kept] = []
        self.ended: list[Kept] = []
        self.visits: dict[int, entering.Visit] = {}
        self.left: list[tuple[bytes, int]] = []

    def recover(self) -> None:
        """Take up what a former keeper left, or this one before it became another version."""
        self.kept = self._journal.load()
        for kept in list(self.kept.values()):
            if kept.ended is not None:
                continue
            if not kept.pid:  # whoever would have started it is gone, and has not
                self._groups.append(kept.groups)
                del self.kept[kept.name]
            elif marks.read(kept.pid) == kept.mark and marks.parent_and_state(kept.pid)[0] == os.getpid():
                self._mains[kept.pid] = kept
            else:
                self._set_adrift(kept)
        self._journal.rewrite(self.kept)
        self._kill_unknown()
        self.reap()

    def _kill_unknown(self) -> None:
        """End what a former keeper started and nobody knows of: its journal was damaged, or removed."""
        known = {kept.mark for kept in self.living()}
        while unknown := [pid for pid, mark in marks.all_of(self._number).items() if mark not in known]:
            for pid in unknown:
                _kill(pid)
            time.sleep(RETRY_S_MIN)

    def _set_adrift(self, kept: Kept) -> None:
        try:
            pidfd = os.pidfd_open(kept.pid)
        except OSError:
            self._leave(Leaving(kept, None, self._wall_ms(), is_ours=False))
            return
        if marks.read(kept.pid) != kept.mark:
            os.close(pidfd)
            self._leave(Leaving(kept, None, self._wall_ms(), is_ours=False))
            return
        self.adrift[kept.name] = Adrift(kept, pidfd)

    def living(self) -> list[Kept]:
        """Return the attempts of which something may live."""
        return [kept for kept in self.kept.values() if kept.ended is None]

    def start(self, orders: list[birth.Order]) -> list[str]:
        """
        Start what was ordered, all in one write; of what cannot be started the end tells why.

        Returns:
            Names that were ordered before, which are not started again.
        """
        again = [order.name for order in orders if order.name in self.kept]
        wanted: dict[str, birth.Order] = {order.name: order for order in orders if order.name not in self.kept}
        now_ms = self._wall_ms()
        if self._hands_on_privileges and any(order.user for order in orders):
            kernel.hand_on_no_privileges()
            self._hands_on_privileges = False
        news = [Kept(o.name, self._new_mark(), now_ms, o.groups, o.fence_ms) for o in wanted.values()]
        self.kept |= {kept.name: kept for kept in news}
        try:
            self._journal.append([each for kept in news for each in start_lines(kept)])
        except OSError as error:
            for kept in news:
                self._never(kept, "journal", error.errno or 0)
            return again
        births: list[tuple[Kept, birth.Birth | Jail]] = []
        for kept in news:
            try:
                child = self._begin(wanted[kept.name], kept.mark)
            except OSError as error:
                self._never(kept, "fork", error.errno or 0)
                continue
            kept.pid = child.pid
            self._mains[child.pid] = kept
            births.append((kept, child))
        for kept, child in births:
            self._take_outcome(kept, child)
        return again

    def _new_mark(self) -> int:
        self._mark = marks.new(self._number, self._mark)
        return self._mark

    def _begin(self, order: birth.Order, mark: int) -> birth.Birth | Jail:
        if order.user is None or not self.can_isolate:
            return birth.fork(order, mark, self._journal.fd, self._null)
        jail = self.jails.take(order, mark)
        jail.order(order, mark, self._journal.fd, self._lock)
        return jail

    def _take_outcome(self, kept: Kept, child: birth.Birth | Jail) -> None:
        stage, number = child.outcome()
        if not stage:
            self.started.append(kept)
        elif isinstance(child, Jail):
            del self._mains[child.pid]
            child.is_spent = child.is_spent or stage == "namespace"
            self.jails.rest(child)
            self._never(kept, stage, number)
        else:
            self._failures[kept.name] = stage, number

    def _never(self, kept: Kept, stage: str, number: int) -> None:
        leaving = Leaving(kept, birth.NEVER_CALLED, self._wall_ms(), is_ours=True)
        leaving.stage, leaving.number = stage, number
        leaving.is_empty = True
        self._leave(leaving)

    def enter(self, number: bytes, order: birth.Order, door: entering.Door) -> tuple[str, int]:
        """
        Let a command into an attempt that runs.

        Returns:
            The stage that failed, and the errno; empty and 0: it runs.
        """
        kept = self.kept.get(order.name)
        if kept is None or kept.ended is not None or order.name in self._leaving or marks.read(kept.pid) != kept.mark:
            return "gone", 0
        if self._hands_on_privileges and order.user is not None:
            kernel.hand_on_no_privileges()
            self._hands_on_privileges = False
        try:
            child = entering.fork(order, kept.mark, kept.pid, self._namespace, door)
        except OSError as error:
            return "fork", error.errno or 0
        stage, errno = child.outcome()
        if not stage:
            self.visits[child.pid] = entering.Visit(number, order.name)
        return stage, errno

    def hang_up(self, number: bytes | None) -> None:
        """Tell a visit that nobody listens any more; None: all, of which none is told of again."""
        for pid, visit in self.visits.items():
            if number in (None, visit.number):
                entering.hang_up(pid)
                visit.number = b"" if number is None else visit.number

    def _visits_of(self, name: str) -> list[int]:
        return [pid for pid, visit in self.visits.items() if visit.name == name]

    def signal(self, name: str, number: int) -> None:
        """Signal an attempt's own process; what else there is of it ends with that."""
        kept = self.kept.get(name)
        if kept is None or kept.ended is not None:
            return
        if kept.pid in self._mains:
            os.kill(kept.pid, number)
        elif name in self.adrift and not self.adrift[name].has_ended:
            try:
                pidfd_send_signal(self.adrift[name].pidfd, number)
            except ProcessLookupError:
                pass

    def note(self, name: str, word: str) -> None:
        """Write down why an attempt is about to be killed."""
        kept = self.kept.get(name)
        if kept is not None and kept.ended is None and word not in kept.notes:
            kept.notes.append(word)
            self._journal.append_later([line("note", name, word)])

    def learn_code(self, name: str, code: int) -> None:
        """Take the exit code of an attempt that is adrift from whoever was its parent."""
        if adrift := self.adrift.get(name):
            self._end_adrift(adrift, code)

    def forget(self, names: list[str]) -> None:
        """Let go of attempts that have ended."""
        gone = [name for name in names if name in self.kept and self.kept[name].ended is not None]
        for name in gone:
            del self.kept[name]
        self._journal.append_later([line("forget", name) for name in gone])
        if self._journal.is_large():
            self._journal.rewrite(self.kept)

    def help_with(self, work: Callable[[], None]) -> None:
        """Do work that may take long in a child of its own; at most one at a time."""
        if self._helpers:
            return
        pid = os.fork()
        if not pid:
            os.closerange(3, 1 << 16)  # jails go by who has their sockets open
            try:
                work()
            finally:
                os._exit(0)
        self._helpers.add(pid)

    # What comes by itself.

    def reap(self) -> None:
        """Take the ends of all children that have any."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            self._helpers.discard(pid)
            jail = self.jails.by_pid.get(pid)
            if jail is not None:
                self._bury(jail, status, usage)
                continue
            if visit := self.visits.pop(pid, None):
                self.left.append((visit.number, kernel.shell_code(os.waitstatus_to_exitcode(status))))
                continue
            kept = self._mains.pop(pid, None)
            if kept is None:
                continue
            code = kernel.shell_code(os.waitstatus_to_exitcode(status))
            leaving = Leaving(kept, code, self._wall_ms(), is_ours=True)
            leaving.stage, leaving.number = self._failures.pop(kept.name, ("", 0))
            leaving.peak_kib = usage.ru_maxrss
            leaving.user_ms, leaving.system_ms = int(usage.ru_utime * 1000), int(usage.ru_stime * 1000)
            self._leaving[kept.name] = leaving
        self._finish()

    def _bury(self, jail: Jail, status: int, usage: struct_rusage) -> None:
        """Take the end of a jail, and with it of what ran there, unless that had ended before."""
        if jail.pid in self._mains and not self.on_jail_told(jail):
            kept = self._mains.pop(jail.pid)
            code = kernel.shell_code(os.waitstatus_to_exitcode(status))
            leaving = Leaving(kept, code, self._wall_ms(), is_ours=True)
            leaving.peak_kib = usage.ru_maxrss if usage.ru_maxrss > jail.peak_kib else 0  # of all that ran there
            leaving.user_ms = int(usage.ru_utime * 1000) - jail.user_ms
            leaving.system_ms = int(usage.ru_stime * 1000) - jail.system_ms
            self._leaving[kept.name] = leaving
        self.jails.bury(jail)

    def on_jail_told(self, jail: Jail) -> bool:
        """Take the end of the attempt in a jail; False: it was not told."""
        end = jail.end()
        kept = self._mains.pop(jail.pid, None) if end is not None else None
        if end is None or kept is None:
            return False
        leaving = Leaving(kept, end.code, self._wall_ms(), is_ours=True)
        leaving.is_empty = True
        leaving.peak_kib, leaving.user_ms, leaving.system_ms = end.peak_kib, end.user_ms, end.system_ms
        self._leaving[kept.name] = leaving
        jail.is_spent = jail.is_spent or bool(self._visits_of(kept.name))  # one may just have come in
        self.jails.rest(jail)
        return True

    def on_adrift_ended(self, name: str) -> None:
        """Note that the process of an attempt that is adrift has ended, and look for its code."""
        adrift = self.adrift[name]
        adrift.has_ended = True
        adrift.give_up_at_s = self._boot_s() + CODE_WAIT_S
        self._look_for_codes()

    def look(self) -> float:
        """
        Do what time demands.

        Returns:
            Seconds after which to call it again.
        """
        self._look_for_codes()
        self._finish()
        self.jails.end_old()
        self._groups = [each for each in self._groups if not groups.remove(each)]
        now_s = self._boot_s()
        if now_s >= self._strays_at_s:
            self._strays_at_s = now_s + STRAYS_S
            self._kill_strays()
        if self._groups or any(adrift.has_ended for adrift in self.adrift.values()):
            return RETRY_S_MAX / 10
        return min([STRAYS_S, *(leaving.retry_s for leaving in self._leaving.values())])

    def _look_for_codes(self) -> None:
        for adrift in [each for each in self.adrift.values() if each.has_ended]:
            code = kernel.exit_code_of_reaped(adrift.pidfd)
            if code is not None or self._boot_s() >= adrift.give_up_at_s:
                self._end_adrift(adrift, code)

    def _end_adrift(self, adrift: Adrift, code: int | None) -> None:
        del self.adrift[adrift.kept.name]
        os.close(adrift.pidfd)
        self._leave(Leaving(adrift.kept, code, self._wall_ms(), is_ours=False))

    def _leave(self, leaving: Leaving) -> None:
        self._leaving[leaving.kept.name] = leaving
        self._finish()

    def _finish(self) -> None:
        """Kill what is left of attempts whose command has ended; tell of those of which nothing is."""
        lines = []
        for leaving in list(self._leaving.values()):
            if self._has_remains(leaving):
                leaving.retry_s = min(max(2 * leaving.retry_s, RETRY_S_MIN), RETRY_S_MAX)
                continue
            del self._leaving[leaving.kept.name]
            self._end(leaving)
            lines.append(end_line(leaving.kept))
        self._journal.append_later(lines)

    def _has_remains(self, leaving: Leaving) -> bool:
        """Say whether anything of an attempt lives, and kill it."""
        kept = leaving.kept
        if visits := self._visits_of(kept.name):
            for pid in visits:
                entering.end(pid)
            return True
        if leaving.is_empty:
            return False
        if kept.groups:
            if not groups.pids(kept.groups):
                return False
            groups.kill(kept.groups)
            return True
        if leaving.is_ours and not leaving.retry_s:
            left = [pid for pid in marks.children(os.getpid()) if self._is_stray(pid) and marks.read(pid) == kept.mark]
        else:
            left = _stopped(kept.mark)
        for pid in left:
            _kill(pid)
        return bool(left)

    def _is_stray(self, pid: int) -> bool:
        return pid not in self._mains and pid not in self._helpers and pid not in self.jails.by_pid

    def _end(self, leaving: Leaving) -> None:
        kept = leaving.kept
        ended = Ended(leaving.code, leaving.stopped_at_ms, stage=leaving.stage, number=leaving.number)
        ended.peak_kib, ended.user_ms, ended.system_ms = leaving.peak_kib, leaving.user_ms, leaving.system_ms
        if kept.groups:
            ended.out_of_memory = groups.oom_kills(kept.groups) > 0
            ended.peak_kib = groups.peak_kib(kept.groups) or ended.peak_kib
            ended.user_ms, ended.system_ms = groups.cpu_ms(kept.groups) or (ended.user_ms, ended.system_ms)
            if not groups.remove(kept.groups):
                self._groups.append(kept.groups)
        kept.ended = ended
        self.ended.append(kept)

    def _kill_strays(self) -> None:
        """Kill children that are of no living attempt, as one that has put off its mark."""
        known = {kept.mark for kept in self.living()}
        for pid in marks.children(os.getpid()):
            if self._is_stray(pid) and marks.read(pid) not in known:
                _kill(pid)


def _stopped(mark: int) -> list[int]:
    """Return all processes of a mark, which have been stopped so that they make no more while they are killed."""
    found: set[int] = set()
    while True:
        more = [pid for pid in marks.marked(mark) if pid not in found]
        if not more:
            return list(found)
        for pid in more:
            try:
                os.kill(pid, SIGSTOP)
            except OSError:
                pass
        found.update(more)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
