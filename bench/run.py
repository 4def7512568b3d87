"""
Measure Batchyard, each number beside a baseline of the same run.

    .venv/bin/python bench/run.py [--quick | --all] [--only NAME,...] [--trace NODES.csv TASKS.csv] [--json FILE]

Nothing here asserts a time: figures and ratios only, for people to judge.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

# The checkout instead of this folder: its own packages are found by their full names.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import click  # noqa: E402  # after the path is set
import psutil  # noqa: E402
from bench.scale import Scale  # noqa: E402
from bench.yard import BenchError  # noqa: E402

PROGRAMS = {
    "submits": "submits",
    "array": "array_submit",
    "fake": "fake_jobs",
    "process": "process_jobs",
    "process-memory": "process_memory",
    "docker": "docker_jobs",
    "kubernetes": "kubernetes_jobs",
    "latency": "start_latency",
    "memory": "queue_memory",
    "dependencies": "dependent_jobs",
    "restarts": "restarts",
    "gateway": "gateway_calls",
    "growth": "growth",
    "scheduler": "scheduler",
    "packing": "packing",
    "pages": "pages",
    "hyperqueue": "hyperqueue_jobs",
    "control": "control_plane",
    "console": "console",
    "lists": "lists",
    "functions": "functions",
    "secured": "secured",
    "sinks": "sinks",
}
ON_REQUEST = {"hyperqueue", "control", "process-memory"}
"""What needs PyPI, and what takes long."""


def _names(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(PROGRAMS)}")
    return names or [name for name in PROGRAMS if name not in ON_REQUEST]


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Measure less, in some minutes.")
@click.option("--all", "every_case", is_flag=True, help="Measure every case of programs that have very many.")
@click.option("--only", default="", callback=_names, metavar="NAME,...", help=f"Which: {', '.join(PROGRAMS)}.")
@click.option(
    "--trace",
    nargs=2,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="NODES TASKS",
    help="Hosts and tasks of a cluster's trace, as CSV files, for packing.",
)
@click.option(
    "json_path", "--json", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here too."
)
def main(
    quick: bool, every_case: bool, only: list[str], trace: tuple[Path, Path] | None, json_path: Path | None
) -> None:
    """Run the programs one after the other."""
    # Whatever ends this run, what it started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    machine = describe_machine()
    for key, value in machine.items():
        click.echo(f"{key}: {value}")
    records: list[dict[str, Any]] = []
    for name in only:
        module = importlib.import_module(f"bench.{PROGRAMS[name]}")
        try:
            records += [
                {"program": name, **record}
                for record in asyncio.run(_run(name, module, Scale(quick, every_case, trace)))
            ]
        except BenchError as error:
            raise click.ClickException(f"{name}: {error}") from error
    click.echo(f"\n{time.monotonic() - began:.0f} s in all; load average now {_load()}")
    if json_path:
        json_path.write_text(json.dumps({"machine": machine, "quick": quick, "figures": records}, indent=2) + "\n")


async def _run(name: str, module: ModuleType, scale: Scale) -> list[dict[str, Any]]:
    assert module.__doc__ is not None
    click.echo(f"\n{name}: {module.__doc__.splitlines()[0]}")
    records = []
    async for outcome in module.measure(scale):
        click.echo(outcome.line())
        records.append(outcome.record())
    return records


def describe_machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    versions = {name: importlib.metadata.version(name) for name in ("batchyard", "grpcio", "protobuf")}
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {_cpu_model()}, "
        f"{psutil.virtual_memory().total >> 20:,} MiB memory, {platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "stores": f"sqlite {sqlite3.sqlite_version}, {_etcd_version()}; all on {_file_system()}",
        "load average": _load(),
    }


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _etcd_version() -> str:
    if shutil.which("etcd") is None:
        return "no etcd"
    answer = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()[0].replace("etcd Version:", "etcd")


def _file_system() -> str:
    """Name the file system that temporary folders are on: commits wait for it."""
    folder = Path(tempfile.gettempdir()).resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if folder.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda m: len(m.mountpoint)).fstype if mounts else "an unknown file system"


if __name__ == "__main__":
    main()
