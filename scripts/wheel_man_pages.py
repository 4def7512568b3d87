"""Has the wheel carry man pages where `make man` has written them: to write them takes all that the command line needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "build/man"


class ManPages(BuildHookInterface[Any]):
    """Adds ``build/man`` as the environment's ``share/man``, if it is there."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Add it."""
        if (Path(self.root) / FOLDER).is_dir():
            build_data["shared_data"][FOLDER] = "share/man"
