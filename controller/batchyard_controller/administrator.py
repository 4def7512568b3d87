"""
The first administrator: whom `init` makes, before there is a store that knows anybody.

The controller keeps a hash of the token beside the CA. Who has the token may do everything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from batchyard.state_folder import read_private, write_private
from batchyard_controller.core.model.identities import Token

FILE_NAME = "administrator.json"
CREDENTIALS_NAME = "administrator.toml"
TOKEN_PREFIX = "by_pat_"  # noqa: S105  # what scanners for secrets look for
LIFE_MS = 90 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """
    What is kept of the token.

    Attributes:
        token_sha256: Of its secret part, in hexadecimal digits.
    """

    token_id: str
    token_sha256: str
    created_at_ms: int
    expires_at_ms: int

    def as_token(self) -> Token:
        """Return what is kept of it as of every other token; it is of no user."""
        return Token(
            id=self.token_id, user="", sha256=bytes.fromhex(self.token_sha256), expires_at_ms=self.expires_at_ms
        )


def write_token(token_id: str, secret: str) -> str:
    """Return a token as it is shown."""
    return f"{TOKEN_PREFIX}{token_id}_{secret}"


def split_token(token: str) -> tuple[str, str]:
    """Return the id and the hash of the secret of a token; empty of what is none."""
    token_id, _, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
    if not token.startswith(TOKEN_PREFIX) or not token_id or not secret:
        return "", ""
    return token_id, hashlib.sha256(secret.encode()).hexdigest()


def write_administrator(path: Path, administrator: Administrator) -> None:
    """
    Keep what is known of the first administrator.

    Raises:
        OSError: the file cannot be written.
    """
    write_private(path, json.dumps(asdict(administrator), indent=2) + "\n")


def read_administrator(path: Path) -> Administrator | None:
    """
    Return what is known of the first administrator; None where there is none.

    Raises:
        PermissionError: the file is open to others.
        ValueError: it is none.
    """
    try:
        return Administrator(**json.loads(read_private(path)))
    except FileNotFoundError:
        return None
    except (TypeError, json.JSONDecodeError) as err:
        raise ValueError(f"{path} cannot be read: {err}") from err
