"""Identities: admission of role bindings and tokens. Laws as in `submissions`."""

from __future__ import annotations

from dataclasses import replace

from batchyard.errors import NotFoundError, Reason, Violation
from batchyard_controller.core import limits
from batchyard_controller.core.access.roles import Kind, Principal, Thing, Verb, may, may_bind
from batchyard_controller.core.events import RoleChanged, TokenChanged
from batchyard_controller.core.model.identities import ADMINISTRATOR, USER_NAME, Binding, Role, Token
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.world.world import World

from .checks import Violations, check_range, check_text, quote, require_room
from .permission import denied, permit
from .settings import find_queue

_BINDABLE = tuple(role for role in Role if role is not Role.AGENT)
"""Agents are known by their certificates alone."""
_OF_THE_YARD = (Role.SECURITY_ADMIN, Role.GATEWAY, Role.METRICS, Role.RELAY)
_IN_QUEUES = tuple(role for role in _BINDABLE if role not in _OF_THE_YARD)


def check_user(out: Violations, field: str, user: str) -> None:
    """Check what a user is called."""
    if not user:
        out.append(Violation(field, "a user is required", Reason.REQUIRED))
    elif len(user) > limits.USER_LENGTH_MAX:
        text = f"{len(user)} characters; at most {limits.USER_LENGTH_MAX} are allowed"
        out.append(Violation(field, text, Reason.TOO_LONG))
    elif USER_NAME.fullmatch(user) is None:
        text = f"{quote(user)} may hold only letters, digits and '._@+-', first a letter or digit"
        out.append(Violation(field, text, Reason.BAD_CHARACTERS))
    elif user == ADMINISTRATOR:
        text = f"{user} is who the controller's own socket belongs to, and no user"
        out.append(Violation(field, text, Reason.NOT_ALLOWED))


def check_role(out: Violations, role: str, queue: str) -> None:
    """Check that there is such a role, that users may have it, and that it has a meaning in a queue, if one is named."""
    if role not in _BINDABLE:
        text = f"{quote(role)} is none of {', '.join(_BINDABLE)}"
        out.append(Violation("role", text, Reason.UNKNOWN_VALUE))
    elif queue and role in _OF_THE_YARD:
        text = f"{role} is a role in the whole yard; in one queue there are {', '.join(_IN_QUEUES)}"
        out.append(Violation("queue", text, Reason.CONFLICT))


def check_token(out: Violations, user: str, description: str, ttl_s: int) -> None:
    """Check what a token is to be."""
    check_user(out, "user", user)
    check_text(out, "description", description, limits.ACCESS_KEY_DESCRIPTION_LENGTH_MAX)
    check_range(out, "ttl_s", ttl_s, 0, limits.TOKEN_TTL_S_MAX, "s")


def bind_role(world: World, caller: Principal, binding: Binding, now: Instant) -> tuple[RoleChanged | None, Binding]:
    """
    Admit a role of a user; no event when they have it already.

    Raises:
        PermissionDeniedError: the caller may not give it.
        NotFoundError: there is no such queue.
    """
    _permit_binding(caller, binding, "give")
    if binding.queue:
        find_queue(world, binding.queue)
    present = world.bindings.get(binding.name)
    if present is not None:
        return None, present
    require_room(len(world.bindings), limits.BINDINGS_MAX, "role bindings", Reason.TOO_MANY_BINDINGS)
    made = replace(binding, created_at_ms=now.wall_ms, created_by=caller.user)
    return RoleChanged(binding=made, is_bound=True), made


def unbind_role(world: World, caller: Principal, binding: Binding) -> RoleChanged:
    """
    Admit that a role is taken from a user.

    Raises:
        PermissionDeniedError: the caller may not take it.
        NotFoundError: they do not have it.
    """
    _permit_binding(caller, binding, "take")
    present = world.bindings.get(binding.name)
    if present is None:
        where = f" in job queue {binding.queue}" if binding.queue else ""
        text = f"{quote(binding.user)} is not bound to {binding.role}{where}"
        metadata = {"user": binding.user, "role": binding.role}
        raise NotFoundError(text, reason=Reason.BINDING_NOT_FOUND, metadata=metadata)
    return RoleChanged(binding=present, is_bound=False)


def _permit_binding(caller: Principal, binding: Binding, verb: str) -> None:
    if not may_bind(caller, binding.role, binding.queue):
        where = f"in job queue {binding.queue}" if binding.queue else "in the whole yard"
        raise denied(caller, f"{verb} the role {binding.role} {where}")


def may_see(caller: Principal, binding: Binding) -> bool:
    """Say whether a caller may see a binding: one's own, or those where they administer."""
    return binding.user == caller.user != "" or may(caller, Verb.READ, Thing(Kind.BINDING, binding.queue))


def create_token(world: World, caller: Principal, token: Token, ttl_s: int, now: Instant) -> TokenChanged:
    """
    Admit a new token of a user.

    Raises:
        PermissionDeniedError: the caller may not make it.
        ResourceExhaustedError: there are too many.
    """
    permit(caller, Verb.CREATE, token_thing(token))
    assert token.id not in world.tokens, "16 digits by dice never repeat"
    require_room(len(world.tokens), limits.TOKENS_MAX, "tokens", Reason.TOO_MANY_TOKENS)
    expires_at_ms = now.wall_ms + (ttl_s or limits.TOKEN_TTL_S_DEFAULT) * 1000
    made = replace(token, created_at_ms=now.wall_ms, expires_at_ms=expires_at_ms)
    return TokenChanged(token=made, is_made=True)


def revoke_token(world: World, caller: Principal, token_id: str) -> TokenChanged:
    """
    Admit the end of a token.

    Raises:
        NotFoundError: there is none of this id, or it is not for the caller to see.
    """
    token = world.tokens.get(token_id)
    if token is None or not may(caller, Verb.READ, token_thing(token)):
        text = f"token {quote(token_id)} not found"
        raise NotFoundError(text, reason=Reason.TOKEN_NOT_FOUND, metadata={"token_id": token_id})
    permit(caller, Verb.CHANGE, token_thing(token))
    return TokenChanged(token=token, is_made=False)


def token_thing(token: Token) -> Thing:
    """Return what a token is to `may`."""
    return Thing(Kind.TOKEN, owner=token.user)
