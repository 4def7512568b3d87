"""Consumable resources: what jobs hold beside hosts, such as licences."""

from __future__ import annotations

from batchyard import wording
from batchyard.errors import RequestError
from batchyard.v1.consumable_resource_pb2 import CONSUMABLE_RESOURCE_TYPE_NON_REPLENISHABLE, ConsumableResource
from batchyard_gateway.console.faults import Faults, Refusal, faults_of
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard
from batchyard_gateway.errors import ApiError
from batchyard_gateway.services import Members

_FIELDS = {
    "name": "name",
    "consumableResourceName": "name",
    "type": "kind",
    "resourceType": "kind",
    "total": "total",
    "totalQuantity": "total",
    "quantity": "quantity",
    "operation": "operation",
}
OPERATIONS = (("SET", "Set to"), ("ADD", "Add"), ("REMOVE", "Remove"))
JOBS_MAX = 100


async def show(visit: Visit) -> Answer:
    """List them, with a form for another."""
    return await _list(visit, {})


async def create(visit: Visit) -> Answer:
    """Create one."""
    members = {
        "consumableResourceName": visit.form.get("name", "").strip(),
        "resourceType": visit.form.get("kind", ""),
        "totalQuantity": visit.form.get("total", "").strip(),
    }
    faults = await _try(visit, "CreateConsumableResource", members, "totalQuantity", "total")
    if faults:
        return (await _list(visit, faults)).refused()
    visit.session.notices.append(f"The consumable resource {members['consumableResourceName']} is made.")
    return Redirect(location=f"{ROOT}/consumables")


async def show_one(visit: Visit) -> Answer:
    """Show one, with the jobs that ask for it."""
    return await _one(visit, {})


async def change_one(visit: Visit) -> Answer:
    """Change how much there is of one, or delete it."""
    name = visit.names["name"]
    if "delete" in visit.form:
        faults = await _try(visit, "DeleteConsumableResource", {"consumableResource": name})
        done, back = f"The consumable resource {name} is deleted.", f"{ROOT}/consumables"
    else:
        members = {
            "consumableResource": name,
            "operation": visit.form.get("operation", ""),
            "quantity": visit.form.get("quantity", "").strip(),
        }
        faults = await _try(visit, "UpdateConsumableResource", members, "quantity", "quantity")
        done, back = f"There is now another quantity of {name}.", visit.path
    if faults:
        return (await _one(visit, faults)).refused()
    visit.session.notices.append(done)
    return Redirect(location=back)


async def _try(visit: Visit, operation: str, members: Members, number: str = "", field: str = "") -> Faults:
    """Carry out an operation, whose member *number* was typed as text into *field*; return its faults, if any."""
    if number:
        text = str(members[number])
        if not (text.isascii() and text.isdigit()):
            return {field: f"A whole number is needed, 0 or more, not {text[:40]!r}."}
        members = {**members, number: int(text)}
    try:
        await visit.operate(operation, members)
    except (ApiError, RequestError) as err:
        return _faults(err)
    return {}


def _faults(refusal: Refusal) -> Faults:
    return faults_of(refusal, _FIELDS)


async def _list(visit: Visit, faults: Faults) -> Page:
    resources = [each async for each in visit.client.list_consumable_resources()]
    typed = {name: visit.form.get(name, "") for name in ("name", "kind", "total")}
    commands = (batchyard("consumable-resource", "list"), aws("list-consumable-resources"))
    view = {"resources": resources, "faults": faults, "typed": typed, "kind": kind_of}
    return Page(
        template="consumables.html", title="Consumable resources", view=view, section="Consumables", commands=commands
    )


async def _one(visit: Visit, faults: Faults) -> Page:
    name = visit.names["name"]
    found = await visit.client.describe_consumable_resources([name])
    if not found:
        text = f"There is no consumable resource {name}."
        return Page(template="problem.html", title="Not found", view={"text": text}, status=404)
    jobs = await visit.client.list_jobs_page(consumable=name, page_size=JOBS_MAX)
    typed = {field: visit.form.get(field, "") for field in ("operation", "quantity")}
    commands = (
        batchyard("consumable-resource", "describe", name),
        aws("describe-consumable-resource", "--consumable-resource", name),
    )
    view = {
        "resource": found[0],
        "jobs": jobs.jobs,
        "has_more": bool(jobs.next_page_token),
        "faults": faults,
        "typed": typed,
        "operations": OPERATIONS,
        "kind": kind_of,
        "word": wording.job_state,
    }
    title = f"Consumable resource {name}"
    return Page(template="consumable.html", title=title, view=view, section="Consumables", commands=commands)


def kind_of(resource: ConsumableResource) -> str:
    """Return what becomes of what a job held."""
    is_used_up = resource.type == CONSUMABLE_RESOURCE_TYPE_NON_REPLENISHABLE
    return "used up by jobs that ran" if is_used_up else "given back when a job ends"
