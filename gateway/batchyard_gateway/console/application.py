"""
Application: the console as routes of the gateway's HTTP server.

It asks who comes, calls the page, writes what it answers; here and nowhere else are HTTP's
headers. Law: nothing of the yard is told without a session, nothing is changed without its
token from its own pages, and every answer forbids the browser all that the console does not need.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version

import structlog
from starlette.datastructures import QueryParams
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Scope

from batchyard import errors as sdk_errors
from batchyard.client import AsyncClient
from batchyard.settings import is_loopback
from batchyard_gateway import heads
from batchyard_gateway.authentication import Memory
from batchyard_gateway.bodies import Bodies
from batchyard_gateway.config import Config
from batchyard_gateway.connections import source_of
from batchyard_gateway.errors import ApiError, BusyException
from batchyard_gateway.services import Context, Principal
from batchyard_gateway.wire import Request

from .answers import assets
from .answers.problems import BROKEN, problem
from .answers.rendering import Renderer, UnknownPartError
from .answers.streaming import Streaming, first_of
from .entry.entry import Entry
from .entry.sessions import CHECK_S, LIFETIME_S, SESSIONS_MAX, Session
from .figures.samples import Samples, Seen, sample
from .live.hubs import Hubs
from .routes import ROWS, Row
from .visit import ROOT, Answer, Page, Redirect, Stream, Visit, missing, own_path
from .writing.moments import STYLES, Clock, zone_of
from .yard import sign_in

REQUESTS_MAX = 128
"""Pages under way at once."""

FORM_BYTES_MAX = 1 << 20
SIGN_IN_BYTES_MAX = 64 << 10
"""Of the one form that strangers may send."""

FORM_FIELDS_MAX = 5_000
"""More than any form has: taking apart half a million of them would hold up everybody."""

FORM_TYPE = "application/x-www-form-urlencoded"
_PACKED_FROM_BYTES = 500
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Console:
    """
    Serves the console.

    Args:
        client: Connected to the controller.
        own_names: What the gateway is called by besides its addresses, in lower case.
        entry: Who lets people in.
        hubs: Tell open pages of changes.
        read_wall_s: The clock, in seconds since the epoch.
        read_s: The clock that no hand sets.
    """

    config: Config
    client: AsyncClient
    own_names: Collection[str]
    entry: Entry
    hubs: Hubs
    read_wall_s: Callable[[], float]
    read_s: Callable[[], float]
    samples: Samples = field(init=False, default_factory=Samples)
    _seers: Memory[str, bool] = field(
        init=False, default_factory=lambda: Memory(ttl_s=CHECK_S, entries_max=SESSIONS_MAX)
    )
    _assets: Mapping[str, assets.Asset] = field(init=False, default_factory=assets.load)
    _bodies: Bodies = field(init=False, default_factory=Bodies)
    _renderer: Renderer = field(init=False)
    _under_way: int = field(init=False, default=0)
    _beside: asyncio.TaskGroup = field(init=False, default_factory=asyncio.TaskGroup)

    def __post_init__(self) -> None:
        constants = {
            "version": version("batchyard"), "yard": self.config.region, "styles": STYLES,
            "metrics_url": self.config.metrics_url,
        }  # fmt: skip
        self._renderer = Renderer(self._assets, constants)

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes to serve before AWS's."""
        static = [Route(f"/{each.address}", partial(self._asset, each)) for each in self._assets.values()]
        pages = [
            Route(row.path, partial(self._serve, row), methods=["GET", "POST"] if row.change else ["GET"])
            for row in ROWS
        ]
        doors = [
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
        ]
        nothing = Route("/{path:path}", partial(self._serve, Row("", _nothing)))
        return [_FrontDoor("/", self._front), Mount(ROOT, routes=[*static, *doors, *pages, nothing])]

    async def run(self) -> None:
        """Do what goes on beside the server, for ever; what fails of it ends all of it."""
        async with self._beside as group:
            self.hubs.begin(group)
            group.create_task(sample(self.client, self.samples, self.read_s))

    # Serving -----------------------------------------------------------------------

    async def _front(self, http: HttpRequest) -> Response:
        return Response(status_code=303, headers={"Location": f"{ROOT}/"})

    async def _asset(self, asset: assets.Asset, http: HttpRequest) -> Response:
        headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        if "gzip" not in http.headers.get("accept-encoding", ""):
            return Response(asset.content, headers=headers, media_type=asset.content_type)
        return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.content_type)

    async def _serve(self, row: Row, http: HttpRequest) -> Response:
        """Answer a request for a page of the table."""
        visit: Visit | None = None
        head: Request | None = None
        try:
            with self._slot():
                head = self._check(http)
                session = await self.entry.find(self._token(http), is_use=not _is_by_itself(http))
            if session is None:
                return self._stranger(http, head)
            visit = self._visit(http, session, sees_yard=await self._sees_yard(session))
            act = row.show
            if http.method == "POST" and row.change is not None:
                # Without a slot: a body may be long in coming, and its connection waits among those that do.
                act, visit = row.change, replace(visit, form=await self._form(http))
                self._check_token(visit)
            with self._slot():
                answer = await act(visit)
            return self._write(answer, visit, http)
        except sdk_errors.UnauthenticatedError as err:
            if head is None:
                return self._write(problem(err), visit, http)
            self.entry.leave(self._token(http))  # its key was revoked meanwhile
            return self._stranger(http, head)
        except (ApiError, sdk_errors.BatchyardError) as err:
            return self._write(problem(err), visit, http)
        except Exception:  # the last line of defence: a bug is the console's fault and told as such
            log.exception("internal error")
            return self._write(BROKEN, visit, http)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """
        Count what is at work for a request in, and out.

        Raises:
            BusyException: too many are under way.
        """
        if self._under_way >= REQUESTS_MAX:
            raise BusyException
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def _check_token(self, visit: Visit) -> None:
        """
        Turn away a form that no page of this session holds.

        Raises:
            ApiError: 403.
        """
        if not visit.session.has_token(visit.form.get("csrf", "")):
            raise ApiError("AccessDeniedException", "The form is of another session: load the page again.", 403)

    def _check(self, http: HttpRequest) -> Request:
        """
        Turn away what is for another host, and changes that a page of another site sends.

        Raises:
            ApiError: 403.
        """
        head = Request(
            method=http.method, path=http.scope["raw_path"], query=http.scope["query_string"],
            headers=http.scope["headers"], body=b"",
        )  # fmt: skip
        own_address = http.scope["server"][0]
        if http.method in ("GET", "HEAD"):
            heads.check_host(head, own_address=own_address, own_names=self.own_names)
        else:
            heads.check_sender(head, scheme=http.scope["scheme"], own_address=own_address, own_names=self.own_names)
        return head

    async def _form(self, http: HttpRequest, bytes_max: int = FORM_BYTES_MAX) -> QueryParams:
        """
        Read what was posted.

        Raises:
            ApiError: it is no form, or too long, or has too many fields.
        """
        if http.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
            raise ApiError("UnsupportedMediaTypeException", f"A form has to be {FORM_TYPE}.", 415)
        body = await self._bodies.read(http.stream(), bytes_max=bytes_max)
        if body.count(b"&") >= FORM_FIELDS_MAX:
            raise ApiError("RequestEntityTooLargeException", f"A form may have {FORM_FIELDS_MAX} fields.", 413)
        return QueryParams(body.decode("utf-8", errors="replace"))

    async def _sees_yard(self, session: Session) -> bool:
        """Say whether a session may read all jobs and hosts, and so figures of all together; asked as often as its key."""
        known = self._seers.get(session.access_key_id, self.read_s())
        if known is None:
            known = (await self.client.acting_for(session.access_key_id).who_am_i()).sees_yard
            self._seers.put(session.access_key_id, known, self.read_s())
        return known

    def _visit(self, http: HttpRequest, session: Session, *, sees_yard: bool) -> Visit:
        client, hub = self.client.acting_for(session.access_key_id), self.hubs.of(session.access_key_id)
        style = http.cookies.get("batchyard-clock", STYLES[0])
        zone = zone_of(http.cookies.get("batchyard-zone", "").replace("%2F", "/"))
        context = Context(
            client=client,
            principal=Principal(access_key_id=session.access_key_id),
            account_id=self.config.account_id,
            region=self.config.region,
            request_id=str(uuid.uuid4()),  # noqa: TID251  # here dice come in
        )
        return Visit(
            path=_path(http),
            names=http.path_params,
            query=http.query_params,
            form=QueryParams(),
            session=session,
            client=client,
            context=context,
            clock=Clock(
                style=style if style in STYLES else STYLES[0], zone=zone, now_ms=int(self.read_wall_s() * 1000)
            ),
            address=f"{http.scope['scheme']}://{http.headers.get('host', '')}",
            samples=Seen(self.samples if sees_yard else Samples(), self.read_s()),
            hub=hub,
            since=hub.position,
            last_event=http.headers.get("last-event-id", ""),
            is_signed_in=partial(self._is_signed_in, self._token(http)),
            begin=self._beside.create_task,
        )

    async def _is_signed_in(self, token: str) -> bool:
        try:
            return await self.entry.find(token, is_use=False) is not None
        except sdk_errors.BatchyardError:  # the controller is away: nobody can say
            return True

    # Signing in ----------------------------------------------------------------------

    async def _sign_in(self, http: HttpRequest) -> Response:
        back = ""
        try:
            self._check(http)
            form = await self._form(http, SIGN_IN_BYTES_MAX) if http.method == "POST" else http.query_params
            back = own_path(form.get("next", ""))
            self._check_secrecy()
            with self._slot():
                token = await self._token_for(form, http)
                has_keys = bool(token) or await self.entry.has_keys()
            if not token:
                return self._write(sign_in.form(back, has_keys=has_keys), None, http)
            self.entry.leave(self._token(http))  # the browser forgets that session now
            return self._write(Redirect(location=back, cookies={self._cookie(http): token}), None, http)
        except ApiError as err:
            if back and "signature" in http.query_params and await self._is_signed_in(self._token(http)):
                # Whoever opens a link again in the browser that it signed in wants to go on.
                return self._write(Redirect(location=back), None, http)
            return self._write(sign_in.form(back, has_keys=True, refusal=err.message, status=err.status), None, http)
        except sdk_errors.BatchyardError as err:
            return self._write(problem(err), None, http)

    async def _token_for(self, form: QueryParams, http: HttpRequest) -> str:
        """Return the token of a new session for what a form or a link says; empty where the page is only looked at."""
        source = source_of(http.client.host if http.client else "")
        if "signature" in form:
            return await self.entry.with_link(form.get("key", ""), form.get("made", ""), form["signature"], source)
        if http.method == "POST":
            return await self.entry.with_secret(form.get("key", "").strip(), form.get("secret", "").strip(), source)
        return ""

    async def _sign_out(self, http: HttpRequest) -> Response:
        async def leave(visit: Visit) -> Answer:
            self.entry.leave(self._token(http))
            self.hubs.wake()
            return Redirect(location=f"{ROOT}/sign-in", cookies={self._cookie(http): ""})

        return await self._serve(Row("/sign-out", _nothing, leave), http)

    def _check_secrecy(self) -> None:
        """Refuse to take secrets over a network that anybody may listen to."""
        if not (is_loopback(self.config.listen) or self.config.tls_cert):
            raise ApiError("AccessDeniedException", sign_in.WITHOUT_TLS, 403)

    def _stranger(self, http: HttpRequest, head: Request) -> Response:
        """Answer who has no session: the browser may not have sent it (a link of another site), else signing in."""
        if head.header("sec-fetch-site") == "cross-site" and head.header("sec-fetch-mode") == "navigate":
            return self._write(Page(template="again.html", title="One moment", view={"here": _here(http)}), None, http)
        answer = sign_in.redirect(_here(http)) if http.method in ("GET", "HEAD") else sign_in.ended()
        if http.query_params.get("part") or "hx-request" in http.headers:
            answer = sign_in.ended()
        return self._write(answer, None, http)

    def _cookie(self, http: HttpRequest) -> str:
        """Return the cookie's name: browsers keep one jar for all ports of a host."""
        name = f"batchyard-{http.scope['server'][1]}"
        return f"__Secure-{name}" if self.config.tls_cert else name

    def _token(self, http: HttpRequest) -> str:
        """Return the session's token: of cookies of its name the first, which is that of the longest path, ours."""
        name = self._cookie(http)
        for each in http.headers.get("cookie", "").split(";"):
            found, _, value = each.strip().partition("=")
            if found == name:
                return value
        return ""

    # Writing -----------------------------------------------------------------------

    def _write(self, answer: Answer, visit: Visit | None, http: HttpRequest) -> Response:
        match answer:
            case Redirect():
                response = Response(status_code=303, headers={**_HEADERS, "Location": answer.location})
            case Stream():
                headers = {**_HEADERS, "Cache-Control": "no-store", **answer.headers}
                parts = first_of(answer.parts) if http.method == "HEAD" else answer.parts
                return Streaming(parts, headers=headers, media_type=answer.content_type)
            case Page():
                return self._write_page(answer, visit, http)
        for name, value in answer.cookies.items():
            response.set_cookie(
                name, value, max_age=int(LIFETIME_S) if value else 0, path=ROOT, httponly=True, samesite="strict",
                secure=bool(self.config.tls_cert),
            )  # fmt: skip
        return response

    def _write_page(self, page: Page, visit: Visit | None, http: HttpRequest) -> Response:
        part = http.query_params.get("part", "") if visit is not None and page.status == 200 else ""
        try:
            body = self._renderer.render(page, visit, part).encode()
        except UnknownPartError:
            page = missing(f"This page has no part {part!r}.")
            body = self._renderer.render(page, visit).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers = {
            **_HEADERS, "Cache-Control": "no-store", "Vary": "Accept-Encoding, Cookie", **page.headers, "ETag": tag
        }  # fmt: skip
        if part and http.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        if len(body) >= _PACKED_FROM_BYTES and "gzip" in http.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, 6), "gzip"
        return Response(body, page.status, headers, "text/html; charset=utf-8")


class _FrontDoor(Route):
    """The root for browsers alone: AWS's tools get AWS's answer there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what asks for HTML."""
        wants = any(name == b"accept" and b"text/html" in value for name, value in scope.get("headers", ()))
        return super().matches(scope) if wants else (Match.NONE, {})


def _is_by_itself(http: HttpRequest) -> bool:
    """Say whether a page asks, and nobody who looks at it: that keeps no session open."""
    return "part" in http.query_params or "text/event-stream" in http.headers.get("accept", "")


def _path(http: HttpRequest) -> str:
    """Return the path as it was asked for: what was escaped in it would be something else without that."""
    return str(http.scope["raw_path"].decode("latin-1"))


def _here(http: HttpRequest) -> str:
    query = http.scope["query_string"].decode("latin-1")
    return f"{_path(http)}?{query}" if query else _path(http)


async def _nothing(visit: Visit) -> Answer:
    return missing(f"There is no page {visit.path}.")
