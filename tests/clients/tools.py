"""
Public tools above AWS Batch, each from PyPI in a virtual environment of its own, unmodified.

An environment is made once and kept beside the tests' own (``make clean`` removes
both). It must never hold anything of ours: tools know a yard by AWS's variables alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL_LIMIT_S = 600.0
RUN_LIMIT_S = 120.0
PROGRAMS = Path(__file__).parent / "programs"
CACHE = Path(sys.prefix) / "clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """
    A public tool.

    Attributes:
        requirements: What to install, first its name with the version that was tried.
    """

    requirements: tuple[str, ...]

    @property
    def home(self) -> Path:
        """Where its environment is; another version has another."""
        return CACHE / self.requirements[0].replace("==", "-")

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.home / "bin"

    def install(self) -> None:
        """Make its environment unless there is one; a half-made one is made again."""
        ready = self.home / ".ready"
        if ready.exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        venv.create(self.home, with_pip=True)
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--retries", "10", "--prefer-binary"]
        subprocess.run([*pip, *self.requirements], check=True, timeout=INSTALL_LIMIT_S)
        ready.touch()

    def run(self, line: Sequence[str], folder: Path, variables: Mapping[str, str], code: int = 0) -> str:
        """Run one of its commands in *folder*, make sure of its exit code, and return all that it said."""
        path = f"{self.bin}:{os.environ['PATH']}"
        ended = subprocess.run(
            [str(self.bin / line[0]), *line[1:]],
            cwd=folder,
            env={"HOME": str(folder), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        assert ended.returncode == code, f"{line} ended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout


AIRFLOW = Tool(requirements=("apache-airflow-providers-amazon==9.39.0",))
LUIGI = Tool(requirements=("luigi==3.8.1", "boto3"))
REDUN = Tool(requirements=("redun==0.44.1",))
TORCHX = Tool(requirements=("torchx==0.7.0", "torchx[aws_batch]==0.7.0"))
