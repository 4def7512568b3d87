"""Roles: one question decides, and every way to look at a thing agrees with it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchyard.errors import NotFoundError, PermissionDeniedError
from batchyard_controller.core.access.roles import (
    RIGHTS,
    THE_ADMINISTRATOR,
    Grant,
    Kind,
    Principal,
    Thing,
    Verb,
    may,
    may_at_all,
    may_bind,
    scope_of,
)
from batchyard_controller.core.access.table import ROWS, Place, require_rows
from batchyard_controller.core.access.things import job_thing
from batchyard_controller.core.jobs.resolution import Submission
from batchyard_controller.core.model.dependencies import Dependency
from batchyard_controller.core.model.identities import Role
from batchyard_controller.core.model.jobs import Job
from batchyard_controller.core.requests.permission import find_unit, permit_submission
from batchyard_controller.core.views import listing
from batchyard_controller.core.views.listing import JobFilter, find_page, readable
from batchyard_controller.core.views.search import search
from batchyard_controller.core.views.snapshot import Watched, take_snapshot

from .yard import Yard

QUEUES = ("q", "qq", "other")
USERS = ("ann", "anne", "bob")
"""Names that begin alike, as whole ones alone count (Nomad, CVE-2025-4922)."""

NO_JOB = "0" * 36

GRANTS = st.builds(
    lambda role, queue: Grant(role=role, queue=queue), st.sampled_from(Role), st.sampled_from(("", *QUEUES))
)
PRINCIPALS = st.one_of(
    st.just(THE_ADMINISTRATOR),
    st.builds(
        lambda user, grants: Principal(user=user, grants=tuple(grants)),
        st.sampled_from((*USERS, "nobody")),
        st.lists(GRANTS, max_size=3),
    ),
)
THINGS = st.builds(Thing, st.sampled_from(Kind), st.sampled_from(("", *QUEUES)), st.sampled_from(("", *USERS)))


@pytest.fixture(scope="module")
def yard() -> Yard:
    """Return a yard with a job of each user in each queue, and of the administrator."""
    yard = Yard()
    yard.environment()
    for queue in QUEUES:
        yard.queue(queue)
        for owner in ("", *USERS):
            yard.submit(queue, name=f"of-{owner}", owner=owner)
    return yard


@given(PRINCIPALS)
@settings(deadline=None)
def test_all_ways_to_look_at_jobs_agree(yard: Yard, who: Principal) -> None:
    world = yard.world
    allowed = {job.id for job in world.jobs.values() if may(who, Verb.READ, job_thing(job.spec))}
    listed = [unit.id for unit in find_page(world, JobFilter(reader=who), None, 1000).units]
    assert sorted(listed) == sorted(allowed), "a list shows each once"
    assert {unit.id for unit in take_snapshot(world, Watched(reader=who), None)} == allowed
    assert {unit.id for unit in search(world, "of-", 1000, who).units} == allowed
    by_queue = [
        unit.id
        for queue in QUEUES
        for unit in find_page(world, JobFilter(queues=frozenset({queue}), reader=who), None, 9).units
    ]
    assert sorted(by_queue) == sorted(allowed)
    by_owner = [
        unit.id
        for owner in ("administrator", *USERS)
        for unit in find_page(world, JobFilter(owner=owner, reader=who), None, 99).units
    ]
    assert sorted(by_owner) == sorted(allowed)
    assert allowed <= {job.id for job in readable(world, who)}
    for job in world.jobs.values():
        assert bool(search(world, job.id, 5, who).units) == (job.id in allowed)
        watched = Watched(reader=who, ids=frozenset({job.id}))
        assert watched.has_job(job) == (job.id in allowed)
        assert _says(who, job, Verb.READ, yard) == (job.id in allowed)
        for verb in (Verb.READ_LOG, Verb.CHANGE):
            expected = may(who, verb, job_thing(job.spec))
            assert job.id in allowed or not expected, "what may be changed, or its log read, may be read"
            assert _says(who, job, verb, yard) == expected


def _says(who: Principal, job: Job, verb: Verb, yard: Yard) -> bool:
    """Say whether a job is found for a verb; what may not be read is as what is not there."""
    sees = may(who, Verb.READ, job_thing(job.spec))
    try:
        find_unit(yard.world, who, verb, job.id)
    except (NotFoundError, PermissionDeniedError) as error:
        told = str(error).replace(job.id, NO_JOB)
    else:
        return True
    with pytest.raises(NotFoundError) as unknown:
        find_unit(yard.world, who, verb, NO_JOB)
    assert (told == str(unknown.value)) == (not sees)
    return False


@given(PRINCIPALS, st.sampled_from(Verb), THINGS)
def test_the_administrator_alone_may_all_and_nobody_more_than_their_roles(
    who: Principal, verb: Verb, thing: Thing
) -> None:
    assert may(THE_ADMINISTRATOR, verb, thing)
    if may(who, verb, thing) and not who.is_administrator:
        giving = [grant for grant in who.grants if (verb, thing.kind) in RIGHTS[grant.role]]
        assert giving
        assert may_at_all(who, verb, thing.kind)
        assert any(may(Principal(user=who.user, grants=(grant,)), verb, thing) for grant in giving)


@given(PRINCIPALS, st.sampled_from(Verb), THINGS, GRANTS)
def test_a_further_role_takes_nothing_away(who: Principal, verb: Verb, thing: Thing, grant: Grant) -> None:
    more = Principal(user=who.user, grants=(*who.grants, grant), is_administrator=who.is_administrator)
    assert may(more, verb, thing) >= may(who, verb, thing)


@given(st.sampled_from(Verb), THINGS)
def test_who_has_no_role_may_nothing(verb: Verb, thing: Thing) -> None:
    assert not may(Principal(user="ann"), verb, thing)
    assert not may(Principal(), verb, thing), "what nobody owns is not that of somebody without a name"


@given(st.sampled_from(Role), st.sampled_from(Verb), st.sampled_from(USERS), st.sampled_from(Kind))
def test_a_role_in_a_queue_reaches_into_no_other(role: Role, verb: Verb, user: str, kind: Kind) -> None:
    who = Principal(user=user, grants=(Grant(role=role, queue="q"),))
    for owner in ("", *USERS):
        assert not may(who, verb, Thing(kind, "qq", owner)) or owner in ("", user)
    if kind in (Kind.JOB, Kind.QUEUE, Kind.QUOTA_SHARE):
        assert not may(who, verb, Thing(kind, "qq", user))


def test_scopes_of_roles() -> None:
    def scope(*grants: Grant) -> tuple[bool, set[str], str]:
        found = scope_of(Principal(user="ann", grants=grants))
        return found.is_all, set(found.queues), found.user

    assert scope_of(THE_ADMINISTRATOR).is_all
    assert scope(Grant(role=Role.VIEWER)) == (True, set(), "")
    assert scope(Grant(role=Role.SUBMITTER)) == (False, set(), "ann")
    assert scope(Grant(role=Role.VIEWER, queue="q"), Grant(role=Role.SUBMITTER)) == (False, {"q"}, "ann")


def test_nobody_gives_more_than_they_hold() -> None:
    admin = Principal(user="ann", grants=(Grant(role=Role.QUEUE_ADMIN, queue="q"),))
    assert [role for role in Role if may_bind(admin, role, "q")] == [Role.VIEWER, Role.SUBMITTER]
    assert not [role for role in Role if may_bind(admin, role, "") or may_bind(admin, role, "qq")]
    assert not [role for role in Role if may_bind(Principal(user="b", grants=(Grant(role=Role.OPERATOR),)), role, "q")]
    assert all(may_bind(THE_ADMINISTRATOR, role, "") for role in Role)


def test_jobs_are_submitted_where_one_may(yard: Yard) -> None:
    ann = Principal(user="ann", grants=(Grant(role=Role.SUBMITTER, queue="q"),))
    permit_submission(yard.world, ann, Submission(name="j", queue="q", owner="ann"))
    with pytest.raises(PermissionDeniedError, match="ann may not create a job in job queue qq"):
        permit_submission(yard.world, ann, Submission(name="j", queue="qq", owner="ann"))
    with pytest.raises(PermissionDeniedError):
        permit_submission(yard.world, ann, Submission(name="j", queue="nowhere", owner="ann"))


def test_nobody_waits_for_a_job_that_is_not_there_for_them(yard: Yard) -> None:
    ann = Principal(user="ann", grants=(Grant(role=Role.SUBMITTER),))
    own, others = (next(iter(yard.world.by_owner[user])) for user in ("ann", "bob"))
    permit_submission(yard.world, ann, Submission(name="j", queue="q", depends_on=(Dependency(job_id=own.id),)))
    with pytest.raises(NotFoundError, match=f"depends_on: job {others.id} not found"):
        permit_submission(yard.world, ann, Submission(name="j", queue="q", depends_on=(Dependency(job_id=others.id),)))


def test_request_ids_are_of_their_users() -> None:
    yard = Yard()
    yard.environment()
    yard.queue("q")
    first = yard.submit("q", owner="ann", request_id="r")
    assert yard.submit("q", owner="ann", request_id="r") is first
    assert yard.submit("q", owner="bob", request_id="r") is not first
    assert yard.submit("q", request_id="r").spec.owner == ""


def test_every_row_says_where_it_is_asked() -> None:
    require_rows(ROWS)
    assert {row.place for row in ROWS.values()} == set(Place)
    with pytest.raises(TypeError, match=r"calls without a row.*New.*rows without a call.*SubmitJob'"):
        require_rows([*(path for path in ROWS if not path.endswith("/SubmitJob")), "/batchyard.v1.JobService/New"])


def test_ones_own_jobs_are_found_among_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of who may not see all begin where theirs are, however many others were submitted since."""
    monkeypatch.setattr(listing, "LOOKS_MAX", 10)
    yard = Yard()
    yard.environment()
    for queue in QUEUES:
        yard.queue(queue)
    own = [yard.submit("q", owner="ann").id for _ in range(2)]
    for i in range(60):
        yard.submit(QUEUES[i % 3], owner="bob" if i % 2 else "")
    ann = Principal(user="ann", grants=(Grant(role=Role.SUBMITTER),))
    wanted = JobFilter(reader=ann), JobFilter(reader=ann, queues=frozenset({"q"})), JobFilter(owner="ann")
    for each in wanted:
        page = find_page(yard.world, each, None, 50)
        assert ([unit.id for unit in page.units], page.next_beyond) == (own[::-1], None)
    assert [unit.id for unit in search(yard.world, "job", 5, ann).units] == own[::-1]
