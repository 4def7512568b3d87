"""What jobs may reach of a host: paths are judged by where they lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchyard.resources import Resources
from batchyard_agent.runtimes.host_access import Allowed, NotAllowedError, resolve
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
    """What was resolved resolves to itself, until somebody swaps a folder for a link."""
    resolved = resolve(mounting(open_ / "in"), allow(open_))
    assert resolve(resolved, allow(open_)) == resolved
    (open_ / "in").rmdir()
    (open_ / "other").mkdir()
    (open_ / "in").symlink_to("other")
    assert resolve(resolved, allow(open_)) != resolved
    (open_ / "in").unlink()
    (open_ / "in").symlink_to("../closed")
    with pytest.raises(NotAllowedError, match="does not allow to mount"):
        resolve(resolved, allow(open_))


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
