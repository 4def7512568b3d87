"""
App: one HTTP server for all services; here clocks and dice come in.

Its law: every request gets one answer in its service's own form, with a request id;
no more of a body is kept than is allowed; and authentication comes before reading.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from batchyard import errors as sdk_errors
from batchyard.client import AsyncClient
from batchyard.settings import is_loopback

from . import ec2, ecs, logs, sts
from .authentication import Authenticator
from .batch.operations import SERVICE as BATCH
from .config import Config, split_listen
from .errors import ApiError, ClientException, ServerException, TooManyRequestsException
from .routing import find_service, region_of
from .services import Authenticate, Context, Operation, Service, anybody
from .throttle import TokenBucket
from .wire import Answer, Request

BODY_BYTES_MAX = 5 << 20
"""Ours: longer than any input that is taken, so that a list far too long still gets the service's own error."""

_INVOCATION_LENGTH_MAX = 64

REQUESTS_MAX = 512
"""Requests under way at once; more are told to come again (503), which every AWS SDK does."""

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
        authenticate: Who sent a request.
    """

    config: Config
    client: AsyncClient
    services: Sequence[Service]
    authenticate: Authenticate = anybody
    bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self.bucket = TokenBucket(self.config.calls_per_second)

    async def __call__(self, http: HttpRequest) -> Response:
        """Answer one request of HTTP."""
        request_id = str(uuid.uuid4())
        try:
            request = await _receive(http)
        except ApiError as err:
            return _respond(self.services[0].protocol.write_error(err, request_id))
        return _respond(await self.answer(request, request_id))

    async def answer(self, request: Request, request_id: str) -> Answer:
        """Answer one request."""
        service = self.services[0]
        try:
            service = find_service(self.services, request)
            if not self.bucket.take(time.monotonic()):
                raise TooManyRequestsException  # noqa: TRY301  # one place tells all errors
            operation = service.protocol.operation(service, request)
            return await self._carry_out(service, operation, request, request_id)
        except ApiError as err:
            return service.protocol.write_error(err, request_id)
        except sdk_errors.RequestError as err:
            return service.protocol.write_error(ClientException(str(err)), request_id)
        except sdk_errors.WorldError as err:
            log.warning("the controller failed", error=str(err), request_id=request_id)
            return service.protocol.write_error(ServerException(str(err)), request_id)
        except Exception:  # the last line of defence: a bug is the gateway's fault and told as such
            log.exception("internal error", request_id=request_id)
            return service.protocol.write_error(ServerException("Internal error"), request_id)

    async def _carry_out(self, service: Service, operation: Operation, request: Request, request_id: str) -> Answer:
        principal = await self.authenticate(request, operation.is_change)
        context = Context(
            client=self.client,
            principal=principal,
            account_id=self.config.account_id,
            region=region_of(request, self.config.region),
            request_id=request_id,
            invocation_id=request.header("amz-sdk-invocation-id")[:_INVOCATION_LENGTH_MAX],
        )
        output = await operation.handler(context, service.protocol.read(operation, request))
        return service.protocol.write(operation, output, request_id)


def build(gateway: Gateway, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Make the ASGI application; *routes* are served beside AWS's services and before them."""
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(routes=[*routes, Route("/{path:path}", gateway.__call__, methods=methods)])


async def _receive(http: HttpRequest) -> Request:
    """
    Read a request, no more of its body than is allowed.

    Raises:
        ApiError: the body is too long, or did not come to its end.
    """
    body = bytearray()
    try:
        async for part in http.stream():
            body += part
            if len(body) > BODY_BYTES_MAX:
                raise ApiError("RequestEntityTooLargeException", f"The body has more than {BODY_BYTES_MAX} bytes.", 413)
    except ClientDisconnect as err:
        raise ApiError("RequestAbortedException", "The body did not come to its end.") from err
    return Request(
        method=http.method,
        path=http.scope["raw_path"],
        query=http.scope["query_string"],
        headers=http.scope["headers"],
        body=bytes(body),
    )


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), answer.content_type)


async def serve(config: Config) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises:
        OSError: the address cannot be listened on.
    """
    if not (is_loopback(config.listen) or config.tls_cert):
        log.warning(
            "LISTENING BEYOND LOOPBACK WITHOUT TLS: whoever can listen on the way reads jobs and their "
            "environments; give --tls-cert and --tls-key, or keep the port in a private network",
            address=config.listen,
        )
    for number in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn ends well on these, then sends them again for whoever else may want them: nobody does.
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    async with AsyncClient(config.controller) as client:
        authenticator = Authenticator(
            client,
            region=config.region,
            services=[service.name for service in SERVICES],
            is_loopback=is_loopback(config.listen),
            read_wall_s=time.time,
        )
        gateway = Gateway(config=config, client=client, services=SERVICES, authenticate=authenticator)
        with listen(config.listen) as listener:
            log.info("listening", address=config.listen, controller=config.controller)
            await server(build(gateway), config).serve(sockets=[listener])
    log.info("stopped")


def server(application: Starlette, config: Config) -> uvicorn.Server:
    """Make the HTTP server: h11, which is strict, and no more at once than is good."""
    return uvicorn.Server(
        uvicorn.Config(
            application,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=REQUESTS_MAX,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_GRACE_S,
        )
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
