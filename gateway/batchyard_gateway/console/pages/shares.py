"""Quota shares of a queue: a new one, and one that is there: change, disable, delete."""

from __future__ import annotations

from batchyard.v1 import job_queue_pb2 as queue_pb
from batchyard.v1 import quota_share_pb2 as pb
from batchyard_gateway.batch.handlers import names_of
from batchyard_gateway.batch.names import SHARE
from batchyard_gateway.console import command_lines, offers, room, share_view
from batchyard_gateway.console.forms import share_form
from batchyard_gateway.console.forms.tables import Form
from batchyard_gateway.console.sheet import Sheet, blank, once, posted
from batchyard_gateway.console.visit import ROOT, Answer, Page, Redirect, Visit, batchyard, missing

REMARKS = {"disable": "{} takes no new jobs; those in it go on.", "enable": "{} takes jobs again."}


async def _form_of(visit: Visit, *, is_new: bool) -> Form:
    return share_form.share(sorted(room.host_types(await offers.hosts(visit))), is_new=is_new)


def _at(visit: Visit) -> str:
    return f"{ROOT}/queues/{visit.names['name']}"


async def _queue(visit: Visit) -> queue_pb.JobQueue | None:
    """Return the queue, if it has quota shares."""
    for queue in await visit.client.describe_job_queues([visit.names["name"]]):
        if await has_shares(visit, queue):
            return queue
    return None


async def has_shares(visit: Visit, queue: queue_pb.JobQueue) -> bool:
    """Say whether the policy of a queue has quota shares."""
    names = [queue.scheduling_policy] if queue.scheduling_policy else []
    found = await visit.client.describe_scheduling_policies(names) if names else []
    return any(policy.HasField("quota_share") for policy in found)


def _no_queue(visit: Visit) -> Page:
    return missing(f"There is no job queue {visit.names['name']} with quota shares.")


# A new one ------------------------------------------------------------------------


async def show_new(visit: Visit) -> Answer:
    """Show the form of a new share."""
    if await _queue(visit) is None:
        return _no_queue(visit)
    return _new(visit, blank(await _form_of(visit, is_new=True), share_form.PRESETS))


async def create(visit: Visit) -> Answer:
    """Create a share."""
    if await _queue(visit) is None:
        return _no_queue(visit)
    return await once(visit, lambda: _create(visit))


async def _create(visit: Visit) -> Answer:
    sheet = await posted(visit, await _form_of(visit, is_new=True))
    draft = share_form.share_draft(sheet.form, sheet.answers, visit.names["name"])
    if sheet.go:
        sheet.tell(draft.faults)
        if await sheet.carry_out(visit, "CreateQuotaShare", draft.members) is not None:
            visit.session.notices.append(
                f"The share {draft.members['quotaShareName']} was created; jobs name it as theirs."
            )
            return Redirect(location=_at(visit))
    page = _new(visit, sheet)
    return page.refused() if sheet.faults else page


def _new(visit: Visit, sheet: Sheet) -> Page:
    queue = visit.names["name"]
    view = {
        "sheet": sheet, "action": visit.path, "button": "Create share", "back": _at(visit), "tabs": (), "tab": "", "notes": (),
    }  # fmt: skip
    given = share_form.share_draft(sheet.form, sheet.answers, queue).members
    return Page(
        template="sheet.html", title=f"New share of queue {queue}", view=view, section="Queues",
        commands=command_lines.lines("CreateQuotaShare", given),
    )  # fmt: skip


# One that is there ----------------------------------------------------------------


async def _find(visit: Visit) -> pb.QuotaShare | None:
    if await _queue(visit) is None:
        return None
    found = await visit.client.describe_quota_shares(visit.names["name"], [visit.names["share"]])
    return found[0] if found else None


def _gone(visit: Visit) -> Page:
    return missing(f"There is no quota share {visit.names['share']} of job queue {visit.names['name']}.")


async def show_one(visit: Visit) -> Answer:
    """Show one share, as a form."""
    share = await _find(visit)
    return _gone(visit) if share is None else _one(visit, share, await _filled(visit, share))


async def _filled(visit: Visit, share: pb.QuotaShare) -> Sheet:
    form = await _form_of(visit, is_new=False)
    return Sheet(form=form, answers=share_form.filled(share, form, names_of(visit.context)))


async def change_one(visit: Visit) -> Answer:
    """Enable, disable, delete or change a share."""
    share = await _find(visit)
    if share is None:
        return _gone(visit)
    match visit.form.get("action", ""):
        case "":
            return await once(visit, lambda: _edit(visit, share))
        case "delete":
            return await _act(visit, share, "DeleteQuotaShare", {}, "The share {} is deleted.", _at(visit))
        case ("disable" | "enable") as action:
            members = {"state": f"{action.upper()}D"}
            return await _act(visit, share, "UpdateQuotaShare", members, REMARKS[action], visit.path)
        case action:
            sheet = await _filled(visit, share)
            sheet.tell({"": f"There is no action {action!r}."})
            return _one(visit, share, sheet).refused()


async def _act(
    visit: Visit, share: pb.QuotaShare, operation: str, members: dict[str, str], remark: str, location: str
) -> Answer:
    sheet = await _filled(visit, share)
    arn = names_of(visit.context).arn(SHARE, f"{share.job_queue}/{share.name}")
    if await sheet.carry_out(visit, operation, {"quotaShareArn": arn, **members}) is None:
        return _one(visit, share, sheet).refused()
    visit.session.notices.append(remark.format(share.name))
    return Redirect(location=location)


async def _edit(visit: Visit, share: pb.QuotaShare) -> Answer:
    sheet = await posted(visit, await _form_of(visit, is_new=False))
    if sheet.go:
        draft = share_form.share_draft(sheet.form, sheet.answers, share.job_queue)
        sheet.tell(draft.faults)
        members = share_form.changes(draft.members, share, names_of(visit.context))
        if await sheet.carry_out(visit, "UpdateQuotaShare", members) is not None:
            visit.session.notices.append(f"The share {share.name} was changed; jobs that wait follow it now.")
            return Redirect(location=_at(visit))
    page = _one(visit, share, sheet)
    return page.refused() if sheet.faults else page


def _one(visit: Visit, share: pb.QuotaShare, sheet: Sheet) -> Page:
    names = names_of(visit.context)
    given = share_form.share_draft(sheet.form, sheet.answers, share.job_queue).members
    commands = command_lines.lines("UpdateQuotaShare", share_form.changes(given, share, names))
    (row,) = share_view.rows_of([share])
    view = {"row": row, "sheet": sheet, "here": visit.path, "queue": share.job_queue}
    return Page(
        template="share.html", title=f"Share {share.name} of queue {share.job_queue}", view=view, section="Queues",
        commands=(batchyard("quota-share", "describe", share.job_queue, share.name), *commands),
    )  # fmt: skip
