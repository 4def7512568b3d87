"""GPUs as the driver tells of them: through a stand-in for its library, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchyard_agent.probe.nvml import CRITICAL_XIDS, Answers, Gpu, merge, read_gpus

SOURCE = Path(__file__).with_name("fake_nvml.c")

READ_TWICE = """
import dataclasses, json, os, pathlib
from batchyard_agent.probe import nvml
first = nvml.read_gpus()
if switch := os.environ.get("FAKE_NVML_SWITCH"):
    pathlib.Path(switch).touch()
if xids := os.environ.get("FAKE_NVML_XIDS"):
    pathlib.Path(xids).write_text(os.environ["XIDS"].replace(",", "\\n") + "\\n")
second = nvml.read_gpus()
print(json.dumps([[dataclasses.asdict(gpu) for gpu in gpus] for gpus in (first, second)]))
"""


def build(folder: Path, *flags: str) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a stand-in for the NVIDIA library with")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", str(library), str(SOURCE)], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("driver"))


def read_twice(folder: Path, **environment: str) -> tuple[list[Gpu], list[Gpu]]:
    """Read all GPUs twice, with the library in *folder*."""
    answer = subprocess.run(
        [sys.executable, "-c", READ_TWICE],
        env=os.environ | environment | {"LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    first, second = json.loads(answer.stdout.splitlines()[-1])
    return [Gpu(**gpu) for gpu in first], [Gpu(**gpu) for gpu in second]


def gpu(index: int, **others: Any) -> Gpu:
    fields: dict[str, Any] = {
        "uuid": f"GPU-00000000-0000-0000-0000-{index:012}",
        "model": "Fake A100",
        "memory_mib": 40960,
        "memory_used_mib": 1024 * (index + 1),
        "utilization_percent": 10 * (index + 1),
        "minor": index,
    }
    return Gpu(**fields | others)


def test_every_gpu_is_read_whole(driver: Path) -> None:
    expected = [gpu(0), gpu(1), gpu(2)]
    assert read_twice(driver, FAKE_NVML_GPUS="3") == (expected, expected)


def test_driver_without_gpus_has_none(driver: Path) -> None:
    assert read_twice(driver, FAKE_NVML_GPUS="0") == ([], [])


def test_missing_driver_means_no_gpus(driver: Path, tmp_path: Path) -> None:
    """9 is DRIVER_NOT_LOADED; a library that cannot be loaded is one that is not there."""
    assert read_twice(driver, FAKE_NVML_GPUS="3", FAKE_NVML_INIT="9") == ([], [])
    (tmp_path / "libnvidia-ml.so.1").touch()
    assert read_twice(tmp_path) == ([], [])


def test_driver_that_does_not_fit_its_library_means_no_gpus(driver: Path) -> None:
    """18 is LIB_RM_VERSION_MISMATCH: the driver was upgraded under a running machine."""
    assert read_twice(driver, FAKE_NVML_GPUS="3", FAKE_NVML_INIT="18") == ([], [])


def test_function_that_the_driver_lacks_is_done_without(tmp_path: Path) -> None:
    expected = [gpu(0, utilization_percent=0), gpu(1, utilization_percent=0)]
    assert read_twice(build(tmp_path, "-DWITHOUT_UTILIZATION"), FAKE_NVML_GPUS="2") == (expected, expected)


def test_broken_gpu_hides_no_other(driver: Path) -> None:
    """16 is RESET_REQUIRED."""
    first, _ = read_twice(driver, FAKE_NVML_GPUS="3", FAKE_NVML_BROKEN="1:16")
    assert [first[0], first[2]] == [gpu(0), gpu(2)]
    assert first[1] == gpu(1, memory_mib=0, memory_used_mib=0, fault=first[1].fault)
    assert "requires restart" in first[1].fault or "reset" in first[1].fault.lower()


def test_driver_that_cannot_tell_the_memory_is_no_fault(driver: Path) -> None:
    """3 is NOT_SUPPORTED: chips whose GPU has no memory of its own."""
    first, _ = read_twice(driver, FAKE_NVML_GPUS="1", FAKE_NVML_BROKEN="0:3")
    assert first == [gpu(0, memory_mib=0, memory_used_mib=0)]


def test_lost_gpu_stays_known_with_its_fault(driver: Path, tmp_path: Path) -> None:
    first, second = read_twice(
        driver, FAKE_NVML_GPUS="2", FAKE_NVML_LOST="1", FAKE_NVML_SWITCH=str(tmp_path / "switch")
    )
    assert first == [gpu(0), gpu(1)]
    assert second == [gpu(0), gpu(1, memory_used_mib=0, utilization_percent=0, fault=second[1].fault)]
    assert "lost" in second[1].fault.lower()


@pytest.mark.parametrize("xid", CRITICAL_XIDS)
def test_a_critical_xid_takes_its_gpu_out_of_service(driver: Path, tmp_path: Path, xid: int) -> None:
    first, second = read_twice(driver, FAKE_NVML_GPUS="3", FAKE_NVML_XIDS=str(tmp_path / "xids"), XIDS=f"1 {xid}")
    assert first == [gpu(0), gpu(1), gpu(2)]
    assert second == [gpu(0), gpu(1, fault=f"XID {xid}: {CRITICAL_XIDS[xid]}"), gpu(2)]


def test_the_first_critical_xid_of_a_gpu_is_told(driver: Path, tmp_path: Path) -> None:
    xids = "0 13,0 48,2 31,0 79,1 95"
    _, second = read_twice(driver, FAKE_NVML_GPUS="3", FAKE_NVML_XIDS=str(tmp_path / "xids"), XIDS=xids)
    assert [found.fault.partition(":")[0] for found in second] == ["XID 48", "XID 95", ""]


def test_xids_that_applications_cause_or_that_a_gpu_survives_are_no_fault(driver: Path, tmp_path: Path) -> None:
    xids = ",".join(f"0 {xid}" for xid in (13, 31, 43, 45, 63, 68, 94, 109))
    _, second = read_twice(driver, FAKE_NVML_GPUS="1", FAKE_NVML_XIDS=str(tmp_path / "xids"), XIDS=xids)
    assert second == [gpu(0)]


def test_a_driver_that_tells_of_no_errors_is_done_without(tmp_path: Path) -> None:
    first, second = read_twice(
        build(tmp_path, "-DWITHOUT_EVENTS"), FAKE_NVML_GPUS="2", FAKE_NVML_XIDS=str(tmp_path / "xids"), XIDS="0 79"
    )
    assert first == second == [gpu(0), gpu(1)]


def answers(uuid: str | None, fault: str = "") -> Answers:
    return Answers(
        uuid=uuid, model=None, memory_bytes=None, memory_used_bytes=None, utilization_percent=None, fault=fault
    )


def test_gpu_that_never_told_its_uuid_is_left_out() -> None:
    assert merge([answers(None, "broken")], {}) == {}


def test_silent_gpu_is_the_one_of_its_place() -> None:
    merged = merge([answers(gpu(0).uuid), answers(None, "lost")], {0: gpu(0), 1: gpu(1)})
    assert [(found.uuid, found.model, found.fault) for found in merged.values()] == [
        (gpu(0).uuid, "Fake A100", ""),
        (gpu(1).uuid, "Fake A100", "lost"),
    ]


def test_gpus_that_move_up_are_told_of_once() -> None:
    """The driver was loaded again, and the first of three GPUs did not come back."""
    last = {index: gpu(index) for index in range(3)}
    merged = merge([answers(gpu(1).uuid), answers(gpu(2).uuid)], last)
    assert [found.uuid for found in merged.values()] == [gpu(1).uuid, gpu(2).uuid, gpu(0).uuid]
    assert [bool(found.fault) for found in merged.values()] == [False, False, True]
    again = merge([answers(gpu(1).uuid), answers(gpu(2).uuid)], merged)
    assert again == merged


@pytest.mark.gpu
def test_real_gpus_are_read() -> None:
    gpus = read_gpus()
    assert gpus
    assert len({gpu.uuid for gpu in gpus}) == len(gpus)
    for found in gpus:
        assert found.uuid.startswith("GPU-")
        assert found.model
        assert found.memory_mib > 0
        assert found.fault == ""
