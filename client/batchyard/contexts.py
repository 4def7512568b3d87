"""
Contexts: several yards by name, each with where it is, who one is there, and its usual queue.

A context is what the settings ``address``, ``credentials`` and ``queue`` say together, in a file of
its own below the user's folder of settings; its credentials are a copy beside it, for which a login is
prolonged there. One of them may be in use. All of it is closed to others, as who has a token is the user.

    contexts/lab.toml              address, credentials, queue
    contexts/lab.credentials.toml  as `batchyard.credentials` has them
    context                        the name of the one in use
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.state_folder import make_private_folder, read_private, write_private

NONE = "default"
"""Stands for what settings say without a context."""
KEYS = ("address", "credentials", "queue")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """
    The contexts of a user.

    Attributes:
        folder: The user's folder of settings.
    """

    folder: Path

    def names(self) -> list[str]:
        """Return the names of all, in order."""
        return sorted(path.stem for path in (self.folder / "contexts").glob("*.toml") if _NAME.fullmatch(path.stem))

    def current(self) -> str:
        """Return the name of the one in use; empty: none."""
        try:
            return (self.folder / "context").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def read(self, name: str) -> dict[str, str]:
        """
        Return what a context says, by the names of settings; nothing of `NONE`.

        Raises:
            InvalidArgumentError: there is none of this name, or its file is broken or open to others.
        """
        if name == NONE:
            return {}
        import tomllib  # noqa: PLC0415  # 40 ms that only those with a file pay

        try:
            found = tomllib.loads(read_private(self._path(name)))
        except FileNotFoundError:
            there = ", ".join([*self.names(), NONE])
            raise _broken(f"there is no context {name!r}; there are {there}", Reason.NOT_FOUND) from None
        except OSError as err:
            raise _broken(f"{name}: {err}") from err
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
            raise _broken(f"{self._path(name)} is no TOML: {err}") from err
        return {key: str(found[key]) for key in KEYS if found.get(key)}

    def credentials(self, name: str) -> Path:
        """Return where the credentials of a context lie, whether there are any or not."""
        return self._path(f"{name}.credentials", is_checked=False)

    def prepare(self, name: str) -> None:
        """
        See that a context of this name can be made.

        Raises:
            InvalidArgumentError: the name is taken, or is none.
            OSError: its folder cannot be made, or others may write to it.
        """
        if name == NONE or self._path(name).exists():
            raise _broken(f"there is a context {name!r} already; batchyard context remove {name}")
        make_private_folder(self.folder / "contexts")

    def write(self, name: str, said: Mapping[str, str]) -> None:
        """
        Keep what a context says.

        Raises:
            OSError: it cannot be written.
        """
        lines = [f"{key} = {json.dumps(said[key])}\n" for key in KEYS if said.get(key)]
        write_private(self._path(name), "".join(lines))

    def use(self, name: str) -> None:
        """
        Have a context be the one in use; `NONE` for none.

        Raises:
            InvalidArgumentError: there is none of this name.
            OSError: it cannot be written.
        """
        self.read(name)
        if name == NONE:
            (self.folder / "context").unlink(missing_ok=True)
        else:
            write_private(self.folder / "context", f"{name}\n")

    def remove(self, name: str) -> None:
        """
        Remove a context and its credentials; if it was in use, none is.

        Raises:
            InvalidArgumentError: there is none of this name.
        """
        if name == NONE or name not in self.names():
            there = ", ".join(self.names()) or "none"
            raise _broken(f"there is no context {name!r} to remove; there are {there}", Reason.NOT_FOUND)
        if self.current() == name:
            self.use(NONE)
        self.credentials(name).unlink(missing_ok=True)
        self._path(name).unlink()

    def _path(self, name: str, *, is_checked: bool = True) -> Path:
        if is_checked and not _NAME.fullmatch(name):
            raise _broken(f"{name!r} is no name of a context: up to 64 letters, digits, - and _")
        return self.folder / "contexts" / f"{name}.toml"


def _broken(text: str, reason: Reason = Reason.MALFORMED) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations([Violation("context", text, reason)])
