"""
What an agent remembers of one host's attempts: its journal, its table, its logs.

It decides nothing. Law: what the journal holds is in the table before anything else looks at it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import structlog

from batchyard.ids import AttemptId
from batchyard.v1 import agent_pb2
from batchyard_agent.convert import Decode
from batchyard_agent.core.attempts import Phase, Table
from batchyard_agent.core.events import Now
from batchyard_agent.journal import Journal
from batchyard_agent.logs import Logs

SWEEP_S = 60.0
SYNC_S = 1.0
"""So much of what ended on a host a power cut takes at most."""

log = structlog.get_logger()


class Books:
    """
    One host's.

    Args:
        journal: Open, and not yet read.
        folder: Where logs go.
        decode: Reads an attempt's spec out of the journal.
        launch_limits: See ``Table``.
        read_now: The clock.
        log_bytes_max: See ``Logs``; so the two below.
    """

    def __init__(
        self,
        journal: Journal,
        folder: Path,
        *,
        decode: Decode,
        launch_limits: Mapping[str, int],
        read_now: Callable[[], Now],
        log_bytes_max: int,
        logs_age_max_s: int,
        logs_total_bytes_max: int,
    ) -> None:
        self.journal = journal
        self.logs = Logs(
            folder,
            phase_of=self._phase_of,
            bytes_max=log_bytes_max,
            age_max_s=logs_age_max_s,
            total_bytes_max=logs_total_bytes_max,
        )
        self._read_now = read_now
        meta = journal.load_meta()
        self.table = Table(meta=meta, launch_limits=launch_limits, contact_saved_ms=meta.contact_ms)
        for attempt in journal.load_attempts(lambda wire: decode(agent_pb2.AttemptSpec.FromString(wire), self.logs)):
            self.table.restore(attempt)

    async def run_syncs(self) -> NoReturn:
        """Have what was written on the disk within a second, for ever."""
        while True:
            await asyncio.sleep(SYNC_S)
            await self.journal.sync()

    async def run_sweeps(self) -> NoReturn:
        """Delete old logs, for ever."""
        while True:
            now = self._read_now()
            deleted: list[AttemptId] = []
            try:
                deleted = await asyncio.to_thread(self.logs.sweep, now.wall_ms / 1000, now.boot_ms / 1000)
            except OSError as error:
                log.warning("old logs cannot be looked for", error=str(error))
            if deleted:
                log.info("deleted old logs", attempts=len(deleted))
            await asyncio.sleep(SWEEP_S)

    def _phase_of(self, attempt_id: AttemptId) -> Phase | None:
        attempt = self.table.get(attempt_id)
        return attempt.phase if attempt is not None else None
