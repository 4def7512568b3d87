"""Compute environments: which hosts they select, and by which rule they leave others out."""

from __future__ import annotations

import asyncio
from typing import Any

from batchyard.errors import RequestError
from batchyard.v1 import compute_environment_pb2 as pb
from batchyard.v1 import host_pb2
from batchyard_gateway.console import environment_fields, environment_view, queue_view
from batchyard_gateway.console.environment_view import Selection
from batchyard_gateway.console.faults import Faults, faults_of
from batchyard_gateway.console.values import Values, typed
from batchyard_gateway.console.visit import ROOT, Answer, Command, Page, Redirect, Visit, aws, batchyard, missing
from batchyard_gateway.errors import ApiError

REMARKS = {
    "disable": "{} gets no new jobs; those that run there go on.",
    "enable": "{} gets jobs again.",
}


async def show(visit: Visit) -> Answer:
    """Show all environments."""
    environments, hosts = await asyncio.gather(_all(visit), _hosts(visit))
    return Page(
        template="environments.html",
        title="Compute environments",
        view={"rows": [environment_view.row_of(each, hosts) for each in environments]},
        section="Environments",
        live=("counts", "hosts"),
        commands=(batchyard("compute-environment", "list"), aws("describe-compute-environments")),
    )


async def _all(visit: Visit) -> list[pb.ComputeEnvironment]:
    return [each async for each in visit.client.list_compute_environments(page_size=1000)]


async def _hosts(visit: Visit) -> dict[str, host_pb2.Host]:
    return {host.id: host async for host in visit.client.list_hosts(page_size=1000)}


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
    environment, action = await _find(visit), visit.form.get("action", "")
    if environment is None:
        return _gone(visit)
    if action not in REMARKS:
        return (await _page(visit, environment, {"": f"There is no action {action!r}."})).refused()
    members = {"computeEnvironment": environment.name, "state": f"{action.upper()}D"}
    try:
        await visit.operate("UpdateComputeEnvironment", members)
    except (ApiError, RequestError) as err:
        return (await _page(visit, environment, faults_of(err, {}))).refused()
    visit.session.notices.append(REMARKS[action].format(environment.name))
    return Redirect(location=visit.path)


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


async def show_new(visit: Visit) -> Answer:
    """Show the form of a new environment."""
    return _form(environment_fields.NEW, {})


async def create(visit: Visit) -> Answer:
    """Create an environment."""
    values = typed(visit.form, environment_fields.NEW)
    asked = environment_fields.asked(values)
    if asked.faults:
        return _form(values, asked.faults).refused()
    name = values["name"].strip()
    members = {"computeEnvironmentName": name, "type": values["kind"], **asked.members}
    try:
        if asked.is_native:
            visit.note_change("create compute environment", {"name": name})
            await visit.client.create_compute_environment(
                name, state=values["state"], compute_resources=asked.resources
            )
        else:
            if "computeResources" in members:
                members["computeResources"]["instanceRole"] = environment_fields.INSTANCE_ROLE
            await visit.operate("CreateComputeEnvironment", members)
    except (ApiError, RequestError) as err:
        return _form(values, faults_of(err, environment_fields.FIELDS)).refused()
    return await _finish(visit, name, asked, f"{name} was created.")


async def show_edit(visit: Visit) -> Answer:
    """Show the form of an environment that is there."""
    found = await _find(visit)
    return _gone(visit) if found is None else _form(environment_fields.values_of(found), {}, found)


async def edit(visit: Visit) -> Answer:
    """Change an environment."""
    found = await _find(visit)
    if found is None:
        return _gone(visit)
    kind = environment_fields.values_of(found)["kind"]
    values = {**typed(visit.form, environment_fields.NEW), "name": found.name, "kind": kind}
    asked = environment_fields.asked(values)
    if asked.faults:
        return _form(values, asked.faults, found).refused()
    try:
        if asked.resources is not None and asked.is_native:
            visit.note_change("update compute environment", {"name": found.name})
            resources = environment_fields.merged(asked.resources, found.compute_resources)
            await visit.client.update_compute_environment(
                found.name, state=values["state"], compute_resources=resources
            )
        else:
            await visit.operate("UpdateComputeEnvironment", _update(found, asked))
    except (ApiError, RequestError) as err:
        return _form(values, faults_of(err, environment_fields.FIELDS), found).refused()
    return await _finish(visit, found.name, asked, f"{found.name} was changed.")


def _update(found: pb.ComputeEnvironment, asked: environment_fields.Asked) -> dict[str, object]:
    """Return UpdateComputeEnvironment's input, without what is as it was: not all of it may be said again."""
    members = dict(asked.members)
    if "computeResources" in members:
        present = environment_fields.asked(environment_fields.values_of(found)).members["computeResources"]
        changes = {name: value for name, value in members.pop("computeResources").items() if value != present.get(name)}
        if changes:
            members["computeResources"] = changes
    return {"computeEnvironment": found.name, **members}


async def _finish(visit: Visit, name: str, asked: environment_fields.Asked, done: str) -> Answer:
    """Tell an environment what AWS's operations cannot; what is refused then is shown in its form, as it is there."""
    (found,) = await visit.client.describe_compute_environments([name])
    if asked.resources is not None and environment_fields.lacks(asked.resources, found.compute_resources):
        resources = environment_fields.merged(asked.resources, found.compute_resources)
        try:
            await visit.client.update_compute_environment(name, compute_resources=resources)
        except RequestError as err:
            visit.session.notices.append(f"{done} All but the following was taken.")
            values = {**typed(visit.form, environment_fields.NEW), "name": name, "kind": "MANAGED"}
            return _form(values, faults_of(err, environment_fields.FIELDS), found).refused()
    visit.session.notices.append(done)
    return Redirect(location=f"{ROOT}/environments/{name}")


def _form(values: Values, faults: Faults, found: pb.ComputeEnvironment | None = None) -> Page:
    at = f"{ROOT}/environments" if found is None else f"{ROOT}/environments/{found.name}"
    view = {
        "values": values,
        "faults": faults,
        "is_new": found is None,
        "action": f"{ROOT}/new/environment" if found is None else f"{at}/edit",
        "back": at,
        "capacities": [("EC2", "EC2: on-demand hosts"), ("SPOT", "SPOT: hosts that may be reclaimed")],
        "strategies": [("", "none said"), *((word, word) for word in environment_fields.STRATEGIES)],
    }
    title = "New compute environment" if found is None else f"Edit environment {found.name}"
    return Page(
        template="environment_form.html", title=title, view=view, section="Environments",
        commands=_form_commands(values, is_new=found is None),
    )  # fmt: skip


def _form_commands(values: Values, *, is_new: bool) -> tuple[Command, ...]:
    """Return the line that does the same as the form as it stands."""
    flags = [
        word
        for option, name in (("--capacity", "capacity"), ("--strategy", "strategy"), ("--max-vcpus", "max_vcpus"))
        if values[name]
        for word in (option, values[name])
    ]
    types = [
        word for each in values["instance_types"].split() if each != "optimal" for word in ("--instance-type", each)
    ]
    labels = [word for line in values["labels"].splitlines() for word in ("--label", line)]
    verb = "create" if is_new else "update"
    return (batchyard("compute-environment", verb, values["name"] or "NAME", *flags, *types, *labels),)


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
