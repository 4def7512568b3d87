"""
Sessions: the streams of the agents, and the way out for commands.

One stream an agent, opened by the agent. What comes in becomes events; what goes
out was committed before. A session that ends loses nothing: the next one begins
with all that the agent keeps, and the reactor mends the difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from itertools import count
from typing import Any, assert_never

import structlog

from batchyard.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    Reason,
    RequestError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)
from batchyard.ids import AttemptId, HostId, is_uuid
from batchyard.v1 import agent_pb2 as pb
from batchyard.v1 import host_pb2
from batchyard_controller.core import limits
from batchyard_controller.core.commands import (
    Command,
    EndSession,
    PublishMove,
    PublishNotice,
    SendAck,
    SendRevoke,
    SendStart,
    SendStop,
    Warn,
)
from batchyard_controller.core.events import AttemptsReported, HostHeard, HostJoined, HostLeft
from batchyard_controller.core.model.hosts import told_fence
from batchyard_controller.core.model.secrets import StoredSecret
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.checks import Violations, check_range, check_text, printable, refuse
from batchyard_controller.core.requests.enrolment import check_host_name, check_session, not_joined
from batchyard_controller.core.requests.hosts import check_newcomer
from batchyard_controller.core.requests.secrecy import secrets_of
from batchyard_controller.core.world.world import World

from .attempt_specs import attempt_specs
from .clock import read_boot_ms
from .convert.hosts import host_facts, host_usage, reports, reserved
from .doors import Peer, PeerKind
from .driver import Driver
from .leadership import Leadership
from .meetings import Meetings
from .vault import Vault

STOP_GRACE_S = 30
"""AWS: SIGTERM, then SIGKILL 30 s later."""
ACK_PAUSE_S = 0.05
"""How long an acknowledgement may wait for others: all that an agent does about it is to let go."""
LOG_SLICE_BYTES = 256 * 1024
LOG_WAIT_MS = 5_000
LOG_ANSWER_S = 15.0


class _Session:
    """One agent's stream, while it lasts."""

    def __init__(self, host_id: HostId, host_name: str, number: int, epoch: int, hello: pb.Hello) -> None:
        self.nonce, self.machine_id = hello.nonce, hello.machine_id
        self.refusal: UnavailableError | UnauthenticatedError | None = None
        """Why it is over, if this side hung up on its agent."""
        self.host_id = host_id
        self.host_name = host_name
        self.number = number
        self._epoch = epoch
        self._out: asyncio.Queue[pb.ConnectResponse | None] = asyncio.Queue()
        self._acks: list[AttemptId] = []
        self._reads: dict[int, asyncio.Future[pb.LogSlice]] = {}
        self._read_ids = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, **message: Any) -> None:
        """Queue one message for the agent."""
        self._out.put_nowait(pb.ConnectResponse(epoch=self._epoch, **message))

    def acknowledge(self, attempt_ids: Iterable[AttemptId]) -> None:
        """Have the agent know soon that ends are stored; one that is lost with the session it asks for again."""
        if not self._acks:
            asyncio.get_running_loop().call_later(ACK_PAUSE_S, self._send_acks)
        self._acks += attempt_ids

    def _send_acks(self) -> None:
        acks, self._acks = self._acks, []
        self.send(ack=pb.AckAttempts(attempt_ids=acks))

    def end(self, refusal: UnavailableError | UnauthenticatedError | None = None) -> None:
        """Let the stream end after what is queued."""
        self.refusal = self.refusal or refusal
        self._out.put_nowait(None)

    async def messages(self) -> AsyncIterator[pb.ConnectResponse]:
        """Yield what is to be sent until the session ends."""
        while (message := await self._out.get()) is not None:
            yield message

    async def read_log(self, read: pb.LogRead) -> pb.LogSlice:
        """Ask for one slice of a log."""
        read.read_id = next(self._read_ids)
        future: asyncio.Future[pb.LogSlice] = asyncio.get_running_loop().create_future()
        self._reads[read.read_id] = future
        try:
            self.send(log_read=read)
            async with asyncio.timeout(LOG_ANSWER_S):
                return await future
        except TimeoutError:
            text = f"host {self.host_name} did not answer a log read within {LOG_ANSWER_S} s"
            raise UnavailableError(text, reason=Reason.HOST_SILENT, metadata={"host_id": self.host_id}) from None
        finally:
            del self._reads[read.read_id]

    def take_slice(self, piece: pb.LogSlice) -> None:
        """Answer the read that asked for this slice."""
        future = self._reads.get(piece.read_id)
        if future is not None and not future.done():
            future.set_result(piece)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let work for the agent go on beside its stream, no longer than that lasts."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def abandon(self) -> None:
        """Let go of what is under way, and tell those who wait for logs that the host has gone."""
        for task in self._tasks:
            task.cancel()
        for future in self._reads.values():
            if not future.done():
                text = f"host {self.host_name} lost its connection"
                future.set_exception(_disconnected(self.host_id, text))


class Sessions:
    """All sessions of this controller, term after term; the driver's sink."""

    def __init__(self, leadership: Leadership, vault: Vault, fence_ms: int = limits.FENCE_MS) -> None:
        self._leadership = leadership
        self._fence_ms = fence_ms
        self._vault = vault
        self._numbers = count(1)
        self._sessions: dict[HostId, _Session] = {}
        self._usage: dict[HostId, host_pb2.HostUsage] = {}
        self._epoch = 0
        self.meetings = Meetings(read_boot_ms)

    def open_term(self, epoch: int) -> Sessions:
        """Begin a term; agents connect from now on."""
        self._epoch = epoch
        return self

    def close(self) -> None:
        """End the term: agents have to say again what they keep."""
        self.meetings.end_all()
        for session in self._sessions.values():
            session.end()
        self._sessions.clear()

    def usage(self, host_id: HostId) -> host_pb2.HostUsage | None:
        """Return what a host last said it is doing."""
        return self._usage.get(host_id)

    # In ---------------------------------------------------------------------

    async def serve(self, requests: AsyncIterator[pb.ConnectRequest], peer: Peer) -> AsyncIterator[pb.ConnectResponse]:
        """
        Serve one agent until either side has enough.

        Args:
            requests: What it says.
            peer: Who it is; of one that comes without a certificate its hello says that.
        """
        driver = self._leadership.driver
        first = await anext(requests, None)
        hello = _check_hello(first)
        there = self._sessions.get(HostId(hello.host_id))
        await _admit(driver, hello, peer)
        self._refuse_twin(hello, there)
        if self._leadership.driver is not driver:
            raise self._leadership.refusal()
        session = self._begin(driver, hello, peer.proven)
        log = structlog.get_logger().bind(host=hello.facts.name, host_id=hello.host_id)
        log.info("host joined", session=session.number, attempts=len(hello.attempts))
        if hello.epoch > self._epoch:
            log.warning(
                "the host knows a later epoch, and obeys no earlier one: another controller leads, or the store was "
                "put back from a backup without `batchyard controller restore`",
                epoch=self._epoch,
                known=hello.epoch,
            )
        reader = asyncio.create_task(self._read_requests(driver, session, requests))
        expiry = None
        if peer.kind is PeerKind.HOST:
            expiry = asyncio.get_running_loop().call_later(peer.left_s, session.end, _expired())
        try:
            async for message in session.messages():
                yield message
            if session.refusal is not None:
                raise session.refusal
            if reader.done():
                reader.result()  # raises what was wrong with the agent's message
        finally:
            if expiry is not None:
                expiry.cancel()
            reader.cancel()
            session.abandon()
            if self._sessions.get(session.host_id) is session:
                del self._sessions[session.host_id]
            driver.post(HostLeft(host_id=session.host_id, session=session.number))
            log.info("host left", session=session.number)

    def _refuse_twin(self, hello: pb.Hello, there: _Session | None) -> None:
        """
        Let the first of two agents with one identity stay; one that comes back by itself replaces its own session.

        The first one's session ends when it dies, or is silent for the contact limit, so
        an agent that was started again is let in by then. Who was *there* when the other one came counts though it
        has left since: the world, which was asked meanwhile, took it for connected, so what runs there was not looked at.
        """
        now_there = self._sessions.get(HostId(hello.host_id))
        former = next((each for each in (now_there, there) if each is not None and each.nonce != hello.nonce), None)
        if former is not None:
            where = "this machine" if former.machine_id == hello.machine_id else "another machine"
            text = (
                f"another agent with this one's host id {hello.host_id} is connected, from {where}: "
                "one's state folder is a copy of the other's; start this one with an empty folder"
            )
            raise AlreadyExistsError(text, reason=Reason.HOST_TWIN, metadata={"host_id": hello.host_id})

    def _begin(self, driver: Driver, hello: pb.Hello, by: HostId | None) -> _Session:
        host_id, facts = HostId(hello.host_id), host_facts(hello.facts)
        session = _Session(host_id, facts.name, next(self._numbers), self._epoch, hello)
        former = self._sessions.get(host_id)
        if former is not None:
            former.end()
        self._sessions[host_id] = session
        if hello.HasField("usage"):
            self._usage[host_id] = host_usage(hello.usage)
        session.send(
            welcome=pb.Welcome(
                epoch=self._epoch,
                heartbeat_interval_ms=limits.HEARTBEAT_INTERVAL_MS,
                fence_ms=told_fence(facts, self._fence_ms),
                session=session.number,
                asks_all=driver.is_restoring,
            )
        )
        driver.post(
            HostJoined(
                host_id=host_id,
                facts=facts,
                session=session.number,
                machine_id=hello.machine_id,
                by=by,
                run=hello.run,
                nonce=hello.nonce,
                reports=reports(hello.attempts),
                reserved=reserved(hello.usage),
            )
        )
        return session

    async def _read_requests(
        self, driver: Driver, session: _Session, requests: AsyncIterator[pb.ConnectRequest]
    ) -> None:
        """Turn messages into events until the agent hangs up."""
        try:
            async for request in requests:
                self._take(driver, session, request)
        finally:
            session.end()

    def _take(self, driver: Driver, session: _Session, request: pb.ConnectRequest) -> None:
        match request.WhichOneof("message"):
            case "reports":
                said, is_all = reports(request.reports.reports), request.reports.is_all
                driver.post(AttemptsReported(host_id=session.host_id, reports=said, is_all=is_all))
            case "heartbeat":
                beat = request.heartbeat
                facts = host_facts(beat.facts) if beat.HasField("facts") else None
                heard = HostHeard(
                    host_id=session.host_id,
                    session=session.number,
                    facts=facts,
                    wall_ms=beat.usage.wall_ms,
                    reserved=reserved(beat.usage),
                )
                driver.post(heard)
                self._usage[session.host_id] = host_usage(beat.usage)
                if not driver.leads:
                    # It stood still, and another may lead, for whom the host's fence began before this heartbeat.
                    session.end(self._leadership.refusal())
                    return
                session.send(heartbeat_ack=pb.HeartbeatAck(sequence=beat.sequence))
            case "log_slice":
                session.take_slice(request.log_slice)
            case "secrets_request":
                session.start(self._send_secrets(driver, session, AttemptId(request.secrets_request.attempt_id)))
            case _:
                structlog.get_logger().warning("unexpected message from host", host_id=session.host_id)

    async def _send_secrets(self, driver: Driver, session: _Session, attempt_id: AttemptId) -> None:
        """Tell a host the secrets of an attempt of its own, or why it cannot have them."""
        answer = pb.SecretValues(attempt_id=attempt_id)
        try:
            wanted = await driver.read(lambda world: secrets_of(world, attempt_id, session.host_id))
            for container, variables in wanted.items():
                values = answer.containers[container].values if container else answer.values
                for name, secret in variables.items():
                    values[name] = self._vault.open("secret", secret.name, secret.sealed)
        except RequestError as err:
            answer = pb.SecretValues(attempt_id=attempt_id, error=str(err))
        except UnavailableError:
            return  # the term is over: the agent asks its next leader
        session.send(secret_values=answer)

    # Out --------------------------------------------------------------------

    def carry_out(self, world: World, commands: Iterable[Command]) -> None:
        """Send commands to the hosts that are connected; the others hear them when they join."""
        for command in commands:
            if isinstance(command, PublishMove | PublishNotice):
                continue  # it is in the trail
            if isinstance(command, Warn):
                tell = structlog.get_logger().error if command.is_error else structlog.get_logger().warning
                tell(command.text, **dict(command.details))
                continue
            session = self._sessions.get(command.host_id)
            if session is None or (isinstance(command, SendStart) and command.session != session.number):
                continue
            if isinstance(command, EndSession):
                self._hang_up(session, command)
            else:
                _send(session, world, command)

    def _hang_up(self, session: _Session, command: EndSession) -> None:
        if session.number == command.session:
            del self._sessions[session.host_id]
            session.end(_why_hung_up(command))

    async def read_log(
        self,
        host_id: str,
        host_name: str,
        attempt_id: str,
        container: str,
        offset: int,
        tail_lines: int | None,
        *,
        follow: bool,
    ) -> pb.LogSlice:
        """
        Read one slice of an attempt's log from its host, of several containers that of one.

        Raises:
            UnavailableError: the host is not connected or does not answer.
            NotFoundError: the host keeps no such log.
        """
        session = self._sessions.get(HostId(host_id))
        if session is None:
            raise _disconnected(host_id, f"host {host_name} is not connected; its logs cannot be read now")
        read = pb.LogRead(
            attempt_id=attempt_id,
            container=container,
            offset=offset,
            tail_lines=tail_lines,
            limit_bytes=LOG_SLICE_BYTES,
            wait_ms=LOG_WAIT_MS if follow else 0,
        )
        piece = await session.read_log(read)
        if piece.error:
            text = f"log of {attempt_id}: {printable(piece.error, limits.HOST_TEXT_LENGTH_MAX)}"
            raise NotFoundError(text, reason=Reason.LOG_NOT_FOUND, metadata={"attempt_id": attempt_id})
        return piece

    def ask_entry(self, host_id: str, host_name: str, entry: pb.OpenEntry, secrets: Mapping[str, StoredSecret]) -> None:
        """
        Ask a host to run a command in an attempt, over a stream that it opens.

        Args:
            host_id: The host.
            host_name: Its name.
            entry: What is to be run; it is sent with *secrets* opened.
            secrets: By the variable.

        Raises:
            UnavailableError: the host is not connected.
        """
        session = self._sessions.get(HostId(host_id))
        if session is None:
            raise _disconnected(host_id, f"host {host_name} is not connected; nothing can be run there now")
        for name, secret in secrets.items():
            entry.secrets[name] = self._vault.open("secret", secret.name, secret.sealed)
        session.send(entry=entry)


def _expired() -> UnauthenticatedError:
    text = "the certificate of this session has expired"
    return UnauthenticatedError(text, reason=Reason.BAD_CREDENTIALS)


def _why_hung_up(command: EndSession) -> UnavailableError | UnauthenticatedError:
    if command.is_removed:
        return not_joined(command.host_id)
    text = f"nothing was heard of this host for {limits.CONTACT_LIMIT_MS // 1000} s"
    if command.is_stopped:
        text = "this host was launched for jobs, and is stopped now"
    return UnavailableError(text, reason=Reason.HOST_SILENT, metadata={"host_id": command.host_id})


def _disconnected(host_id: str, text: str) -> UnavailableError:
    return UnavailableError(text, reason=Reason.HOST_DISCONNECTED, metadata={"host_id": host_id})


def _check_hello(first: pb.ConnectRequest | None) -> pb.Hello:
    """Check an agent's first words by themselves."""
    if first is None or not first.HasField("hello"):
        raise InvalidArgumentError("the first message of a session must be a hello", reason=Reason.NO_HELLO)
    hello = first.hello
    if not is_uuid(hello.host_id):
        text = f"{hello.host_id!r} is no UUID"
        raise InvalidArgumentError.from_violations([Violation("hello.host_id", text, Reason.MALFORMED)])
    name = hello.facts.name
    out: Violations = []
    check_host_name(out, "hello.facts.name", name)
    check_text(out, "hello.machine_id", hello.machine_id, limits.HOST_TEXT_LENGTH_MAX)
    check_text(out, "hello.nonce", hello.nonce, limits.HOST_TEXT_LENGTH_MAX)
    check_range(out, "hello.run", hello.run, 0, limits.INT32_MAX)
    refuse(out)
    return hello


async def _admit(driver: Driver, hello: pb.Hello, peer: Peer) -> None:
    """Check that an agent speaks for the host that it is, and that this one may join."""
    host_id, name = HostId(hello.host_id), hello.facts.name

    def decide(world: World, now: Instant) -> tuple[None, None]:
        check_session(world, host_id, peer.proven, name, hello.run, hello.nonce)
        check_newcomer(world, host_id, name, hello.machine_id, now)
        return None, None

    await driver.request(decide)


def _send(session: _Session, world: World, command: SendStart | SendStop | SendRevoke | SendAck) -> None:
    match command:
        case SendStart():
            specs = attempt_specs(world, command.attempts)
            session.send(start=pb.StartAttempts(attempts=specs, session=session.number))
        case SendStop():
            session.send(stop=pb.StopAttempt(attempt_id=command.attempt_id, grace_s=STOP_GRACE_S))
        case SendRevoke():
            session.send(revoke=pb.RevokeAttempt(attempt_id=command.attempt_id))
        case SendAck():
            session.acknowledge(command.attempt_ids)
        case _:
            assert_never(command)
