"""
Identities: users, the roles they are bound to, and the tokens by which they are known.

A user is a name: whoever proves by a token, an access key or a login of this machine that
it is theirs is that user. There is no record of one; a user without bindings may do nothing.
The yard's own administrator has no name: "" is the owner of what it made, and of all that
was made before there were users.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

ADMINISTRATOR = "administrator"
"""What the administrator is called where a name must be shown or given; no user may be called so."""


USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*", re.ASCII)
"""What a user may be called."""


class Role(StrEnum):
    """What a user may be; what each may do: ``access.roles``."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    QUEUE_ADMIN = "queue-admin"
    OPERATOR = "operator"
    SECURITY_ADMIN = "security-admin"
    AGENT = "agent"
    GATEWAY = "gateway"
    METRICS = "metrics"
    RELAY = "relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """
    One role of one user.

    Attributes:
        queue: Where it counts; empty: in the whole yard.
        created_by: Who bound it; empty: the administrator.
    """

    user: str
    role: Role
    queue: str = ""
    created_at_ms: int = 0
    created_by: str = ""

    @property
    def name(self) -> str:
        """What it is stored under: users, roles and queues have no slash."""
        return f"{self.user}/{self.role}/{self.queue}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """
    What a user may show in place of a password; only a hash of its secret part is kept.

    Attributes:
        id: 16 hexadecimal digits; it stands in the token, and is no secret.
        sha256: Of the secret part, 43 characters of 256 random bits, so that no slow hash is needed.
    """

    id: str
    user: str
    sha256: bytes
    description: str = ""
    created_at_ms: int = 0
    expires_at_ms: int = 0
