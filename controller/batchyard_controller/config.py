"""Configuration of the controller: flags over environment over file over defaults."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from batchyard_controller.core.jobs.retention import Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    What the controller is told.

    Attributes:
        socket: Path of the gRPC socket, the one listener that serves access keys.
        socket_group: Group that may connect to it; empty: its owner alone.
        listen: ``host:port`` of a further gRPC listener, for hosts and users of other machines; empty for none.
        store: Store URL, see ``store.open``.
        metrics: ``host:port`` of the Prometheus listener; empty for none.
        secrets_key: Key file of secrets and access keys; empty: see ``vault.open_vault``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        retention: What history of ended jobs is kept.
    """

    socket: Path
    socket_group: str = ""
    listen: str = ""
    store: str
    metrics: str = ""
    secrets_key: str = ""
    log_level: str = "info"
    retention: Retention = field(default_factory=Retention)


def default_store() -> str:
    """Return the URL of the embedded store in this user's state folder."""
    if os.geteuid() == 0:
        folder = Path("/var/lib/batchyard")
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "batchyard"
    return f"sqlite://{folder / 'controller.db'}"


def without_login(store: str) -> str:
    """Return a store URL as it may be logged."""
    return re.sub(r"//[^/@]*@", "//", store)
