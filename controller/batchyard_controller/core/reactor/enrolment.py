"""What follows when join tokens are made and used."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from batchyard_controller.core.events import HostEnrolled, HostJoined, JoinTokenCreated, JoinTokenRevoked
from batchyard_controller.core.world import records
from batchyard_controller.core.world.world import World


def on_enrolment_changed(world: World, event: JoinTokenCreated | JoinTokenRevoked | HostEnrolled) -> None:
    """Keep or forget a token, or a host that has joined with one."""
    match event:
        case JoinTokenCreated(join_token=token):
            records.keep_plain(world, "join_token", token.id, token)
        case JoinTokenRevoked(id=token_id):
            records.drop_plain(world, "join_token", token_id)
        case HostEnrolled(member=member, join_token=token):
            records.keep_plain(world, "member", member.host_id, member)
            if token.uses:
                records.keep_plain(world, "join_token", token.id, token)
            else:
                records.drop_plain(world, "join_token", token.id)
        case _:
            assert_never(event)


def note_run(world: World, event: HostJoined) -> None:
    """Keep which run of a host's agent was the last."""
    member = world.members.get(event.host_id)
    if member is not None and event.by == event.host_id and event.run > member.run:
        later = replace(member, run=event.run, nonce=event.nonce)
        records.keep_plain(world, "member", member.host_id, later)


def forget_old_enrolments(world: World, date_ms: int) -> None:
    """Forget tokens that have expired, and hosts that joined so long ago and never came."""
    for token in [each for each in world.join_tokens.values() if each.expires_at_ms <= date_ms]:
        records.drop_plain(world, "join_token", token.id)
    oldest_ms = date_ms - world.retention.host_age_ms
    for member in [each for each in world.members.values() if each.joined_at_ms <= oldest_ms]:
        if member.host_id not in world.hosts and not member.speaks_for:
            records.drop_plain(world, "member", member.host_id)
