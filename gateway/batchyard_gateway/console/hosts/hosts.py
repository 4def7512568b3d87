"""Hosts: the machines of the yard, one by one, and what an operator does with them."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from batchyard import wording
from batchyard.errors import RequestError
from batchyard.v1 import host_pb2 as pb
from batchyard_gateway.console.figures.charts import Chart, Series, draw
from batchyard_gateway.console.figures.samples import HOUR
from batchyard_gateway.console.forms.faults import faults_of
from batchyard_gateway.console.visit import ROOT, Answer, Command, Page, Redirect, Visit, batchyard

from . import host_view

PAGE = 100
ATTEMPTS_MAX = 100
DONE = {
    "cordon": "{} gets no new work.",
    "uncordon": "{} gets work again.",
    "drain": "{} drains: it gets no new work, and counts as drained when its last attempt has ended.",
    "keep": "{} is not taken away after all.",
}


async def show(visit: Visit) -> Answer:
    """Show a table of hosts, or a map."""
    is_map = visit.query.get("view") == "map"
    state = visit.query.get("state", "")
    hosts, token = await _read(visit, state, host_view.MAP_MAX if is_map else PAGE)
    lines, before = host_view.joining_lines(urlsplit(visit.address).hostname or "")
    view = {
        "is_map": is_map,
        "state": state,
        "states": [("", "all"), *((word, word) for word in host_view.STATES)],
        "rows": [] if is_map else host_view.rows_of(hosts),
        "cells": host_view.map_of(hosts) if is_map else [],
        "next": token,
        "is_first": "after" not in visit.query,
        "lines": lines,
        "before": before,
    }
    return Page(
        template="hosts.html", title="Hosts", view=view, section="Hosts", live=("counts", "hosts"),
        commands=(batchyard("hosts"),),
    )  # fmt: skip


async def _read(visit: Visit, state: str, most: int) -> tuple[list[pb.Host], str]:
    """Read hosts from where the page begins, until there are enough of a state; return where the next one does."""
    request = pb.ListHostsRequest(page_size=most, page_token=visit.query.get("after", ""))
    found: list[pb.Host] = []
    while True:
        answer = await visit.client.calls.list_hosts(request)
        found += [host for host in answer.hosts if state in ("", host_view.state_of(host))]
        request.page_token = answer.next_page_token
        if len(found) >= most or not answer.next_page_token:
            return found, answer.next_page_token


async def show_one(visit: Visit) -> Answer:
    """Show one host."""
    return await _page(visit, {})


async def change_one(visit: Visit) -> Answer:
    """Do what a button of a host's page says."""
    name, action = visit.names["name"], visit.form.get("action", "")
    acts = {
        "cordon": visit.client.cordon_host,
        "uncordon": visit.client.uncordon_host,
        "drain": visit.client.drain_host,
        "keep": visit.client.keep_host,
    }
    if action not in acts:
        return (await _page(visit, {"": f"There is no action {action!r}."})).refused()
    visit.note_change(action, {"name": name})
    try:
        host = await acts[action](name)
    except RequestError as err:
        return (await _page(visit, faults_of(err, {}))).refused()
    visit.session.notices.append(DONE[action].format(host.facts.name))
    return Redirect(location=visit.url())


async def _page(visit: Visit, faults: dict[str, str]) -> Page:
    name = visit.names["name"]
    answer = await visit.client.describe_host(name)
    host = answer.host
    running, environments = await asyncio.gather(
        visit.client.list_jobs_page(host=host.id, states=["STARTING", "RUNNING"], page_size=ATTEMPTS_MAX),
        _environments(visit, host.id),
    )
    view = {
        "row": host_view.row_of(host),
        "facts": host_view.facts_of(host),
        "allowed": host_view.allowed_by(host.facts),
        "gpus": host_view.gpus_of(host),
        "actions": host_view.actions_for(host),
        "is_gone": host.state == pb.HOST_STATE_UNREACHABLE,
        "jobs": [(job, wording.job_state(job)) for job in running.jobs],
        "environments": environments,
        "drawn": _charts(visit, host),
        "faults": faults,
    }
    return Page(
        template="host.html", title=f"Host {host.facts.name}", view=view, section="Hosts", live=("counts", "hosts"),
        commands=_commands(name, host),
    )  # fmt: skip


async def _environments(visit: Visit, host_id: str) -> list[str]:
    every = visit.client.list_compute_environments(page_size=1000)
    return [each.name async for each in every if host_id in each.host_ids]


def _commands(name: str, host: pb.Host) -> tuple[Command, ...]:
    acts = [action for action, _ in host_view.actions_for(host) if action in ("cordon", "uncordon", "drain")]
    gone = (batchyard("host", "remove", name),) if host.state == pb.HOST_STATE_UNREACHABLE else ()
    return (batchyard("hosts", name), *(batchyard(action, name) for action in acts), *gone)


def _charts(visit: Visit, host: pb.Host) -> list[Chart]:
    """Draw what a host did in the last hour: its CPUs and memory, and its GPUs if it has some."""
    now_ms = visit.clock.now_ms
    names = ["CPU", "Memory"], [f"GPU {i}" for i in range(len(host.facts.gpus[:8]))]
    charts, at = [], 0
    for title, group in zip(("CPU and memory in use", "GPUs in use"), names, strict=True):
        series = [
            Series(name=name, look=f"tone-{i}", figures=visit.samples.of_host(host.id, at + i), is_line=True)
            for i, name in enumerate(group)
        ]
        at += len(group)
        if series:
            charts.append(
                draw(
                    f"host-{at}", title, series, period=HOUR, now_ms=now_ms, since_ms=visit.samples.since_ms(now_ms),
                    write=lambda figure: f"{figure:.0f} %", nice=lambda _: 100.0,
                )
            )  # fmt: skip
    return charts


# Removing -----------------------------------------------------------------------


async def ask_removal(visit: Visit) -> Answer:
    """Say what removing a host means, and ask."""
    return await _removal(visit, {})


async def remove(visit: Visit) -> Answer:
    """Forget a host that is gone."""
    name = visit.names["name"]
    visit.note_change("remove host", {"name": name})
    try:
        await visit.client.remove_host(name, force="force" in visit.form)
    except RequestError as err:
        return (await _removal(visit, faults_of(err, {}))).refused()
    visit.session.notices.append(f"{name} is forgotten.")
    return Redirect(location=f"{ROOT}/hosts")


async def _removal(visit: Visit, faults: dict[str, str]) -> Page:
    name = visit.names["name"]
    answer = await visit.client.describe_host(name)
    view = {
        "row": host_view.row_of(answer.host),
        "is_forced": "force" in visit.form,
        "faults": faults,
    }
    forced = ("--force",) if answer.host.attempts else ()
    return Page(
        template="host_remove.html", title=f"Remove host {answer.host.facts.name}", view=view, section="Hosts",
        commands=(batchyard("host", "remove", name, *forced),),
    )  # fmt: skip
