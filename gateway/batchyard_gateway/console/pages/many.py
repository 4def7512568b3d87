"""Many: one thing done to many jobs: who is meant and how many, asked before it is done; then how far it is."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import QueryParams

from batchyard.errors import RequestError
from batchyard.states import JobState
from batchyard_gateway.batch.rules import REASON_LENGTH_MAX
from batchyard_gateway.console import bulk, job_filters
from batchyard_gateway.console.bulk import ACTIONS, Action, Bulk, Choice
from batchyard_gateway.console.visit import ROOT, Answer, Command, Page, Redirect, Visit, aws, batchyard, missing

from .jobs import PATH, zone_of
from .sign_in import own_path

SOON_S = 1.0
"""What takes no longer than that is told on the page where it was asked for."""

REFRESH_S = 2


async def show(visit: Visit) -> Answer:
    """Ask whether it is meant."""
    return await _ask(visit, visit.query, {})


async def change(visit: Visit) -> Answer:
    """Ask, and when it was answered, begin."""
    form = visit.form
    action = ACTIONS.get(form.get("action", ""))
    if form.get("sure") != "yes" or action is None:
        return await _ask(visit, form, {})
    choice, faults = _choice(visit, form), {}
    reason, key = form.get("reason", "").strip(), form.get("key", "").strip()
    if action.operation and not 1 <= len(reason) <= REASON_LENGTH_MAX:
        faults["reason"] = (
            f"A reason has 1 to {REASON_LENGTH_MAX} characters, not {len(reason)}: it becomes the status reason."
        )
    if not action.operation and not key:
        faults["key"] = "A tag has a key."
    if faults or _fault(action, choice):
        return await _ask(visit, form, faults)
    name = visit.context.request_id
    started = Bulk(id=name, action=action, what=_words(choice), back=_back(form), again=_again(action, choice))
    task = bulk.begin(visit, started, choice, reason, {key: form.get("value", "").strip()} if key else {})
    await asyncio.wait({task}, timeout=SOON_S)
    if started.is_over and not started.refused and not started.failure:
        visit.session.notices.append(started.words)
        return Redirect(location=started.back)
    return Redirect(location=f"{PATH}/many/{name}")


async def progress(visit: Visit) -> Answer:
    """Show how far it is."""
    found = visit.session.bulks.get(visit.names["bulk"])
    if found is None:
        text = "Nothing of that name was begun in this session, or the gateway was started again since: what was done stays done."
        return missing(text)
    title = f"{found.action.title} {found.what}"
    return Page(
        template="many_progress.html", title=title, view={"bulk": found, "refresh_s": REFRESH_S}, section="Jobs"
    )


async def _ask(visit: Visit, given: QueryParams, faults: dict[str, str]) -> Answer:
    word, choice = given.get("action", ""), _choice(visit, given)
    back = _back(given)
    if word == "clone" and len(choice.ids) == 1:
        return Redirect(location=f"{PATH}/new?clone={choice.ids[0]}")
    action = ACTIONS.get(word)
    if action is None:
        return _nothing(
            "One job is cloned at a time: tick one." if word == "clone" else "Say what is to be done.", back
        )
    if fault := _fault(action, choice):
        return _nothing(fault, back)
    try:
        counts = await bulk.count(visit, choice, action)
    except RequestError as err:
        return _nothing(str(err), back)
    meant = sum(number for state, number in counts.by_state.items() if state in action.states)
    view: dict[str, Any] = {
        "action": action,
        "what": _words(choice),
        "counts": counts,
        "meant": meant,
        "outcomes": [
            (state, counts.by_state[state], action.outcome(state)) for state in JobState if counts.by_state[state]
        ],
        "kept": _kept(choice),
        "ids": choice.ids,
        "given": given,
        "back": back,
        "faults": faults,
    }
    least = "at least " if counts.is_least else ""
    title = f"{action.title} {least}{meant:,} {'job' if meant == 1 else 'jobs'}?"
    page = Page(template="many.html", title=title, view=view, section="Jobs", commands=_commands(action, choice))
    return page.refused() if faults else page


def _fault(action: Action, choice: Choice) -> str:
    """Say why it is not known who is meant: a filter that cannot be read must not mean everybody."""
    if choice.filters is not None:
        return " ".join(choice.filters.faults.values())
    return "" if choice.ids else f"No job is ticked: tick those to {action.word}, or choose all that match."


def _nothing(text: str, back: str) -> Page:
    view = {"text": text, "back": back}
    return Page(template="many_nothing.html", title="Nothing chosen", view=view, section="Jobs").refused()


def _choice(visit: Visit, given: QueryParams) -> Choice:
    if given.get("which") == "all":
        return Choice(filters=job_filters.read(given, zone_of(visit)))
    return Choice(ids=list(dict.fromkeys(given.getlist("id")))[: job_filters.SIZES[-1]])


def _words(choice: Choice) -> str:
    if choice.filters is not None:
        return f"all {choice.filters.words()}"
    return choice.ids[0] if len(choice.ids) == 1 else f"{len(choice.ids)} ticked jobs"


def _kept(choice: Choice) -> list[tuple[str, str]]:
    """Return what the form that asks hands on of whom is meant."""
    if choice.filters is not None:
        return [("which", "all"), *choice.filters.pairs()]
    return [("id", job_id) for job_id in choice.ids]


def _again(action: Action, choice: Choice) -> str:
    if choice.filters is None:
        return ""
    query = choice.filters.address("")
    return f"{PATH}/many{query}{'&' if query else '?'}which=all&action={action.word}"


def _back(given: QueryParams) -> str:
    back = own_path(given.get("back", ""))
    return PATH if back == f"{ROOT}/" else back


def _commands(action: Action, choice: Choice) -> list[Command]:
    if not action.operation:
        return [batchyard("tag", "add", "job", each, "KEY=VALUE") for each in choice.ids[:1]]
    ids = choice.ids[: bulk.STOP_MAX]
    if not ids:
        return []
    return [
        batchyard(action.word, *ids, "--reason", "not needed"),
        aws(f"{action.word}-jobs", "--jobs", *ids, "--reason", "not needed"),
    ]
