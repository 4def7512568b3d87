"""Compute environments: which hosts they select, and by which rule they leave others out."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from batchyard.errors import RequestError
from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.v1 import host_pb2
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.console.forms import command_lines, environment_form, offers, room
from batchyard_gateway.console.forms.environment_form import EC2, EKS, FARGATE, UNMANAGED
from batchyard_gateway.console.forms.faults import Faults, faults_of
from batchyard_gateway.console.forms.sheet import Sheet, blank, once, posted
from batchyard_gateway.console.forms.tables import Form
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard, missing
from batchyard_gateway.errors import ApiError

from . import environment_view, queue_view
from .environment_view import Selection
from .switching import switch

REMARKS = {
    "disable": "{} gets no new jobs; those that run there go on.",
    "enable": "{} gets jobs again.",
}


async def show(visit: Visit) -> Answer:
    """Show all environments."""
    environments, hosts = await asyncio.gather(offers.environments(visit), _hosts(visit))
    return Page(
        template="environments.html",
        title="Compute environments",
        view={"rows": [environment_view.row_of(each, hosts) for each in environments]},
        section="Environments",
        live=("counts", "hosts"),
        commands=(batchyard("compute-environment", "list"), aws("describe-compute-environments")),
    )


async def _hosts(visit: Visit) -> dict[str, host_pb2.Host]:
    return {host.id: host for host in await offers.hosts(visit)}


async def _find(visit: Visit) -> pb.ComputeEnvironment | None:
    found = await visit.client.describe_compute_environments([visit.names["name"]])
    return found[0] if found else None


def _gone(visit: Visit) -> Page:
    return missing(f"There is no compute environment {visit.names['name']}.")


async def show_one(visit: Visit) -> Answer:
    """Show one environment."""
    environment = await _find(visit)
    return _gone(visit) if environment is None else await _page(visit, environment, {})


async def change_one(visit: Visit) -> Answer:
    """Enable or disable an environment."""
    environment = await _find(visit)
    if environment is None:
        return _gone(visit)
    members, page = {"computeEnvironment": environment.name}, partial(_page, visit, environment)
    return await switch(visit, "UpdateComputeEnvironment", members, environment.name, REMARKS, page)


async def _page(visit: Visit, environment: pb.ComputeEnvironment, faults: Faults) -> Page:
    view: dict[str, Any] = {"facts": environment_view.facts_of(environment), "faults": faults}
    if visit.wants("now"):
        view["row"] = environment_view.row_of(environment, await _hosts(visit))
    if visit.wants("selection"):
        view["chosen"] = await _selection(visit, environment.name)
    if visit.wants(""):
        view["queues"] = await _queues(visit, environment.name)
    name = environment.name
    return Page(
        template="environment.html", title=f"Environment {name}", view=view, section="Environments",
        live=("counts", "hosts"),
        commands=(
            batchyard("compute-environment", "show", name),
            aws("describe-compute-environments", "--compute-environments", name),
        ),
    )  # fmt: skip


async def _queues(visit: Visit, name: str) -> list[str]:
    """Return the queues that use an environment."""
    every = visit.client.list_job_queues(page_size=1000)
    return [queue.name async for queue in every if name in queue_view.environments_of(queue)]


async def _selection(visit: Visit, name: str) -> Selection:
    return environment_view.selection_of([each async for each in visit.client.list_environment_hosts(name)])


# Creating and editing ---------------------------------------------------------------

KINDS = (
    (EC2, "Your own hosts (EC2)"),
    (FARGATE, "Fargate"),
    (EKS, "Nodes of a Kubernetes cluster (EKS)"),
    (UNMANAGED, "Unmanaged"),
)


def _kind(visit: Visit) -> str:
    kind = visit.query.get("of", EC2)
    return kind if kind in dict(KINDS) else EC2


async def _form_of(visit: Visit, kind: str, *, is_new: bool) -> Form:
    hosts = await offers.hosts(visit)
    clusters = offers.clusters(hosts, names_of(visit.context))
    return environment_form.environment(kind, room.host_types(hosts), room.spot_hosts(hosts), clusters, is_new=is_new)


async def show_new(visit: Visit) -> Answer:
    """Show the form of a new environment."""
    presets = {name: text for name, text in environment_form.PRESETS.items() if name != "computeEnvironmentName"}
    return _form(visit, blank(await _form_of(visit, _kind(visit), is_new=True), presets), _kind(visit))


async def create(visit: Visit) -> Answer:
    """Create an environment."""
    return await once(visit, lambda: _create(visit))


async def _create(visit: Visit) -> Answer:
    kind = _kind(visit)
    sheet = await posted(visit, await _form_of(visit, kind, is_new=True))
    draft = environment_form.environment_draft(kind, sheet.form, sheet.answers)
    if sheet.go:
        sheet.tell(draft.faults)
        members = draft.members
        if (
            await sheet.carry_out(visit, "CreateComputeEnvironment", members, environment_form.amend(members))
            is not None
        ):
            return _done(visit, members["computeEnvironmentName"], "was created")
    page = _form(visit, sheet, kind)
    return page.refused() if sheet.faults else page


def _done(visit: Visit, name: str, what: str) -> Answer:
    visit.session.notices.append(f"{name} {what}.")
    return Redirect(location=f"{ROOT}/environments/{name}")


async def show_edit(visit: Visit) -> Answer:
    """Show the form of an environment that is there."""
    found = await _find(visit)
    if found is None:
        return _gone(visit)
    sheet, kind = await _filled(visit, found)
    return _form(visit, sheet, kind, found)


async def _filled(visit: Visit, found: pb.ComputeEnvironment) -> tuple[Sheet, str]:
    """Return the form of an environment as it is, and its kind."""
    kind = environment_form.kind_of(found, names_of(visit.context))
    form = await _form_of(visit, kind, is_new=False)
    return Sheet(form=form, answers=environment_form.filled(found, form, names_of(visit.context))), kind


async def edit(visit: Visit) -> Answer:
    """Change an environment."""
    return await once(visit, lambda: _edit(visit))


async def _edit(visit: Visit) -> Answer:
    found = await _find(visit)
    if found is None:
        return _gone(visit)
    present, kind = await _filled(visit, found)
    sheet = await posted(visit, present.form)
    draft = environment_form.environment_draft(kind, sheet.form, sheet.answers)
    if sheet.go:
        sheet.tell(draft.faults)
        before = environment_form.environment_draft(kind, present.form, present.answers).members
        members = environment_form.changes(draft.members, before, found.name)
        if (
            await sheet.carry_out(visit, "UpdateComputeEnvironment", members, environment_form.amend(members))
            is not None
        ):
            return _done(visit, found.name, "was changed")
    page = _form(visit, sheet, kind, found)
    return page.refused() if sheet.faults else page


def _form(visit: Visit, sheet: Sheet, kind: str, found: pb.ComputeEnvironment | None = None) -> Page:
    at = f"{ROOT}/environments" if found is None else f"{ROOT}/environments/{found.name}"
    here = f"{ROOT}/new/environment?of={kind}" if found is None else f"{at}/edit"
    view = {
        "sheet": sheet, "action": here, "button": "Create environment" if found is None else "Save", "back": at, "notes": (),
        "tabs": [(each, text, f"{ROOT}/new/environment?of={each}") for each, text in KINDS] if found is None else (),
        "tab": kind,
    }  # fmt: skip
    title = "New compute environment" if found is None else f"Edit environment {found.name}"
    given = environment_form.environment_draft(kind, sheet.form, sheet.answers).members
    operation = "CreateComputeEnvironment"
    if found is not None:
        operation, given = "UpdateComputeEnvironment", {"computeEnvironment": found.name, **given}
        given.pop("type")
    return Page(
        template="sheet.html",
        title=title,
        view=view,
        section="Environments",
        commands=command_lines.lines(operation, given),
    )


# Deleting ------------------------------------------------------------------------


async def ask_deletion(visit: Visit) -> Answer:
    """Say who uses an environment, and ask."""
    found = await _find(visit)
    return _gone(visit) if found is None else await _deletion(visit, found, {})


async def delete(visit: Visit) -> Answer:
    """Delete an environment."""
    found = await _find(visit)
    if found is None:
        return _gone(visit)
    try:
        await visit.operate("DeleteComputeEnvironment", {"computeEnvironment": found.name})
    except (ApiError, RequestError) as err:
        return (await _deletion(visit, found, faults_of(err, {}))).refused()
    visit.session.notices.append(f"{found.name} was deleted.")
    return Redirect(location=f"{ROOT}/environments")


async def _deletion(visit: Visit, found: pb.ComputeEnvironment, faults: Faults) -> Page:
    view = {
        "row": environment_view.row_of(found, {}),
        "queues": await _queues(visit, found.name),
        "faults": faults,
    }
    return Page(
        template="environment_delete.html", title=f"Delete environment {found.name}", view=view,
        section="Environments",
        commands=(
            batchyard("compute-environment", "delete", found.name),
            aws("delete-compute-environment", "--compute-environment", found.name),
        ),
    )  # fmt: skip
