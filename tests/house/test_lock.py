"""What deploys install is what the package asks for: everything, in versions that it takes, by hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = ("controller", "agent", "gateway")
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", re.MULTILINE)


def locked() -> dict[str, str]:
    text = (ROOT / "deploy/requirements.lock").read_text()
    rest = _ENTRY.sub("", text)
    assert not [line for line in rest.splitlines() if line and not line.startswith("#")], "each line is of an entry"
    return {canonicalize_name(name): version for name, version, _ in _ENTRY.findall(text)}


def test_each_requirement_is_locked_in_a_version_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(each for extra in EXTRAS for each in project["optional-dependencies"][extra])]
    found = locked()
    for requirement in map(Requirement, wanted):
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} and not {version}: make lock"
