"""A folder's place is told by mountinfo, of whichever container."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from batchyard_agent.probe.place import Place, find_place, read_place

STATE = Path("/var/lib/batchyard-agent")
HOST = """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 254:16 /yard\\040one /srv/yard\\040one rw - xfs /dev/vdb rw
"""


def container(volume: str) -> str:
    return f"""\
500 400 0:52 / / rw,relatime - overlay overlay rw,lowerdir=a,upperdir=b,workdir=c
510 500 254:0 {volume} {STATE} rw,relatime - ext4 /dev/vda rw
511 500 0:23 /docker.sock /run/docker.sock rw - tmpfs tmpfs rw
"""


def test_a_volume_has_the_place_that_it_has_on_the_host():
    """However often its container is made anew, and whatever that is called; another volume is another place."""
    volume = Path("/var/lib/docker/volumes/yard_agent/_data")
    place = find_place(STATE, container(str(volume)))
    assert place == find_place(volume, HOST) == Place(device="254:0", path=str(volume), kind="ext4")
    assert place != find_place(STATE, container("/var/lib/docker/volumes/other_agent/_data"))


def test_of_mounts_the_deepest_counts_and_of_equals_the_last():
    assert find_place(Path("/srv/yard one/x"), HOST) == Place(device="254:16", path="/yard one/x", kind="xfs")
    assert find_place(Path("/srv/yard"), HOST).device == "254:0"
    over = HOST + "41 40 0:60 / /srv/yard\\040one rw - tmpfs none rw\n"
    assert find_place(Path("/srv/yard one/x"), over) == Place(device="0:60", path="/x", kind="tmpfs")


def test_a_container_without_a_volume_keeps_its_state_in_its_own_layer():
    layer = find_place(Path("/state"), container("/v"))
    assert layer == Place(device="0:52", path="/state", kind="overlay")
    assert layer.is_layer
    assert not find_place(STATE, container("/v")).is_layer


def test_a_folder_by_another_name_has_the_same_place(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other name"
    folder.mkdir()
    other.symlink_to(folder)
    assert read_place(folder) == read_place(other)
    other.unlink()
    other.mkdir()
    if subprocess.run(["mount", "--bind", folder, other], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        assert read_place(folder) == read_place(other)
    finally:
        subprocess.run(["umount", other], check=True)
