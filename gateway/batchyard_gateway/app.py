"""
App: one HTTP server for all services; here clocks and dice come in.

Its law: every request gets one answer in its service's own form, with a request id;
no more of a body is kept than is allowed; and who sent it is asked before it is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from batchyard import errors as sdk_errors
from batchyard.client import AsyncClient
from batchyard.settings import is_loopback

from . import ec2, ecs, logs, staleness, sts
from .authentication import Authenticator
from .batch.operations import SERVICE as BATCH
from .bodies import Bodies
from .config import Config, split_listen
from .connections import Waiting, door, source_of
from .errors import ApiError, BusyException, ClientException, ServerException, TooManyRequestsException
from .heads import check_sender, check_type
from .refused import refused
from .routing import find_service, region_of
from .services import Context, Guard, Operation, Service
from .throttle import TokenBucket
from .wire import Answer, Request

if TYPE_CHECKING:
    from .console.application import Console

_INVOCATION_LENGTH_MAX = 64

REQUESTS_MAX = 512
"""Admitted requests under way at once; more are told to come again (503), which every AWS SDK does."""

HEAD_BYTES_MAX = 64 << 10
"""Longest head of a request."""

KEEP_ALIVE_S = 60
"""How long a quiet connection is kept: longer than clients keep one in their pools would be in vain."""

BACKLOG = 1024
STOP_GRACE_S = 5

SERVICES = (BATCH, logs.SERVICE, ecs.SERVICE, ec2.SERVICE, sts.SERVICE)
"""All that the gateway speaks for."""

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Gateway:
    """
    Answers requests.

    Attributes:
        services: Those it speaks for; the first also gets what names none.
        guard: Who may call.
    """

    config: Config
    client: AsyncClient
    services: Sequence[Service]
    guard: Guard
    bucket: TokenBucket = field(init=False)
    bodies: Bodies = field(init=False, default_factory=Bodies)
    own_names: frozenset[str] = field(init=False)
    under_way: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.bucket = TokenBucket(self.config.calls_per_second)
        self.own_names = own_names(self.config)

    async def __call__(self, http: HttpRequest) -> Response:
        """Answer one request of HTTP."""
        answer = await self.answer(http, str(uuid.uuid4()))
        return Response(answer.body, answer.status, dict(answer.headers), answer.content_type)

    async def answer(self, http: HttpRequest, request_id: str) -> Answer:
        """Answer one request."""
        service = self.services[0]
        try:
            head = _head(http)
            service = find_service(self.services, head)
            await self._check_head(service, head, http)
            request = replace(head, body=await self.bodies.read(http.stream()))
            operation = service.protocol.operation(service, request)
            return await self._carry_out(service, operation, request, request_id)
        except ApiError as err:
            return service.protocol.write_error(err, request_id)
        except sdk_errors.RequestError as err:
            return service.protocol.write_error(refused(err) or ClientException(str(err)), request_id)
        except sdk_errors.WorldError as err:
            log.warning("the controller failed", error=str(err), request_id=request_id)
            return service.protocol.write_error(ServerException(str(err)), request_id)
        except Exception:  # the last line of defence: a bug is the gateway's fault and told as such
            log.exception("internal error", request_id=request_id)
            return service.protocol.write_error(ServerException("Internal error"), request_id)

    async def _check_head(self, service: Service, head: Request, http: HttpRequest) -> None:
        """Turn away what its head tells enough of."""
        own_address = http.scope["server"][0]
        check_sender(head, scheme=http.scope["scheme"], own_address=own_address, own_names=self.own_names)
        check_type(service, head)
        await self.guard.admit_head(head, source_of(http.client.host if http.client else ""))

    async def _carry_out(self, service: Service, operation: Operation, request: Request, request_id: str) -> Answer:
        principal = await self.guard.admit(request, operation.is_change)
        if not self.bucket.take(time.monotonic()):
            raise TooManyRequestsException
        if self.under_way >= REQUESTS_MAX:
            raise BusyException
        context = Context(
            client=self.client.acting_for(principal.access_key_id),
            principal=principal,
            account_id=self.config.account_id,
            region=region_of(request, self.config.region),
            request_id=request_id,
            invocation_id=request.header("amz-sdk-invocation-id")[:_INVOCATION_LENGTH_MAX],
        )
        self.under_way += 1
        try:
            output = await operation.handler(context, service.protocol.read(operation, request))
        finally:
            self.under_way -= 1
        return service.protocol.write(operation, output, request_id)


def build(gateway: Gateway, routes: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Make the ASGI application; *routes* are served beside AWS's services and before them."""
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return staleness.Marking(Starlette(routes=[*routes, Route("/{path:path}", gateway.__call__, methods=methods)]))


def own_names(config: Config) -> frozenset[str]:
    """Return the names, in lower case, that the gateway is called by."""
    listen = split_listen(config.listen)[0]
    named = (*config.host_names, socket.gethostname(), *([] if _is_address(listen) else [listen]))
    return frozenset(name.lower() for name in named)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _head(http: HttpRequest) -> Request:
    return Request(
        method=http.method,
        path=http.scope["raw_path"],
        query=http.scope["query_string"],
        headers=http.scope["headers"],
        body=b"",
    )


async def serve(config: Config) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises:
        OSError: the address cannot be listened on, or is beyond loopback and there is no certificate.
    """
    if not (is_loopback(config.listen) or config.tls_cert):
        raise OSError(
            f"beyond loopback, at {config.listen}, a certificate is needed: --tls-cert and --tls-key, as "
            "`batchyard controller certificate` makes them"
        )
    async with AsyncClient(config.controller, role="gateway", on_stale=staleness.note) as client:
        guard = Authenticator(
            client,
            region=config.region,
            services=[service.name for service in SERVICES],
            read_wall_s=time.time,
        )
        gateway = Gateway(config=config, client=client, services=SERVICES, guard=guard)
        with listen(config.listen) as listener:
            async with serving(gateway) as web:
                for number in (signal.SIGTERM, signal.SIGINT):
                    # Uvicorn ends well on these once it serves, then sends them again; before that, they count as well.
                    asyncio.get_running_loop().add_signal_handler(number, setattr, web, "should_exit", True)
                log.info("listening", address=config.listen, controller=config.controller)
                await web.serve(sockets=[listener])
    log.info("stopped")


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[uvicorn.Server]:
    """Make the server of all that is wanted; what the console does beside it ends with it, or ends it."""
    if not gateway.config.console:
        yield server(build(gateway), gateway.config)
        return
    console = make_console(gateway)
    async with asyncio.TaskGroup() as group:
        beside = group.create_task(console.run())
        yield server(build(gateway, console.routes()), gateway.config, at_stop=console.hubs.close)
        beside.cancel()


def make_console(gateway: Gateway) -> Console:
    """Make the console."""
    from .console.application import Console  # noqa: PLC0415  # templates cost nothing where none is wanted
    from .console.entry.entry import Entry  # noqa: PLC0415
    from .console.live.hub import Hub  # noqa: PLC0415
    from .console.live.hubs import Hubs  # noqa: PLC0415

    entry = Entry(
        gateway.client,
        region=gateway.config.region,
        throw=lambda: secrets.token_urlsafe(32),
        read_wall_s=time.time,
        read_s=time.monotonic,
    )

    def hub(access_key_id: str) -> Hub:
        upstream = gateway.client.acting_for(access_key_id)
        return Hub(upstream, boot=secrets.token_hex(4), read_s=time.monotonic, read_wall_s=time.time)

    return Console(
        config=gateway.config,
        client=gateway.client,
        own_names=gateway.own_names,
        entry=entry,
        hubs=Hubs(hub),
        read_wall_s=time.time,
        read_s=time.monotonic,
    )


class Server(uvicorn.Server):
    """
    The HTTP server.

    Args:
        config: uvicorn's.
        at_stop: Ends answers that would never end, before all others are waited for.
    """

    def __init__(self, config: uvicorn.Config, at_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._at_stop = at_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._at_stop()
        await super().shutdown(sockets)


def server(application: ASGIApp, config: Config, at_stop: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Make the HTTP server: h11, which is strict, and connections that may not wait for ever."""
    return Server(
        uvicorn.Config(
            application,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
            http=door(Waiting()),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_GRACE_S,
        ),
        at_stop,
    )


def listen(address: str) -> socket.socket:
    """
    Open the listener.

    Raises:
        OSError: the address cannot be listened on.
    """
    host, port = split_listen(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol named, as asyncio sends small answers at once (TCP_NODELAY) only where it reads it there.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as err:
        listener.close()
        raise OSError(f"cannot listen on {address}: {err.strerror}") from err
    return listener
