"""What the agent on Kubernetes imports is what its extra installs: no other extra comes with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ASK = """
import sys
import batchyard_agent.kubernetes.app
import batchyard_agent.kubernetes.__main__
print(*(module.__file__ for name, module in list(sys.modules.items()) if name.startswith("batchyard")))
"""


def imported(path: Path) -> set[str]:
    """Return the packages that a file imports when it is itself."""
    found = set[str]()
    for each in ast.parse(path.read_text()).body:
        match each:
            case ast.Import(names):
                found |= {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.partition(".")[0])
    return found


def installed(name: str, extra: str = "") -> set[str]:
    """Return the distributions that come with one."""
    found, left = set[str](), [(canonicalize_name(name), extra)]
    while left:
        name, extra = left.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(needed.name), each) for each in ("", *needed.extras)]
    return {name for name, _ in found}


def test_the_extra_has_all_that_is_imported() -> None:
    ran = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=60, check=True)
    there, of = installed("batchyard", "kubernetes"), packages_distributions()
    packages = set[str]().union(*(imported(Path(path)) for path in ran.stdout.split()))
    assert {"lightkube", "cryptography"} <= packages
    lacking = [name for name in packages & of.keys() if not there & {canonicalize_name(each) for each in of[name]}]
    assert not lacking
