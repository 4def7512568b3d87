"""
Login: who somebody is whom the yard's OpenID provider vouches for, from the claims of their token.

The signature, the issuer, the audience and the times were checked before (see ``issuer``). A
provider is trusted with the names of all users: whom it calls ann is ann.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchyard.errors import Reason, UnauthenticatedError
from batchyard_controller.core import limits
from batchyard_controller.core.model.identities import ADMINISTRATOR, USER_NAME

from .roles import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRules:
    """
    Whose word counts, and what of it.

    Attributes:
        issuer: The provider's URL, as its tokens name it.
        client_id: As which the yard is known to it; tokens for others are refused.
        user_claim: What of a token is the user's name. Only ``sub`` is sure never to come to
            another person (OpenID Connect Core 5.7).
        groups_claim: What of it are the groups they are in.
        grants: What members of a group are, by its name, beside what they are bound to themselves.
    """

    issuer: str
    client_id: str
    user_claim: str = "sub"
    groups_claim: str = "groups"
    grants: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user whom the provider vouches for, and what their groups make them."""

    user: str
    grants: tuple[Grant, ...] = ()


def login_of(rules: LoginRules, claims: Mapping[str, Any]) -> Login:
    """
    Return whom the claims of a token are about.

    Raises:
        UnauthenticatedError: it is for another client, or names no user that may be one.
    """
    if claims.get("azp", rules.client_id) != rules.client_id:  # OpenID Connect Core 3.1.3.7
        raise _refused("the token of the login was made for another client")
    user = claims.get(rules.user_claim)
    if not isinstance(user, str) or len(user) > limits.USER_LENGTH_MAX or USER_NAME.fullmatch(user) is None:
        raise _refused(f"the claim {rules.user_claim} of the login is no name of a user")
    if user == ADMINISTRATOR:
        raise _refused(f"{ADMINISTRATOR} is no user")
    if rules.user_claim == "email" and claims.get("email_verified") is not True:
        raise _refused("the provider has not verified the address of the login")
    groups = claims.get(rules.groups_claim)
    named = [group for group in groups if isinstance(group, str)] if isinstance(groups, list) else []
    grants = (grant for group in dict.fromkeys(named) for grant in rules.grants.get(group, ()))
    return Login(user=user, grants=tuple(dict.fromkeys(grants)))


def _refused(text: str) -> UnauthenticatedError:
    return UnauthenticatedError(text, reason=Reason.BAD_CREDENTIALS)
