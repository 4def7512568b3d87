"""
Job filters: which jobs a reader wants to see, as the address of a page says it.

Pure: the names behind the ``?`` in, arguments of the SDK, words and commands out. Law:
everything that narrows a list is in its address, and each of it can be dropped alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from batchyard.errors import Reason, RequestError
from batchyard.job_lists import JobsWanted
from batchyard.states import JobState
from batchyard_gateway.console.forms.faults import Faults, faults_of
from batchyard_gateway.console.visit import Command, aws, batchyard

SIZES = (50, 100, 500)
"""Rows a page, as AWS's console has them."""

SIZE = 100
VALUES_MAX = 50
"""Queues and tags a list may be of (the contract's limit)."""

_SEVERAL = {"queue": "queues", "state": "states", "tag": "tags"}
_ONE = {
    "name": "name", "definition": "definition", "share": "share", "host": "host", "user": "user",
    "from": "created_from", "to": "created_to", "array": "array",
}  # fmt: skip
_MOMENTS = {"from": "after_ms", "to": "before_ms"}
_LABELS = {
    "queue": "queue", "state": "state", "name": "name", "definition": "definition", "share": "share",
    "tag": "tag", "host": "host", "user": "user", "from": "created from", "to": "created before",
}  # fmt: skip
_FIELDS = {
    "queues": "queue", "states": "state", "name": "name", "job_definition": "definition", "share_identifier": "share",
    "tags": "tag", "host": "host", "owner": "user", "created_after_ms": "from", "created_before_ms": "to",
}  # fmt: skip
"""Names in an address, by the contract's fields."""

_NOT_FOUND: Mapping[str, str] = {Reason.JOB_QUEUE_NOT_FOUND: "queue", Reason.HOST_NOT_FOUND: "host"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """
    What jobs are wanted; what is empty is not asked.

    Attributes:
        created_from: As it was typed; the moment is in *after_ms*.
        created_to: As it was typed; the moment is in *before_ms*.
        tags: ``key=value``, or ``key`` with whatever value.
        array: Children of this array are wanted; only *states* narrow them.
        size: Rows a page.
        faults: What is wrong with them, by the name in the address.
    """

    queues: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    name: str = ""
    definition: str = ""
    created_from: str = ""
    created_to: str = ""
    share: str = ""
    tags: tuple[str, ...] = ()
    host: str = ""
    user: str = ""
    array: str = ""
    size: int = SIZE
    after_ms: int = 0
    before_ms: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)

    def wanted(self, page_size: int) -> JobsWanted:
        """Return what the SDK's lists take."""
        if self.array:
            return JobsWanted(array_job_id=self.array, states=self.states, page_size=page_size)
        return JobsWanted(
            page_size=page_size,
            queue=self.queues,
            states=self.states,
            name=self.name,
            job_definition=self.definition,
            created_after_ms=self.after_ms,
            created_before_ms=self.before_ms,
            share_identifier=self.share,
            tags={key: value if mark else None for key, mark, value in (tag.partition("=") for tag in self.tags)},
            host=self.host,
            owner=self.user,
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Return what stands in an address for them."""
        several = [(name, value) for name, of in _SEVERAL.items() for value in getattr(self, of)]
        one = [(name, getattr(self, of)) for name, of in _ONE.items() if getattr(self, of)]
        return several + one + ([("size", str(self.size))] if self.size != SIZE else [])

    def address(self, path: str) -> str:
        """Return the address of a page with these filters."""
        pairs = self.pairs()
        return f"{path}?{urlencode(pairs)}" if pairs else path

    @property
    def are_any(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.chips())

    def chips(self) -> list[Chip]:
        """Return each filter in words, with those that stay without it."""
        found = []
        for name, of in _SEVERAL.items():
            values = getattr(self, of)
            found += [self._chip(name, of, each, tuple(other for other in values if other != each)) for each in values]
        for name, of in _ONE.items():
            if getattr(self, of) and name != "array":
                found.append(self._chip(name, of, getattr(self, of), ""))
        return found

    def _chip(self, name: str, of: str, value: str, rest: Any) -> Chip:
        changed: dict[str, Any] = {of: rest}
        if name in _MOMENTS:
            changed[_MOMENTS[name]] = 0
        return Chip(text=f"{_LABELS[name]} {value}", without=replace(self, **changed))

    def words(self) -> str:
        """Return them all in words."""
        what = f"children of {self.array}" if self.array else "jobs"
        return ", ".join([what, *(chip.text for chip in self.chips())])

    def commands(self) -> list[Command]:
        """Return the lines that list the same, of those tools that can."""
        return [*self._batchyard(), *self._aws()]

    def _batchyard(self) -> list[Command]:
        if self.share or self.after_ms or self.before_ms:
            return []  # it has no such options
        words = ["jobs"]
        for flag, values in (("--queue", self.queues), ("--state", self.states), ("--tag", self.tags)):
            words += [word for value in values for word in (flag, value)]
        for flag, value in (
            ("--array", self.array), ("--name", self.name), ("--definition", self.definition), ("--host", self.host),
            ("--user", self.user),
        ):  # fmt: skip
            words += [flag, value] if value else []
        return [batchyard(*words, "--limit", str(self.size))]

    def _aws(self) -> list[Command]:
        """Return AWS's line: it lists one queue or array, in one state or by one filter."""
        filters = [
            (name, value)
            for name, value in (
                ("JOB_NAME", self.name),
                ("JOB_DEFINITION", self.definition),
                ("SHARE_IDENTIFIER", self.share),
                ("AFTER_CREATED_AT", str(self.after_ms or "")),
                ("BEFORE_CREATED_AT", str(self.before_ms or "")),
            )
            if value
        ]
        is_sayable = len(self.states) + len(filters) == 1 and not (self.tags or self.host or self.user)
        if not is_sayable or (not self.array and len(self.queues) != 1):
            return []
        words = ["--array-job-id", self.array] if self.array else ["--job-queue", self.queues[0]]
        words += [word for state in self.states for word in ("--job-status", state)]
        words += [word for name, value in filters for word in ("--filters", f"name={name},values={value}")]
        return [aws("list-jobs", *words)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One filter in words, and the filters without it."""

    text: str
    without: Filters


def read(given: QueryParams, zone: tzinfo = UTC) -> Filters:
    """
    Return the filters of an address or a form.

    What is wrong is said in ``faults`` and left out otherwise.

    Args:
        given: Its names and values.
        zone: For moments that name none.
    """
    faults: Faults = {}
    states = tuple(dict.fromkeys(each.upper() for each in given.getlist("state") if each))
    if wrong := [each for each in states if each not in set(JobState)]:
        faults["state"] = f"{wrong[0]} is no state of a job: {', '.join(JobState)}"
    for name in ("name", "definition"):
        if "*" in given.get(name, "").strip()[:-1]:
            faults[name] = "A * matches any rest, so it stands at the end."
    for name in ("queue", "tag"):
        if len(_values(given, name)) > VALUES_MAX:
            faults[name] = f"At most {VALUES_MAX} can be asked for at once."
    if any(tag.startswith("=") for tag in given.getlist("tag")):
        faults["tag"] = "A tag is KEY=VALUE, or KEY for whatever value."
    size = given.get("size", str(SIZE))
    if size not in map(str, SIZES):
        faults["size"] = f"Rows a page are {', '.join(map(str, SIZES))}."
    moments = {name: _moment(given.get(name, "").strip(), name, zone, faults) for name in ("from", "to")}
    typed = {of: given.get(name, "").strip() for name, of in _ONE.items()}
    for name, at_ms in moments.items():
        if at_ms:  # as a browser's field wants it
            typed[_ONE[name]] = datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%dT%H:%M")
    return Filters(
        queues=_values(given, "queue"),
        states=tuple(state for state in states if state in set(JobState)),
        tags=_values(given, "tag"),
        **typed,
        after_ms=max(moments["from"] - 1, 0),  # the contract's is "later than"
        before_ms=moments["to"],
        size=SIZE if "size" in faults else int(size),
        faults=faults,
    )


def faults_of_list(error: RequestError) -> Faults:
    """Return what a list was refused for, by the name in the address."""
    if error.reason in _NOT_FOUND:
        return {_NOT_FOUND[error.reason]: str(error)}
    return faults_of(error, _FIELDS)


def _values(given: QueryParams, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.strip() for value in given.getlist(name) if value.strip()))


def _moment(text: str, name: str, zone: tzinfo, faults: Faults) -> int:
    """Return a moment in ms since the epoch; 0 where there is none, or none that can be read."""
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text)
        at_ms = int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)
        datetime.fromtimestamp(at_ms / 1000, zone)
    except (ValueError, OverflowError):
        at_ms = -1
    if at_ms < 0:
        faults[name] = f"{text[:40]} is no moment since 1970, such as 2026-01-31 or 2026-01-31T18:30."
        return 0
    return at_ms
