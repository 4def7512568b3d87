"""The image of jobs that are containers: busybox, and the flock that it lacks."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import docker
from tests.agent.runtimes.engine import busybox_tar

NAME = "batchyard-faults"
IMAGE = f"{NAME}:latest"


def ensure_image() -> None:
    """Make the image, without a registry."""
    busybox, flock = shutil.which("busybox"), shutil.which("flock")
    assert busybox, "there is no busybox"
    assert flock, "there is no flock"
    linked = subprocess.run(["ldd", flock], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO(busybox_tar(busybox))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        tar.add(flock, "bin/flock")
        for library in re.findall(r"/\S+", linked):
            tar.add(Path(library).resolve(), library.lstrip("/"))
    with contextlib.closing(docker.from_env().api) as api:
        api.import_image_from_data(buffer.getvalue(), repository=NAME, tag="latest")
