"""
Connection: one channel to a controller; a deadline on every call; errors as ours.

With `rpc_errors` the only module of the client that knows gRPC status codes. It knows
nothing of jobs or queues. Its law: no gRPC error leaves it, and only what is safe to
repeat is repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar, cast

import grpc
import grpc.aio

from batchyard import errors
from batchyard.clock import read_wall_s
from batchyard.credentials import Credentials, prolonged, read_credentials
from batchyard.errors import Reason
from batchyard.moving_channel import MovingChannel
from batchyard.rpc_errors import error_from_rpc
from batchyard.settings import is_loopback
from batchyard.yard_names import controller_name

Q = TypeVar("Q")
R = TypeVar("R")

STREAM_DEADLINE_S = 60.0
"""A stream is opened anew after so long, so that a dead connection is noticed."""

RECONNECT_S = 300.0
"""How long a stream goes on trying to reach a controller that is away."""

HOST_AWAY_S = 10.0
"""The same for a host that the controller does not reach: enough to come back after the controller did."""

MESSAGE_BYTES_MAX = 64 << 20
"""Longest answer taken. A page of 1000 jobs of 30 KiB each stays below it."""

UNDER_WAY_MAX = 4
"""Requests of an exchange that are sent and not yet answered; a controller reads as many."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A controller that restarts is found again within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The yard is one's own: a proxy for the web is not for it, least of all for loopback.
    ("grpc.enable_http_proxy", 0),
]


STALE_METADATA = "batchyard-stale"
"""
Of a call: who makes it takes an answer of a controller whose store is away, as it was known last. Of such an answer:
since when it may be out of date, as milliseconds by the controller's clock.
"""
_LEADERLESS = (Reason.NOT_LEADING, Reason.LEADERSHIP_LOST)
_READS = ("Describe", "List", "Get", "Summarize", "Search", "Explain", "Count")


class Connection:
    """
    One channel to a controller. It is opened by the first call, in that call's loop.

    Of several controllers one leads. A call that another has refused, or did not get, goes
    to the next, whether it may be repeated or not, as nothing was done.

    Attributes:
        addresses: ``host:port`` or ``unix:/path`` each.
        credentials: File with what is needed for a port.
        is_insecure: Speak plain text with a port of loopback, for tests.
        timeout_s: Deadline of each call.
        retry_s: How long a call that is safe to repeat is repeated while the
            controller is away.
        on_retry: Called with the error before each new try.
        metadata: What every call carries besides its request.
        on_stale: Called where an answer is such as was known before the store was away, with since when; None: such
            answers are not taken.
    """

    def __init__(
        self,
        *,
        addresses: str,
        credentials: Path | None,
        is_insecure: bool,
        timeout_s: float,
        retry_s: float,
        on_retry: Callable[[errors.WorldError], None],
        metadata: Sequence[tuple[str, str]] = (),
        on_stale: Callable[[int], None] | None = None,
    ) -> None:
        self.on_stale = on_stale
        self.addresses = tuple(addresses.split(","))
        self.credentials = credentials
        self.is_insecure = is_insecure
        self._bearer: tuple[tuple[str, str], ...] = ()
        """Says who asks, with each call."""
        self._login: str | None = None
        """The token of a login, which ends by itself and can be prolonged."""
        self.timeout_s = timeout_s
        self.retry_s = retry_s
        self.on_retry = on_retry
        self._more = tuple(metadata)
        self._owner: Connection | None = None
        self._is_closed = False

    def carrying(self, *metadata: tuple[str, str]) -> Connection:
        """Return a connection over the same channel whose calls carry more; closing this one closes it."""
        shared = Connection(
            addresses=",".join(self.addresses),
            credentials=self.credentials,
            is_insecure=self.is_insecure,
            timeout_s=self.timeout_s,
            retry_s=self.retry_s,
            on_retry=self.on_retry,
            metadata=metadata,
            on_stale=self.on_stale,
        )
        shared._owner = self
        return shared

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries besides its request; known in full once there is a channel."""
        return (*(self._owner.metadata if self._owner is not None else self._bearer), *self._more)

    async def keep_login(self) -> None:
        """
        Prolong a login that ends soon; other credentials are as they are.

        Raises:
            UnauthenticatedError: the login is over.
            UnavailableError: the provider does not answer.
        """
        if self._owner is not None:
            await self._owner.keep_login()
        elif self._login is not None and self.credentials is not None:
            from batchyard.oidc import is_ending  # noqa: PLC0415  # of logins alone

            if is_ending(self._login, now_s := read_wall_s()):
                self._know(await asyncio.to_thread(prolonged, self.credentials, now_s))

    async def _said(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call that is made now; raises as `keep_login`."""
        await self.keep_login()
        return self.metadata

    def _know(self, known: Credentials) -> None:
        self._bearer = (("authorization", f"Bearer {known.token}"),) if known.token else ()
        self._login = known.token if known.issuer else None

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """
        The channel, which belongs to the running loop from its first use on.

        Raises:
            UnauthenticatedError: there are no credentials for this address.
            InvalidArgumentError: what should be credentials is none.
        """
        if self._owner is not None:
            return self._owner.channel
        if self.is_closed:
            raise RuntimeError("this client is closed")
        if self.credentials is not None and not all(map(self._is_plain, self.addresses)):
            self._know(read_credentials(self.credentials))
        return cast("grpc.aio.Channel", self._line)

    @cached_property
    def _line(self) -> MovingChannel:
        return self._owner._line if self._owner is not None else MovingChannel(self.addresses, self._open)  # noqa: SLF001  # another of its own kind

    def _is_plain(self, address: str) -> bool:
        return address.startswith("unix:") or (self.is_insecure and is_loopback(address))

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._is_plain(address):
            return grpc.aio.insecure_channel(address, options=_OPTIONS)
        if self.credentials is None:
            text = f"no credentials for {address}: BATCHYARD_CREDENTIALS=FILE names those that the yard gave you"
            raise errors.UnauthenticatedError(text, reason=Reason.NO_CREDENTIALS)
        known = read_credentials(self.credentials)
        # Who answers is the controller of that yard, wherever it was dialled.
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", controller_name(known.yard))]
        trusted = grpc.ssl_channel_credentials(known.ca.encode())
        return grpc.aio.secure_channel(address, trusted, options=options)

    @property
    def is_closed(self) -> bool:
        """Whether it, or the one whose channel it shares, was closed."""
        return self._is_closed or (self._owner is not None and self._owner.is_closed)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._is_closed = True
        if "_line" in self.__dict__ and self._owner is None:
            await self._line.close()

    async def call(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, *, retry: bool = False) -> R:
        """
        Make one call.

        Args:
            method: A method of one of the stubs.
            request: Its request.
            retry: Repeat it for ``retry_s`` while the controller is away. Only for
                requests that may be carried out twice without harm.

        Raises:
            BatchyardError: the class for the status, with its details.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.retry_s
        pauses = self._pauses()
        may_be_stale = self.on_stale is not None and type(request).__name__.startswith(_READS) and not retry
        tries = -1
        while True:
            address, tries = self._line.address, tries + 1
            try:
                if may_be_stale and tries >= len(self.addresses):  # nobody leads, as far as any of them knows
                    return await self._call_stale(method(request, timeout=self.timeout_s, metadata=await self._stale()))
                return await method(request, timeout=self.timeout_s, metadata=await self._said())
            except grpc.aio.AioRpcError as err:
                error = self._error(err, address)
                if may_be_stale and error.reason in _LEADERLESS and tries < 2 * len(self.addresses) - 1:
                    continue
                pause_s = next(pauses)
                is_over = loop.time() + pause_s >= give_up_at or not (retry or self._was_elsewhere(error))
                if is_over or not isinstance(error, errors.UnavailableError):
                    raise error from err
                if pause_s:
                    self.on_retry(error)
            await asyncio.sleep(pause_s)

    async def _stale(self) -> tuple[tuple[str, str], ...]:
        return (*await self._said(), (STALE_METADATA, "1"))

    async def _call_stale(self, call: grpc.aio.UnaryUnaryCall[Q, R]) -> R:
        """Wait for an answer that may be stale, and say so if it is."""
        answer = await call
        since = dict(await call.trailing_metadata()).get(STALE_METADATA)
        if since is not None and self.on_stale is not None:
            self.on_stale(int(since))
        return answer

    async def stream(self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q) -> AsyncGenerator[R, None]:
        """
        Yield the messages of a stream, which is started again where it breaks off.

        It ends when the server ends it well.

        Args:
            method: A method of one of the stubs.
            request: Sent at each start as it is then: whoever reads the messages writes
                into it what has been seen so far.

        Raises:
            UnavailableError: the controller was away for ``RECONNECT_S``, or a host for ``HOST_AWAY_S``.
            BatchyardError: the server refused.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        pauses, give_up_at = self._pauses(), loop.time() + RECONNECT_S
        while True:
            address = self._line.address
            call = method(request, timeout=STREAM_DEADLINE_S, metadata=await self._said())
            try:
                async for message in call:
                    pauses, give_up_at = self._pauses(), loop.time() + RECONNECT_S
                    yield message
            except grpc.aio.AioRpcError as err:
                error = self._error(err, address)
                if isinstance(error, errors.DeadlineExceededError):
                    # Our own deadline: nothing to say for a minute, or a dead connection.
                    pauses, give_up_at = self._pauses(), loop.time() + RECONNECT_S
                else:
                    if error.reason in errors.HOST_AWAY:
                        give_up_at = min(give_up_at, loop.time() + HOST_AWAY_S)
                    if not isinstance(error, errors.UnavailableError) or loop.time() >= give_up_at:
                        raise error from err
                    self.on_retry(error)
            else:
                return
            finally:
                call.cancel()
            await asyncio.sleep(next(pauses))

    async def exchange(
        self, method: grpc.aio.StreamStreamMultiCallable[Q, R], requests: AsyncGenerator[Q, None]
    ) -> AsyncGenerator[R, None]:
        """
        Yield one answer for each request, in order; a few requests are under way at once.

        Where the stream breaks off it is started again, with the requests that were not
        answered: they must be such as may be carried out twice without harm.

        Raises:
            UnavailableError: for ``retry_s`` after a break no answer came.
            BatchyardError: the server refused.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        unanswered: deque[Q] = deque()
        pauses, give_up_at = self._pauses(), 0.0
        while True:
            address = self._line.address
            call = method(timeout=STREAM_DEADLINE_S, metadata=await self._said())
            try:
                async with aclosing(_exchange_in(call, requests, unanswered)) as answers:
                    async for answer in answers:
                        pauses, give_up_at = self._pauses(), 0.0
                        yield answer
            except grpc.aio.AioRpcError as err:
                error = self._error(err, address)
                pause_s = next(pauses)
                if not isinstance(error, errors.UnavailableError | errors.DeadlineExceededError):
                    raise error from err
                give_up_at = give_up_at or loop.time() + self.retry_s
                if unanswered:
                    if loop.time() + pause_s >= give_up_at:
                        raise error from err
                    self.on_retry(error)
            else:
                return
            finally:
                call.cancel()
            await asyncio.sleep(pause_s)

    async def messages(self, method: grpc.aio.UnaryStreamMultiCallable[Q, R], request: Q) -> AsyncGenerator[R, None]:
        """
        Yield the messages of a stream once, until it ends or is left, for at most ``timeout_s``.

        Raises:
            BatchyardError: the class for the status, with its details.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        pauses, give_up_at = self._pauses(), loop.time() + self.retry_s
        while True:
            address, has_begun = self._line.address, False
            call = method(request, timeout=self.timeout_s, metadata=await self._said())
            try:
                async for message in call:
                    has_begun = True
                    yield message
            except grpc.aio.AioRpcError as err:
                error = self._error(err, address)
                pause_s = next(pauses)
                if has_begun or not self._was_elsewhere(error) or loop.time() + pause_s >= give_up_at:
                    raise error from err
            else:
                return
            finally:
                call.cancel()
            await asyncio.sleep(pause_s)

    async def dialogue(self, method: grpc.aio.StreamStreamMultiCallable[Q, R], first: Q) -> tuple[Dialogue[Q, R], R]:
        """
        Open a stream both ways, which has no deadline and is not repeated; return it and its first answer.

        Raises:
            BatchyardError: the class for the status, with its details.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        pauses, give_up_at = self._pauses(), loop.time() + self.retry_s
        while True:
            address = self._line.address
            opened = Dialogue(method(metadata=await self._said()), lambda err, at=address: self._error(err, at))  # type: ignore[misc]  # mypy: no types for its default
            try:
                await opened.write(first)
                answer = await opened.read()
            except BaseException as err:
                opened.close()
                pause_s = next(pauses)
                is_elsewhere = isinstance(err, errors.BatchyardError) and self._was_elsewhere(err)
                if not is_elsewhere or loop.time() + pause_s >= give_up_at:
                    raise
            else:
                if answer is None:
                    raise self._error(_broken(), address)
                return opened, answer
            await asyncio.sleep(pause_s)

    def _error(self, err: grpc.aio.AioRpcError, address: str) -> errors.BatchyardError:
        """Return what a call to *address* failed with; the next goes elsewhere, if it failed for lack of a leader."""
        error = error_from_rpc(err, address)
        is_away = isinstance(error, errors.UnavailableError | errors.DeadlineExceededError)
        if is_away and error.reason not in errors.HOST_AWAY:
            self._line.move(address, error.metadata.get("leader", ""))
        return error

    def _was_elsewhere(self, error: errors.BatchyardError) -> bool:
        """Say whether another of several controllers is to be asked, as nothing was done by the one that was."""
        return len(self.addresses) > 1 and error.reason in errors.NOTHING_DONE

    def _pauses(self) -> Iterator[float]:
        """Yield how long to wait before each new try: not at all where there is an address that was not tried."""
        yield from [0.0] * (len(self.addresses) - 1)
        pause_s = 0.1
        while True:
            yield pause_s
            yield from [0.0] * (len(self.addresses) - 1)
            pause_s = min(pause_s * 2, 2.0)

    def _check_open(self) -> None:
        if self.is_closed:
            raise RuntimeError("this client is closed")


class Dialogue(Generic[Q, R]):
    """
    A stream both ways. `Connection.dialogue` opens it.

    Args:
        call: Just made.
        translate: Makes gRPC's errors ours.
    """

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[Q, R],
        translate: Callable[[grpc.aio.AioRpcError], errors.BatchyardError],
    ) -> None:
        self._call = call
        self._translate = translate
        self._writing = asyncio.Lock()

    async def write(self, message: Q) -> None:
        """Send a message, after those that are under way; of no effect on a stream that is over, as reading says why."""
        async with self._writing:  # two writes at once break a call
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await self._call.write(message)

    async def read(self) -> R | None:
        """
        Return the next message; None: the stream was ended well.

        Raises:
            BatchyardError: the class for the status, with its details.
        """
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as err:
            raise self._translate(err) from err
        return None if answer is grpc.aio.EOF else cast("R", answer)

    def close(self) -> None:
        """End it. Idempotent."""
        self._call.cancel()


async def _exchange_in(
    call: grpc.aio.StreamStreamCall[Q, R], requests: AsyncGenerator[Q, None], unanswered: deque[Q]
) -> AsyncGenerator[R, None]:
    """Send what is unanswered, then further requests, and yield answers, within one call."""
    sent, limit = 0, 1
    while True:
        while sent < limit:
            if sent == len(unanswered):
                async for request in requests:
                    unanswered.append(request)
                    break
                else:
                    break
            await _write(call, unanswered[sent])
            sent += 1
        if not unanswered:
            return
        answer = await call.read()
        if answer is grpc.aio.EOF:
            # A controller that shuts down may end the stream in good order.
            raise _broken()
        unanswered.popleft()
        # One by one until the first answer: a write that fails hides why the server refused.
        sent, limit = sent - 1, UNDER_WAY_MAX
        yield cast("R", answer)


async def _write(call: grpc.aio.StreamStreamCall[Q, R], request: Q) -> None:
    try:
        await call.write(request)
    except asyncio.InvalidStateError:
        raise _broken() from None
    except grpc.aio.AioRpcError as err:
        # grpc.aio's own word for a call that is over; a server's comes by reading.
        raise _broken() if err.code() is grpc.StatusCode.INTERNAL else err from None


def _broken() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "Stream removed")
