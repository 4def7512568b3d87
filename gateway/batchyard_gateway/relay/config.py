"""Configuration of the relay: flags over environment over file over defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchyard.arns import ACCOUNT_ID_DEFAULT, REGION_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    What the relay is told.

    Attributes:
        controller: Address of the controller, or several.
        name: What it calls itself to the controller; another one is refused while it is heard of.
        files: Folder in which ``file:`` sinks are.
        programs: Folder of the programs that ``exec:`` sinks may run; None: none may.
        allow_loopback: Whether webhooks may call this machine.
        account_id: Twelve digits, for ARNs.
        region: For ARNs.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
    """

    controller: str
    name: str
    files: Path
    programs: Path | None = None
    allow_loopback: bool = False
    account_id: str = ACCOUNT_ID_DEFAULT
    region: str = REGION_DEFAULT
    log_level: str = "info"
