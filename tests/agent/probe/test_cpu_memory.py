"""What the agent says of its host: never more than it may use itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchyard_agent.probe import cpu_memory
from batchyard_agent.probe.cpu_memory import CgroupLimits


def test_facts_are_this_machines(tmp_path: Path) -> None:
    facts = cpu_memory.read_facts(tmp_path)
    total_kib = next(
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    assert 0 < facts.cpu_millis <= (os.cpu_count() or 0) * 1000
    assert 0 < facts.memory_mib <= total_kib // 1024
    assert facts.disk_mib > 0
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.cpu_model
    assert "Linux" in facts.operating_system


def test_affinity_bounds_the_cpus(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cpu_memory.read_facts(tmp_path).cpu_millis <= 1000
    finally:
        os.sched_setaffinity(0, before)


def test_usage_is_within_what_there_is(tmp_path: Path) -> None:
    usage = cpu_memory.read_usage(tmp_path)
    assert 0 <= usage.cpu_percent <= 100
    assert 0 < usage.memory_used_mib < cpu_memory.read_facts(tmp_path).memory_mib * 2
    assert usage.disk_free_mib > 0


def test_missing_disk_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cpu_memory.read_usage(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("quota", "period", "cpu_millis"),
    [("-1\n", "100000\n", None), ("150000\n", "100000\n", 1500), ("", "", None), ("0", "100000", None)],
)
def test_quota_of_version_1(quota: str, period: str, cpu_millis: int | None) -> None:
    assert cpu_memory.parse_cpu_v1(quota, period) == cpu_millis


@pytest.mark.parametrize(("text", "cpu_millis"), [("max 100000\n", None), ("250000 100000\n", 2500), ("", None)])
def test_quota_of_version_2(text: str, cpu_millis: int | None) -> None:
    assert cpu_memory.parse_cpu_v2(text) == cpu_millis


@pytest.mark.parametrize(
    ("text", "memory_mib"), [("max\n", None), ("", None), ("9223372036854771712\n", None), ("536870912\n", 512)]
)
def test_memory_limit(text: str, memory_mib: int | None) -> None:
    assert cpu_memory.parse_memory(text) == memory_mib


def test_the_smallest_limit_above_counts(tmp_path: Path) -> None:
    """A limit on the slice binds although the service itself has none."""
    service = tmp_path / "slice" / "service"
    service.mkdir(parents=True)
    (service / "cpu.max").write_text("max 100000\n")
    (service / "memory.max").write_text("max\n")
    (service.parent / "cpu.max").write_text("50000 100000\n")
    (service.parent / "memory.max").write_text(f"{3 << 30}\n")
    mount = f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
    limits = cpu_memory.read_cgroup_limits(mount, "0::/slice/service\n")
    assert limits == CgroupLimits(cpu_millis=500, memory_mib=3072)


def test_cpu_model_is_its_own_name() -> None:
    assert cpu_memory.parse_cpu_model("processor\t: 0\nmodel\t\t: 6\nmodel name\t: A CPU: fast\n") == "A CPU: fast"
    assert cpu_memory.parse_cpu_model("processor\t: 0\nBogoMIPS\t: 50\n") == ""
