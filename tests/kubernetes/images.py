"""Images made of this machine's busybox, as the archives that ``docker save`` writes: no registry is asked."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

from tests.agent.runtimes.engine import busybox_tar

BUSYBOX = "docker.io/library/busybox:1"
"""A shell, and little else; has a tag, so that it is not pulled if it is there."""
PAUSE = "docker.io/library/pause:1"
"""What holds a pod's namespaces."""


def write_image(path: Path, name: str) -> Path:
    """Write an archive with one image of that name, and return its path."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    layer = busybox_tar(busybox)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "2147483647"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode()}
    with tarfile.open(path, "w") as archive:
        for member, content in (files | {"layer.tar": layer}).items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
