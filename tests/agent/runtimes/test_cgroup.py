"""Cgroups: found below the agent's own, on the real kernel where it has them, else on a folder of plain files."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from batchyard_agent.keeper import groups
from batchyard_agent.runtimes import cgroup
from batchyard_agent.runtimes.cgroup import CgroupUnavailableError, CgroupV1, CgroupV2, Limits, Write

V1_MOUNTS = """\
30 25 0:26 / {root}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / {root}/memory rw,relatime - cgroup cgroup rw,memory
32 25 0:28 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
33 25 0:29 / / rw,relatime - ext4 /dev/vda rw
"""
ALL = "+memory +cpu +pids"
V2_MOUNT = "30 25 0:26 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_own_folders_are_found_per_controller() -> None:
    """In version 1 each controller has its own place; in version 2 there is one."""
    own = "4:memory:/slice/agent\n3:cpuacct,cpu:/\n0::/x\n"
    assert cgroup.own_folders(V1_MOUNTS.format(root="/c"), own) == {
        "cpu": Path("/c/cpu"),
        "cpuacct": Path("/c/cpu"),
        "memory": Path("/c/memory/slice/agent"),
        "": Path("/c/unified/x"),
    }


def test_what_is_mounted_may_be_a_part() -> None:
    """In a container the mount begins at the container's own cgroup."""
    mount = "30 25 0:26 /docker/abc /c/memory ro - cgroup cgroup rw,memory\n"
    assert cgroup.own_folders(mount, "4:memory:/docker/abc/x\n") == {"memory": Path("/c/memory/x")}
    assert cgroup.own_folders(mount, "4:memory:/elsewhere\n") == {}


def test_version_1_parents_are_made_below_the_agents_own(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory" / "own").mkdir(parents=True)
    parent = cgroup.find_parent(V1_MOUNTS.format(root=tmp_path), "4:memory:/own\n3:cpu,cpuacct:/\n", 1)
    assert parent == CgroupV1(tmp_path / "memory" / "own" / "batchyard", tmp_path / "cpu" / "batchyard")


def test_version_1_parents_of_another_user_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that an agent of root has left behind is there, and of no use to others."""
    for controller in ("memory", "cpu"):
        (tmp_path / controller / "batchyard").mkdir(parents=True)
    made = Path.mkdir

    def mkdir_as_another_user(self: Path, *args: object, **kwargs: object) -> None:
        if self.parent.name == "batchyard":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        made(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir_as_another_user)  # root may write everywhere
    with pytest.raises(CgroupUnavailableError, match=r"Permission denied: .*/memory/batchyard"):
        cgroup.find_parent(V1_MOUNTS.format(root=tmp_path), "4:memory:/\n3:cpu,cpuacct:/\n", 1)


def remove_parents_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another agent of this host close, and take each parent away as empty, just after it is made."""
    made, removed = Path.mkdir, set()

    def mkdir_and_lose(self: Path, *args: object, **kwargs: object) -> None:
        made(self, *args, **kwargs)  # type: ignore[arg-type]
        if self.name == "batchyard" and self not in removed:
            removed.add(self)
            self.rmdir()
        elif self.name == "batchyard" and not (self / "cgroup.subtree_control").exists():
            (self / "cgroup.subtree_control").write_text("")

    monkeypatch.setattr(Path, "mkdir", mkdir_and_lose)


def test_version_1_parents_that_another_agent_removes_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an agent that starts while another one ends would keep no limits, and say so in one line of its log."""
    for controller in ("memory", "cpu"):
        (tmp_path / controller).mkdir()
    remove_parents_once(monkeypatch)
    parent = cgroup.find_parent(V1_MOUNTS.format(root=tmp_path), "4:memory:/\n3:cpu,cpuacct:/\n", 1)
    assert parent == CgroupV1(tmp_path / "memory" / "batchyard", tmp_path / "cpu" / "batchyard")


def test_version_2_parent_that_another_agent_removes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its children are given their controllers again."""
    service = unified(tmp_path / "service")
    remove_parents_once(monkeypatch)
    parent = cgroup.find_parent(V2_MOUNT.format(root=tmp_path), "0::/service\n", 1)
    assert parent == CgroupV2(service / "batchyard", ALL)
    assert (service / "batchyard" / "cgroup.subtree_control").read_text() == ALL
    plan = parent.plan("a", Limits(cpu_millis=0, memory_mib=0))
    assert plan.writes[0] == Write(f"{service}/batchyard/cgroup.subtree_control", ALL)
    shutil.rmtree(service / "batchyard")
    groups.make([*plan.folders], [])
    assert (service / "batchyard" / "a").is_dir()


def unified(root: Path, *, controllers: str = "cpuset cpu io memory pids", procs: str = "") -> Path:
    """A stand-in for a version 2 cgroup: plain files in place of the kernel's."""
    root.mkdir(parents=True)
    (root / "cgroup.controllers").write_text(controllers + "\n")
    (root / "cgroup.subtree_control").write_text("")
    (root / "cgroup.procs").write_text(procs)
    return root


@pytest.mark.parametrize("own", ["/service", "/service/agent"])
def test_version_2_hands_memory_and_cpu_down_from_the_service(tmp_path: Path, own: str) -> None:
    """Also when the agent sits in the leaf that keeps its service's cgroup free of processes."""
    service = unified(tmp_path / "service")
    unified(service / "batchyard")
    parent = cgroup.find_parent(V2_MOUNT.format(root=tmp_path), f"0::{own}\n", 1)
    assert parent == CgroupV2(service / "batchyard", ALL)
    assert (service / "cgroup.subtree_control").read_text() == ALL


def test_version_2_of_a_service_that_holds_the_agent_goes_to_the_top(tmp_path: Path) -> None:
    """Else systemd before 254 could not start the agent again: its cgroup would have handed controllers down."""
    unified(tmp_path / "top" / "service", procs="1\n")
    (tmp_path / "top" / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "top" / "cgroup.subtree_control").write_text("")
    unified(tmp_path / "top" / "batchyard")
    parent = cgroup.find_parent(V2_MOUNT.format(root=tmp_path / "top"), "0::/service\n", 1)
    assert parent == CgroupV2(tmp_path / "top" / "batchyard")
    assert (tmp_path / "top" / "service" / "cgroup.subtree_control").read_text() == ""


def test_version_2_without_the_controllers_is_refused_by_name(tmp_path: Path) -> None:
    unified(tmp_path / "service", controllers="memory pids")
    with pytest.raises(CgroupUnavailableError, match="is not given the controllers cpu"):
        cgroup.find_parent(V2_MOUNT.format(root=tmp_path), "0::/service\n", 1)


def test_no_hierarchy_is_said_so() -> None:
    with pytest.raises(CgroupUnavailableError, match="no cgroup hierarchy"):
        cgroup.find_parent("", "", 1)


def test_version_2_limits_are_the_kernels_files(tmp_path: Path) -> None:
    """Memory hard, without swap and all at once; CPU by quota and weight; a bound on processes."""
    folder = tmp_path / "batchyard" / "a"
    plan = CgroupV2(tmp_path / "batchyard", ALL).plan("a", Limits(cpu_millis=1500, memory_mib=64))
    assert (plan.folders, plan.joins) == ((str(folder),), (f"{folder}/cgroup.procs",))
    assert [(write.path.removeprefix(f"{folder}/"), write.value) for write in plan.writes[1:]] == [
        ("memory.max", str(64 << 20)),
        ("memory.swap.max", "0"),
        ("cpu.max", "150000 100000"),
        ("cpu.weight", "59"),
        ("pids.max", "16384"),
    ]
    folder.mkdir(parents=True)
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 1\n")
    (folder / "memory.peak").write_text("8192\n")
    (folder / "cpu.stat").write_text("usage_usec 9000\nuser_usec 5000\nsystem_usec 4000\n")
    assert groups.oom_kills([*plan.folders]) == 1
    assert groups.peak_kib([*plan.folders]) == 8
    assert groups.cpu_ms([*plan.folders]) == (5, 4)


def test_a_version_2_cgroup_is_killed_in_one_step(tmp_path: Path) -> None:
    """By the kernel; nobody who forks meanwhile is missed."""
    (tmp_path / "cgroup.kill").write_text("")
    groups.kill([str(tmp_path)])
    assert (tmp_path / "cgroup.kill").read_text() == "1"


def test_real_cgroup_is_made_limited_and_removed() -> None:
    """On this machine's kernel, as far as it lets us."""
    try:
        parent = cgroup.find_parent(
            Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text(), os.getpid()
        )
    except CgroupUnavailableError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    name = f"test-{os.getpid()}"
    plan = parent.plan(name, Limits(cpu_millis=500, memory_mib=32))
    folders = [*plan.folders]
    writes = [(write.path.encode(), write.value.encode(), write.may_be_missing.encode()) for write in plan.writes]
    groups.make(folders, writes)
    limit = "memory.max" if len(folders) == 1 else "memory.limit_in_bytes"
    assert (Path(folders[0]) / limit).read_text() == f"{32 << 20}\n"
    quota = Path(folders[min(1, len(folders) - 1)]) / ("cpu.max" if len(folders) == 1 else "cpu.cfs_quota_us")
    assert quota.read_text().split()[0] == "50000"
    assert groups.pids(folders) == []
    assert groups.oom_kills(folders) == 0
    (Path(folders[0]) / "below").mkdir()  # a job may make cgroups of its own
    assert groups.remove(folders)
    assert groups.remove(folders)
    assert groups.pids(folders) == []
    parent.remove_empty()
    assert not Path(folders[0]).exists()
