"""The wizard: from nothing to a job, in AWS's own steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from batchyard.errors import RequestError
from batchyard.v1.job_definition_pb2 import ListJobDefinitionsRequest
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.console.forms import command_lines, definition_form, environment_form, offers, room, tables
from batchyard_gateway.console.forms.faults import faults_of
from batchyard_gateway.console.forms.fields import WrongError
from batchyard_gateway.console.forms.sheet import Sheet, press
from batchyard_gateway.console.visit import ROOT, Answer, Command, Page, Redirect, Visit
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from . import wizard

HERE = f"{ROOT}/start"
_TO_STEP = "step:"
"""Begins what a button says that leads to a step."""


async def show(visit: Visit) -> Answer:
    """Show a step."""
    return await _page(visit, _step(visit), await _yard(visit))


async def change(visit: Visit) -> Answer:
    """Keep what was answered, and do what the button says."""
    step, answers = _step(visit), visit.session.answers
    if visit.form.get("go") == "away":
        answers[wizard.SKIPPED] = {}
        return Redirect(location=f"{ROOT}/")
    if step == wizard.REVIEW:
        if leads_to := _leads_to(visit, step):
            return leads_to
        async with visit.session.lock:  # a button may be pressed twice
            return await _create(visit, await _yard(visit))
    try:  # first, so that nothing is lost if the yard cannot be asked
        wizard.keep(step, answers, visit.form.multi_items())
    except WrongError as err:
        return (await _page(visit, step, await _yard(visit), {"": str(err)})).refused()
    yard = await _yard(visit)
    sheet = Sheet(form=wizard.form(step, answers, yard), answers=answers[step], go=visit.form.get("go", "next"))
    await press(visit, sheet)
    answers[step] = sheet.answers
    if sheet.focus:
        page = await _page(visit, step, await _yard(visit), sheet.faults, focus=sheet.focus)
        return page.refused() if sheet.faults else page
    return await _go(visit, step, yard, sheet.go)


def _leads_to(visit: Visit, step: str) -> Redirect | None:
    """Return where a button leads that only goes to another step."""
    where = visit.form.get("go", "")
    found = wizard.before(step) if where == "back" else where.removeprefix(_TO_STEP)
    return Redirect(location=f"{HERE}?step={found}") if found in wizard.STEPS else None


async def _go(visit: Visit, step: str, yard: wizard.Yard, where: str) -> Answer:
    answers = visit.session.answers
    if where == "look":
        return await _page(visit, step, yard)
    if leads_to := _leads_to(visit, step):
        return leads_to
    if where == "skip" and step == wizard.JOB:
        answers[step][wizard.SKIPPED] = []
    if found := wizard.faults(step, answers, yard):
        return (await _page(visit, step, yard, found)).refused()
    return Redirect(location=f"{HERE}?step={wizard.after(step)}")


def _step(visit: Visit) -> str:
    step = visit.query.get("step", wizard.ORCHESTRATION)
    return step if step in wizard.STEPS else wizard.ORCHESTRATION


async def opens_by_itself(visit: Visit) -> bool:
    """Say whether the overview should lead to the wizard."""
    client = visit.client
    environments = await _is_any(client.list_compute_environments(page_size=1))
    queues = environments or await _is_any(client.list_job_queues(page_size=1))
    definitions = queues or await _is_any(client.list_job_definitions(page_size=1))
    return wizard.opens_by_itself(is_empty=not definitions, answers=visit.session.answers)


async def _is_any(items: AsyncGenerator[Any, None]) -> bool:
    async with aclosing(items):
        async for _ in items:
            return True
    return False


# Looking --------------------------------------------------------------------------


async def _yard(visit: Visit) -> wizard.Yard:
    """Read what there is."""
    hosts = await offers.hosts(visit)
    found = (await offers.environments(visit))[: offers.NAMES_MAX]
    environments = {each.name: environment_form.kind_of(each, names_of(visit.context)) for each in found}
    return wizard.Yard(
        environments=environments,
        queues=[queue.name for queue in await offers.queues(visit)],
        policies=await offers.policies(visit),
        definitions=await offers.newest_definitions(visit),
        secrets=await offers.secrets(visit),
        host_types=room.host_types(hosts),
        spot_hosts=room.spot_hosts(hosts),
        runs_containers=room.runs_containers(hosts),
        clusters=offers.clusters(hosts, names_of(visit.context)),
        account_id=visit.context.account_id,
    )


async def _selection(visit: Visit, yard: wizard.Yard) -> room.Selection | None:
    """Return which hosts the environment would have, or has if it is there; None while nobody can tell."""
    session, client = visit.session.answers, visit.client
    if name := wizard.chosen(wizard.ENVIRONMENT, session, yard):
        judged = client.list_environment_hosts(name)
    else:
        members = wizard.drafted(wizard.ENVIRONMENT, session, yard).members
        asked = environment_form.creation_of(members)
        if asked is None:
            return None
        cluster = asked.kubernetes if asked.HasField("kubernetes") else None
        judged = client.list_environment_hosts(compute_resources=asked.compute_resources, kubernetes=cluster)
    try:
        return room.selection([host async for host in judged], await offers.hosts(visit))
    except RequestError:  # it breaks a rule of the yard's, which is told when it is made
        return None


async def _page(
    visit: Visit, step: str, yard: wizard.Yard, faults: Mapping[str, str] | None = None, focus: str = "",
    refused: Mapping[str, Mapping[str, str]] | None = None,
) -> Page:  # fmt: skip
    """Return the page of a step."""
    session = visit.session.answers
    view: dict[str, Any] = {
        "step": step, "steps": wizard.STEPS, "done": _done(session, yard), "faults": faults or {}, "focus": focus,
        "form": wizard.form(step, session, yard), "answers": wizard.answers_of(step, session, yard),
        "has_cluster": bool(yard.clusters), "cards": (), "room": None, "selection": None, "remarks": (), "command": "",
    }  # fmt: skip
    commands: tuple[Command, ...] = ()
    if step in wizard.OPERATIONS:
        members = wizard.drafted(step, session, yard).members
        commands = command_lines.lines(wizard.OPERATIONS[step], members)
        if step == wizard.DEFINITION:
            view |= {"room": await offers.room_of(visit, members), "remarks": definition_form.remarks(members)}
    if step in (wizard.ENVIRONMENT, wizard.REVIEW):
        view["selection"] = await _selection(visit, yard)
        view["remarks"] = [text] if (text := wizard.taken(step, session, yard)) else ()
    if step == wizard.REVIEW:
        view["cards"] = wizard.cards(session, yard, refused or {})
        made = [card for card in view["cards"] if card.members]
        commands = tuple(
            line for card in made for line in command_lines.lines(wizard.OPERATIONS[card.step], card.members)
        )
    title = f"Get started: {wizard.STEPS[step].lower()}"
    return Page(template="start.html", title=title, view=view, section="Overview", commands=commands)


def _done(session: wizard.Session, yard: wizard.Yard) -> set[str]:
    """Return the steps that were answered rightly."""
    return {step for step in wizard.STEPS if step in session and not wizard.faults(step, session, yard)}


# Making ---------------------------------------------------------------------------


async def _create(visit: Visit, yard: wizard.Yard) -> Answer:
    """Make what is described and not there yet, in order, up to the first refusal."""
    session = visit.session.answers
    if step := wizard.unanswered(session):
        return Redirect(location=wizard.ended_at(session) or f"{HERE}?step={step}")
    wrong = {step: found for step in wizard.OPERATIONS if (found := wizard.faults(step, session, yard))}
    if wrong:
        return (
            await _page(visit, wizard.REVIEW, yard, {"": "Some steps are not right yet: nothing was made now"})
        ).refused()
    job_id = ""
    for step in wizard.OPERATIONS:
        if wizard.chosen(step, session, yard) or (step == wizard.JOB and wizard.is_skipped(session)):
            continue
        try:
            job_id = await _make(visit, step, yard)
        except (ApiError, RequestError) as err:
            said = faults_of(err, tables.called(wizard.form(step, session, yard)))
            text = f"{wizard.STEPS[step]}: {'; '.join(said.values())}"
            page = await _page(visit, wizard.REVIEW, await _yard(visit), {"": text}, refused={step: said})
            return page.refused()
    return _end(visit, yard, job_id)


async def _make(visit: Visit, step: str, yard: wizard.Yard) -> str:
    """
    Make the thing of a step, unless it was made already; return its name, of a job its id.

    Raises:
        ApiError: it is refused.
        BatchyardError: the controller refused, or failed, and it may be made or not.
    """
    session = visit.session.answers
    members = wizard.drafted(step, session, yard).members
    if name := wizard.made_name(step, session, members):
        return name
    there = await _there(visit, step, members)
    if name := wizard.found_after_all(step, session, members, there):
        wizard.note_made(step, session, members, name)
        return name
    wizard.note_try(step, session, members, there)
    # One id for all tries of one wizard: the job is submitted once.
    amend = wizard.AMENDS[step](members) if step in wizard.AMENDS else None
    token = session.setdefault("request", {}).setdefault("id", [visit.context.request_id])[0]
    try:
        told = await replace(visit, context=replace(visit.context, invocation_id=token)).operate(
            wizard.OPERATIONS[step], tables.without_native(members), amend
        )
    except (ApiError, RequestError):
        wizard.note_refused(step, session)
        raise
    name = _told_name(step, told)
    wizard.note_made(step, session, members, name)
    return name


def _told_name(step: str, told: Members) -> str:
    if step == wizard.DEFINITION:
        return f"{told['jobDefinitionName']}:{told['revision']}"
    keys = {wizard.ENVIRONMENT: "computeEnvironmentName", wizard.QUEUE: "jobQueueName", wizard.JOB: "jobId"}
    return str(told[keys[step]])


async def _there(visit: Visit, step: str, members: Members) -> list[str]:
    """Return what there is of the name of something that is about to be made, the newest first."""
    match step:
        case wizard.ENVIRONMENT:
            found = await visit.client.describe_compute_environments([members["computeEnvironmentName"]])
            return [each.name for each in found]
        case wizard.QUEUE:
            return [each.name for each in await visit.client.describe_job_queues([members["jobQueueName"]])]
        case wizard.DEFINITION:
            request = ListJobDefinitionsRequest(name=members["jobDefinitionName"], page_size=1)
            page = await visit.client.calls.list_job_definitions(request)
            return [f"{each.name}:{each.revision}" for each in page.job_definitions]
        case _:
            return []


def _end(visit: Visit, yard: wizard.Yard, job_id: str) -> Answer:
    """Forget the answers and show what was made."""
    session = visit.session.answers
    names = [wizard.name_of(step, session, yard) for step in (wizard.ENVIRONMENT, wizard.QUEUE, wizard.DEFINITION)]
    environment, queue, definition = names
    visit.session.notices.append(f"There are: environment {environment}, queue {queue}, definition {definition}.")
    is_skipped = wizard.is_skipped(session)
    location = f"{ROOT}/definitions/{definition}" if is_skipped else f"{ROOT}/jobs/{job_id}"
    wizard.end(session, location)
    return Redirect(location=location)
