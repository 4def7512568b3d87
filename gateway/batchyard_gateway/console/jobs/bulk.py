"""
Bulk: one thing done to many jobs, in the background of the session that asked for it.

Law: it works through bounded calls, so that 100,000 jobs block nobody; what it did stays
done, so that one that broke off is simply asked for again; it ends with the session in
which it was asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from batchyard import wording
from batchyard.errors import BatchyardError, RequestError
from batchyard.states import ACTIVE_STATES, FINAL_STATES, WAITING_STATES, JobState
from batchyard.v1 import job_pb2 as pb
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.batch.names import JOB
from batchyard_gateway.console.visit import Visit
from batchyard_gateway.errors import ApiError

from .job_filters import Filters
from .job_rows import is_array, open_children

STOP_MAX = 50
"""Jobs of one CancelJobs or TerminateJobs (AWS's limit)."""

LIST_MAX = 1_000
"""Jobs of one list (the contract's limit)."""

COUNT_S = 2.0
"""How long is counted at most before it is asked whether to begin."""

RUNNING_MAX = 3
KEPT_MAX = 20
"""Of one session; those that are over are forgotten first."""

REFUSALS_MAX = 20
"""Refusals that are told in full."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """
    What may be done to many.

    Attributes:
        word: In an address, and on the button.
        done: What became of who was not refused.
        operation: AWS's, for up to ``STOP_MAX`` at once; empty of what is done one by one.
        states: Whom it concerns; the others are passed by.
    """

    word: str
    done: str
    operation: str
    states: frozenset[JobState]

    @property
    def title(self) -> str:
        """With a capital."""
        return self.word.capitalize()

    def outcome(self, state: JobState) -> str:
        """Say what becomes of jobs in a state."""
        if state in self.states:
            return f"will be {self.done}"
        return "have ended: nothing to be done" if state in FINAL_STATES else "have started and go on"


ACTIONS: Mapping[str, Action] = {
    action.word: action
    for action in (
        Action(word="cancel", done="cancelled", operation="CancelJobs", states=WAITING_STATES),
        Action(word="terminate", done="terminated", operation="TerminateJobs", states=WAITING_STATES | ACTIVE_STATES),
        Action(word="tag", done="tagged", operation="", states=frozenset(JobState)),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """To whom: jobs by id, or all that match at the time."""

    ids: Sequence[str] = ()
    filters: Filters | None = None


@dataclass(slots=True, kw_only=True)
class Counts:
    """
    Who is meant.

    Attributes:
        by_state: How many in each.
        children: Of arrays among them, those that have not ended.
        is_least: There are more than were counted in ``COUNT_S``.
    """

    by_state: Counter[JobState] = field(default_factory=Counter)
    arrays: int = 0
    children: int = 0
    is_least: bool = False

    def add(self, job: pb.Job | pb.JobSummary) -> None:
        """Count one."""
        self.by_state[wording.job_state(job)] += 1
        if is_array(job):
            self.arrays += 1
            self.children += open_children(job.array.status_summary)


@dataclass(slots=True, kw_only=True)
class Bulk:
    """
    One of them, as far as it is.

    Attributes:
        id: Its name in an address.
        what: On whom, in words.
        back: Where it was asked for.
        again: Where it may be asked for again.
        passed: Who was not concerned any more.
        failure: What ended it before its end.
    """

    id: str
    action: Action
    what: str
    back: str
    again: str
    done: int = 0
    passed: int = 0
    refused: int = 0
    refusals: list[tuple[str, str]] = field(default_factory=list)
    failure: str = ""
    is_over: bool = False

    @property
    def words(self) -> str:
        """Say in one sentence what became of it so far."""
        jobs = "1 job is" if self.done == 1 else f"{self.done:,} jobs are"
        parts = [f"{jobs} {self.action.done}"]
        parts += [f"{self.passed:,} passed by, as nothing was to be done"] if self.passed else []
        parts += [f"{self.refused:,} refused"] if self.refused else []
        return "; ".join(parts) + "."

    def refuse(self, job_id: str, text: str) -> None:
        """Note a refusal."""
        self.refused += 1
        if len(self.refusals) < REFUSALS_MAX:
            self.refusals.append((job_id, text))


async def count(visit: Visit, choice: Choice, action: Action) -> Counts:
    """Count who is meant, for ``COUNT_S`` at most; of all that match those that have not ended, if the others do not matter."""
    counts = Counts()
    read_s = asyncio.get_running_loop().time
    ends_s = read_s() + COUNT_S
    async for jobs in _pages(visit, choice, action.states | ACTIVE_STATES):
        for job in jobs:
            counts.add(job)
        if read_s() >= ends_s:
            counts.is_least = True
            break
    return counts


def begin(visit: Visit, bulk: Bulk, choice: Choice, reason: str, tags: Mapping[str, str]) -> asyncio.Task[None]:
    """
    Begin in the background; what was begun ends with the gateway.

    Raises:
        ApiError: so many of the session are under way already.
    """
    bulks = visit.session.bulks
    if sum(not each.is_over for each in bulks.values()) >= RUNNING_MAX:
        text = f"{RUNNING_MAX} such actions of yours are under way: wait until one is over."
        raise ApiError("TooManyRequestsException", text, 429)
    bulks[bulk.id] = bulk
    while len(bulks) > KEPT_MAX:
        del bulks[next(name for name, each in bulks.items() if each.is_over)]
    return visit.begin(_carry_out(visit, bulk, choice, reason, tags))


async def _carry_out(visit: Visit, bulk: Bulk, choice: Choice, reason: str, tags: Mapping[str, str]) -> None:
    try:
        async for jobs in _pages(visit, choice, bulk.action.states):
            if not await visit.is_signed_in():
                bulk.failure = "The session in which it was begun is over."
                return
            concerned = [job.id for job in jobs if wording.job_state(job) in bulk.action.states]
            bulk.passed += len(jobs) - len(concerned)
            for start in range(0, len(concerned), STOP_MAX):
                some = concerned[start : start + STOP_MAX]
                if bulk.action.operation:
                    await _stop(visit, bulk, some, reason)
                else:
                    await asyncio.gather(*(_tag(visit, bulk, job_id, tags) for job_id in some))
    except (ApiError, BatchyardError) as err:
        bulk.failure = str(err)
    except asyncio.CancelledError:
        log.warning(
            "broke off as the gateway stops", action=bulk.action.word, done=bulk.done, by=visit.session.access_key_id
        )
        raise
    except Exception:  # nobody waits for it: a bug is told where its progress is, and ends nothing else
        log.exception("internal error", action=bulk.action.word, done=bulk.done)
        bulk.failure = "Something broke; the gateway's log tells what."
    finally:
        bulk.is_over = True


async def _stop(visit: Visit, bulk: Bulk, ids: Sequence[str], reason: str) -> None:
    answer = await visit.operate(bulk.action.operation, {"jobs": ids, "reason": reason})
    bulk.done += len(answer["successful"])
    for error in answer["errors"]:
        bulk.refuse(error["job"], error["message"])


async def _tag(visit: Visit, bulk: Bulk, job_id: str, tags: Mapping[str, str]) -> None:
    arn = names_of(visit.context).arn(JOB, job_id)
    try:
        await visit.operate("TagResource", {"resourceArn": arn, "tags": dict(tags)})
    except (ApiError, RequestError) as err:
        bulk.refuse(job_id, str(err))
    else:
        bulk.done += 1


async def _pages(
    visit: Visit, choice: Choice, states: frozenset[JobState]
) -> AsyncIterator[Sequence[pb.Job] | Sequence[pb.JobSummary]]:
    """Yield who is meant, some at a time: of all that match those in these states, of ids all."""
    if choice.filters is None:
        yield await visit.client.describe_jobs(choice.ids[:LIST_MAX])
        return
    wanted = choice.filters.wanted(LIST_MAX)
    meant = [state for state in wanted.get("states") or JobState if state in states]
    if not meant:
        return
    wanted["states"] = meant
    token = ""
    while True:
        # Newest first: what is submitted meanwhile stands before the first page, and is left alone.
        page = await visit.client.list_jobs_page(**wanted, page_token=token)
        yield page.jobs
        token = page.next_page_token
        if not token:
            return
