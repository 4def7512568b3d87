"""Secrets and access keys: values that only the vault can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A value that only the vault can read. ``key_id`` names the key that encrypts it."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """
    What jobs get as an environment variable and nobody can read back.

    Attributes:
        owner: The user whose jobs may use it; empty: the administrator.
        queues: Those whose jobs may use it too, whosever they are.
    """

    name: str
    sealed: Sealed
    created_at_ms: int = 0
    updated_at_ms: int = 0
    owner: str = ""
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """
    By which a user calls the AWS Batch gateway; its secret is sealed.

    Attributes:
        owner: The user; empty: the administrator.
    """

    id: str
    sealed: Sealed
    description: str = ""
    created_at_ms: int = 0
    owner: str = ""
