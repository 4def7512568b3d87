"""What jobs may reach of a host: paths are judged by where they lead."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batchyard.resources import Resources
from batchyard.security import SecurityLevel
from batchyard_agent.runtimes.held_mounts import HeldMounts
from batchyard_agent.runtimes.host_access import NOBODY, Allowed, NotAllowedError, grant, unprivileged
from batchyard_agent.runtimes.protocol import Device, LaunchSpec, Mount

from .specs import launch_spec


def spec(**others: Any) -> LaunchSpec:
    fields: dict[str, Any] = {
        "attempt_id": "a#1",
        "job_id": "a",
        "image": "busybox",
        "command": ("true",),
        "environment": {},
        "resources": Resources(),
        "log_path": Path("log"),
        "log_bytes_max": 1,
    }
    return launch_spec(**fields | others)


def mounting(path: Path | str) -> LaunchSpec:
    return spec(mounts=(Mount(container_path="/data", host_path=str(path), read_only=True),))


def using(path: Path | str) -> LaunchSpec:
    return spec(devices=(Device(host_path=str(path), container_path="/dev/x"),))


@pytest.fixture
def open_(tmp_path: Path) -> Path:
    """A folder that may be mounted, beside one that may not."""
    folder = tmp_path / "open"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "closed").mkdir()
    return folder


def resolve(asked: LaunchSpec, allowed: Allowed) -> LaunchSpec:
    return grant(asked, allowed).spec


def allow(*paths: Path | str) -> Allowed:
    return Allowed(volume_paths=tuple(map(str, paths)))


def test_nothing_is_allowed_unless_said(open_: Path) -> None:
    for asked in (mounting(open_), using("/dev/null"), spec(privileged=True)):
        with pytest.raises(NotAllowedError):
            resolve(asked, Allowed())
    assert resolve(spec(privileged=True), Allowed(privileged=True)).container.privileged
    scratch = spec(mounts=(Mount(container_path="/work"),))
    assert resolve(scratch, Allowed()) == scratch


@pytest.mark.parametrize("below", ["", "in", "in/", "in/../in", "./in//"])
def test_folder_and_all_below_it_may_be_mounted(open_: Path, below: str) -> None:
    (mount,) = resolve(mounting(f"{open_}/{below}"), allow("/nowhere", open_)).mounts
    assert mount == Mount(container_path="/data", host_path=str((open_ / below).resolve()), read_only=True)


@pytest.mark.parametrize("path", ["", "in/../..", "../closed", "../open-too", "link", "in/link", "ring"])
def test_what_leads_out_is_refused(open_: Path, path: str) -> None:
    (open_.parent / "open-too").mkdir()
    (open_ / "link").symlink_to(open_.parent / "closed")
    (open_ / "in" / "link").symlink_to("../../closed")
    (open_ / "ring").symlink_to("ring")
    with pytest.raises(NotAllowedError):
        resolve(mounting(open_ / path if path else open_.parent), allow(open_))


def test_refusal_names_the_place_and_what_is_allowed(open_: Path) -> None:
    (open_ / "link").symlink_to(open_.parent / "closed")
    with pytest.raises(NotAllowedError) as refused:
        resolve(mounting(open_ / "link"), allow(open_))
    expected = f"mount {open_}/link, which is {open_.parent}/closed (allowed: {open_})"
    assert str(refused.value) == f"this host does not allow to {expected}"


def test_links_that_stay_inside_are_followed(open_: Path) -> None:
    """What is mounted is the place; also when the allowed folder is a link, or the job's way to it."""
    (open_ / "link").symlink_to("in")
    way = open_.parent / "way"
    way.symlink_to(open_)
    for asked, allowed in ((open_ / "link", open_), (way / "in", open_), (open_ / "in", way)):
        (mount,) = resolve(mounting(asked), allow(allowed)).mounts
        assert mount.host_path == str(open_ / "in")


@pytest.mark.parametrize("path", ["missing", "in/missing", "relative"])
def test_path_that_does_not_exist_is_no_folder_yet(open_: Path, path: str) -> None:
    asked = path if path == "relative" else str(open_ / path)
    with pytest.raises(NotAllowedError, match=f"^{asked} (cannot be used on this host: No such file|is no absolute)"):
        resolve(mounting(asked), allow(open_))
    assert not (open_ / "missing").exists()


def test_link_put_in_the_way_is_noticed(open_: Path) -> None:
    """What was granted is granted as it is, until somebody swaps a folder for a link."""
    granted = resolve(mounting(open_ / "in"), allow(open_))
    assert resolve(granted, allow(open_)) == granted
    (open_ / "in").rmdir()
    (open_ / "other").mkdir()
    (open_ / "in").symlink_to("other")
    assert resolve(granted, allow(open_)) != granted
    (open_ / "in").unlink()
    (open_ / "in").symlink_to("../closed")
    with pytest.raises(NotAllowedError, match="does not allow to mount"):
        resolve(granted, allow(open_))


@pytest.fixture
def mounts(tmp_path: Path) -> HeldMounts:
    if os.geteuid():
        pytest.skip("needs root, who may mount")
    held = HeldMounts(tmp_path / "mounts")
    held.open()
    return held


def test_what_is_held_stays_what_it_is(open_: Path, mounts: HeldMounts) -> None:
    """Whatever is put in its place meanwhile, the path that is handed on leads to what was judged."""
    (open_ / "in" / "mine").touch()
    granted = grant(mounting(open_ / "in"), allow(open_), mounts)
    (mount,) = granted.spec.mounts
    (open_ / "in").rename(open_ / "elsewhere")
    (open_ / "in").symlink_to("../closed")
    assert [path.name for path in Path(mount.host_path).iterdir()] == ["mine"]
    granted.close()
    assert not Path(mount.host_path).exists()
    assert (open_ / "elsewhere" / "mine").exists()
    with pytest.raises(NotAllowedError, match="does not allow to mount"):
        grant(mounting(open_ / "in"), allow(open_), mounts)


def test_files_are_held_too_and_nothing_is_left_of_a_former_agent(
    open_: Path, mounts: HeldMounts, tmp_path: Path
) -> None:
    (open_ / "file").write_text("text")
    (mount,) = grant(mounting(open_ / "file"), allow(open_), mounts).spec.mounts
    assert Path(mount.host_path).read_text() == "text"
    HeldMounts(tmp_path / "mounts").open()
    assert list((tmp_path / "mounts").iterdir()) == []
    assert (open_ / "file").read_text() == "text"
    assert f" {tmp_path}/" not in Path("/proc/self/mounts").read_text()


def test_what_is_mounted_below_comes_along_and_stays(open_: Path, mounts: HeldMounts) -> None:
    """Also where mounts are shared, as systemd has them."""
    subprocess.run(["mount", "-t", "tmpfs", "none", open_], check=True)
    try:
        subprocess.run(["mount", "--make-shared", open_], check=True)
        (open_ / "sub").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", open_ / "sub"], check=True)
        (open_ / "sub" / "file").touch()
        granted = grant(mounting(open_), allow(open_), mounts)
        assert (Path(granted.spec.mounts[0].host_path) / "sub" / "file").exists()
        granted.close()
        assert (open_ / "sub" / "file").exists()
    finally:
        subprocess.run(["umount", "-R", open_], check=True)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_open_of_what_is_refused(open_: Path) -> None:
    before = open_descriptors()
    both = spec(mounts=(Mount(container_path="/a", host_path=str(open_)), Mount(container_path="/b", host_path="/etc")))
    with pytest.raises(NotAllowedError):
        grant(both, allow(open_))
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"privileged": True}, "BASELINE does not allow privileged containers"),
        ({"node_address": ""}, "BASELINE does not allow nodes of multi-node jobs"),
        ({"user": "0:0", "security_level": SecurityLevel.RESTRICTED}, "RESTRICTED does not allow root"),
        ({"user": "app", "security_level": SecurityLevel.RESTRICTED}, "a user who is no number, as 'app'"),
    ],
)
def test_a_level_takes_back_what_the_host_allows(asked: dict[str, Any], text: str) -> None:
    everything = Allowed(privileged=True, device_paths=("/dev/*",))
    with pytest.raises(NotAllowedError, match=text):
        resolve(spec(**{"security_level": SecurityLevel.BASELINE} | asked), everything)


@pytest.mark.parametrize(
    ("of_image", "runs_as"),
    [
        ("", NOBODY),
        ("root", NOBODY),
        ("0", NOBODY),
        ("00:5", NOBODY),
        ("root:root", NOBODY),
        ("1000:5", "1000:5"),
        ("7", "7"),
    ],
)
def test_who_would_be_root_is_nobody(of_image: str, runs_as: str) -> None:
    assert unprivileged(of_image) == runs_as


@pytest.mark.parametrize("of_image", ["app", "toor:0", "-1", " 5"])
def test_whom_only_the_image_knows_is_refused(of_image: str) -> None:
    with pytest.raises(NotAllowedError, match="is no number, and may be root"):
        unprivileged(of_image)


@pytest.mark.parametrize("pattern", ["/dev/null", "/dev/nu*", "/dev/*", "{link}"])
def test_device_is_matched_by_its_own_path(tmp_path: Path, pattern: str) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    allowed = Allowed(device_paths=("/nowhere", pattern.format(link=link)))
    for asked in ("/dev/null", link):
        (device,) = resolve(using(asked), allowed).devices
        assert device == Device(host_path="/dev/null", container_path="/dev/x")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("/dev/zero", r"does not allow the device /dev/zero \(allowed: /dev/null, {folder}/\*\)"),
        ("{folder}/link", "does not allow the device {folder}/link, which is /dev/zero"),
        ("{folder}/file", "{folder}/file is no device"),
        ("{folder}/missing", "{folder}/missing cannot be used on this host: No such file"),
    ],
)
def test_other_devices_are_refused(tmp_path: Path, asked: str, text: str) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "file").touch()
    with pytest.raises(NotAllowedError, match=text.format(folder=tmp_path)):
        resolve(using(asked.format(folder=tmp_path)), Allowed(device_paths=("/dev/null", f"{tmp_path}/*")))
