"""Configuration of the controller: flags over environment over file over defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchyard import settings
from batchyard.oidc import require_safe
from batchyard_controller.core import limits
from batchyard_controller.core.access.login import LoginRules
from batchyard_controller.core.access.roles import Grant
from batchyard_controller.core.jobs.retention import Retention
from batchyard_controller.core.model.identities import Role
from batchyard_controller.core.requests.checks import Violations
from batchyard_controller.core.requests.identities import check_role

from .providers.launcher import Offer
from .providers.offers import Surroundings, offers
from .trail import TrailBounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    What the controller is told.

    Attributes:
        socket: Path of the gRPC socket, the one listener that serves access keys.
        socket_group: Group that may connect to it; empty: its owner alone.
        listen: ``host:port`` of a listener for users of other machines, with TLS; empty for none.
        listen_agents: ``host:port`` of one for hosts that have joined, with TLS on both sides; empty for none.
        ca: File of the yard's CA, which both need.
        is_insecure: *listen*, an address of loopback, takes everybody, as plain text: for tests.
        store: Store URL, see ``store.open``.
        audit: Folder of the audit log; None for none.
        login: Who vouches for users, if anybody.
        metrics: ``host:port`` of the Prometheus listener; empty for none.
        secrets_key: Key file of secrets and access keys; empty: see ``vault.open_vault``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        retention: What history of ended jobs is kept.
        trail: How much is kept of what became of everything.
        fence_ms: After how long a silence agents kill what they run; 0: never.
        brake_percent: Of which share of the hosts more have to fall silent at once so that none is given up; 0: none.
        offers: Who launches hosts for environments that scale.
    """

    socket: Path
    socket_group: str = ""
    listen: str = ""
    listen_agents: str = ""
    ca: Path = Path("/nonexistent")
    is_insecure: bool = False
    store: str
    audit: Path | None = None
    login: LoginRules | None = None
    metrics: str = ""
    secrets_key: str = ""
    log_level: str = "info"
    retention: Retention = field(default_factory=Retention)
    fence_ms: int = limits.FENCE_MS
    trail: TrailBounds = field(default_factory=TrailBounds)
    brake_percent: int = limits.BRAKE_PERCENT
    offers: Sequence[Offer] = ()


def default_store() -> str:
    """Return the URL of the embedded store in this user's state folder."""
    if os.geteuid() == 0:
        folder = Path("/var/lib/batchyard")
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "batchyard"
    return f"sqlite://{folder / 'controller.db'}"


def default_audit(store: str) -> Path | None:
    """Return the folder of the audit log of a store: beside the file of an embedded one; none for one in memory."""
    scheme, _, rest = store.partition("://")
    if scheme == "memory":
        return None
    return Path(f"{rest}.audit") if scheme == "sqlite" else settings.state_dir() / "audit"


def parse_fence(text: str) -> int:
    """
    Read a fence, ``never`` or a number of seconds, as milliseconds; 0: never.

    Raises:
        ValueError: it is neither, or not within the limits.
    """
    if text == "never":
        return 0
    if not (text.isascii() and text.isdecimal()) or not limits.FENCE_S_MIN <= int(text) <= limits.FENCE_S_MAX:
        raise ValueError(
            f"{text!r} is neither never nor a whole number of seconds from {limits.FENCE_S_MIN} to {limits.FENCE_S_MAX}"
        )
    return int(text) * 1000


def parse_brake(text: str) -> int:
    """
    Read a brake, ``off`` (0) or per cent.

    Raises:
        ValueError: it is neither, or not from 1 to 99.
    """
    if text == "off":
        return 0
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 99:  # per cent
        raise ValueError(f"{text!r} is neither off nor a whole number of per cent from 1 to 99")
    return int(text)


def read_login(
    issuer: str, client_id: str, user_claim: str, groups_claim: str, roles: Sequence[str]
) -> LoginRules | None:
    """
    Return who vouches for users; None where no issuer is given.

    Args:
        issuer: URL of an OpenID provider.
        client_id: As which the yard is known to it.
        user_claim: See `LoginRules`.
        groups_claim: See `LoginRules`.
        roles: ``GROUP=ROLE`` or ``GROUP=ROLE@QUEUE`` each.

    Raises:
        ValueError: something is missing, or no role is called so.
    """
    if not issuer:
        if client_id or roles:
            raise ValueError("--oidc-client-id and --oidc-role are of use with --oidc-issuer alone")
        return None
    if not client_id:
        raise ValueError("--oidc-issuer needs --oidc-client-id too")
    require_safe(issuer)
    grants: dict[str, tuple[Grant, ...]] = {}
    for text in roles:
        group, equals, bound = text.rpartition("=")
        role, _, queue = bound.partition("@")
        out: Violations = []
        check_role(out, role, queue)
        if not (group and equals) or out:
            why = out[0].message if out else "it must be GROUP=ROLE or GROUP=ROLE@QUEUE"
            raise ValueError(f"--oidc-role {text!r}: {why}")
        grants[group] = (*grants.get(group, ()), Grant(role=Role(role), queue=queue))
    return LoginRules(
        issuer=issuer, client_id=client_id, user_claim=user_claim, groups_claim=groups_claim, grants=grants
    )


def without_login(store: str) -> str:
    """Return a store URL as it may be logged."""
    return re.sub(r"//[^/@]*@", "//", store)


def read_offers(socket: Path, local_hosts: Path | None, local_scratch: Path | None) -> Sequence[Offer]:
    """
    Return the providers that the settings file declares; commands get no setting of Batchyard's own.

    Raises:
        InvalidArgumentError: the file cannot be read.
        ValueError: a declaration is wrong.
    """
    around = Surroundings(
        socket=f"unix:{socket.absolute()}",
        hosts=local_hosts.absolute() if local_hosts is not None else None,
        scratch=local_scratch.absolute() if local_scratch is not None else None,
        environment={key: value for key, value in os.environ.items() if not key.startswith("BATCHYARD_")},
        cpus=len(os.sched_getaffinity(0)),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
    )
    return offers(settings.provider_tables(os.environ), around)
