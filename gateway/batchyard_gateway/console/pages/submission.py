"""Submitting a job outside the wizard: a command alone, or a definition; new, or again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batchyard.errors import RequestError
from batchyard.ids import JobId
from batchyard.v1 import job_pb2
from batchyard_gateway.batch import definitions, refusals
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.batch.names import is_job
from batchyard_gateway.console import command_lines, offers
from batchyard_gateway.console.forms import definition_form, tables
from batchyard_gateway.console.forms import submission_form as noun
from batchyard_gateway.console.sheet import Sheet, posted
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

SAME_NAME_MAX = 100
"""Jobs of a name among which the newest is looked for."""

_TITLES = {noun.COMMAND: "Run a command", noun.DEFINITION: "Submit a job of a definition"}


async def show(visit: Visit) -> Answer:
    """Show the form, empty or filled from a job or a definition."""
    source, given = await _given(visit)
    form = await _form(visit, source)
    if given is None:
        return await _page(visit, source, form, await _presets(visit, form))
    return await _page(visit, source, form, tables.fill(form, given))


async def _given(visit: Visit) -> tuple[str, Members | None]:
    """Return what the address asks to be filled in."""
    if job_id := visit.query.get("clone", ""):
        job = await visit.client.describe_job(job_id)
        return noun.of_job(job, await _definition(visit, job.job_definition), names_of(visit.context))
    if definition := visit.query.get("definition", ""):
        return noun.DEFINITION, {"jobName": definition.partition(":")[0], "jobDefinition": definition}
    return (noun.DEFINITION if visit.query.get("of") == noun.DEFINITION else noun.COMMAND), None


async def _definition(visit: Visit, key: str) -> Members | None:
    if not key:
        return None
    found = await visit.client.describe_job_definitions([key])
    return definitions.members_of(found[0], names_of(visit.context)) if found else None


async def _form(visit: Visit, source: str) -> tables.Form:
    found = await offers.queues(visit)
    queues, shares = [queue.name for queue in found], await offers.shares(visit, found)
    if source == noun.COMMAND:
        return noun.form(source, queues, secrets=await offers.secrets(visit), shares=shares)
    return noun.form(source, queues, await offers.newest_definitions(visit), shares=shares)


async def _presets(visit: Visit, form: tables.Form) -> dict[str, list[str]]:
    names = {name for field in tables.fields_of(form) for name in field.inputs()}
    answers = {name: [text] for name, text in noun.PRESETS.items() if name in names}
    image = f"{definition_form.CONTAINER}image"
    return {**answers, image: [definition_form.PROCESS]} if image in names else answers


async def change(visit: Visit) -> Answer:
    """Do what the button says: change rows, show all once more, submit."""
    source = noun.DEFINITION if visit.form.get("of") == noun.DEFINITION else noun.COMMAND
    sheet = await posted(visit, await _form(visit, source))
    if sheet.go in ("", "edit"):
        page = await _page(visit, source, sheet.form, sheet.answers, sheet.faults, sheet.focus)
        return page.refused() if sheet.faults else page
    return await _submit(visit, source, sheet)


async def _submit(visit: Visit, source: str, sheet: Sheet) -> Answer:
    draft = tables.read(sheet.form, sheet.answers)
    sheet.tell(draft.faults)
    members = noun.named(draft.members)
    try:
        noun.check(members)
        found = await _jobs_named(visit, members)
        members = noun.with_ids(members, lambda text: found.get(text, text))
        if not sheet.faults and sheet.go == "submit":
            return await _done(visit, members)
        if noun.is_native(members):
            noun.request(members, visit.context)
    except (ApiError, RequestError) as err:
        sheet.tell_refusal(err)
    if sheet.faults:
        return (await _page(visit, source, sheet.form, sheet.answers, sheet.faults)).refused()
    return await _page(visit, source, sheet.form, sheet.answers, reviewed=members)


async def _done(visit: Visit, members: Members) -> Answer:
    """
    Submit, once however often the button is pressed.

    Raises:
        ApiError: it is refused.
    """
    once = replace(visit, context=replace(visit.context, invocation_id=visit.form.get("once", "")))
    if not noun.is_native(members):
        job_id = (await once.operate("SubmitJob", members))["jobId"]
    else:
        visit.note_change("SubmitJob", members)
        request = noun.request(members, once.context)
        try:
            job_id = (await visit.client.calls.submit_job(request, retry=True)).job_id
        except RequestError as err:
            raise refusals.client_exception("SubmitJob", err, names_of(visit.context)) from err
    visit.session.notices.append(f"Submitted: {members['jobName']}.")
    return Redirect(location=f"{ROOT}/jobs/{job_id}")


async def _jobs_named(visit: Visit, members: Members) -> dict[str, str]:
    """
    Return the ids of jobs that dependencies name by something else: the newest of that name.

    Raises:
        ApiError: there is none.
    """
    texts = {each["jobId"] for each in members.get("dependsOn", ()) if each.get("jobId")}
    found: dict[str, str] = {}
    for text in sorted(text for text in texts if not is_job(text) and not text.startswith("arn:")):
        page = await visit.client.calls.list_jobs(job_pb2.ListJobsRequest(name=text, page_size=SAME_NAME_MAX))
        if not page.jobs:
            raise ApiError("ClientException", f"dependsOn: there is no job named {text[:128]}")
        found[text] = JobId(page.jobs[0].id)
    return found


async def _page(
    visit: Visit, source: str, form: tables.Form, answers: Mapping[str, list[str]],
    faults: Mapping[str, str] | None = None, focus: str = "", reviewed: Members | None = None,
) -> Page:  # fmt: skip
    queues = dict(tables.fields_of(form)[1].options)  # type: ignore[attr-defined]  # the queue's, see submission_form
    members = reviewed or noun.named(tables.read(form, answers).members)
    view: dict[str, Any] = {
        "source": source, "form": form, "answers": answers, "faults": faults or {}, "focus": focus,
        "reviewed": reviewed, "has_queue": bool(queues),
        "has_definition": source == noun.COMMAND or bool(tables.fields_of(form)[2].suggestions),
        "room": await offers.room_of(visit, members) if source == noun.COMMAND else None,
        "region": visit.context.region,
    }  # fmt: skip
    return Page(
        template="submission.html", title=_TITLES[source], view=view, section="Jobs",
        commands=command_lines.lines("SubmitJob", members),
    )  # fmt: skip
