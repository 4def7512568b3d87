"""Logging in with an OpenID provider: whose tokens open the door, and what users of groups may."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc.jwk import RSAKey
from tests.oidc_provider import CLIENT_ID, Provider, provider

from batchyard.v1 import access_pb2, access_pb2_grpc, job_queue_pb2, job_queue_pb2_grpc
from batchyard_controller.app import Trust
from batchyard_controller.config import read_login
from batchyard_controller.core.access.login import LoginRules
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.issuer import REFETCH_S, Issuer
from batchyard_controller.throttles import Throttles

from .controller import MemoryController, refusal


@pytest.fixture
def known() -> Iterator[Provider]:
    with provider() as made:
        yield made


class Clocks:
    """A wall clock that can be set ahead, and one that never jumps."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def read(self) -> float:
        return time.time() + self.ahead_s


class Yard:
    def __init__(self, controller: MemoryController, channel: grpc.aio.Channel) -> None:
        self.controller = controller
        self._access: Any = access_pb2_grpc.AccessServiceStub(channel)
        self._queues: Any = job_queue_pb2_grpc.JobQueueServiceStub(channel)

    async def who(self, token: str) -> access_pb2.WhoAmIResponse:
        metadata = (("authorization", f"Bearer {token}"),)
        answer = await self._access.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata)
        assert isinstance(answer, access_pb2.WhoAmIResponse)
        return answer

    async def queues(self, token: str) -> list[str]:
        metadata = (("authorization", f"Bearer {token}"),)
        answer = await self._queues.ListJobQueues(job_queue_pb2.ListJobQueuesRequest(), metadata=metadata)
        return [each.name for each in answer.job_queues]

    async def is_refused(self, token: str) -> None:
        assert (await refusal(self.who(token))).code == "UNAUTHENTICATED"

    async def login(self) -> access_pb2.GetLoginResponse:
        answer = await self._access.GetLogin(access_pb2.GetLoginRequest())
        assert isinstance(answer, access_pb2.GetLoginResponse)
        return answer


@asynccontextmanager
async def yard_of(
    known: Provider, clocks: Clocks | None = None, *, claim: str = "sub", **more: Any
) -> AsyncIterator[Yard]:
    clocks = clocks or Clocks()
    rules = read_login(known.issuer, CLIENT_ID, claim, "groups", ("ml=viewer@default", "ops=operator"))
    assert rules is not None
    trust = Trust(issuer=Issuer(replace(rules, **more), clocks.read, clocks.read))
    async with MemoryController(
        other=Door(PeerKind.TLS), trust=trust, throttles=Throttles(failures_per_minute=100_000)
    ) as controller:
        await controller.until_leads()
        await controller.furnish()
        async with grpc.aio.insecure_channel(controller.other_address) as channel:
            yield Yard(controller, channel)


@pytest.mark.parametrize("kind", ["RSA", "EC"])
async def test_a_user_is_who_the_provider_says_with_what_they_and_their_groups_are(known: Provider, kind: str) -> None:
    known.turn_key(kind)
    async with yard_of(known) as yard:
        assert (await yard.login()) == access_pb2.GetLoginResponse(issuer=known.issuer, client_id=CLIENT_ID)
        token = known.token(groups=["ml", "other", "ml"])
        who = await yard.who(token)
        assert (who.user, who.is_administrator, who.via) == ("ann", False, "login")
        assert [(each.role, each.queue) for each in who.bindings] == [("viewer", "default")]
        assert await yard.queues(token) == ["default"]
        assert await yard.queues(known.token()) == [], "without a group there is nothing"
        bound = access_pb2.BindRoleRequest(user="ann", role="submitter")
        await yard.controller.access.BindRole(bound)
        assert await yard.queues(known.token()) == ["default"], "what a user is bound to counts as ever"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _unsigned(known: Provider) -> str:
    claims = known.token().split(".")[1]
    return f"{_part({'alg': 'none', 'kid': known.keys[0].kid})}.{claims}."


def _by_public_key(known: Provider) -> str:
    """As an attacker would, who has the provider's public key (RFC 8725, 2.1); the library itself refuses to."""
    signed = f"{_part({'alg': 'HS256', 'kid': known.keys[0].kid})}.{known.token().split('.')[1]}"
    signature = hmac.digest(known.keys[0].as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _spliced(known: Provider) -> str:
    (head, _, signature), claims = known.token().split("."), known.token(sub="bob").split(".")[1]
    return f"{head}.{claims}.{signature}"


FORGED: dict[str, Callable[[Provider], str]] = {
    "another issuer": lambda p: p.token(iss="https://other.example"),
    "no issuer": lambda p: p.token(iss=None),
    "the issuer with a slash": lambda p: p.token(iss=f"{p.issuer}/"),
    "another audience": lambda p: p.token(aud="other"),
    "no audience": lambda p: p.token(aud=None),
    "made for another client": lambda p: p.token(aud=[CLIENT_ID, "other"], azp="other"),
    "expired": lambda p: p.token(exp=int(time.time()) - 61),
    "without an end": lambda p: p.token(exp=None),
    "not good yet": lambda p: p.token(nbf=int(time.time()) + 120),
    "made tomorrow": lambda p: p.token(iat=int(time.time()) + 86_400),
    "of nobody": lambda p: p.token(sub=None),
    "of the administrator": lambda p: p.token(sub="administrator"),
    "of a name with a slash": lambda p: p.token(sub="ann/bob"),
    "of a name that is too long": lambda p: p.token(sub="a" * 65),
    "of a number": lambda p: p.token(sub=7),
    "signed by another": lambda p: p.token(key=RSAKey.generate_key(2048)),
    "by a key that is unknown": lambda p: p.token(kid="nobody's"),
    "without a key's name": lambda p: p.token(kid=""),
    "alg none": _unsigned,
    "alg HS256 by the public key": _by_public_key,
    "with another's claims": _spliced,
    "no token": lambda p: "eyJ.eyJ.x",
    "two dots": lambda p: "eyJhbGciOiJSUzI1NiJ9..",
}


async def test_what_is_not_the_providers_word_opens_nothing(known: Provider) -> None:
    async with yard_of(known) as yard:
        for name, forge in FORGED.items():
            await yard.is_refused(forge(known))
            assert (await yard.who(known.token(jti=name))).user == "ann", name


async def test_clocks_may_differ_by_a_minute(known: Provider) -> None:
    async with yard_of(known) as yard:
        now_s = int(time.time())
        assert (await yard.who(known.token(exp=now_s - 50, iat=now_s + 50, nbf=now_s + 50))).user == "ann"


async def test_a_token_that_was_checked_ends_all_the_same(known: Provider) -> None:
    clocks = Clocks()
    async with yard_of(known, clocks) as yard:
        token = known.token()
        assert (await yard.who(token)).user == "ann"
        clocks.ahead_s = known.life_s + 61
        await yard.is_refused(token)


async def test_keys_are_fetched_once_and_again_for_one_that_is_new_once_a_minute(known: Provider) -> None:
    clocks = Clocks()
    async with yard_of(known, clocks) as yard:
        for _ in range(3):
            await yard.who(known.token(jti=str(_)))
        assert known.asked.count("/keys") == 1
        former = known.token()
        known.turn_key()
        await yard.is_refused(known.token())  # within the minute nobody makes us ask again
        await yard.who(former)
        clocks.ahead_s = REFETCH_S
        assert (await yard.who(known.token())).user == "ann"
        assert known.asked.count("/keys") == 2
        await yard.is_refused(known.token(kid="x"))
        await yard.is_refused(former + "x")
        assert known.asked.count("/keys") == 2
        clocks.ahead_s = 2 * REFETCH_S
        await yard.is_refused(former)
        assert known.asked.count("/keys") == 3


async def test_a_provider_that_is_away_shuts_out_nobody_whose_key_is_known(known: Provider) -> None:
    clocks = Clocks()
    async with yard_of(known, clocks) as yard:
        await yard.who(known.token())
        known.is_away = True
        clocks.ahead_s = 7200
        said = int(time.time()) + 7200
        assert (await yard.who(known.token(iat=said, exp=said + 60))).user == "ann"


async def test_an_address_is_a_name_only_when_it_was_verified(known: Provider) -> None:
    async with yard_of(known, claim="email") as yard:
        assert (await yard.who(known.token(email="a@b.org", email_verified=True))).user == "a@b.org"
        for verified in (None, False, "true"):
            await yard.is_refused(known.token(email="a@b.org", email_verified=verified))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (("", "x", "sub", "groups", ()), "of use with --oidc-issuer alone"),
        (("https://i.example", "", "sub", "groups", ()), "needs --oidc-client-id"),
        (("http://i.example", "x", "sub", "groups", ()), "is no https:// address"),
        (("https://i.example", "x", "sub", "groups", ("ml=root",)), "'ml=root': 'root' is none of"),
        (("https://i.example", "x", "sub", "groups", ("viewer",)), "must be GROUP=ROLE"),
        (("https://i.example", "x", "sub", "groups", ("g=metrics@q",)), "is a role in the whole yard"),
    ],
)
def test_what_cannot_be_meant_is_told_at_the_start(given: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_login(*given)


async def test_without_a_provider_its_tokens_are_nobodys(known: Provider, tmp_path: Path) -> None:
    async with MemoryController(other=Door(PeerKind.TLS)) as controller:
        await controller.until_leads()
        async with grpc.aio.insecure_channel(controller.other_address) as channel:
            yard = Yard(controller, channel)
            assert (await yard.login()) == access_pb2.GetLoginResponse()
            await yard.is_refused(known.token())


def test_rules_are_plain_values() -> None:
    rules = read_login("https://i.example", "x", "sub", "groups", ("g=viewer@q", "g=operator"))
    assert isinstance(rules, LoginRules)
    assert [(grant.role, grant.queue) for grant in rules.grants["g"]] == [("viewer", "q"), ("operator", "")]
