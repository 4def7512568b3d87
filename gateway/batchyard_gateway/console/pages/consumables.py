"""Consumable resources: what jobs hold beside hosts, such as licences."""

from __future__ import annotations

from batchyard import wording
from batchyard.v1.consumable_resource_pb2 import CONSUMABLE_RESOURCE_TYPE_NON_REPLENISHABLE, ConsumableResource
from batchyard_gateway.console.forms import consumable_form, tables
from batchyard_gateway.console.sheet import Sheet, blank, once, posted
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard, missing

HERE = f"{ROOT}/consumables"
JOBS_MAX = 100


async def show(visit: Visit) -> Answer:
    """List them, with a form for another."""
    return await _list(visit, blank(consumable_form.NEW, {}))


async def create(visit: Visit) -> Answer:
    """Create one."""
    return await once(visit, lambda: _create(visit))


async def _create(visit: Visit) -> Answer:
    sheet = await posted(visit, consumable_form.NEW)
    if sheet.go:
        draft = tables.read(sheet.form, sheet.answers)
        sheet.tell(draft.faults)
        if await sheet.carry_out(visit, "CreateConsumableResource", draft.members) is not None:
            name = draft.members["consumableResourceName"]
            visit.session.notices.append(f"The consumable resource {name} is made.")
            return Redirect(location=HERE)
    page = await _list(visit, sheet)
    return page.refused() if sheet.faults else page


async def _list(visit: Visit, sheet: Sheet) -> Page:
    resources = [each async for each in visit.client.list_consumable_resources()]
    commands = (batchyard("consumable-resource", "list"), aws("list-consumable-resources"))
    view = {"resources": resources, "sheet": sheet, "here": HERE, "kind": kind_of}
    return Page(
        template="consumables.html", title="Consumable resources", view=view, section="Consumables", commands=commands
    )


async def show_one(visit: Visit) -> Answer:
    """Show one, with the jobs that ask for it."""
    return await _one(visit, blank(consumable_form.CHANGE, {}))


async def change_one(visit: Visit) -> Answer:
    """Change how much there is of one, or delete it."""
    if "delete" in visit.form:
        return await _delete(visit)
    return await once(visit, lambda: _change(visit))


async def _change(visit: Visit) -> Answer:
    name = visit.names["name"]
    sheet = await posted(visit, consumable_form.CHANGE)
    draft = tables.read(sheet.form, sheet.answers)
    sheet.tell(draft.faults)
    members = {"consumableResource": name, **draft.members}
    if await sheet.carry_out(visit, "UpdateConsumableResource", members) is None:
        return (await _one(visit, sheet)).refused()
    visit.session.notices.append(f"There is now another quantity of {name}.")
    return Redirect(location=visit.path)


async def _delete(visit: Visit) -> Answer:
    name, sheet = visit.names["name"], blank(consumable_form.CHANGE, {})
    if await sheet.carry_out(visit, "DeleteConsumableResource", {"consumableResource": name}) is None:
        return (await _one(visit, sheet)).refused()
    visit.session.notices.append(f"The consumable resource {name} is deleted.")
    return Redirect(location=HERE)


async def _one(visit: Visit, sheet: Sheet) -> Page:
    name = visit.names["name"]
    found = await visit.client.describe_consumable_resources([name])
    if not found:
        return missing(f"There is no consumable resource {name}.")
    jobs = await visit.client.list_jobs_page(consumable=name, page_size=JOBS_MAX)
    commands = (
        batchyard("consumable-resource", "describe", name),
        aws("describe-consumable-resource", "--consumable-resource", name),
    )
    view = {
        "resource": found[0],
        "jobs": jobs.jobs,
        "has_more": bool(jobs.next_page_token),
        "sheet": sheet,
        "here": visit.path,
        "kind": kind_of,
        "word": wording.job_state,
    }
    title = f"Consumable resource {name}"
    return Page(template="consumable.html", title=title, view=view, section="Consumables", commands=commands)


def kind_of(resource: ConsumableResource) -> str:
    """Return what becomes of what a job held."""
    is_used_up = resource.type == CONSUMABLE_RESOURCE_TYPE_NON_REPLENISHABLE
    return "used up by jobs that ran" if is_used_up else "given back when a job ends"
