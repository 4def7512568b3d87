"""The pages of jobs over plain HTTP: the list, one job in each state, children, and what is done to many."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.gateway.endpoint import Endpoint

from batchyard_gateway.console.entry.sessions import Session
from batchyard_gateway.console.jobs import bulk, many
from batchyard_gateway.console.jobs import jobs as jobs_page
from batchyard_gateway.console.visit import Visit

from .scene import HOSTILE, OUT_OF_MEMORY, RUNS, Scene, fails
from .visitor import Reply, Visitor


@pytest.fixture
def scene(endpoint: Endpoint) -> Scene:
    return Scene(endpoint)


def rows(reply: Reply) -> list[str]:
    """Return the ids of a list, in order."""
    return re.findall(r'<tr id="row-([^"]+)">', reply.text)


def link(reply: Reply, text: str) -> str:
    """Return where a link leads."""
    found = re.search(rf'<a[^>]*href="([^"]+)"[^>]*>{text}', reply.text)
    assert found is not None, reply.text
    return html.unescape(found[1])


def words(reply: Reply) -> str:
    """Return a page's text."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", reply.text)).split())


# The list -----------------------------------------------------------------------


def test_an_empty_yard_says_how_to_begin(visitor: Visitor) -> None:
    page = visitor.get("jobs")
    assert page.status == 200
    assert "Nothing submitted yet" in page.text
    assert "/console/jobs/new" in page.text


def test_jobs_lead_to_another_one(visitor: Visitor, scene: Scene) -> None:
    scene.waiting("there")
    assert link(visitor.get("jobs"), "Submit a job") == "/console/jobs/new"
    assert "Submit a job" not in words(visitor.get("")), "the overview says how to begin, and no more"


def test_what_is_not_there_is_said_of_itself(visitor: Visitor) -> None:
    assert "No such job: nosuch. Jobs that have ended are forgotten" in words(visitor.get("jobs/nosuch"))
    text = words(visitor.get("hosts/nosuch"))
    assert "Host 'nosuch' not found. To the overview" in text


def test_the_list_tells_where_each_job_is_and_why(visitor: Visitor, scene: Scene) -> None:
    fine = scene.ended("fine")
    broken = scene.ended("broken", fails(127))
    grid = scene.array(20, {3, 17})
    waits = scene.waiting("waits")
    page = visitor.get("jobs")
    assert rows(page) == [waits, grid, broken, fine]
    text = words(page)
    assert "18 of 20 done, 2 failed" in text
    assert "2 of 20 children failed, the first 3: OutOfMemoryError: killed" in text
    assert "9 vCPU asked, at most 4 free on one host" in text
    assert f"{grid}:3" not in page.text, "a child stays inside its array"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=FAILED", ["grid", "broken"]),
        ("state=FAILED&state=SUCCEEDED", ["grid", "broken", "fine"]),
        ("state=FAILED&name=b*", ["broken"]),
        ("name=FINE", ["fine"]),
        ("tag=team%3Dblue", ["fine"]),
        ("tag=team&tag=owner", ["fine"]),
        ("tag=team%3Dred", []),
        ("queue=q&definition=d", ["grid", "broken", "fine"]),
        ("queue=q2&queue=q", ["grid", "broken", "fine"]),
        ("queue=q2", []),
        ("definition=d%3A2", []),
        ("from=2020-01-01", ["grid", "broken", "fine"]),
        ("to=2020-01-01", []),
        ("share=nobody", []),
        ("host=alpha&name=broken", ["broken"]),
    ],
)
def test_filters(visitor: Visitor, scene: Scene, query: str, expected: list[str]) -> None:
    names = {
        scene.ended("fine", tags={"team": "blue", "owner": "ann"}): "fine",
        scene.ended("broken", fails(1)): "broken",
        scene.array(2, {1}): "grid",
    }
    scene.yard.batch.create_job_queue(
        jobQueueName="q2", priority=1, computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "ce"}]
    )
    page = visitor.get(f"jobs?{query}")
    assert [names[job_id] for job_id in rows(page)] == expected
    if not expected:
        assert "No jobs match" in page.text


def test_an_empty_list_names_its_filters_and_drops_each(visitor: Visitor, scene: Scene) -> None:
    scene.ended("fine")
    page = visitor.get("jobs?state=FAILED&state=RUNNING&name=zz*")
    assert "No jobs match" in page.text
    chips = re.findall(r'<li>([^<]+) <a href="([^"]+)">drop', page.text)
    assert [(text, html.unescape(address)) for text, address in chips] == [
        ("state FAILED", "/console/jobs?state=RUNNING&name=zz%2A"),
        ("state RUNNING", "/console/jobs?state=FAILED&name=zz%2A"),
        ("name zz*", "/console/jobs?state=FAILED&state=RUNNING"),
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [("queue=nope", "queue"), ("host=nope", "host"), ("from=x", "from"), ("state=GONE", "state"), ("name=a*b", "name"), ("page=xyz", "")],
)  # fmt: skip
def test_a_filter_that_is_refused_says_so_at_its_field(visitor: Visitor, scene: Scene, query: str, field: str) -> None:
    page = visitor.get(f"jobs?{query}")
    assert page.status == 422
    assert 'class="faults"' in page.text
    assert not field or f'<a href="#field-{field}">' in page.text
    assert not rows(page)


def test_pages_go_there_and_back(visitor: Visitor, scene: Scene) -> None:
    ids = [scene.waiting(f"j{number}") for number in range(120)]
    ids.reverse()
    first = visitor.get("jobs?size=50&name=j*")
    assert rows(first) == ids[:50]
    second = visitor.get(link(first, "Older"))
    assert rows(second) == ids[50:100]
    third = visitor.get(link(second, "Older"))
    assert rows(third) == ids[100:]
    assert "Older" not in third.text
    assert rows(visitor.get(link(third, "Newer"))) == ids[50:100]
    assert rows(visitor.get(link(visitor.get(link(third, "Newer")), "Newer"))) == ids[:50]
    assert rows(visitor.get(link(third, "Newest"))) == ids[:50]


def test_a_short_page_looks_on(visitor: Visitor, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when few of many jobs match: here every call ends early, and the time for a page is over at once."""
    ids = [scene.waiting(f"j{number}") for number in range(5)]
    ids.reverse()
    monkeypatch.setattr(jobs_page, "LOOK_S", 0.0)
    monkeypatch.setattr("batchyard_controller.core.views.listing.LOOKS_MAX", 2)
    page = visitor.get("jobs")
    assert rows(page) == ids[:2]
    assert "Looking on" in page.text
    on = re.search(r'hx-get="([^"]+part=more)"', page.text)
    assert on is not None, page.text
    more = visitor.get(html.unescape(on[1]))
    assert rows(more) == ids[2:4]
    assert more.text.lstrip().startswith("<tbody")
    assert rows(visitor.get(link(page, "Look on"))) == ids[2:4]
    again = re.search(r'hx-get="([^"]+part=more)"', more.text)
    assert again is not None
    last = visitor.get(html.unescape(again[1]))
    assert rows(last) == ids[4:]
    assert "Looking on" not in last.text


def test_rows_on_screen_are_read_again_by_id(visitor: Visitor, scene: Scene) -> None:
    """One that matches no more stays where it is and says so."""
    waits = scene.waiting("waits")
    page = visitor.get("jobs?state=RUNNABLE")
    address = re.search(r'hx-get="([^"]+part=rows)"', page.text)
    assert address is not None
    part = f"{html.unescape(address[1])}&ids={waits}"
    before = visitor.get(part)
    assert "RUNNABLE" in before.text
    assert visitor.get(part, If_None_Match=before.headers["etag"]).status == 304
    scene.yard.batch.terminate_job(jobId=waits, reason="enough")
    after = visitor.get(part)
    assert rows(after) == [waits]
    assert "FAILED" in after.text
    assert "enough" in after.text


def test_new_jobs_are_announced(visitor: Visitor, scene: Scene) -> None:
    shown = scene.waiting("a")
    page = visitor.get("jobs?state=RUNNABLE")
    address = re.search(r'hx-get="([^"]+part=news)"', page.text)
    assert address is not None
    part = f"{html.unescape(address[1])}&ids={shown}"
    assert visitor.get(part).text.strip() == ""
    scene.waiting("b")
    scene.waiting("c")
    assert "2 new: show" in visitor.get(part).text


# One job ------------------------------------------------------------------------


def test_a_job_that_waits_says_why(visitor: Visitor, scene: Scene) -> None:
    scene.ended("runs", RUNS)
    first = scene.waiting("first", 4)
    waits = scene.waiting("waits", 9)
    page = visitor.get(f"jobs/{waits}")
    text = words(page)
    assert "Why it waits" in text
    assert "Place in its queue: 2 , behind" in text
    assert f'href="/console/jobs/{first}"' in page.text
    assert re.search(r"vCPU</th><td[^>]*>9</td><td[^>]*>3</td><td[^>]*>3</td><td[^>]*>4</td>", page.text)
    assert f"jobs/many?action=cancel&amp;id={waits}" in page.text
    part = visitor.get(f"jobs/{waits}?part=now")
    assert 'hx-trigger="every 5s"' in part.text
    assert "<form" not in part.text, "what is half typed has to survive"


def test_a_job_that_runs(visitor: Visitor, scene: Scene) -> None:
    runs = scene.ended("runs", RUNS)
    page = visitor.get(f"jobs/{runs}")
    text = words(page)
    assert "RUNNING" in text
    assert "Why it" not in text
    assert f"/console/jobs/{runs}/log?attempt=1" in page.text
    assert "action=terminate" in page.text
    assert "action=cancel" not in page.text
    assert "every 5s" not in page.text


def test_a_job_that_succeeded(visitor: Visitor, scene: Scene) -> None:
    fine = scene.ended("fine", tags={"team": "blue"})
    page = visitor.get(f"jobs/{fine}")
    text = words(page)
    assert "SUCCEEDED exit code 0" in text
    assert "Why it" not in text
    assert "many?action=" not in page.text
    assert "team=blue" in text
    assert f"/console/jobs/new?clone={fine}" in page.text
    assert f"batchyard describe {fine}" in text
    assert f"aws batch describe-jobs --jobs {fine}" in text


def test_a_job_names_those_that_wait_for_it_until_it_ends(visitor: Visitor, scene: Scene) -> None:
    first = scene.waiting("first")
    for number in range(22):
        scene.waiting(f"after-{number}", dependsOn=[{"jobId": first}])
    page = visitor.get(f"jobs/{first}")
    told = "What waits for it 22 jobs; the first 20 Job State Waits for after-0 ◌ PENDING its end in success"
    assert told in words(page)
    assert "after-19" in page.text
    assert "after-20" not in page.text
    other = link(page, "after-3")
    text = words(visitor.get(other))
    assert "What waits for it" not in text
    assert "What it waits for 1 dependency" in text
    visitor.post("jobs/many", {"action": "terminate", "id": first, "sure": "yes", "reason": "x"})
    scene.settle(first, {"FAILED"})
    assert "What waits for it" not in words(visitor.get(f"jobs/{first}"))


def test_a_job_that_failed_says_why_first(visitor: Visitor, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchyard_gateway.console.jobs.job.LOG_S", 0.01)  # this host answers nothing by itself
    broken = scene.ended("broken", fails(127, reason="no such file"))
    text = words(visitor.get(f"jobs/{broken}"))
    assert text.index("Why it failed") < text.index("no such file") < text.index("127: the command was not found")
    assert "its host did not send all of it in time" in text
    memory = scene.ended("memory", OUT_OF_MEMORY)
    assert "It had reached its memory: ask for more than 128 MiB." in words(visitor.get(f"jobs/{memory}"))


def test_the_end_of_a_failed_jobs_log_is_shown(visitor: Visitor, scene: Scene) -> None:
    broken = scene.ended("broken", fails(1))

    scene.answers_logs(b"line\n" * 30 + b"\x1b[31m<b>the last line</b>\x1b[0m\n")
    page = visitor.get(f"jobs/{broken}")
    assert "&lt;b&gt;the last line&lt;/b&gt;" in page.text
    assert page.text.count("line\n") == 19


def test_a_job_whose_dependency_failed_names_it(visitor: Visitor, scene: Scene) -> None:
    broken = scene.ended("broken", fails(3))
    after = scene.yard.submit("after", dependsOn=[{"jobId": broken}])
    text = words(visitor.get(f"jobs/{after}"))
    assert "Dependent Job failed" in text
    assert "It waited for broken , which failed: exit code 3" in text or "which failed" in text
    assert f'href="/console/jobs/{broken}"' in visitor.get(f"jobs/{after}").text


def test_an_array_names_the_children_that_failed(visitor: Visitor, scene: Scene) -> None:
    grid = scene.array(20, {3, 17})
    page = visitor.get(f"jobs/{grid}")
    text = words(page)
    assert "2 of 20 children failed" in text
    assert f'href="/console/jobs/{grid}:3"' in page.text
    assert f'href="/console/jobs/{grid}/children?state=FAILED"' in page.text
    assert f"/console/jobs/{grid}/log" not in page.text


def test_a_child_is_a_job_of_its_own(visitor: Visitor, scene: Scene) -> None:
    grid = scene.array(3, {1}, reports=fails(139))
    page = visitor.get(f"jobs/{grid}:1")
    text = words(page)
    assert "grid :1" in text
    assert "139: the program broke down" in text
    assert f'child of <a href="/console/jobs/{grid}"' in page.text
    assert "Tags" not in text


@pytest.mark.parametrize("path", ["", "/children", "/raw"])
def test_what_is_forgotten_is_said(visitor: Visitor, path: str) -> None:
    page = visitor.get(f"jobs/01a21600-9c20-794b-8971-6805633080ca{path}")
    assert page.status == 404
    assert "No such job: 01a21600-9c20-794b-8971-6805633080ca" in page.text
    assert "forgotten after the days" in page.text


def test_a_job_is_shown_as_json_of_both_kinds(visitor: Visitor, scene: Scene) -> None:
    fine = scene.ended("fine")
    text = html.unescape(visitor.get(f"jobs/{fine}/raw").text)
    assert '"state": "JOB_STATE_SUCCEEDED"' in text
    assert '"status": "SUCCEEDED"' in text
    assert '"jobDefinition": "arn:aws:batch:' in text


def test_tags_are_set_and_dropped(visitor: Visitor, scene: Scene) -> None:
    fine = scene.ended("fine")
    assert visitor.post(f"jobs/{fine}", {"act": "tag", "key": "team", "value": "blue"}).status == 303
    assert scene.yard.job(fine)["tags"] == {"team": "blue"}
    assert "The tag team is set." in visitor.get(f"jobs/{fine}").text
    assert visitor.post(f"jobs/{fine}", {"act": "untag", "key": "team"}).status == 303
    assert scene.yard.job(fine).get("tags", {}) == {}


@pytest.mark.parametrize(
    "form", [{"act": "tag", "key": "", "value": "v"}, {"act": "tag", "key": "k" * 129, "value": "typed"}, {"act": "priority", "priority": "high"}, {"act": ""}]
)  # fmt: skip
def test_a_refused_change_says_so_and_keeps_what_was_typed(
    visitor: Visitor, scene: Scene, form: dict[str, str]
) -> None:
    fine = scene.ended("fine")
    page = visitor.post(f"jobs/{fine}", form)
    assert page.status == 422
    assert 'class="faults"' in page.text
    assert form.get("value", "") in page.text


def test_a_priority_is_changed(visitor: Visitor, scene: Scene) -> None:
    policy = scene.yard.batch.create_scheduling_policy(name="fair", fairsharePolicy={})["arn"]
    order = [{"order": 1, "computeEnvironment": "ce"}]
    scene.yard.batch.create_job_queue(
        jobQueueName="shared", priority=1, computeEnvironmentOrder=order, schedulingPolicyArn=policy
    )
    waits = scene.waiting("waits", jobQueue="shared", shareIdentifier="s", schedulingPriorityOverride=1)
    assert 'name="priority"' in visitor.get(f"jobs/{waits}").text
    assert visitor.post(f"jobs/{waits}", {"act": "priority", "priority": "77"}).status == 303
    assert scene.yard.job(waits)["schedulingPriority"] == 77
    refused = visitor.post(f"jobs/{waits}", {"act": "priority", "priority": "99999"})
    assert refused.status == 422
    assert 'value="99999"' in refused.text


# Children -----------------------------------------------------------------------


def test_children_by_state_and_by_index(visitor: Visitor, scene: Scene) -> None:
    grid = scene.array(120, {3, 17, 18})
    page = visitor.get(f"jobs/{grid}/children?size=50")
    assert rows(page) == [f"{grid}:{index}" for index in range(50)]
    assert "3,17-18" in page.text
    drawn = visitor.get(f"jobs/{grid}/children?part=map").text
    assert drawn.count("<use ") == 120
    assert '<use href="#map-failed" x="204"><title>17: all FAILED</title>' in drawn
    assert "0 to 2" in words(visitor.get(link(page, "The map as a table")))
    second = visitor.get(link(page, "Next"))
    assert rows(second) == [f"{grid}:{index}" for index in range(50, 100)]
    assert rows(visitor.get(link(second, "Previous"))) == rows(page)
    failed = visitor.get(f"jobs/{grid}/children?state=FAILED")
    assert rows(failed) == [f"{grid}:{index}" for index in (3, 17, 18)]
    assert visitor.get(f"jobs/{grid}/children?index=17").headers["location"] == f"/console/jobs/{grid}:17"
    beyond = visitor.get(f"jobs/{grid}/children?index=120")
    assert beyond.status == 422
    assert "120 is no index of this array: they are 0 to 119." in beyond.text
    none = visitor.get(f"jobs/{grid}/children?state=RUNNING")
    assert "No child is RUNNING" in none.text
    assert f"aws batch list-jobs --array-job-id {grid} --job-status FAILED" in failed.text


@pytest.mark.parametrize("part", ["bar", "map", "rows&ids="])
def test_parts_of_the_children_are_read_alone(visitor: Visitor, scene: Scene, part: str) -> None:
    grid = scene.array(2, {1})
    reply = visitor.get(f"jobs/{grid}/children?part={part}")
    assert reply.status == 200
    assert "<html" not in reply.text


def test_a_single_job_has_no_children(visitor: Visitor, scene: Scene) -> None:
    assert visitor.get(f"jobs/{scene.ended('fine')}/children").status == 400


# Many ---------------------------------------------------------------------------


def states(scene: Scene, ids: list[str]) -> list[str]:
    return [scene.yard.job(job_id)["status"] for job_id in ids]


def test_it_is_asked_before_many_are_stopped(visitor: Visitor, scene: Scene) -> None:
    runs, waits, fine = scene.ended("runs", RUNS), scene.waiting("waits"), scene.ended("fine")
    form = {"action": "cancel", "id": [runs, waits, fine], "back": "/console/jobs?name=w*"}
    asked = visitor.post("jobs/many", form)
    text = words(asked)
    assert "Cancel 1 job?" in text
    assert "RUNNING 1 have started and go on" in text
    assert "SUCCEEDED 1 have ended: nothing to be done" in text
    assert states(scene, [runs, waits]) == ["RUNNING", "RUNNABLE"]
    sure = {**form, "sure": "yes", "reason": "not needed"}
    assert visitor.post("jobs/many", sure).headers["location"] == "/console/jobs?name=w*"
    assert states(scene, [runs, waits, fine]) == ["RUNNING", "FAILED", "SUCCEEDED"]
    assert scene.yard.job(waits)["statusReason"] == "not needed"
    assert "1 job is cancelled; 2 passed by, as nothing was to be done." in words(visitor.get("jobs"))


@pytest.mark.parametrize("reason", ["", " ", "x" * 1025])
def test_a_reason_is_needed(visitor: Visitor, scene: Scene, reason: str) -> None:
    waits = scene.waiting("waits")
    page = visitor.post("jobs/many", {"action": "terminate", "id": waits, "sure": "yes", "reason": reason})
    assert page.status == 422
    assert "A reason has 1 to 1024 characters" in page.text
    assert states(scene, [waits]) == ["RUNNABLE"]


def test_all_that_match_are_stopped_over_many_pages(
    visitor: Visitor, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LIST_MAX", 50)
    other = scene.waiting("other")
    ids = [scene.waiting(f"j{number}") for number in range(120)]
    form = {"action": "terminate", "which": "all", "name": "j*", "state": "RUNNABLE"}
    assert "Terminate 120 jobs?" in words(visitor.post("jobs/many", form))
    reply = visitor.post("jobs/many", {**form, "sure": "yes", "reason": "enough"})
    assert reply.status == 303
    if "many/" in reply.headers["location"]:
        while "Under way" in visitor.get(reply.headers["location"]).text:
            pass
        assert "Done: 120 jobs are terminated." in words(visitor.get(reply.headers["location"]))
    assert set(states(scene, ids)) == {"FAILED"}
    assert states(scene, [other]) == ["RUNNABLE"]


def test_all_children_that_match_are_stopped(visitor: Visitor, scene: Scene) -> None:
    grid = scene.yard.submit("grid", arrayProperties={"size": 6})
    scene.play(4, lambda _: RUNS)
    form = {"action": "cancel", "which": "all", "array": grid, "state": ["RUNNABLE", "RUNNING"]}
    asked = words(visitor.post("jobs/many", form))
    assert f"On all children of {grid}, state RUNNABLE, state RUNNING." in asked
    assert visitor.post("jobs/many", {**form, "sure": "yes", "reason": "enough"}).status == 303
    assert states(scene, [f"{grid}:5", f"{grid}:0"]) == ["FAILED", "RUNNING"]


@pytest.mark.parametrize(
    "form",
    [
        {"action": "terminate"},
        {"action": "", "which": "all"},
        {"action": "explode", "which": "all", "sure": "yes", "reason": "x"},
        {"action": "clone", "id": ["a", "b"]},
        # A filter that cannot be read must not mean everybody.
        {"action": "terminate", "which": "all", "from": "yesterday", "sure": "yes", "reason": "x"},
        {"action": "terminate", "which": "all", "queue": "nope"},
    ],
)
def test_what_is_not_clear_stops_nobody(visitor: Visitor, scene: Scene, form: dict[str, str]) -> None:
    waits = scene.waiting("waits")
    page = visitor.post("jobs/many", form)
    assert page.status == 422
    assert "Back" in page.text
    assert states(scene, [waits]) == ["RUNNABLE"]


def test_refusals_are_told_one_by_one(visitor: Visitor, scene: Scene) -> None:
    fine = scene.ended("fine", tags={f"k{number}": "v" for number in range(50)})
    other = scene.ended("other")
    form = {"action": "tag", "id": [fine, other], "sure": "yes", "key": "team", "value": "blue"}
    reply = visitor.post("jobs/many", form)
    page = visitor.get(reply.headers["location"])
    assert "Done: 1 job is tagged; 1 refused." in words(page)
    assert fine in page.text
    assert scene.yard.job(other)["tags"] == {"team": "blue"}


def test_one_is_cloned(visitor: Visitor, scene: Scene) -> None:
    fine = scene.ended("fine")
    reply = visitor.post("jobs/many", {"action": "clone", "id": fine})
    assert reply.headers["location"] == f"/console/jobs/new?clone={fine}"


def test_it_leads_back_to_no_other_site(visitor: Visitor, scene: Scene) -> None:
    form = {"action": "cancel", "id": scene.waiting("w"), "sure": "yes", "reason": "x", "back": "https://evil.example"}
    assert visitor.post("jobs/many", form).headers["location"] == "/console/jobs"


def test_another_session_does_not_see_it(visitor: Visitor, scene: Scene) -> None:
    assert visitor.get("jobs/many/nothing").status == 404


def test_it_ends_with_the_session(visitor: Visitor, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One signs out while it looks for those who match."""
    ids = [scene.waiting(f"j{number}") for number in range(4)]
    monkeypatch.setattr(bulk, "LIST_MAX", 2)
    stop = bulk._stop

    async def stop_and_leave(visit: Visit, *rest: Any) -> None:
        await stop(visit, *rest)
        visit.session.started_s = float("-inf")

    monkeypatch.setattr(bulk, "_stop", stop_and_leave)
    form = {"action": "terminate", "which": "all", "sure": "yes", "reason": "x"}
    assert visitor.post("jobs/many", form).status == 303
    scene.settle(ids[3], {"FAILED"})
    assert states(scene, ids) == ["RUNNABLE", "RUNNABLE", "FAILED", "FAILED"]
    assert visitor.get("jobs").status == 303


def test_it_ends_with_the_gateway_and_the_log_tells_how_far_it_was(
    logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Session] = []

    async def stop_and_wait(visit: Visit, bulk: bulk.Bulk, ids: Sequence[str], reason: str) -> None:
        sessions.append(visit.session)
        await asyncio.sleep(1000)

    monkeypatch.setattr(bulk, "_stop", stop_and_wait)
    monkeypatch.setattr(many, "SOON_S", 0.0)
    with Endpoint() as endpoint:
        visitor, scene = Visitor(endpoint).sign_in(), Scene(endpoint)
        form = {"action": "terminate", "id": scene.waiting("j"), "sure": "yes", "reason": "x"}
        assert "jobs/many/" in visitor.post("jobs/many", form).headers["location"]
        while not sessions:
            visitor.get("about")
    (broken,) = sessions[0].bulks.values()
    assert broken.is_over
    assert [entry["done"] for entry in logged if entry["event"] == "broke off as the gateway stops"] == [0]


# Standing states ------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [lambda _: "jobs", lambda i: f"jobs/{i}", lambda i: f"jobs/{i}/children", lambda i: f"jobs/many?action=cancel&id={i}"]
)  # fmt: skip
def test_a_controller_that_is_away_is_said(visitor: Visitor, scene: Scene, path: Callable[[str], str]) -> None:
    job_id = scene.waiting("waits")
    scene.endpoint.run(scene.endpoint.yard.stop_serving())
    page = visitor.get(path(job_id))
    assert page.status == 503
    assert "The controller does not answer" in page.text


def test_hostile_reasons_are_text(visitor: Visitor, scene: Scene) -> None:
    broken = scene.ended("broken", fails(1, reason=HOSTILE))
    for path in ("jobs", f"jobs/{broken}", f"jobs/{broken}/raw"):
        assert "<script>x" not in visitor.get(path).text
