"""
CloudWatch Logs, as far as it shows the logs of jobs; nobody writes them here.

There is one group, and a stream for each attempt. Law: no more of a log is read for
an answer than a window of it, whatever its length.

Source: Amazon CloudWatch Logs API Reference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from batchyard import errors as sdk_errors
from batchyard.arns import LOG_GROUP, Account
from batchyard.client import AsyncClient

from . import inputs, log_filter
from .errors import ApiError
from .log_pages import WINDOW_BYTES, Line, Page, Place, page_backward, page_forward, place_from, window
from .log_slices import BEYOND_ANY_LOG, Slices
from .log_streams import Stream, by_last_event, by_name, find_stream, list_streams
from .protocols import JsonRpc
from .services import Context, Members, Operation, Service

EVENTS_MAX = 10_000
STREAMS_MAX = 50
STREAM_NAMES_MAX = 100


async def describe_log_groups(context: Context, members: Members) -> Members:
    """Describe the only group, if it is asked for."""
    prefix = inputs.text(members, "logGroupNamePrefix")
    pattern = inputs.text(members, "logGroupNamePattern")
    if prefix and pattern:
        raise inputs.invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    inputs.number(members, "limit", 50, least=1, most=50)
    identifiers = inputs.texts(members, "logGroupIdentifiers", most=50)
    arn = Account(region=context.region, account_id=context.account_id).arn("logs", f"log-group:{LOG_GROUP}")
    is_asked = LOG_GROUP.startswith(prefix) and pattern.lower() in LOG_GROUP
    if not is_asked or (identifiers and not any(_is_group(identifier) for identifier in identifiers)):
        return {"logGroups": []}
    group = {"logGroupName": LOG_GROUP, "arn": f"{arn}:*", "logGroupArn": arn, "logGroupClass": "STANDARD"}
    return {"logGroups": [group | {"metricFilterCount": 0}]}


async def describe_log_streams(context: Context, members: Members) -> Members:
    """Describe streams, by name or by their last event."""
    _check_group(members)
    prefix = inputs.text(members, "logStreamNamePrefix")
    order = inputs.text(members, "orderBy", "LogStreamName")
    keys = {"LogStreamName": by_name, "LastEventTime": by_last_event}
    if order not in keys:
        raise inputs.invalid(f"orderBy must be one of {', '.join(keys)}, not {order!r}.")
    if prefix and order == "LastEventTime":
        raise inputs.invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    kinds = (str,) if order == "LogStreamName" else (int, str)
    streams, after = await list_streams(
        context.client,
        prefix=prefix,
        key=keys[order],
        is_descending=inputs.flag(members, "descending"),
        after=inputs.place(members, lambda place: _key(place, kinds)),
        limit=inputs.number(members, "limit", STREAMS_MAX, least=1, most=STREAMS_MAX),
    )
    account = Account(region=context.region, account_id=context.account_id)
    answer: Members = {"logStreams": [_stream_members(stream, account) for stream in streams]}
    return answer if after is None else answer | {"nextToken": inputs.token(*after)}


async def get_log_events(context: Context, members: Members) -> Members:
    """Read a page of one stream, forward or backward, as the token says."""
    _check_group(members)
    stream = await find_stream(context.client, inputs.required(members, "logStreamName"))
    limit = inputs.number(members, "limit", EVENTS_MAX, least=1, most=EVENTS_MAX)
    start_ms, end_ms = _times(members)
    token = inputs.text(members, "nextToken")
    place = place_from(token)
    if token and place is None:
        raise inputs.invalid("The specified nextToken is invalid.")
    if place is None and inputs.flag(members, "startFromHead"):
        place = Place(way="f", offset=0)
    if start_ms <= stream.started_at_ms < end_ms:
        page = await _page(context.client, stream, place, limit)
    else:
        # All of a stream's events are of one time, so none is within these bounds.
        offset = place.offset if place is not None else 0
        page = Page(lines=(), start=offset, end=offset)
    return {
        "events": [_event(stream, line) for line in page.lines],
        "nextForwardToken": str(Place(way="f", offset=page.end)),
        "nextBackwardToken": str(Place(way="b", offset=page.start)),
    }


async def filter_log_events(context: Context, members: Members) -> Members:
    """Search streams, one after the other; a call looks at a window's bytes and says where to go on."""
    _check_group(members)
    names = inputs.texts(members, "logStreamNames", most=STREAM_NAMES_MAX)
    prefix = inputs.text(members, "logStreamNamePrefix")
    if names and prefix:
        raise inputs.invalid("logStreamNames and logStreamNamePrefix are mutually exclusive.")
    try:
        pattern = log_filter.pattern_from(inputs.text(members, "filterPattern"))
    except log_filter.PatternError as err:
        raise inputs.invalid(f"Invalid filter pattern: {err}") from err
    times = _times(members)
    limit = inputs.number(members, "limit", EVENTS_MAX, least=1, most=EVENTS_MAX)
    place = inputs.place(members, _search_place) or _SearchPlace(stream="", offset=0)
    search = _Search(context.client, pattern, times, limit)
    streams = _named(context.client, names, place.stream) if names else _all(context.client, prefix, place.stream)
    async for stream in streams:
        try:
            stopped = await search.look(stream, place.offset if stream.name == place.stream else 0)
        except ApiError:
            if names:
                raise
            # One host that is away must not keep all others' logs from being searched.
            search.skip(stream)
            continue
        if stopped is not None:
            return search.answer() | {"nextToken": inputs.token(stream.name, stopped)}
    return search.answer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _SearchPlace:
    stream: str
    offset: int


class _Search:
    """One call's search: what was found, and what may still be read."""

    def __init__(self, client: AsyncClient, pattern: log_filter.Pattern, times: tuple[int, int], limit: int) -> None:
        self._client = client
        self._pattern = pattern
        self._start_ms, self._end_ms = times
        self._limit = limit
        self._events: list[Members] = []
        self._searched: list[Members] = []
        self._bytes_left = WINDOW_BYTES

    async def look(self, stream: Stream, offset: int) -> int | None:
        """Search one stream; return where this call had to stop, None at its end."""
        # Unlike GetLogEvents, the bounds are both included here.
        if not self._start_ms <= stream.started_at_ms <= self._end_ms:
            return None
        while True:
            if self._bytes_left <= 0 or len(self._events) >= self._limit:
                return offset
            page = await _page(self._client, stream, Place(way="f", offset=offset), EVENTS_MAX)
            if page.end <= offset:
                return None
            for line in page.lines:
                if len(self._events) >= self._limit:
                    return line.offset
                if self._pattern.matches(line.text):
                    self._events.append(_found(stream, line))
            self._bytes_left -= page.end - page.start
            offset = page.end

    def skip(self, stream: Stream) -> None:
        """Tell the caller that a stream could not be read."""
        self._searched.append({"logStreamName": stream.name, "searchedCompletely": False})

    def answer(self) -> Members:
        """Return the output, without a token."""
        return {"events": self._events, "searchedLogStreams": self._searched}


async def _named(client: AsyncClient, names: list[str], first: str) -> AsyncIterator[Stream]:
    for name in sorted(set(names)):
        if name >= first:
            yield await find_stream(client, name)


async def _all(client: AsyncClient, prefix: str, first: str) -> AsyncIterator[Stream]:
    if first:
        yield await find_stream(client, first)
    after: tuple[Any, ...] | None = (first,)
    while after is not None:
        streams, after = await list_streams(client, prefix=prefix, after=after, limit=STREAMS_MAX)
        for stream in streams:
            yield stream


async def _page(client: AsyncClient, stream: Stream, place: Place | None, limit: int) -> Page:
    """Turn one page of a stream; without a place, the last one."""
    slices = Slices(client=client, job_id=stream.job_id, attempt=stream.attempt, container=stream.container)
    try:
        is_last = stream.is_over
        if place is None:
            place = Place(way="b", offset=await slices.end())
        elif place.way == "b":
            is_last = True  # a token's place is the beginning of a line: what is before it is whole
        offset, length = window(place)
        piece = await (slices.read(offset, length) if place.way == "f" else slices.read_before(place.offset, length))
    except sdk_errors.NotFoundError as err:
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.") from err
    except sdk_errors.UnavailableError as err:
        raise ApiError("ServiceUnavailableException", str(err), 503) from err
    if place.way == "b":
        return page_backward(piece.data, piece.start, limit=limit, is_last=is_last)
    return page_forward(piece.data, piece.start, limit=limit, is_last=is_last and len(piece.data) < length)


def _check_group(members: Members) -> None:
    name, identifier = inputs.text(members, "logGroupName"), inputs.text(members, "logGroupIdentifier")
    if name and identifier:
        raise inputs.invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
    if not (name or identifier):
        raise inputs.invalid("LogGroup name or LogGroup ARN is required.")
    if not _is_group(name or identifier):
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")


def _is_group(identifier: str) -> bool:
    """Say whether a name or an ARN is the only group's."""
    return identifier.partition(":log-group:")[2].removesuffix(":*") == LOG_GROUP or identifier == LOG_GROUP


def _times(members: Members) -> tuple[int, int]:
    return inputs.number(members, "startTime", 0), inputs.number(members, "endTime", 2**63 - 1)


def _key(place: Any, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    if not isinstance(place, list) or tuple(map(type, place)) != kinds:
        raise ValueError(place)
    return tuple(place)


def _search_place(place: Any) -> _SearchPlace:
    name, offset = _key(place, (str, int))
    return _SearchPlace(stream=name, offset=min(max(0, offset), BEYOND_ANY_LOG))


def _stream_members(stream: Stream, account: Account) -> Members:
    return {
        "logStreamName": stream.name,
        "creationTime": stream.started_at_ms,
        "firstEventTimestamp": stream.started_at_ms,
        "lastEventTimestamp": stream.started_at_ms,
        "lastIngestionTime": stream.last_at_ms,
        "uploadSequenceToken": "0",
        "arn": account.arn("logs", f"log-group:{LOG_GROUP}:log-stream:{stream.name}"),
        "storedBytes": 0,
    }


def _event(stream: Stream, line: Line) -> Members:
    return {"timestamp": stream.started_at_ms, "message": line.text, "ingestionTime": stream.started_at_ms}


def _found(stream: Stream, line: Line) -> Members:
    named = {"logStreamName": stream.name, "eventId": f"{stream.name.rpartition('/')[2]}.{line.offset:018}"}
    return named | _event(stream, line)


SERVICE = Service(
    name="logs",
    protocol=JsonRpc(),
    target_prefix="Logs_20140328",
    operations={
        operation.name: operation
        for operation in (
            Operation(name="DescribeLogGroups", handler=describe_log_groups),
            Operation(name="DescribeLogStreams", handler=describe_log_streams),
            Operation(name="GetLogEvents", handler=get_log_events),
            Operation(name="FilterLogEvents", handler=filter_log_events),
        )
    },
)
