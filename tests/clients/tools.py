"""
Public tools above AWS Batch, each from PyPI in a virtual environment of its own, unmodified.

An environment is made once and kept beside the tests' own (``make clean`` removes
both). It must never hold anything of ours: tools know a yard by AWS's variables alone, and our
plugin is put beside its tool by its test.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL_LIMIT_S = 600.0
RUN_LIMIT_S = 600.0
PROGRAMS = Path(__file__).parent / "programs"
CACHE = Path(sys.prefix) / "clients"
UV_BY_PIP = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_HTTP_TIMEOUT": "PIP_DEFAULT_TIMEOUT",
    "SSL_CERT_FILE": "PIP_CERT",
}
"""What uv is told by where pip is told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """
    A public tool.

    Attributes:
        requirements: What to install, first its name with the version that was tried.
        kept: What its jobs install by themselves; kept as wheels, so that they need no index.
    """

    requirements: tuple[str, ...]
    kept: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """Where its environment is; another version has another."""
        return CACHE / self.requirements[0].replace("==", "-")

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.home / "bin"

    @property
    def wheels(self) -> Path:
        """Where ``kept`` is."""
        return self.home / "wheels"

    def install(self) -> None:
        """Make its environment unless there is one; a half-made one is made again. Other workers wait."""
        CACHE.mkdir(exist_ok=True)
        with (CACHE / f"{self.home.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.home / ".ready").exists():
                self._make()

    def _make(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        _uv("venv", "--seed", "--python", sys.executable, str(self.home))
        # Only what is run is compiled, and then; in an image it would be at each start.
        compiled = ["--compile-bytecode"] if self.kept else []
        _uv("pip", "install", "--python", str(self.bin / "python"), *compiled, *self.requirements)
        if self.kept:
            pip = [str(self.bin / "python"), "-m", "pip", "download", "--quiet", "--retries", "10", "--no-deps"]
            subprocess.run([*pip, f"--dest={self.wheels}", *self.kept], check=True, timeout=INSTALL_LIMIT_S)
        (self.home / ".ready").touch()

    def run(self, line: Sequence[str], folder: Path, variables: Mapping[str, str], code: int = 0) -> str:
        """Run one of its commands in *folder*, make sure of its exit code, and return all that it said."""
        path = f"{self.bin}:{os.environ['PATH']}"
        ended = subprocess.run(
            [str(self.bin / line[0]), *line[1:]],
            cwd=folder,
            env={"HOME": str(folder), "PATH": path, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        assert ended.returncode == code, f"{line} ended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout


def _uv(*arguments: str) -> None:
    """Run uv: tools bring a thousand packages, which pip takes minutes for. It goes by pip's variables."""
    ours = {ours: os.environ[theirs] for ours, theirs in UV_BY_PIP.items() if theirs in os.environ}
    line = [str(Path(sys.prefix) / "bin" / "uv"), "--quiet", *arguments]
    subprocess.run(line, env={**ours, **os.environ}, check=True, timeout=INSTALL_LIMIT_S)


S3_PLUGIN = "snakemake-storage-plugin-s3==0.3.6"
AIRFLOW = Tool(requirements=("apache-airflow-providers-amazon==9.39.0",))
LUIGI = Tool(requirements=("luigi==3.8.1", "boto3"))
METAFLOW = Tool(requirements=("metaflow==2.19.39", "metaflow-local-service==0.2.0"))
MOTO = Tool(requirements=("moto[events,s3]==5.2.5", "flask", "flask-cors"))
REDUN = Tool(requirements=("redun==0.44.1",))
SNAKEMAKE = Tool(
    requirements=("snakemake==9.27.1", "snakemake-executor-plugin-aws-batch==0.2.1", S3_PLUGIN), kept=(S3_PLUGIN,)
)
# Of the plugin's own environment, what a pip would install with it, but for what is ours.
SNAKEMAKE_FOR_PLUGINS = Tool(
    requirements=(
        *("snakemake-interface-executor-plugins==9.4.0", "snakemake==9.27.1"),
        *("grpcio>=1.71.2", "protobuf>=5.29", "googleapis-common-protos>=1.67", "click>=8.1", "rich>=13.7"),
    )
)
TORCHX = Tool(requirements=("torchx==0.7.0", "torchx[aws_batch]==0.7.0"))
