"""
Enrolment: admission of join tokens, and of hosts that join with one.

Of a token's secret only the hash comes here. Law: whoever cannot show a good token is told
nothing but that it is none.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, replace

from batchyard.errors import NotFoundError, PermissionDeniedError, Reason, UnauthenticatedError, Violation
from batchyard.ids import HostId, made_at_ms
from batchyard_controller.core import limits
from batchyard_controller.core.events import HostEnrolled, JoinTokenCreated, JoinTokenRevoked
from batchyard_controller.core.model.enrolment import JoinToken, Member, admits_name
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, check_range, quote, require_room


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    A host that asks to join.

    Attributes:
        secret_hash: Of the secret that it showed.
        address: From where it asked; empty: unknown.
        key_hash: Of the key that it has made.
        former_id: What it was called in this yard before hosts had to join; empty: nothing.
        new_id: What it may be called now.
    """

    token_id: str
    secret_hash: str
    name: str
    address: str
    key_hash: str
    former_id: HostId
    new_id: HostId


def check_host_name(out: Violations, field: str, name: str) -> None:
    """Check what a host calls itself."""
    if not 1 <= len(name) <= limits.HOST_NAME_LENGTH_MAX or not name.isprintable():
        out.append(Violation(field, f"{quote(name)} is no host name", Reason.MALFORMED))


def check_join_token(
    out: Violations, *, ttl_s: int, uses: int, host_name: str, networks: tuple[str, ...], speaks_for: str = ""
) -> None:
    """Check what a token is to allow."""
    check_range(out, "ttl_s", ttl_s, limits.JOIN_TOKEN_TTL_S_MIN, limits.JOIN_TOKEN_TTL_S_MAX, "seconds")
    check_range(out, "uses", uses, 1, limits.JOIN_TOKEN_USES_MAX)
    for field, pattern in (("host_name", host_name), ("speaks_for", speaks_for)):
        if pattern:
            check_host_name(out, field, pattern)
    if len(networks) > limits.JOIN_TOKEN_NETWORKS_MAX:
        text = f"{len(networks)} given; at most {limits.JOIN_TOKEN_NETWORKS_MAX} are allowed"
        out.append(Violation("networks", text, Reason.TOO_MANY))
    for network in networks[: limits.JOIN_TOKEN_NETWORKS_MAX]:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            out.append(Violation("networks", f"{quote(network)} is no network such as 10.0.0.0/24", Reason.MALFORMED))


def create_join_token(world: World, token: JoinToken, now: Instant) -> JoinTokenCreated:
    """Admit a new token."""
    assert token.id not in world.join_tokens, "64 bits by dice never repeat"
    require_room(len(world.join_tokens), limits.JOIN_TOKENS_MAX, "join tokens", Reason.TOO_MANY_JOIN_TOKENS)
    return JoinTokenCreated(join_token=replace(token, created_at_ms=now.wall_ms))


def revoke_join_token(world: World, token_id: str) -> JoinTokenRevoked:
    """Admit that nobody joins with a token any more; who has joined stays."""
    if token_id not in world.join_tokens:
        text = f"join token {quote(token_id)} not found"
        raise NotFoundError(text, reason=Reason.JOIN_TOKEN_NOT_FOUND, metadata={"join_token_id": token_id})
    return JoinTokenRevoked(id=token_id)


def enrol(world: World, candidate: Candidate, now: Instant) -> tuple[HostEnrolled | None, Member]:
    """
    Admit a host, or say again who one is whose answer was lost.

    Raises:
        UnauthenticatedError: there is no such token, or not any more.
        PermissionDeniedError: it is not for hosts of this name, or from there.
        ResourceExhaustedError: there are as many hosts as may be.
    """
    for member in world.members.values():
        if member.token_id == candidate.token_id and member.key_hash == candidate.key_hash:
            return None, member
    token = world.join_tokens.get(candidate.token_id)
    if token is None or not hmac.compare_digest(token.secret_hash, candidate.secret_hash):
        raise _no_token()
    if token.expires_at_ms <= now.wall_ms:
        raise _no_token()
    if not admits_name(token.host_name, candidate.name):
        raise _not_for(f"this token is for hosts named {token.host_name}, not for {quote(candidate.name)}")
    if not token.admits_address(candidate.address):
        raise _not_for(f"this token is for hosts of {', '.join(token.networks)}, not for {candidate.address}")
    require_room(len(world.members), limits.HOSTS_MAX, "hosts", Reason.TOO_MANY_HOSTS)
    member = Member(
        host_id=candidate.former_id if _may_keep(world, token, candidate) else candidate.new_id,
        name=candidate.name,
        key_hash=candidate.key_hash,
        host_name=token.host_name,
        speaks_for=token.speaks_for,
        token_id=token.id,
        joined_at_ms=now.wall_ms,
    )
    return HostEnrolled(member=member, join_token=replace(token, uses=token.uses - 1)), member


def _may_keep(world: World, token: JoinToken, candidate: Candidate) -> bool:
    """
    Say whether a host that was here before hosts had to join goes on under its id, with what it runs.

    Only with a token for its very name, as whoever has one for all could take any.
    """
    host = world.hosts.get(candidate.former_id)
    return (
        host is not None
        and candidate.former_id not in world.members
        and not host.is_reachable
        and host.record.facts.name == candidate.name == token.host_name
    )


def find_member(world: World, host_id: HostId, key_hash: str) -> Member:
    """
    Return who has a key, to be given a certificate for it again.

    Raises:
        UnauthenticatedError: there is no such host, or it was removed, or has another key.
    """
    member = world.members.get(host_id)
    if member is None or not hmac.compare_digest(member.key_hash, key_hash):
        raise not_joined(host_id)
    return member


def check_session(world: World, host_id: HostId, by: HostId | None, name: str, run: int, nonce: str) -> None:
    """
    Check that who opens a session for a host may: itself, an agent that speaks for hosts of such names, or this machine.

    The key signs the connection, so a run's number is as good as signed. An agent's is one higher each
    time it starts: who comes with less, or with another's, has an older copy of its state folder.

    Args:
        world: Who belongs here.
        host_id: For which host.
        by: Who has proved that they have its key; None on the controller's own machine, where nothing is proved.
        name: What the host is called.
        run: Number of the agent's run.
        nonce: Of that run.

    Raises:
        UnauthenticatedError: who has the key was removed.
        PermissionDeniedError: they may not speak for the host, or are such a copy.
    """
    if by is None:
        if host_id in world.members:
            raise _not_itself(host_id, f"host {host_id} has joined, and must come with its certificate")
        return
    member = world.members.get(by)
    if member is None:
        if host_id == by and _joined_since_backup(world, by):
            return
        raise not_joined(by)
    if host_id != by:
        _check_spoken_for(world, member, host_id, name)
        return
    if not admits_name(member.host_name, name):
        text = f"this host joined with a token for hosts named {member.host_name}, and cannot be {quote(name)}"
        raise _not_itself(by, text)
    if run < member.run or (run == member.run and member.nonce not in ("", nonce)):
        text = (
            f"a later run of this host's agent was here, number {member.run}, and this is number {run}: its state "
            "folder is an older copy; remove the host and let it join anew"
        )
        raise _not_itself(by, text)


def _joined_since_backup(world: World, host_id: HostId) -> bool:
    """
    Say whether a host that is not known had joined when the store was put back from a backup that was made before.

    It has proved a key that the yard's CA certified, and its id says when; so what runs there need not
    end. It gets no certificate anew: before that runs out it has to join again.
    """
    restore = world.restore
    if restore is None or host_id in world.gone_hosts:
        return False
    return restore.newest_ms <= made_at_ms(host_id) <= restore.at_ms


def _check_spoken_for(world: World, member: Member, host_id: HostId, name: str) -> None:
    """Let an agent of many hosts speak for those that are, and were, called as its token says, and are nobody's own."""
    if not member.speaks_for:
        raise _not_itself(
            member.host_id,
            f"the certificate is of host {member.host_id}, which cannot speak for {host_id}: "
            "its token was made without --speaks-for",
        )
    known = world.hosts.get(host_id)
    names = {name} if known is None else {name, known.record.facts.name}
    if host_id in world.members or not all(admits_name(member.speaks_for, each) for each in names):
        text = f"this agent speaks for hosts named {member.speaks_for}, and cannot for {quote(name)}, {host_id}"
        raise _not_itself(member.host_id, text)


def _not_itself(host_id: HostId, text: str) -> PermissionDeniedError:
    return PermissionDeniedError(text, reason=Reason.HOST_NOT_ITSELF, metadata={"host_id": host_id})


def not_joined(host_id: HostId) -> UnauthenticatedError:
    """Return the error for a host that does not belong here."""
    text = f"host {host_id} has not joined this yard, or was removed from it; a new join token lets it in"
    return UnauthenticatedError(text, reason=Reason.HOST_NOT_JOINED, metadata={"host_id": host_id})


def _no_token() -> UnauthenticatedError:
    text = "this join token is none, was used, was revoked or has expired; `batchyard join-token create` makes one"
    return UnauthenticatedError(text, reason=Reason.BAD_JOIN_TOKEN)


def _not_for(text: str) -> PermissionDeniedError:
    return PermissionDeniedError(text, reason=Reason.JOIN_TOKEN_NOT_FOR)
