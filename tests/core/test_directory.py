"""Directory: who a caller is, by what they show; and who nobody is."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from batchyard.errors import NotFoundError, PermissionDeniedError, Reason, UnauthenticatedError
from batchyard_controller.core.access.directory import Credentials, Directory, identify, make_directory
from batchyard_controller.core.access.roles import Grant, Kind, Principal, Thing, Verb, may
from batchyard_controller.core.events import QueueDeleted, TokenChanged
from batchyard_controller.core.model.identities import Binding, Role, Token
from batchyard_controller.core.model.secrets import AccessKey, Sealed
from batchyard_controller.core.requests import identities
from batchyard_controller.core.requests.identities import bind_role, create_token, revoke_token, unbind_role

from .law import Shelf
from .yard import Yard

SECRET = "s" * 43
ID = "0123456789abcdef"
NOW = 1_000_000
SEALED = Sealed(key_id="k", nonce=b"", ciphertext=b"")


def token(user: str = "ann", token_id: str = ID, expires_at_ms: int = NOW + 1) -> Token:
    return Token(id=token_id, user=user, sha256=hashlib.sha256(SECRET.encode()).digest(), expires_at_ms=expires_at_ms)


def directory(*tokens: Token) -> Directory:
    return make_directory(
        [
            Binding(user="ann", role=Role.SUBMITTER, queue="q"),
            Binding(user="ann", role=Role.VIEWER),
            Binding(user="gate", role=Role.GATEWAY),
        ],
        tokens,
        [
            AccessKey(id="BYAKANN", sealed=SEALED, owner="ann"),
            AccessKey(id="BYAKROOT", sealed=SEALED),
        ],
    )


def bearer(token_id: str = ID, secret: str = SECRET) -> Credentials:
    return Credentials(bearer=f"by_pat_{token_id}_{secret}")


def test_a_token_is_its_user_as_they_are_bound_now() -> None:
    who = identify(directory(token()), bearer(), NOW)
    assert who == Principal(
        user="ann", grants=(Grant(role=Role.SUBMITTER, queue="q"), Grant(role=Role.VIEWER)), via=f"token {ID}"
    )
    assert identify(directory(token("new")), bearer(), NOW).grants == ()


@pytest.mark.parametrize(
    "shown",
    [
        bearer(secret="t" * 43),
        bearer(token_id="f" * 16),
        bearer(secret="s" * 42),
        Credentials(bearer="x"),
        Credentials(bearer=SECRET),
        Credentials(bearer=f"by_pat_{ID}_"),
        Credentials(bearer="x", is_local=True),
    ],
)
def test_another_token_is_nobody_not_even_where_none_is_wanted(shown: Credentials) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        identify(directory(token()), shown, NOW)
    assert caught.value.reason == Reason.BAD_CREDENTIALS
    assert SECRET not in str(caught.value)


def test_a_token_is_nobody_from_its_end_on() -> None:
    with pytest.raises(UnauthenticatedError):
        identify(directory(token()), bearer(), NOW + 1)


def test_without_credentials_the_kernel_must_vouch() -> None:
    assert identify(Directory(), Credentials(is_local=True), NOW).is_administrator
    with pytest.raises(UnauthenticatedError) as caught:
        identify(Directory(), Credentials(), NOW)
    assert caught.value.reason == Reason.NO_CREDENTIALS


def test_the_yards_own_token_is_the_administrator() -> None:
    assert identify(directory(), bearer(), NOW, token("")).is_administrator
    with pytest.raises(UnauthenticatedError):
        identify(directory(), bearer(), NOW + 1, token(""))
    with pytest.raises(UnauthenticatedError):
        identify(directory(), bearer(), NOW)


def test_a_gateway_acts_for_the_owner_of_a_key_and_may_no_more() -> None:
    known = directory(token("gate"))
    ann = identify(known, replace(bearer(), access_key_id="BYAKANN"), NOW)
    assert (ann.user, ann.is_administrator, ann.via) == ("ann", False, "access key BYAKANN")
    assert not may(ann, Verb.USE, Thing(Kind.SIGNING_KEY))
    assert identify(known, replace(bearer(), access_key_id="BYAKROOT"), NOW).is_administrator
    with pytest.raises(UnauthenticatedError):
        identify(known, replace(bearer(), access_key_id="BYAKGONE"), NOW)


def test_nobody_else_acts_for_others() -> None:
    for shown in (bearer(), Credentials(host_id="h")):
        with pytest.raises(PermissionDeniedError, match="may not act for others"):
            identify(directory(token()), replace(shown, access_key_id="BYAKROOT"), NOW)


def test_who_drops_to_a_role_keeps_nothing_else() -> None:
    local = Credentials(is_local=True, role="gateway")
    who = identify(directory(), local, NOW)
    assert (who.user, who.is_administrator, who.grants) == ("", False, (Grant(role=Role.GATEWAY),))
    assert identify(directory(), replace(local, access_key_id="BYAKANN"), NOW).user == "ann"
    with pytest.raises(PermissionDeniedError):
        identify(directory(), replace(local, role="viewer", access_key_id="BYAKANN"), NOW)
    with pytest.raises(PermissionDeniedError):
        identify(directory(token()), replace(bearer(), role="operator"), NOW)
    with pytest.raises(PermissionDeniedError):
        identify(directory(token()), replace(bearer(), role="root"), NOW)


def test_a_host_is_an_agent_whatever_else_it_says() -> None:
    who = identify(directory(token()), replace(bearer(), host_id="h1"), NOW)
    assert (who.host_id, who.user, who.grants) == ("h1", "", (Grant(role=Role.AGENT),))


# Admission ------------------------------------------------------------------------

ADMIN = identify(Directory(), Credentials(is_local=True), NOW)


def yard() -> Yard:
    made = Yard()
    made.environment()
    made.queue("q")
    return made


def bind(at: Yard, user: str, role: Role, queue: str = "", by: Principal = ADMIN) -> Binding:
    event, binding = bind_role(at.world, by, Binding(user=user, role=role, queue=queue), at.now)
    if event is not None:
        at.apply(event)
    return binding


def test_bindings_and_tokens_are_stored_and_gone_with_what_they_are_of() -> None:
    at, shelf = yard(), Shelf()
    bind(at, "ann", Role.SUBMITTER, "q")
    kept = bind(at, "ann", Role.VIEWER)
    at.apply(create_token(at.world, ADMIN, token(), 0, at.now))
    shelf.check(at.world, at.now)
    assert at.world.directory.grants["ann"] == (Grant(role=Role.SUBMITTER, queue="q"), Grant(role=Role.VIEWER))
    at.apply(QueueDeleted(name="q"))
    shelf.check(at.world, at.now)
    assert at.world.directory.grants["ann"] == (Grant(role=Role.VIEWER),), "a later queue of the name is another"
    at.apply(unbind_role(at.world, ADMIN, kept))
    at.apply(revoke_token(at.world, ADMIN, ID))
    shelf.check(at.world, at.now)
    assert at.world.directory == Directory()


def test_a_role_is_bound_once() -> None:
    at = yard()
    assert bind(at, "ann", Role.VIEWER) is bind(at, "ann", Role.VIEWER)
    assert len(at.world.bindings) == 1


def test_a_queues_administrator_lets_others_in_there_alone() -> None:
    at = yard()
    bind(at, "boss", Role.QUEUE_ADMIN, "q")
    boss = Principal(user="boss", grants=at.world.directory.grants["boss"])
    assert bind(at, "ann", Role.SUBMITTER, "q", boss).created_by == "boss"
    for role, queue in ((Role.QUEUE_ADMIN, "q"), (Role.VIEWER, ""), (Role.VIEWER, "elsewhere")):
        with pytest.raises(PermissionDeniedError):
            bind(at, "boss", role, queue, boss)
        with pytest.raises(PermissionDeniedError):
            unbind_role(at.world, boss, Binding(user="boss", role=role, queue=queue))


def test_who_sees_bindings() -> None:
    boss = Principal(user="boss", grants=(Grant(role=Role.QUEUE_ADMIN, queue="q"),))
    seen = [
        (user, queue)
        for user in ("ann", "boss")
        for queue in ("", "q", "qq")
        if identities.may_see(boss, Binding(user=user, role=Role.VIEWER, queue=queue))
    ]
    assert seen == [("ann", "q"), ("boss", ""), ("boss", "q"), ("boss", "qq")]


def test_tokens_are_made_by_who_may_and_end() -> None:
    at = yard()
    ann = Principal(user="ann", grants=(Grant(role=Role.SUBMITTER),))
    with pytest.raises(PermissionDeniedError):
        create_token(at.world, ann, token(), 0, at.now)
    event = create_token(at.world, ADMIN, token(), 60, at.now)
    assert event.token.expires_at_ms == at.now.wall_ms + 60_000
    at.apply(event)
    with pytest.raises(NotFoundError):
        revoke_token(at.world, Principal(user="bob", grants=ann.grants), ID)
    assert revoke_token(at.world, ann, ID).token.id == ID, "one's own may be ended"
    later = replace(at.now, wall_ms=at.now.wall_ms + 60_000 + 31 * 24 * 3600 * 1000)
    at.now = later
    at.apply(TokenChanged(token=token("bob", "f" * 16, later.wall_ms), is_made=True))
    assert list(at.world.tokens) == ["f" * 16], "those that ended long ago are forgotten"
