"""
Credentials: what a user of another machine needs of a yard, in one file.

Where it is, whose certificates are trusted there, and the token that says who asks. The
file is closed to others, as who has the token is the user.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.ids import is_uuid
from batchyard.state_folder import read_private, write_private

KEYS = ("address", "yard", "token", "ca")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """
    How a yard is reached and known, and by whom.

    Attributes:
        address: ``host:port`` of the controller.
        yard: The yard's id, which the controller's certificate has to name.
        token: What says who asks.
        ca: Certificates that are trusted, as PEM.
    """

    address: str
    yard: str
    token: str = field(repr=False)
    ca: str = field(repr=False)


def read_credentials(path: Path) -> Credentials:
    """
    Read a file of credentials.

    Raises:
        InvalidArgumentError: it cannot be read, is open to others or lacks something; the violation names it.
    """
    import tomllib  # noqa: PLC0415  # 40 ms that only those with a file pay

    try:
        found = tomllib.loads(read_private(path))
    except OSError as err:
        raise _broken(path, err.strerror or str(err)) from err
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise _broken(path, f"is no TOML: {err}") from err
    for key in KEYS:
        if not isinstance(found.get(key), str) or not found[key]:
            raise _broken(path, f"{key} is missing; there must be {', '.join(KEYS)}")
    if not is_uuid(found["yard"]):
        raise _broken(path, f"yard: {found['yard']!r} is no UUID")
    return Credentials(**{key: found[key] for key in KEYS})


def write_credentials(path: Path, credentials: Credentials) -> None:
    """
    Write a file of credentials, for this user alone.

    Raises:
        OSError: it cannot be written.
    """
    lines = [f"{key} = {json.dumps(getattr(credentials, key))}" for key in KEYS[:-1]]
    write_private(path, "\n".join([*lines, f"ca = '''\n{credentials.ca}'''", ""]))


def _broken(path: Path, message: str) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations([Violation(str(path), message, Reason.MALFORMED)])
