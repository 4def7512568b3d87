"""
An image for jobs of public tools, made of this machine's own files: Python, a tool's environment, a shell.

Nothing is pulled and nothing is built, so it needs no registry. Every file stands where it
stands here, as an environment and its Python know their own places.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import docker

NAME = "batchyard-tests-tools"
COMMANDS = (
    *("bash", "cat", "chmod", "cp", "date", "env", "grep", "gzip", "head", "hostname", "ls", "mkdir", "mv", "printenv"),
    *("rm", "sed", "sh", "sleep", "sort", "tail", "tar", "touch", "tr", "uname", "wc"),
)
"""What jobs call; busybox would not do, as its ``date`` knows no nanoseconds."""
USERS = b"root:x:0:0:root:/root:/bin/bash\n"
NOT_IN_JOBS = {"dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tkinter"}
"""Folders in Python's own library that no job needs: what is installed beside the environment is not the tool's."""


class Environment(Protocol):
    """Where a tool is, and its commands."""

    @property
    def home(self) -> Path: ...
    @property
    def bin(self) -> Path: ...


def make_image(tool: Environment, variables: Mapping[str, str], engine: str, name: str = NAME) -> str:
    """Make an image in which *tool* runs, its commands on PATH, for the engine at an address; return its name."""
    changes = [f"ENV {name}={value}" for name, value in {"PATH": f"{tool.bin}:/bin", **variables}.items()]
    with tempfile.NamedTemporaryFile() as file, contextlib.closing(docker.APIClient(base_url=engine)) as api:
        with tarfile.open(file.name, "w") as tar:
            _fill(tar, tool)
        api.import_image_from_file(file.name, repository=name, tag="latest", changes=changes)
    return f"{name}:latest"


def _fill(tar: tarfile.TarFile, tool: Environment) -> None:
    temporary = tarfile.TarInfo("tmp")
    temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
    tar.addfile(temporary)
    users = tarfile.TarInfo("etc/passwd")
    users.size = len(USERS)
    tar.addfile(users, io.BytesIO(USERS))
    programs = [*_chain(tool.bin / "python"), *(Path("/bin", command) for command in COMMANDS)]
    folders = [tool.home, *_library()]
    for folder in folders:
        tar.add(folder)
    shared = [file for folder in folders for file in folder.rglob("*.so*")]
    # An engine refuses a file that comes twice.
    there = set(tar.getnames())
    for file in {*programs, *_linked_with([*programs, *shared])}:
        if str(file).lstrip("/") not in there:
            tar.add(file.resolve(), str(file))


def _chain(link: Path) -> Iterator[Path]:
    """Yield the links that lead to a file, and the file."""
    yield link
    while link.is_symlink():
        link = link.parent / link.readlink()
        yield link


def _library() -> Iterator[Path]:
    """Yield what Python's own library is made of, without what builds against it."""
    for path in Path(sysconfig.get_path("stdlib")).iterdir():
        if path.name not in NOT_IN_JOBS and not path.name.startswith("config-"):
            yield path


def _linked_with(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that programs and libraries need, each where the dynamic linker finds it."""
    line = ["ldd", *map(str, binaries)]
    told = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", told, re.MULTILINE)}
