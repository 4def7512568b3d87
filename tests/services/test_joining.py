"""Nobody in who does not belong: every call without credentials, joining, and a host that speaks for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.ports import hold_address

from batchyard.audit_log import files_of
from batchyard.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    Reason,
    UnauthenticatedError,
)
from batchyard.ids import HostId
from batchyard.v1 import agent_pb2, host_pb2, join_pb2, join_pb2_grpc, join_token_pb2
from batchyard.v1.agent_pb2_grpc import AgentServiceStub
from batchyard.v1.host_pb2_grpc import HostServiceStub
from batchyard_agent import clock
from batchyard_agent.core.attempts import Meta
from batchyard_agent.joining import JoinError, join, join_again, member_channel, renew
from batchyard_agent.membership import BrokenMembershipError, Membership, new_membership, read_membership
from batchyard_agent.standing import Applicant, Standing, find_membership, next_run
from batchyard_controller.app import AGENT_SERVICE
from batchyard_controller.audit import Audit
from batchyard_controller.doors import PeerKind, listen_with_tls

from .controller import PATIENCE_S, MemoryController, code_of, refusal_of
from .hand_agent import HandAgent, ended
from .rpcs import RPCS, Rpc
from .secured import OTHER_YARD, TOKEN, Secured, make_trust, open_door, secured

NOBODY = HostId("")
NODE = "019a0000-0000-7000-8000-00000000000{}"


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Secured]:
    async with secured(tmp_path / "controller") as doors:
        yield doors


async def new_member(doors: Secured, folder: Path, name: str = "alpha", **fields: Any) -> Membership:
    folder.mkdir()
    return await join(doors.users, folder, await doors.token(**fields), name, NOBODY)


# What a host says of itself ----------------------------------------------------------------


async def test_what_a_joined_host_may_not_say_alone_waits_over_restarts(tmp_path: Path) -> None:
    """By a real certificate; what waits is stored, so the next controller neither believes nor forgets it."""
    async with secured(tmp_path / "controller") as doors:
        member = await new_member(doors, tmp_path / "alpha")
        async with doors.as_host(member) as yard:
            agent = HandAgent(yard, member.host_id)
            await agent.join()
            agent.facts.labels["pool"] = "secret"
            agent.facts.labels["agent/rack"] = "7"
            await agent.beat(facts=agent.facts)
            assert (await agent.hear("heartbeat_ack")).sequence == 1
            await agent.hear_nothing()
            host = (await doors.yard.describe_host()).host
            assert (dict(host.facts.labels), list(host.awaiting)) == ({"agent/rack": "7"}, ["label pool=secret"])
    async with MemoryController(doors.yard.data) as heir:
        await heir.until_leads()
        assert list((await heir.describe_host()).host.awaiting) == ["label pool=secret"]
        answer = await heir.hosts.ApproveHost(host_pb2.ApproveHostRequest(host="alpha"))
        assert list(answer.approved) == ["label pool=secret"]
        assert answer.host.facts.labels["pool"] == "secret"


# Every call without credentials ----------------------------------------------------------


async def _outcome(channel: grpc.aio.Channel, rpc: Rpc, token: str = "") -> str:
    try:
        await rpc.ask(channel, rpc.request(), (("authorization", f"Bearer {token}"),) if token else ())
    except grpc.aio.AioRpcError as err:
        return err.code().name
    return "OK"


OPEN = {"GetLogin": "OK", "GetTrust": "OK", "Join": "INVALID_ARGUMENT"}
"""What everybody may ask; the second wants a key."""


@pytest.mark.parametrize("token", ["", "by_pat_0123456789abcdef_wrong", "by_pat__", "x" * 5000, TOKEN[:-1]])
async def test_no_call_at_users_port_is_answered_without_a_token(doors: Secured, token: str) -> None:
    """Whatever is served, what is new included; nothing is stored."""
    before = doors.yard.stored()
    async with doors.channel() as channel:
        found = {name: await _outcome(channel, rpc, token) for name, rpc in RPCS.items()}
    wanted = {name: OPEN.get(name, "UNAUTHENTICATED") for name in RPCS}
    of_agents = {name: "UNIMPLEMENTED" for name, rpc in RPCS.items() if AGENT_SERVICE in rpc.path}
    assert found == wanted | of_agents
    assert doors.yard.stored() == before


async def test_reflection_is_for_who_has_a_token(doors: Secured) -> None:
    async with doors.channel() as channel:
        call: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")()
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await call.read()
    assert code_of(denied.value) == "UNAUTHENTICATED"


async def test_the_administrators_token_is_let_in(doors: Secured) -> None:
    async with doors.channel() as channel:
        listed = await HostServiceStub(channel).ListHosts(
            host_pb2.ListHostsRequest(), metadata=[("authorization", f"Bearer {TOKEN}")]
        )
    assert list(listed.hosts) == []


async def test_agents_port_takes_nobody_without_a_certificate_and_serves_agents_alone(
    doors: Secured, tmp_path: Path
) -> None:
    before = doors.yard.stored()
    async with replace(doors, users=doors.agents).channel() as channel:
        assert {await _outcome(channel, rpc) for rpc in RPCS.values()} == {"UNAVAILABLE"}
    assert doors.yard.stored() == before
    member = await new_member(doors, tmp_path / "a")
    async with member_channel(doors.users, member) as channel:
        found = {name: await _outcome(channel, rpc) for name, rpc in RPCS.items()}
    of_agents = {"Connect": "INVALID_ARGUMENT", "CarryEntry": "NOT_FOUND", "RenewCertificate": "INVALID_ARGUMENT"}
    assert found == {name: of_agents.get(name, "UNIMPLEMENTED") for name in RPCS}


# Joining ------------------------------------------------------------------------------------


async def test_a_host_that_has_joined_works(doors: Secured, tmp_path: Path) -> None:
    member = await new_member(doors, tmp_path / "a")
    assert read_membership(tmp_path / "a") == member
    async with doors.as_host(member) as port:
        agent = HandAgent(port, member.host_id)
        await agent.join()
        await doors.yard.furnish()
        await doors.yard.submit()
        (spec,) = await agent.hear_starts()
        assert spec.number == 1


async def refused(doors: Secured, folder: Path, token: str, name: str = "alpha") -> str:
    before = doors.yard.stored()
    folder.mkdir(exist_ok=True)
    with pytest.raises((UnauthenticatedError, PermissionDeniedError)) as refusal:
        await join(doors.users, folder, token, name, NOBODY)
    assert doors.yard.stored() == before
    return refusal.value.reason


async def test_a_token_that_was_used_revoked_or_altered_lets_nobody_in(doors: Secured, tmp_path: Path) -> None:
    used = await doors.token()
    (tmp_path / "a").mkdir()
    await join(doors.users, tmp_path / "a", used, "alpha", NOBODY)
    revoked = await doors.token()
    await doors.yard.join_tokens.RevokeJoinToken(join_token_pb2.RevokeJoinTokenRequest(id=revoked.split(".")[2]))
    altered = (await doors.token())[:-1] + "_"
    for number, token in enumerate((used, revoked, altered)):
        assert await refused(doors, tmp_path / f"x{number}", token) == Reason.BAD_JOIN_TOKEN
    elsewhere = await doors.token(networks=["10.0.0.0/24"])
    assert await refused(doors, tmp_path / "y", elsewhere) == Reason.JOIN_TOKEN_NOT_FOR
    here = await doors.token(networks=["127.0.0.0/8"], host_name="al*")
    assert await refused(doors, tmp_path / "z", here, "beta") == Reason.JOIN_TOKEN_NOT_FOR
    await join(doors.users, tmp_path / "z", here, "alpha", NOBODY)


async def test_no_secret_of_a_token_is_stored(doors: Secured) -> None:
    secret = (await doors.token()).split(".")[3].encode()
    assert doors.yard.stored()
    assert not [key for key, value in doors.yard.stored().items() if secret in value]


class Eavesdropper(join_pb2_grpc.JoinServiceServicer):
    """A controller of another yard, which tells of whatever certificates, and keeps what it is sent."""

    def __init__(self, told: str) -> None:
        self._told = told
        self.heard: list[join_pb2.JoinRequest] = []

    async def GetTrust(  # noqa: N802  # the contract's
        self, request: join_pb2.GetTrustRequest, context: Any
    ) -> join_pb2.GetTrustResponse:
        return join_pb2.GetTrustResponse(certificates=self._told)

    async def Join(  # noqa: N802  # the contract's
        self, request: join_pb2.JoinRequest, context: Any
    ) -> join_pb2.JoinResponse:
        self.heard.append(request)
        return join_pb2.JoinResponse()


@pytest.mark.parametrize("lies", [False, True], ids=["tells its own CA", "tells the true CA"])
async def test_a_token_is_sent_to_no_controller_of_another_ca(doors: Secured, tmp_path: Path, lies: bool) -> None:
    other = make_trust(tmp_path / "other", OTHER_YARD).authority
    assert other is not None
    stranger, address = Eavesdropper(doors.authority.bundle if lies else other.bundle), hold_address()
    server = grpc.aio.server()
    join_pb2_grpc.add_JoinServiceServicer_to_server(stranger, server)
    listen_with_tls(server, address, other, hosts_alone=False)
    await server.start()
    token = await doors.token()
    (tmp_path / "a").mkdir()
    with pytest.raises(Exception, match=r"not of the yard|no controller of this yard") as refusal:
        await join(address, tmp_path / "a", token, "alpha", NOBODY)
    assert isinstance(refusal.value, JoinError) or lies
    assert stranger.heard == []
    await server.stop(None)


def asking_for(uri: str) -> str:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


async def test_a_request_for_anothers_id_is_refused_and_an_id_that_is_told_is_not_taken(
    doors: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await new_member(doors, tmp_path / "a")
    token = await doors.token()
    with monkeypatch.context() as patched:
        patched.setattr(Membership, "signing_request", lambda _: asking_for(f"spiffe://x/host/{member.host_id}"))
        (tmp_path / "b").mkdir()
        with pytest.raises(InvalidArgumentError, match="the controller says what a host is called"):
            await join(doors.users, tmp_path / "b", token, "beta", NOBODY)
    other = await join(doors.users, tmp_path / "b", token, "beta", member.host_id)
    assert other.host_id != member.host_id


# A host as another -------------------------------------------------------------------------


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "audit", lambda: 1_700_000_000_000)


@pytest.fixture
async def audited(tmp_path: Path, audit: Audit) -> AsyncIterator[Secured]:
    async with secured(tmp_path / "controller", audit=audit) as doors:
        yield doors


def refusals(audit: Audit) -> list[tuple[str, ...]]:
    """Return who was refused what, and why, as the audit log says."""
    assert audit.folder is not None
    lines = [json.loads(line) for path in files_of(audit.folder) for line in path.read_text().splitlines()]
    keys = ("who", "via", "from", "call", "thing", "outcome")
    return [tuple(line[key] for key in keys) for line in lines if line["outcome"] != "OK"]


async def test_a_host_as_another_is_denied_and_the_other_lives(audited: Secured, audit: Audit, tmp_path: Path) -> None:
    """And the log says which host it was, as its certificate does, and as which it came."""
    doors = audited
    alpha = await new_member(doors, tmp_path / "a", "alpha")
    beta = await new_member(doors, tmp_path / "b", "beta")
    async with doors.as_host(beta) as port, doors.as_host(alpha) as false_port:
        true = HandAgent(port, beta.host_id, "beta")
        await true.join()
        before = doors.yard.stored()
        thief = HandAgent(false_port, beta.host_id, "beta")
        await thief.open(thief.hello())
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await thief.read()
        assert refusal_of(denied.value).reason == Reason.HOST_NOT_ITSELF
        assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
        await true.hear_nothing()
        assert doors.yard.stored() == before
        by_socket = HandAgent(doors.yard, beta.host_id, "beta")
        await by_socket.open(by_socket.hello())
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await by_socket.read()
        assert code_of(denied.value) == "PERMISSION_DENIED"
        await true.hear_nothing()
    told = [
        (f"host {alpha.host_id}", f"host {alpha.host_id}", "127.0.0.1", "Connect", beta.host_id, "HOST_NOT_ITSELF"),
        ("administrator", "socket", "local", "Connect", beta.host_id, "HOST_NOT_ITSELF"),
    ]
    assert refusals(audit) == told


async def test_one_agent_speaks_for_the_nodes_of_its_cluster_and_for_no_other_host(
    doors: Secured, tmp_path: Path
) -> None:
    member = await new_member(doors, tmp_path / "a", "cluster", speaks_for="kube-*")
    async with doors.as_host(member) as port:
        nodes = [HandAgent(port, NODE.format(number), f"kube-{number}") for number in (1, 2)]
        for node in nodes:
            await node.join()
        for host_id, name in ((NODE.format(3), "alpha"), (NODE.format(1), "alpha")):
            thief = HandAgent(port, host_id, name)
            await thief.open(thief.hello())
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await thief.read()
            assert refusal_of(denied.value).reason == Reason.HOST_NOT_ITSELF
        await nodes[0].hear_nothing()
        await doors.yard.hosts.RemoveHost(host_pb2.RemoveHostRequest(host="cluster"))
        for node in nodes:
            with pytest.raises(grpc.aio.AioRpcError) as hung_up:
                await node.read()
            assert refusal_of(hung_up.value).reason == Reason.HOST_NOT_JOINED


async def test_a_host_reports_no_attempt_of_another_and_reads_no_secret_of_it(doors: Secured, tmp_path: Path) -> None:
    alpha = await new_member(doors, tmp_path / "a", "alpha")
    await doors.yard.furnish()
    async with doors.as_host(alpha) as port:
        victim = HandAgent(port, alpha.host_id, "alpha")
        await victim.join()
        job_id = await doors.yard.submit()
        (spec,) = await victim.hear_starts()
        beta = await new_member(doors, tmp_path / "b", "beta")
        async with doors.as_host(beta) as false_port:
            thief = HandAgent(false_port, beta.host_id, "beta")
            await thief.join()
            await thief.report(ended(spec.attempt_id))
            assert list((await thief.hear("ack")).attempt_ids) == [spec.attempt_id], "it may forget it"
            await thief._say(
                agent_pb2.ConnectRequest(secrets_request=agent_pb2.SecretsRequest(attempt_id=spec.attempt_id))
            )
            assert "not one that this host is to start" in (await thief.hear("secret_values")).error
        assert await doors.yard.state(job_id) == "STARTING"


# Out, and renewed ----------------------------------------------------------------------------


async def test_a_removed_host_is_hung_up_on_and_gets_neither_in_nor_a_certificate(
    doors: Secured, tmp_path: Path
) -> None:
    member = await new_member(doors, tmp_path / "a")
    async with doors.as_host(member) as port:
        agent = HandAgent(port, member.host_id)
        await agent.join()
        await doors.yard.hosts.RemoveHost(host_pb2.RemoveHostRequest(host="alpha"))
        with pytest.raises(grpc.aio.AioRpcError) as hung_up:
            await agent.read()
        assert refusal_of(hung_up.value).reason == Reason.HOST_NOT_JOINED
        again = HandAgent(port, member.host_id)
        await again.open(again.hello())
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await again.read()
        assert refusal_of(denied.value).reason == Reason.HOST_NOT_JOINED
    for ask in (renew, join_again):
        with pytest.raises(UnauthenticatedError):
            await ask(doors.users, tmp_path / "a", member)


async def test_without_a_port_for_agents_nobody_joins(doors: Secured, tmp_path: Path) -> None:
    address, token = hold_address(), await doors.token()
    server = open_door(doors.yard, PeerKind.TLS, replace(doors.trust, agents_port=0))
    listen_with_tls(server, address, doors.authority, hosts_alone=False)
    await server.start()
    (tmp_path / "a").mkdir()
    with pytest.raises(FailedPreconditionError, match="--listen-agents"):
        await join(address, tmp_path / "a", token, "alpha", NOBODY)
    await server.stop(None)
    await join(doors.users, tmp_path / "a", token, "alpha", NOBODY)


async def test_a_certificate_is_renewed_for_the_key_that_joined_alone(doors: Secured, tmp_path: Path) -> None:
    member = await new_member(doors, tmp_path / "a")
    renewed = await renew(doors.users, tmp_path / "a", member)
    assert renewed.certificate != member.certificate
    assert replace(renewed, certificate=member.certificate) == member
    assert read_membership(tmp_path / "a") == renewed
    other = replace(member, key=new_membership().key)
    with pytest.raises(UnauthenticatedError):
        await join_again(doors.users, tmp_path / "a", other)


async def test_an_expired_certificate_opens_nothing_and_its_key_gets_another(tmp_path: Path) -> None:
    async with secured(tmp_path / "controller", host_life=timedelta(seconds=2)) as doors:
        member = await new_member(doors, tmp_path / "a")
        await asyncio.sleep(2.5)
        async with doors.as_host(member) as port:
            call = port.agents.RenewCertificate(agent_pb2.RenewCertificateRequest())
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await call
            assert code_of(denied.value) == "UNAVAILABLE"
        again = await join_again(doors.users, tmp_path / "a", member)
        async with doors.as_host(again) as port:
            await HandAgent(port, again.host_id).join()


@pytest.mark.parametrize("age_s", [1.1, 4.5], ids=["in time", "after it has expired"])
async def test_an_agent_renews_its_certificate_by_itself(tmp_path: Path, age_s: float) -> None:
    async with secured(tmp_path / "controller", host_life=timedelta(seconds=4)) as doors:
        folder = tmp_path / "a"
        member = await new_member(doors, folder)
        await asyncio.sleep(age_s)
        who = Applicant(controller=doors.users, folder=folder, name="alpha")
        standing, reopened = Standing(who, member, clock.read_wall_ms, lambda: 0.0), asyncio.Event()
        renewing = asyncio.create_task(standing.run(lambda _: reopened.set()))
        async with asyncio.timeout(PATIENCE_S):
            await reopened.wait()
        renewing.cancel()
        kept = read_membership(folder)
        assert kept is not None
        assert kept.expires_at_s > member.expires_at_s
        async with standing.connect(doors.users) as channel:
            port = SimpleNamespace(agents=AgentServiceStub(channel), leadership=doors.yard.leadership)
            await HandAgent(port, member.host_id).join()  # type: ignore[arg-type]


async def test_an_agent_joins_by_itself_and_again_after_it_was_refused(doors: Secured, tmp_path: Path) -> None:
    folder, file = tmp_path / "a", tmp_path / "token"
    folder.mkdir()
    who = Applicant(controller=doors.users, folder=folder, name="alpha", join_token_file=file)
    with pytest.raises(JoinError, match="cannot be read"):
        await find_membership(who, NOBODY)
    file.write_text("BY1.x.y.z\n")
    with pytest.raises(JoinError, match="the token was not sent"):
        await find_membership(who, NOBODY)
    with pytest.raises(JoinError, match="--join-token-file"):
        await find_membership(replace(who, join_token_file=None), NOBODY)
    file.write_text(await doors.token() + "\n")
    member = await find_membership(who, NOBODY)
    assert member is not None
    file.unlink()
    assert await find_membership(who, NOBODY) == member
    (folder / "identity.json").chmod(0o644)
    with pytest.raises(BrokenMembershipError, match="0600"):
        await find_membership(who, NOBODY)


def test_an_epoch_counts_within_its_yard_alone() -> None:
    """Whoever took the port and told a giant one has told it of another yard."""
    meta = Meta(host_id="h", epoch=2**62, run=4)
    joined = next_run(meta, OTHER_YARD)
    assert (joined.host_id, joined.yard, joined.epoch, joined.run) == ("h", OTHER_YARD, 0, 5)
    later = next_run(replace(joined, epoch=7), OTHER_YARD)
    assert (later.epoch, later.run) == (7, 6)
    assert next_run(meta, "") == replace(meta, run=5)


async def test_a_session_lasts_no_longer_than_its_certificate(tmp_path: Path) -> None:
    async with secured(tmp_path / "controller", host_life=timedelta(seconds=3)) as doors:
        member = await new_member(doors, tmp_path / "a")
        async with doors.as_host(member) as port:
            agent = HandAgent(port, member.host_id)
            await agent.join()
            with pytest.raises(grpc.aio.AioRpcError) as ended_:
                await agent.read()
            assert refusal_of(ended_.value).reason == Reason.BAD_CREDENTIALS


async def test_an_older_run_of_the_same_identity_is_refused(doors: Secured, tmp_path: Path) -> None:
    member = await new_member(doors, tmp_path / "a")

    def hello(agent: HandAgent, run: int, nonce: str) -> agent_pb2.ConnectRequest:
        first = agent.hello()
        first.hello.run, first.hello.nonce = run, nonce
        return first

    async with doors.as_host(member) as port:
        agent = HandAgent(port, member.host_id)
        await agent.open(hello(agent, 3, "three"))
        await agent.hear("welcome")
    async with doors.as_host(member) as port:
        for run, nonce in ((2, "two"), (3, "copy")):
            copy = HandAgent(port, member.host_id)
            await copy.open(hello(copy, run, nonce))
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await copy.read()
            assert refusal_of(denied.value).reason in (Reason.HOST_NOT_ITSELF, Reason.HOST_TWIN)
