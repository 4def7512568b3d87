"""Entries: a command in the attempt of a job, for who may; what goes through is `meetings`'."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from batchyard.errors import Reason, Violation
from batchyard.v1 import agent_pb2
from batchyard.v1 import job_pb2 as pb
from batchyard_controller.core.requests.checks import refuse
from batchyard_controller.core.requests.entering import check_opening, find_place
from batchyard_controller.leadership import Leadership
from batchyard_controller.sessions import Sessions

from .callers import caller


class Entries:
    """Thin: checks the opening, lets the core say where, asks the host, and has the two streams joined."""

    def __init__(self, leadership: Leadership, sessions: Sessions) -> None:
        self._leadership = leadership
        self._sessions = sessions

    async def enter(self, requests: AsyncIterator[pb.EnterJobRequest]) -> AsyncGenerator[pb.EnterJobResponse, None]:
        """Serve one user's stream."""
        opening = _opening(await anext(requests, None))
        who, meetings = caller(), self._sessions.meetings
        place = await self._leadership.driver.read(
            lambda world: find_place(world, who, opening.job_id, opening.container)
        )
        meeting = meetings.open(who.name, place)
        try:
            self._sessions.ask_entry(
                place.host_id,
                place.host_name,
                agent_pb2.OpenEntry(
                    key=meeting.key,
                    attempt_id=place.attempt_id,
                    container=place.container,
                    command=opening.command,
                    attach=opening.attach,
                ),
                place.secrets,
            )
            async with aclosing(meetings.responses(meeting, requests)) as responses:
                async for response in responses:
                    yield response
        finally:
            meetings.close(meeting)


def _opening(first: pb.EnterJobRequest | None) -> pb.EnterJobOpening:
    if first is None or not first.HasField("open"):
        refuse([Violation("open", "the first message says what is to be run", Reason.REQUIRED)])
    assert first is not None, "refused"
    opening, command = first.open, first.open.command
    window = (command.size.rows, command.size.columns)
    check_opening(
        opening.job_id, opening.container, command.command, window, command.terminal_type, is_attach=opening.attach
    )
    return opening
