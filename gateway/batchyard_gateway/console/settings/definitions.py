"""Job definitions: the newest of each name, a revision and its likes, a new one, taking one out of use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchyard.errors import NotFoundError, RequestError
from batchyard.v1 import job_definition_pb2 as pb
from batchyard_gateway.batch import definitions, pods
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.console.forms import command_lines, definition_form, offers, pod_form, tables
from batchyard_gateway.console.forms.environment_form import EKS, FARGATE
from batchyard_gateway.console.forms.faults import faults_of
from batchyard_gateway.console.forms.sheet import once, posted
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

from . import revisions

PAGE_SIZE = 100
SECTION = "Definitions"
HERE = f"{ROOT}/definitions"


async def show(visit: Visit) -> Answer:
    """List the newest revision of each name."""
    request = pb.ListJobDefinitionsRequest(
        page_size=PAGE_SIZE, page_token=visit.query.get("token", ""), status=pb.JOB_DEFINITION_STATUS_ACTIVE
    )
    page = await visit.client.calls.list_job_definitions(request)
    rows = revisions.newest(page.job_definitions, after=visit.query.get("after", ""))
    after = page.job_definitions[-1].name if page.job_definitions else ""
    view = {"rows": rows, "token": page.next_page_token, "after": after, "is_first": not request.page_token}
    commands = (batchyard("job-definition", "list"), aws("describe-job-definitions", "--status", "ACTIVE"))
    return Page(template="definitions.html", title="Job definitions", view=view, section=SECTION, commands=commands)


async def show_one(visit: Visit) -> Answer:
    """Show a revision, beside another if one is asked for."""
    return await _one(visit)


async def _one(visit: Visit, faults: Mapping[str, str] | None = None) -> Page:
    name, _, revision = visit.names["name"].partition(":")
    request = pb.ListJobDefinitionsRequest(page_size=PAGE_SIZE, name=name)
    listed = list((await visit.client.calls.list_job_definitions(request)).job_definitions)
    definition = await _revision(visit, name, revision, listed)
    other = visit.query.get("with", "")
    beside = await _revision(visit, name, other, listed) if other else None
    members = _members(visit, definition)
    key = f"{name}:{definition.revision}"
    view = {
        "definition": definition, "members": members, "key": key, "listed": listed, "other": other,
        "is_active": definition.status == pb.JOB_DEFINITION_STATUS_ACTIVE, "faults": faults or {},
        "compared": revisions.compare(members, _members(visit, beside)) if beside is not None else (),
    }  # fmt: skip
    commands = (
        batchyard("job-definition", "describe", key),
        aws("describe-job-definitions", "--job-definitions", key),
    )
    return Page(
        template="definition.html", title=f"Job definition {key}", view=view, section=SECTION, commands=commands
    )


def _members(visit: Visit, definition: pb.JobDefinition) -> Members:
    return definitions.members_of(definition, names_of(visit.context))


async def _revision(visit: Visit, name: str, revision: str, listed: list[pb.JobDefinition]) -> pb.JobDefinition:
    """
    Return a revision; the newest ACTIVE one, else the newest, where none is named.

    Raises:
        NotFoundError: there is none.
    """
    active = [each for each in listed if each.status == pb.JOB_DEFINITION_STATUS_ACTIVE]
    found = (active or listed)[:1] if not revision else [each for each in listed if str(each.revision) == revision]
    if not found and revision:
        found = await visit.client.describe_job_definitions([f"{name}:{revision}"])
    if not found:
        key = f"{name}:{revision}" if revision else name
        raise NotFoundError(f"no such job definition: {key}")
    return found[0]


async def change_one(visit: Visit) -> Answer:
    """Take a revision out of use."""
    key = visit.names["name"]
    try:
        await visit.operate("DeregisterJobDefinition", {"jobDefinition": key})
    except (ApiError, RequestError) as err:
        return (await _one(visit, faults_of(err, {}))).refused()
    visit.session.notices.append(f"{key} is INACTIVE: no new job can name it; those that were submitted go on.")
    return Redirect(location=f"{HERE}/{key}")


# A new revision ---------------------------------------------------------------------


async def show_new(visit: Visit) -> Answer:
    """Show the form of a definition, empty or filled from a revision."""
    key = visit.query.get("of", "")
    if not key and visit.query.get("as") == EKS:
        answers = {name: [text] for name, text in pod_form.PRESETS.items() if name != "jobDefinitionName"}
        return await _form_page(visit, answers, is_pod=True)
    if not key:
        answers = {name: [text] for name, text in definition_form.PRESETS.items() if name != "jobDefinitionName"}
        return await _form_page(visit, answers)
    name, _, revision = key.partition(":")
    described = _members(
        visit, await _revision(visit, name, revision, await visit.client.describe_job_definitions([name]))
    )
    given = definition_form.of_definition(described)
    if pods.EKS in given:
        given.pop("type", None)
        return await _form_page(visit, tables.fill(pod_form.definition(), pod_form.to_form(given)), is_pod=True)
    form = _form(FARGATE in given.get("platformCapabilities", ()), await offers.secrets(visit))
    given.pop("type", None)
    return await _form_page(visit, tables.fill(form, given))


def _form(is_fargate: bool, secrets: list[str]) -> tables.Form:
    return definition_form.definition(fargate=is_fargate, secrets=secrets, is_platform_open=True)


async def change_new(visit: Visit) -> Answer:
    """Do what the button says: change rows, or register."""
    return await once(visit, lambda: _change_new(visit))


async def _change_new(visit: Visit) -> Answer:
    is_pod = visit.query.get("as") == EKS
    is_fargate = visit.form.get("platformCapabilities") == FARGATE
    form = pod_form.definition() if is_pod else _form(is_fargate, await offers.secrets(visit))
    sheet = await posted(visit, form)
    if sheet.go in ("", "look"):
        page = await _form_page(visit, sheet.answers, sheet.faults, sheet.focus, is_pod=is_pod)
        return page.refused() if sheet.faults else page
    draft = _draft(sheet.form, sheet.answers, is_pod=is_pod)
    sheet.tell(draft.faults)
    try:
        definition_form.check_definition(draft.members)
    except ApiError as err:
        sheet.tell_refusal(err)
    told = await sheet.carry_out(visit, "RegisterJobDefinition", draft.members)
    if told is None:
        return (await _form_page(visit, sheet.answers, sheet.faults, is_pod=is_pod)).refused()
    key = f"{told['jobDefinitionName']}:{told['revision']}"
    visit.session.notices.append(f"Registered {key}.")
    return Redirect(location=f"{HERE}/{key}")


def _draft(form: tables.Form, answers: Mapping[str, list[str]], *, is_pod: bool) -> tables.Draft:
    if is_pod:
        return pod_form.definition_draft(form, answers)
    return definition_form.definition_draft(form, answers, fargate=False)


async def _form_page(
    visit: Visit, answers: Mapping[str, list[str]], faults: Mapping[str, str] | None = None, focus: str = "", *,
    is_pod: bool = False,
) -> Page:  # fmt: skip
    is_fargate = (answers.get("platformCapabilities") or [""])[0] == FARGATE
    form = pod_form.definition() if is_pod else _form(is_fargate, await offers.secrets(visit))
    members = _draft(form, answers, is_pod=is_pod).members
    view: dict[str, Any] = {
        "is_pod": is_pod,
        "form": form, "answers": answers, "faults": faults or {}, "focus": focus,
        "room": await offers.room_of(visit, members), "remarks": definition_form.remarks(members),
    }  # fmt: skip
    return Page(
        template="definition_new.html", title="Register a job definition", view=view, section=SECTION,
        commands=command_lines.lines("RegisterJobDefinition", members),
    )  # fmt: skip
