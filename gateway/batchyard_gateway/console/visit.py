"""
Visit: one request of the console as pages see it, and what a page may answer.

It must never know templates or HTTP's headers; who serves a visit does.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import structlog
from starlette.datastructures import QueryParams

from batchyard.client import AsyncClient
from batchyard_gateway.batch.operations import SERVICE as BATCH
from batchyard_gateway.services import Context, Members

from .live import Hub
from .moments import Clock
from .samples import Seen
from .sessions import Session

ROOT = "/console"

_NAMED = ("Name", "jobId", "name", "id", "jobs", "resourceArn")
"""How members are called that say what a change is made to."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """
    One request.

    Attributes:
        path: As it was asked for, with ``/console``.
        names: Parts of the path by the names that the table of pages gives them.
        query: What stands behind the ``?``; names may come several times.
        form: What was posted; empty for a GET.
        session: Of who has signed in.
        client: Connected to the controller.
        context: For the gateway's own operations, as the one who has signed in.
        clock: How times are written.
        address: ``scheme://host:port`` by which the browser knows the gateway.
        hub: Tells open pages of changes.
        since: What the page will have seen: the hub's position before anything is read for it.
        last_event: Where a stream of events broke off, as the browser says.
        is_signed_in: Whether the session goes on.
        samples: What the yard was doing of late.
    """

    path: str
    names: Mapping[str, str]
    query: QueryParams
    form: QueryParams
    session: Session
    client: AsyncClient
    context: Context
    clock: Clock
    address: str
    hub: Hub
    since: str
    last_event: str
    is_signed_in: Callable[[], Awaitable[bool]]
    samples: Seen

    async def operate(self, operation: str, members: Members, amend: Callable[[Any], None] | None = None) -> Members:
        """
        Carry out one of AWS Batch's operations exactly as for a call of boto3's.

        Args:
            operation: As ``SubmitJob``.
            members: Its input.
            amend: Adds what AWS has no members for to the one request that the controller gets.

        Raises:
            ApiError: it is refused, with AWS's text.
            BatchyardError: the controller refused or failed.
        """
        found = BATCH.operations[operation]
        if found.is_change:
            self.note_change(operation, members)
        return await found.handler(replace(self.context, amend=amend), members)

    def note_change(self, what: str, members: Members) -> None:
        """Log who changes what; values that may be secret are not among the names."""
        named = {key: value for key, value in members.items() if key.endswith(_NAMED)}
        log.info("change", by=self.session.access_key_id, what=what, of=named)

    async def put_secret(self, name: str, value: str) -> None:
        """
        Keep a secret that was typed into a form, with line ends as files have them and not as HTTP sends them.

        Raises:
            BatchyardError: the controller refused or failed.
        """
        self.note_change("PutSecret", {"name": name})
        await self.client.put_secret(name, value.replace("\r\n", "\n"))

    def wants(self, part: str) -> bool:
        """Say whether the request is for all of the page, or for this part: what only others show need not be read."""
        return self.query.get("part", "") in ("", "content", part)

    def url(self, **changed: str | Sequence[str] | None) -> str:
        """Return this page's address with some of the query's names changed; None drops one."""
        kept = [(name, value) for name, value in self.query.multi_items() if name not in {*changed, "part"}]
        for name, value in changed.items():
            given = [value] if isinstance(value, str) else value or ()
            kept += [(name, each) for each in given]
        return f"{self.path}?{urlencode(kept)}" if kept else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line that shows or does what a page does."""

    tool: str
    line: str


def batchyard(*words: str) -> Command:
    """Return a line of the command ``batchyard``."""
    return Command(tool="batchyard", line=shlex.join(["batchyard", *words]))


def aws(*words: str) -> Command:
    """Return a line of ``aws batch``."""
    return Command(tool="aws", line=shlex.join(["aws", "batch", *words]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """
    A page, or a part of one.

    Attributes:
        template: File below ``templates``.
        title: Of the page, which is its heading too.
        view: What the template shows, by name.
        section: The entry of the menu that it belongs to.
        commands: Lines that do or show the same.
        live: Topics of events that the page wants, as ``counts``.
        ids: Jobs whose changes it wants.
    """

    template: str
    title: str
    view: Mapping[str, Any] = field(default_factory=dict)
    section: str = ""
    commands: Sequence[Command] = ()
    live: Sequence[str] = ()
    ids: Sequence[str] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def refused(self, status: int = 422) -> Page:
        """Return the page with the status of a form that was not taken."""
        return replace(self, status=status)


def missing(text: str) -> Page:
    """Return the page that says what is not there."""
    return Page(template="problem.html", title="Not found", view={"text": text}, status=404)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Go and see there."""

    location: str
    cookies: Mapping[str, str] = field(default_factory=dict)
    """To set; an empty value drops one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Bytes as they come: a download, or events."""

    parts: AsyncGenerator[bytes, None]
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Page | Redirect | Stream
Handler = Callable[[Visit], Awaitable[Answer]]
