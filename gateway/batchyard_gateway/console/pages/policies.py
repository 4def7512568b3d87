"""Scheduling policies: how the shares of a queue take turns, or that each has capacity of its own."""

from __future__ import annotations

from typing import Any

from batchyard.errors import RequestError
from batchyard.v1.scheduling_policy_pb2 import SchedulingPolicy
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.batch.names import POLICY
from batchyard_gateway.console.faults import Faults, faults_of
from batchyard_gateway.console.forms import policy_form, tables
from batchyard_gateway.console.sheet import Sheet, blank, once, posted
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard, missing
from batchyard_gateway.errors import ApiError

HERE = f"{ROOT}/policies"


async def show(visit: Visit) -> Answer:
    """List them, with a form for another."""
    return await _list(visit, blank(policy_form.policy(), {}))


async def create(visit: Visit) -> Answer:
    """Create one."""
    return await once(visit, lambda: _create(visit))


async def _create(visit: Visit) -> Answer:
    sheet = await posted(visit, policy_form.policy())
    if sheet.go:
        draft = tables.read(sheet.form, sheet.answers)
        sheet.tell(draft.faults)
        if (
            await sheet.carry_out(visit, "CreateSchedulingPolicy", draft.members, policy_form.amend(draft.members))
            is not None
        ):
            name = draft.members["name"]
            visit.session.notices.append(f"The scheduling policy {name} is made; a queue may be created with it.")
            return Redirect(location=HERE)
    page = await _list(visit, sheet)
    return page.refused() if sheet.faults else page


async def _list(visit: Visit, sheet: Sheet) -> Page:
    policies = [each async for each in visit.client.list_scheduling_policies()]
    commands = (batchyard("scheduling-policy", "list"), aws("list-scheduling-policies"))
    view = {"policies": policies, "sheet": sheet, "here": HERE}
    return Page(template="policies.html", title="Scheduling policies", view=view, section="Policies", commands=commands)


async def show_one(visit: Visit) -> Answer:
    """Show one: that of weights as a form."""
    policy = await _find(visit)
    return _gone(visit) if policy is None else await _one(visit, policy, _filled(policy))


async def _find(visit: Visit) -> SchedulingPolicy | None:
    found = await visit.client.describe_scheduling_policies([visit.names["name"]])
    return found[0] if found else None


def _gone(visit: Visit) -> Page:
    return missing(f"There is no scheduling policy {visit.names['name']}.")


def _filled(policy: SchedulingPolicy) -> Sheet:
    form = policy_form.policy(is_new=False)
    return Sheet(form=form, answers=policy_form.filled(policy, form))


async def change_one(visit: Visit) -> Answer:
    """Change one, or delete it."""
    policy = await _find(visit)
    if policy is None:
        return _gone(visit)
    if "delete" in visit.form:
        return await _delete(visit, policy)
    return await once(visit, lambda: _change(visit, policy))


async def _delete(visit: Visit, policy: SchedulingPolicy) -> Answer:
    try:
        await visit.operate("DeleteSchedulingPolicy", {"arn": policy.name})
    except (ApiError, RequestError) as err:
        return (await _one(visit, policy, _filled(policy), faults_of(err, {}))).refused()
    visit.session.notices.append(f"The scheduling policy {policy.name} is deleted.")
    return Redirect(location=HERE)


async def _change(visit: Visit, policy: SchedulingPolicy) -> Answer:
    sheet = await posted(visit, policy_form.policy(is_new=False))
    if sheet.go:
        draft = tables.read(sheet.form, sheet.answers)
        sheet.tell(draft.faults)
        members = policy_form.changes(draft.members, names_of(visit.context).arn(POLICY, policy.name))
        if await sheet.carry_out(visit, "UpdateSchedulingPolicy", members, policy_form.amend(members)) is not None:
            visit.session.notices.append(
                f"The scheduling policy {policy.name} is changed; jobs that wait follow it now."
            )
            return Redirect(location=visit.path)
    page = await _one(visit, policy, sheet)
    return page.refused() if sheet.faults else page


async def _one(visit: Visit, policy: SchedulingPolicy, sheet: Sheet, faults: Faults | None = None) -> Page:
    queues = [queue.name async for queue in visit.client.list_job_queues() if queue.scheduling_policy == policy.name]
    commands = (
        batchyard("scheduling-policy", "describe", policy.name),
        aws("describe-scheduling-policies", "--arns", policy.name),
    )
    is_quota = policy.HasField("quota_share")
    view: dict[str, Any] = {
        "policy": policy, "sheet": None if is_quota else sheet, "queues": queues, "here": visit.path,
        "faults": faults or sheet.faults,
    }  # fmt: skip
    title = f"Scheduling policy {policy.name}"
    return Page(template="policy.html", title=title, view=view, section="Policies", commands=commands)
