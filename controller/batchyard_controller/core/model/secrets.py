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
    """What jobs get as an environment variable and nobody can read back."""

    name: str
    sealed: Sealed
    created_at_ms: int = 0
    updated_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """Who may call the AWS Batch gateway; its secret is sealed."""

    id: str
    sealed: Sealed
    description: str = ""
    created_at_ms: int = 0
