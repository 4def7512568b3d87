"""
The stream to the controller: open it, keep it, open it again, for ever.

It carries messages and decides nothing: what the controller wants becomes
events for the driver, what the driver reports goes out. Law: nothing has to be
remembered over a broken stream, as each one begins with a hello that tells
about all attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
import structlog

from batchyard.errors import Reason
from batchyard.ids import AttemptId
from batchyard.rpc_errors import error_from_rpc
from batchyard.v1 import agent_pb2, agent_pb2_grpc, host_pb2
from batchyard_agent.convert import Decode, events_from, report_from, spec_from
from batchyard_agent.core.attempts import Attempt, Phase
from batchyard_agent.core.events import HeartbeatAcknowledged, Now, SessionOpened
from batchyard_agent.core.redial import Redial
from batchyard_agent.driver import Driver
from batchyard_agent.entries import Entries
from batchyard_agent.logs import LogNotFoundError, Logs

WELCOME_TIMEOUT_S = 15.0
SILENCE_BEATS = 3
SILENCE_MIN_S = 5.0
"""A stream is given up when a heartbeat has waited longer than three intervals, at least this long."""
HEARTBEAT_INTERVAL_MS_MIN = 50
REPORTS_PER_MESSAGE = 1_000
REPORTS_PAUSE_S = 0.005
"""Between messages of reports: each costs the controller a commit, and reports that wait share one."""
START_PAUSE_S = 0.03
"""How long a start may wait to be told: a job that ends sooner is told of once, and that costs everybody half."""
TWIN_PATIENCE_MS = 60_000
"""After so long another agent of this identity surely lives: the session of a dead one has ended by then."""
LOG_READS_MAX = 64
UNTOLD = "INTERNAL: Internal error from Core"
"""What grpc.aio makes of a stream that the controller ended just as something was written; why is lost."""

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_receive_message_length", 64 << 20),
    # Each try has its own channel, and no part in another one's backoff.
    ("grpc.use_local_subchannel_pool", 1),
)

log = structlog.get_logger()

Call = Any
"""A grpc.aio bidirectional call; its stubs know no type that fits both ends."""


class Host(Protocol):
    """What this host is and does, as messages."""

    def facts(self) -> host_pb2.HostFacts:
        """Return what the host is; the same object until it has changed."""

    async def read_usage(self) -> host_pb2.HostUsage:
        """Measure what the host is doing."""


class TwinError(Exception):
    """Another agent with this one's identity is connected, and stays; the text says so."""


class SessionEndedError(Exception):
    """The session is over; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    What tells this run of an agent from others.

    Attributes:
        nonce: Made by each run.
        machine_id: Of the operating system; empty where there is none.
        run: One higher each time the agent starts.
    """

    nonce: str
    machine_id: str = ""
    run: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """What a welcome fixes for one session."""

    heartbeat_interval_s: float

    @property
    def silence_s(self) -> float:
        """How long a heartbeat may stay without an answer."""
        return max(SILENCE_MIN_S, SILENCE_BEATS * self.heartbeat_interval_s)


class Sessions:
    """
    One session after the other with the controller that leads.

    Args:
        target: Address of the controller, as it is told, or several with commas, of which one leads.
        connect: Opens a channel to one of them, each session's own.
        read_now: The clock.
        dice: Gives numbers from 0 to 1, to spread agents that reconnect.
        decode: Reads attempts' specs.
        entries: Runs commands in attempts; None: it is told of none.
    """

    def __init__(
        self,
        *,
        target: str,
        connect: Callable[[str], grpc.aio.Channel],
        driver: Driver,
        logs: Logs,
        host: Host,
        read_now: Callable[[], Now],
        dice: Callable[[], float],
        identity: Identity,
        decode: Decode = spec_from,
        entries: Entries | None = None,
    ) -> None:
        self._entries = entries
        self._redial = Redial(target.split(","))
        self._decode = decode
        self._connect = connect
        self._session: Session | None = None
        self._driver = driver
        self._logs = logs
        self._host = host
        self._read_now = read_now
        self._dice = dice
        self._identity = identity
        self._leader = ""
        """Who leads, as the last controller said."""
        self._refused_at_ms: int | None = None
        """Since when another agent of this identity has kept this one out."""

    async def run(self) -> NoReturn:
        """
        Stay in touch. Only what is no fault of the network ends this.

        Raises:
            TwinError: another agent with this one's identity lives.
        """
        told = False
        while True:
            session = Session(
                driver=self._driver,
                logs=self._logs,
                host=self._host,
                read_now=self._read_now,
                identity=self._identity,
                decode=self._decode,
                begin_entry=self._begin_entry,
            )
            self._session = session
            reason = await self._once(session)
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # a coroutine runs in a task
                # Before Python 3.13 a task group whose own task fails at that moment swallows it.
                raise asyncio.CancelledError
            if session.welcomed:
                self._redial.welcomed()
                told = False
                self._refused_at_ms = None
            # One line an outage, however often its reason changes.
            tell = log.debug if told else log.warning
            tell("no controller; attempts go on", controller=self._redial.target, reason=reason)
            told = True
            pause_s = self._redial.failed(self._leader, self._read_now().boot_ms)
            await asyncio.sleep(pause_s * (0.5 + self._dice() / 2))

    def _begin_entry(self, request: agent_pb2.OpenEntry) -> None:
        if self._entries is not None:
            self._entries.begin(self._redial.target, request)

    def reopen(self, reason: str) -> None:
        """End the session that there is, if any; another one follows, by a new channel."""
        if self._session is not None:
            self._session.leave(reason)

    async def _once(self, session: Session) -> str:
        """Hold one session to its end and say why it ended."""
        reason = self._leader = ""
        async with self._connect(self._redial.target) as channel:
            call = agent_pb2_grpc.AgentServiceStub(channel).Connect()  # type: ignore[no-untyped-call,unused-ignore]  # the stub's channel type is the synchronous one
            try:
                await session.run(call)
            except* SessionEndedError as group:
                reason = str(group.exceptions[0])
            except* grpc.aio.AioRpcError as group:
                reason = reason or self._judge(group.exceptions[0])
            finally:
                self._driver.detach(session)
                call.cancel()
        return reason

    def _judge(self, error: BaseException) -> str:
        """Say why a stream broke, or give up for good if this agent has a twin."""
        assert isinstance(error, grpc.aio.AioRpcError)
        told = error_from_rpc(error, self._redial.target)
        self._leader = told.metadata.get("leader", "")
        if told.reason != Reason.HOST_TWIN:
            return f"{error.code().name}: {error.details()}"
        now_ms = self._read_now().boot_ms
        if self._refused_at_ms is None:
            self._refused_at_ms = now_ms
        if now_ms - self._refused_at_ms >= TWIN_PATIENCE_MS:
            raise TwinError(error.details())
        return error.details() or ""


class Session:
    """One stream, from its hello to its end."""

    def __init__(
        self,
        *,
        driver: Driver,
        logs: Logs,
        host: Host,
        read_now: Callable[[], Now],
        identity: Identity,
        decode: Decode,
        begin_entry: Callable[[agent_pb2.OpenEntry], None],
    ) -> None:
        self.welcomed = False
        self._begin_entry = begin_entry
        self._decode = decode
        self._identity = identity
        self._driver = driver
        self._logs = logs
        self._host = host
        self._read_now = read_now
        self._reports: dict[AttemptId, Attempt] = {}
        self._starts: dict[AttemptId, float] = {}
        """Reports that may wait, oldest first, and since when (of the event loop's clock) they do."""
        self._messages: deque[agent_pb2.ConnectRequest] = deque()
        self._outgoing = asyncio.Event()
        self._sent_at_ms: dict[int, int] = {}
        self._leaving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._log_reads = 0

    # What the driver calls.

    def send_reports(self, attempts: Sequence[Attempt]) -> None:
        """Send these soon; of reports about one attempt only the last counts."""
        now_s = asyncio.get_running_loop().time()
        for attempt in attempts:
            self._reports[attempt.attempt_id] = attempt
            if attempt.phase is Phase.RUNNING:
                self._starts.setdefault(attempt.attempt_id, now_s)
            else:
                self._starts.pop(attempt.attempt_id, None)
        self._outgoing.set()

    def ask_secrets(self, attempt_id: AttemptId) -> None:
        """Ask for an attempt's secrets; the answer goes to the driver."""
        self._send(agent_pb2.ConnectRequest(secrets_request=agent_pb2.SecretsRequest(attempt_id=attempt_id)))

    def leave(self, reason: str) -> None:
        """End the session."""
        if not self._leaving.done():
            self._leaving.set_result(reason)

    # Its life.

    async def run(self, call: Call) -> None:
        """
        Say hello, then serve the stream.

        Raises:
            ExceptionGroup: of SessionEndedError or grpc.aio.AioRpcError, always.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leave())
            timers = await self._open(call)
            group.create_task(self._write(call))
            group.create_task(self._beat(timers))
            await self._read(call, group)

    async def _open(self, call: Call) -> Timers:
        attempts = await self._driver.attach(self)
        facts = self._host.facts()
        self._facts_sent = facts
        sent_at_ms = self._read_now().boot_ms
        hello = agent_pb2.Hello(
            host_id=self._driver.table.meta.host_id,
            facts=facts,
            attempts=map(report_from, attempts),
            epoch=self._driver.table.meta.epoch,
            nonce=self._identity.nonce,
            machine_id=self._identity.machine_id,
            usage=await self._host.read_usage(),
            run=self._identity.run,
        )
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await _write(call, agent_pb2.ConnectRequest(hello=hello))
                response = await _read(call)
        except TimeoutError:
            raise SessionEndedError(f"no welcome within {WELCOME_TIMEOUT_S:g} s") from None
        if response.WhichOneof("message") != "welcome":
            raise SessionEndedError("the controller did not answer the hello with a welcome")
        welcome = response.welcome
        self._driver.observe(
            SessionOpened(
                epoch=welcome.epoch, sent_at_ms=sent_at_ms, fence_ms=welcome.fence_ms, session=welcome.session
            )
        )
        self.welcomed = True
        log.info("connected to the controller", epoch=welcome.epoch, attempts=len(attempts))
        if welcome.asks_all:
            self._tell_all()
        return Timers(heartbeat_interval_s=max(HEARTBEAT_INTERVAL_MS_MIN, welcome.heartbeat_interval_ms) / 1000)

    def _tell_all(self) -> None:
        """Report, as a store asks for that was put back from a backup, what has ended and was acknowledged."""
        ended = list(self._driver.table.tombstones.values())
        for start in range(0, len(ended), REPORTS_PER_MESSAGE):
            reports = map(report_from, ended[start : start + REPORTS_PER_MESSAGE])
            self._send(agent_pb2.ConnectRequest(reports=agent_pb2.AttemptReports(reports=reports)))
        self._send(agent_pb2.ConnectRequest(reports=agent_pb2.AttemptReports(is_all=True)))

    async def _leave(self) -> NoReturn:
        raise SessionEndedError(await self._leaving)

    async def _read(self, call: Call, group: asyncio.TaskGroup) -> NoReturn:
        while True:
            response = await _read(call)
            match response.WhichOneof("message"):
                case "heartbeat_ack":
                    self._on_heartbeat_ack(response)
                case "log_read":
                    group.create_task(self._answer_log_read(response.log_read))
                case "secret_values":
                    answer = response.secret_values
                    values = {name: dict(each.values) for name, each in answer.containers.items()}
                    values[""] = dict(answer.values)
                    self._driver.take_secrets(AttemptId(answer.attempt_id), values, answer.error)
                case "entry":
                    self._begin_entry(response.entry)
                case _:
                    self._driver.observe(*events_from(response, self._logs, self._decode))
                    await self._driver.room()

    def _on_heartbeat_ack(self, response: agent_pb2.ConnectResponse) -> None:
        sequence = response.heartbeat_ack.sequence
        sent_at_ms = self._sent_at_ms.get(sequence)
        if sent_at_ms is None:
            return
        for answered in [s for s in self._sent_at_ms if s <= sequence]:
            del self._sent_at_ms[answered]
        self._driver.observe(HeartbeatAcknowledged(epoch=response.epoch, sent_at_ms=sent_at_ms))

    async def _beat(self, timers: Timers) -> NoReturn:
        sequence = 0
        while True:
            usage = await self._host.read_usage()
            sequence += 1
            now_ms = self._read_now().boot_ms
            oldest_ms = next(iter(self._sent_at_ms.values()), now_ms)
            if now_ms - oldest_ms > timers.silence_s * 1000:
                raise SessionEndedError(f"no heartbeat was answered for {timers.silence_s:g} s")
            heartbeat = agent_pb2.Heartbeat(sequence=sequence, usage=usage)
            facts = self._host.facts()
            if facts is not self._facts_sent:
                heartbeat.facts.CopyFrom(facts)
                self._facts_sent = facts
            self._sent_at_ms[sequence] = now_ms
            self._send(agent_pb2.ConnectRequest(heartbeat=heartbeat))
            await asyncio.sleep(timers.heartbeat_interval_s)

    async def _write(self, call: Call) -> NoReturn:
        while True:
            await self._something()
            self._outgoing.clear()
            while self._messages:
                await _write(call, self._messages.popleft())
            reports = self._due_reports()
            for start in range(0, len(reports), REPORTS_PER_MESSAGE):
                some = agent_pb2.AttemptReports(reports=map(report_from, reports[start : start + REPORTS_PER_MESSAGE]))
                await _write(call, agent_pb2.ConnectRequest(reports=some))
            if reports:
                await asyncio.sleep(REPORTS_PAUSE_S)

    async def _something(self) -> None:
        """Wait until there is something to send."""
        oldest_s = next(iter(self._starts.values()), None)
        pause_s = None
        if oldest_s is not None:
            pause_s = max(0.0, oldest_s + START_PAUSE_S - asyncio.get_running_loop().time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._outgoing.wait()

    def _due_reports(self) -> list[Attempt]:
        """Take out the reports that wait no longer."""
        last_s = asyncio.get_running_loop().time() - START_PAUSE_S
        for attempt_id in [each for each, since_s in self._starts.items() if since_s <= last_s]:
            del self._starts[attempt_id]
        due = [attempt for attempt_id, attempt in self._reports.items() if attempt_id not in self._starts]
        for attempt in due:
            del self._reports[attempt.attempt_id]
        return due

    async def _answer_log_read(self, asked: agent_pb2.LogRead) -> None:
        answer = agent_pb2.LogSlice(read_id=asked.read_id, next_offset=asked.offset)
        if self._log_reads >= LOG_READS_MAX:
            answer.error = f"this host answers {LOG_READS_MAX} log reads at a time; try again"
            self._send(agent_pb2.ConnectRequest(log_slice=answer))
            return
        self._log_reads += 1
        try:
            # The attempt's start may have come just before, and not be known yet.
            await self._driver.settle()
            found = await self._logs.read(
                AttemptId(asked.attempt_id),
                asked.container,
                offset=asked.offset,
                tail_lines=asked.tail_lines if asked.HasField("tail_lines") else None,
                limit_bytes=asked.limit_bytes,
                wait_ms=asked.wait_ms,
            )
        except (LogNotFoundError, OSError) as error:
            answer.error = str(error)
        else:
            answer.data, answer.next_offset, answer.end = found.data, found.next_offset, found.end
        finally:
            self._log_reads -= 1
        self._send(agent_pb2.ConnectRequest(log_slice=answer))

    def _send(self, message: agent_pb2.ConnectRequest) -> None:
        self._messages.append(message)
        self._outgoing.set()


async def _read(call: Call) -> agent_pb2.ConnectResponse:
    response = await call.read()
    if isinstance(response, agent_pb2.ConnectResponse):
        return response
    raise SessionEndedError(await _ending(call))


async def _write(call: Call, message: agent_pb2.ConnectRequest) -> None:
    try:
        await call.write(message)
    except asyncio.InvalidStateError as error:
        raise SessionEndedError(await _ending(call)) from error


async def _ending(call: Call) -> str:
    """Say how the controller ended a call that is over."""
    code, details = await call.code(), await call.details()
    return f"the controller ended the stream: {code.name}{': ' if details else ''}{details or ''}"
