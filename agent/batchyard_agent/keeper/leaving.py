"""Attempts on their way out: those whose command has ended, and those whose end somebody else learns first."""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which costs memory
if TYPE_CHECKING:
    from batchyard_agent.keeper.record import Kept


class Leaving:
    """
    An attempt whose command has ended and of which something may be left.

    Attributes:
        is_empty: Nothing is left: its jail says so.
        is_ours: What has lost its parents is a child of this program; else it may be anybody's.
        retry_s: Pause until it is looked at again; 0: it was not yet.
    """

    __slots__ = (
        "code",
        "is_empty",
        "is_ours",
        "kept",
        "number",
        "peak_kib",
        "retry_s",
        "stage",
        "stopped_at_ms",
        "system_ms",
        "user_ms",
    )

    def __init__(self, kept: Kept, code: int | None, stopped_at_ms: int, *, is_ours: bool) -> None:
        self.kept = kept
        self.is_empty = False
        self.is_ours = is_ours
        self.code = code
        self.stopped_at_ms = stopped_at_ms
        self.stage, self.number = "", 0
        self.peak_kib = self.user_ms = self.system_ms = 0
        self.retry_s = 0.0


class Adrift:
    """
    An attempt that a former keeper started and that is no child of this one.

    Attributes:
        pidfd: Of its command's process.
        has_ended: That process has, and its exit code is waited for until *give_up_at_s* (boottime).
    """

    __slots__ = ("give_up_at_s", "has_ended", "kept", "pidfd")

    def __init__(self, kept: Kept, pidfd: int) -> None:
        self.kept = kept
        self.pidfd = pidfd
        self.has_ended = False
        self.give_up_at_s = 0.0
