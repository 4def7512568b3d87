"""Scheduling policies: how the shares of a queue take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import QueryParams

from batchyard.errors import RequestError
from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_gateway.console.faults import Faults, faults_of
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, aws, batchyard

_FIELDS = {
    "name": "name",
    "fairshare.share_decay_s": "decay",
    "fairshare.compute_reservation": "reservation",
    "fairshare.share_distribution": "shares",
}
_ROW = ("share", "weight", "running", "vcpus")
BLANK_ROWS = 3
"""Offered below those that are filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A policy as a form has it: all text."""

    name: str = ""
    decay: str = ""
    reservation: str = ""
    rows: Sequence[tuple[str, str, str, str]] = ()


async def show(visit: Visit) -> Answer:
    """List them, with a form for another."""
    return await _list(visit, Typed(), {})


async def create(visit: Visit) -> Answer:
    """Create one."""
    typed = typed_of(visit.form)
    fairshare, faults = policy_of(typed)
    if not faults:
        try:
            visit.note_change("CreateSchedulingPolicy", {"name": typed.name})
            await visit.client.create_scheduling_policy(typed.name, fairshare=fairshare)
        except RequestError as err:
            faults = faults_of(err, _FIELDS)
    if faults:
        return (await _list(visit, typed, faults)).refused()
    visit.session.notices.append(f"The scheduling policy {typed.name} is made; a queue may be created with it.")
    return Redirect(location=f"{ROOT}/policies")


async def show_one(visit: Visit) -> Answer:
    """Show one, as a form."""
    return await _one(visit, None, {})


async def change_one(visit: Visit) -> Answer:
    """Change one, or delete it."""
    name, typed = visit.names["name"], typed_of(visit.form)
    is_deletion = "delete" in visit.form
    fairshare, faults = (FairsharePolicy(), {}) if is_deletion else policy_of(typed)
    if not faults:
        try:
            if is_deletion:
                await visit.operate("DeleteSchedulingPolicy", {"arn": name})
            else:
                visit.note_change("UpdateSchedulingPolicy", {"name": name})
                await visit.client.update_scheduling_policy(name, fairshare=fairshare)
        except RequestError as err:
            faults = faults_of(err, _FIELDS)
    if faults:
        return (await _one(visit, None if is_deletion else typed, faults)).refused()
    done = "is deleted" if is_deletion else "is changed; jobs that wait follow it now"
    visit.session.notices.append(f"The scheduling policy {name} {done}.")
    return Redirect(location=f"{ROOT}/policies" if is_deletion else visit.path)


def typed_of(form: QueryParams) -> Typed:
    """Return what a form has; rows without anything in them are none."""
    columns = [form.getlist(name) for name in _ROW]
    rows = [(share.strip(), *rest) for share, *rest in zip(*columns, strict=False)]
    return Typed(
        name=form.get("name", "").strip(),
        decay=form.get("decay", "").strip(),
        reservation=form.get("reservation", "").strip(),
        rows=[(share, weight.strip(), running.strip(), vcpus.strip()) for share, weight, running, vcpus in rows
              if share or weight or running or vcpus],
    )  # fmt: skip


def shown(policy: SchedulingPolicy) -> Typed:
    """Return a policy as a form shows it."""
    fairshare = policy.fairshare
    return Typed(
        name=policy.name,
        decay=str(fairshare.share_decay_s or ""),
        reservation=str(fairshare.compute_reservation or ""),
        rows=[
            (
                each.share_identifier,
                repr(each.weight_factor).removesuffix(".0") if each.HasField("weight_factor") else "",
                str(each.max_running or ""),
                str(each.max_vcpus or ""),
            )
            for each in fairshare.share_distribution
        ],
    )


def policy_of(typed: Typed) -> tuple[FairsharePolicy, Faults]:
    """Return what a form says as the contract has it, or what cannot be read of it."""
    faults: Faults = {}
    policy = FairsharePolicy(
        share_decay_s=_whole("decay", typed.decay, faults),
        compute_reservation=_whole("reservation", typed.reservation, faults),
    )
    for share, weight, running, vcpus in typed.rows:
        made = ShareWeight(
            share_identifier=share,
            max_running=_whole("shares", running, faults),
            max_vcpus=_whole("shares", vcpus, faults),
        )
        try:
            if weight:
                made.weight_factor = float(weight)
        except ValueError:
            faults["shares"] = f"The weight of {share or 'a share'} has to be a number, not {weight[:40]!r}."
        policy.share_distribution.append(made)
    return policy, faults


def _whole(field: str, text: str, faults: Faults) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= 18):
        faults[field] = f"A whole number is needed, 0 or more, not {text[:40]!r}."
        return 0
    return int(text or 0)


async def _list(visit: Visit, typed: Typed, faults: Faults) -> Page:
    policies = [each async for each in visit.client.list_scheduling_policies()]
    commands = (batchyard("scheduling-policy", "list"), aws("list-scheduling-policies"))
    view = {"policies": policies, "typed": typed, "faults": faults, "blank_rows": BLANK_ROWS}
    return Page(template="policies.html", title="Scheduling policies", view=view, section="Policies", commands=commands)


async def _one(visit: Visit, typed: Typed | None, faults: Faults) -> Page:
    name = visit.names["name"]
    found = await visit.client.describe_scheduling_policies([name])
    if not found:
        text = f"There is no scheduling policy {name}."
        return Page(template="problem.html", title="Not found", view={"text": text}, status=404)
    queues = [queue.name async for queue in visit.client.list_job_queues() if queue.scheduling_policy == name]
    commands = (
        batchyard("scheduling-policy", "describe", name),
        aws("describe-scheduling-policies", "--arns", name),
    )
    view = {
        "policy": found[0],
        "typed": typed or shown(found[0]),
        "queues": queues,
        "faults": faults,
        "blank_rows": BLANK_ROWS,
    }
    title = f"Scheduling policy {name}"
    return Page(template="policy.html", title=title, view=view, section="Policies", commands=commands)
