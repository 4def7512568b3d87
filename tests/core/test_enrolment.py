"""Who joins with which token, who is let in by which certificate, and who is out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.core.law import Shelf
from tests.core.yard import Yard, facts

from batchyard.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    Reason,
    RequestError,
    UnauthenticatedError,
)
from batchyard.ids import HostId
from batchyard_controller.core import limits
from batchyard_controller.core.commands import EndSession
from batchyard_controller.core.events import HostJoined, HostLeft, Ticked
from batchyard_controller.core.model.enrolment import JoinToken, Member
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests.checks import Violations, refuse
from batchyard_controller.core.requests.enrolment import (
    Candidate,
    check_join_token,
    check_session,
    create_join_token,
    enrol,
    find_member,
    revoke_join_token,
)
from batchyard_controller.core.requests.hosts import remove_host

HOUR_MS = 3600 * 1000
TOKEN = JoinToken(id="t1", secret_hash="right", expires_at_ms=0)
CANDIDATE = Candidate(
    token_id="t1",
    secret_hash="right",
    name="a",
    address="10.0.0.7",
    key_hash="k1",
    former_id=HostId(""),
    new_id=HostId("new"),
)


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.environment()
    yard.queue()
    return yard


def pass_time(yard: Yard, ms: int) -> None:
    yard.now = Instant(wall_ms=yard.now.wall_ms + ms, boot_ms=yard.now.boot_ms + ms)


def give(yard: Yard, **fields: Any) -> None:
    token = replace(TOKEN, **({"expires_at_ms": yard.now.wall_ms + HOUR_MS} | fields))
    yard.apply(create_join_token(yard.world, token, yard.now))


def join(yard: Yard, **fields: Any) -> Member:
    event, member = enrol(yard.world, replace(CANDIDATE, **fields), yard.now)
    if event is not None:
        yard.apply(event)
    return member


def why_not(yard: Yard, **fields: Any) -> tuple[type[RequestError], str]:
    before = (dict(yard.world.join_tokens), dict(yard.world.members))
    with pytest.raises(RequestError) as refused:
        join(yard, **fields)
    assert (yard.world.join_tokens, yard.world.members) == before
    return type(refused.value), refused.value.reason


BAD = (UnauthenticatedError, Reason.BAD_JOIN_TOKEN)


def test_the_controller_says_what_a_host_is_called_and_a_token_is_good_once(yard: Yard) -> None:
    give(yard)
    assert join(yard) == Member(
        host_id=HostId("new"), name="a", key_hash="k1", token_id="t1", joined_at_ms=yard.now.wall_ms
    )
    assert not yard.world.join_tokens
    assert why_not(yard, key_hash="k2", new_id=HostId("newer")) == BAD


def test_a_host_whose_answer_was_lost_asks_again_with_the_same_key(yard: Yard) -> None:
    give(yard)
    first = join(yard)
    assert join(yard, new_id=HostId("newer")) == first
    assert list(yard.world.members) == ["new"]


def test_a_token_of_three_uses_lets_in_three(yard: Yard) -> None:
    give(yard, uses=3)
    for number in range(3):
        join(yard, key_hash=f"k{number}", new_id=HostId(f"new{number}"))
    assert why_not(yard, key_hash="k9") == BAD
    assert len(yard.world.members) == 3


def test_wrong_tokens_are_told_apart_by_nobody(yard: Yard) -> None:
    assert why_not(yard) == BAD
    give(yard)
    assert why_not(yard, secret_hash="wrong") == BAD
    pass_time(yard, HOUR_MS)
    assert why_not(yard) == BAD
    give(yard, id="t2")
    yard.apply(revoke_join_token(yard.world, "t2"))
    assert why_not(yard, token_id="t2") == BAD
    with pytest.raises(NotFoundError):
        revoke_join_token(yard.world, "t2")


@pytest.mark.parametrize(
    ("bound", "name", "is_admitted"),
    [("", "x", True), ("a", "a", True), ("a", "ab", False), ("kube-*", "kube-1", True), ("kube-*", "cube-1", False)],
)
def test_names_that_a_token_is_for(yard: Yard, bound: str, name: str, is_admitted: bool) -> None:
    give(yard, host_name=bound)
    assert is_let_in(yard, name=name) == is_admitted


def is_let_in(yard: Yard, **fields: Any) -> bool:
    try:
        join(yard, **fields)
    except PermissionDeniedError as refused:
        return refused.reason != Reason.JOIN_TOKEN_NOT_FOR
    return True


@pytest.mark.parametrize(
    ("address", "is_admitted"),
    [
        ("10.0.0.7", True),
        ("::ffff:10.0.0.7", True),
        ("10.0.1.7", False),
        ("fd00::1", True),
        ("fe80::1", False),
        ("", False),
        ("unix", False),
    ],
)
def test_networks_that_a_token_is_for(yard: Yard, address: str, is_admitted: bool) -> None:
    give(yard, networks=("10.0.0.0/24", "fd00::/8"))
    assert is_let_in(yard, address=address) == is_admitted


@pytest.mark.parametrize(
    "fields",
    [
        {"ttl_s": 59},
        {"ttl_s": limits.JOIN_TOKEN_TTL_S_MAX + 1},
        {"uses": 0},
        {"uses": limits.JOIN_TOKEN_USES_MAX + 1},
        {"host_name": "a\nb"},
        {"networks": ("10.0.0.1/24",)},
        {"networks": ("here",)},
        {"networks": ("10.0.0.0/24",) * 21},
    ],
)
def test_what_a_token_may_allow(fields: dict[str, Any]) -> None:
    out: Violations = []
    check_join_token(out, **({"ttl_s": 3600, "uses": 1, "host_name": "", "networks": ()} | fields))
    with pytest.raises(InvalidArgumentError):
        refuse(out)


# Hosts of before --------------------------------------------------------------------


def test_a_host_of_before_keeps_its_id_with_a_token_for_its_very_name(yard: Yard) -> None:
    yard.host("a")
    give(yard, host_name="a")
    give(yard, id="t2", host_name="*")
    assert join(yard, token_id="t2", former_id=HostId("a"), key_hash="k0").host_id == "new", "who has it may take any"
    assert join(yard, former_id=HostId("a"), new_id=HostId("x")).host_id == "x", "it is connected"
    yard.apply(HostLeft(host_id=HostId("a"), session=1))
    give(yard, id="t3", host_name="a")
    assert join(yard, token_id="t3", former_id=HostId("a"), key_hash="k3").host_id == "a"
    give(yard, id="t4", host_name="a")
    assert join(yard, token_id="t4", former_id=HostId("a"), key_hash="k4", new_id=HostId("y")).host_id == "y"


# Sessions -----------------------------------------------------------------------------


def refused_session(
    yard: Yard, host_id: str = "new", name: str = "a", run: int = 1, nonce: str = "n", by: str | None = "new"
) -> str:
    try:
        check_session(yard.world, HostId(host_id), HostId(by) if by else None, name, run, nonce)
    except (UnauthenticatedError, PermissionDeniedError) as error:
        return error.reason
    return ""


def connect(yard: Yard, run: int, nonce: str, session: int = 1) -> None:
    host_id = HostId("new")
    yard.apply(HostJoined(host_id=host_id, facts=facts("a"), session=session, by=host_id, run=run, nonce=nonce))


def test_only_members_by_their_names_have_sessions(yard: Yard) -> None:
    give(yard, host_name="a*")
    assert refused_session(yard) == Reason.HOST_NOT_JOINED
    join(yard)
    assert refused_session(yard, name="a2") == ""
    assert refused_session(yard) == ""
    assert refused_session(yard, name="b") == Reason.HOST_NOT_ITSELF
    assert refused_session(yard, by=None) == Reason.HOST_NOT_ITSELF
    assert refused_session(yard, host_id="local", by=None) == ""
    assert refused_session(yard, host_id="local") == Reason.HOST_NOT_ITSELF, "it speaks for itself alone"


def test_an_older_copy_of_a_state_folder_is_refused_for_ever(yard: Yard) -> None:
    give(yard)
    join(yard)
    connect(yard, 5, "five")
    assert refused_session(yard, run=5, nonce="five") == "", "its own again"
    assert refused_session(yard, run=5, nonce="copy") == Reason.HOST_NOT_ITSELF
    assert refused_session(yard, run=4, nonce="four") == Reason.HOST_NOT_ITSELF
    assert refused_session(yard, run=6, nonce="six") == ""
    Shelf().check(yard.world, yard.now)


def test_keys_of_members_are_known(yard: Yard) -> None:
    give(yard)
    join(yard)
    assert find_member(yard.world, HostId("new"), "k1").name == "a"
    for host_id, key in (("new", "k2"), ("old", "k1")):
        with pytest.raises(UnauthenticatedError):
            find_member(yard.world, HostId(host_id), key)


def test_an_agent_of_many_hosts_speaks_for_those_of_its_names(yard: Yard) -> None:
    give(yard, speaks_for="kube-*")
    join(yard, name="agent")
    give(yard, id="t2")
    join(yard, token_id="t2", key_hash="k2", name="kube-own", new_id=HostId("own"))
    yard.host("alpha")
    assert refused_session(yard, host_id="node", name="kube-1") == ""
    assert refused_session(yard, host_id="node", name="alpha") == Reason.HOST_NOT_ITSELF
    assert refused_session(yard, host_id="alpha", name="kube-1") == Reason.HOST_NOT_ITSELF, "a host of another name"
    assert refused_session(yard, host_id="own", name="kube-own") == Reason.HOST_NOT_ITSELF, "it has joined itself"
    told = facts("kube-1")
    yard.apply(HostJoined(host_id=HostId("node"), facts=told, session=8, by=HostId("new"), run=3, nonce="x"))
    assert yard.world.members[HostId("new")].run == 0
    assert refused_session(yard, host_id="node", name="kube-1", run=0) == ""
    pass_time(yard, yard.world.retention.host_age_ms)
    yard.apply(Ticked())
    assert HostId("new") in yard.world.members, "it never comes itself"


def test_an_agent_of_many_hosts_that_is_removed_is_hung_up_on_for_all_of_them(yard: Yard) -> None:
    give(yard, speaks_for="kube-*")
    join(yard, name="agent")
    for number in (1, 2):
        told = facts(f"kube-{number}")
        yard.apply(HostJoined(host_id=HostId(f"n{number}"), facts=told, session=number, by=HostId("new")))
    yard.host("alpha", session=3)
    ends = yard.apply(remove_host(yard.world, "agent", force=False))
    assert ends == [EndSession(HostId(f"n{number}"), number, is_removed=True) for number in (1, 2)]
    assert refused_session(yard, host_id="n1", name="kube-1") == Reason.HOST_NOT_JOINED
    assert len(yard.world.hosts) == 3, "what ran on them may run on"
    Shelf().check(yard.world, yard.now)


# Out ---------------------------------------------------------------------------------


def test_a_host_that_is_removed_is_hung_up_on_and_does_not_come_back(yard: Yard) -> None:
    give(yard)
    join(yard)
    connect(yard, 1, "n", session=7)
    assert yard.apply(remove_host(yard.world, "a", force=False)) == [EndSession(HostId("new"), 7, is_removed=True)]
    assert refused_session(yard, run=2) == Reason.HOST_NOT_JOINED
    Shelf().check(yard.world, yard.now)


def test_what_runs_on_a_connected_host_is_given_up_by_force_alone(yard: Yard) -> None:
    give(yard)
    join(yard)
    connect(yard, 1, "n")
    yard.submit()
    yard.plan()
    with pytest.raises(FailedPreconditionError) as refused:
        remove_host(yard.world, "a", force=False)
    assert refused.value.reason == Reason.HOST_BUSY
    yard.apply(remove_host(yard.world, "a", force=True))
    assert not yard.world.hosts
    assert not yard.world.members


def test_a_host_that_never_came_can_be_removed(yard: Yard) -> None:
    give(yard)
    join(yard)
    yard.apply(remove_host(yard.world, "a", force=False))
    assert not yard.world.members


def test_tokens_that_expired_and_members_that_never_came_are_forgotten(yard: Yard) -> None:
    give(yard)
    give(yard, id="t2")
    join(yard)
    pass_time(yard, HOUR_MS)
    yard.apply(Ticked())
    assert not yard.world.join_tokens
    assert yard.world.members
    pass_time(yard, yard.world.retention.host_age_ms)
    yard.apply(Ticked())
    assert not yard.world.members
    Shelf().check(yard.world, yard.now)
