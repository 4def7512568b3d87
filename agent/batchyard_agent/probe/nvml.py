"""
The host's NVIDIA GPUs, through NVML.

Asking the driver (``_ask``) and understanding its answers (``gpu_from``) are apart.
It knows nothing of attempts. Laws: a host without a driver has no GPUs, which is no
error; a GPU that does not answer hides no other; and a GPU that once was seen stays
in the list, with its fault, so that nobody takes a broken one for one taken out.
A critical XID is a fault until the driver is opened anew, which is when the agent is
started again or the driver came back. Only whole GPUs are told of, also those divided by MIG.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pynvml
import structlog

_MIB = 1 << 20

CRITICAL_XIDS: Mapping[int, str] = {
    46: "GPU stopped processing",
    48: "double bit ECC error",
    62: "internal micro-controller halt",
    64: "GPU memory remapping failure",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    95: "uncontained memory error",
    110: "security fault",
    119: "GSP RPC timeout",
    120: "GSP error",
    136: "link training failed",
    140: "unrecovered ECC error",
    143: "GPU initialization error",
    155: "NVLink error defined by software",
    156: "resource retirement",
    158: "GPU fatal timeout",
}
"""
XIDs after which a GPU is not fit for work.

Those for which NVIDIA's Xid catalog (docs.nvidia.com, Xid Errors: Analyzing Xid Errors
with the Xid Catalog) asks for a reset or a restart at once, and the two whose workflows
begin with draining the GPU (48, 74). 109, for which it does too, is not among them:
NVIDIA's device plugin for Kubernetes counts it as an application's, with 13, 31, 43, 45
and 68. After 63 (a row was remapped) and 94 (an error was contained) a GPU works on.
"""
_XIDS_A_READING = 1000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """
    One GPU, as last read.

    Attributes:
        uuid: The driver's, such as ``GPU-...``; stays the same across boots.
        memory_mib: 0 where the driver does not tell (memory shared with the CPU).
        utilization_percent: 0 where the driver does not tell.
        fault: What the driver answered instead; empty when the GPU is fit for work.
        minor: Of its device: ``/dev/nvidia3`` has 3; None where the driver does not tell.
    """

    uuid: str
    model: str
    memory_mib: int
    memory_used_mib: int
    utilization_percent: int
    fault: str = ""
    minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """
    What the driver answered for one GPU; None where it gave no answer.

    Attributes:
        fault: Its first error other than "I cannot tell".
    """

    uuid: str | None
    model: str | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    utilization_percent: int | None
    fault: str = ""
    minor: int | None = None


def read_gpus() -> list[Gpu]:
    """
    Read all GPUs, in the driver's order; empty without a driver. Blocks, mostly for milliseconds.

    NVML stays open for the process's life: opening it can take seconds where no
    other program keeps the driver loaded.
    """
    return _process_nvml.read()


def minors() -> Mapping[str, int | None]:
    """Return the numbers of all GPUs' devices by UUID, as they were last read."""
    return _process_nvml.minors


def gpu_from(answers: Answers, last: Gpu | None) -> Gpu | None:
    """
    Understand *answers*; *last* is the same GPU as read before.

    Returns:
        None for a GPU that does not even tell its UUID and never did.
    """
    uuid = answers.uuid or (last.uuid if last else None)
    if uuid is None:
        return None
    model, memory_mib, minor = (last.model, last.memory_mib, last.minor) if last else ("", 0, None)
    return Gpu(
        uuid=uuid,
        model=answers.model or model,
        memory_mib=memory_mib if answers.memory_bytes is None else answers.memory_bytes // _MIB,
        memory_used_mib=(answers.memory_used_bytes or 0) // _MIB,
        utilization_percent=answers.utilization_percent or 0,
        fault=answers.fault,
        minor=minor if answers.minor is None else answers.minor,
    )


def merge(readings: list[Answers], last: dict[int, Gpu]) -> dict[int, Gpu]:
    """
    Put new answers and what was known together, by the driver's index.

    Indices move when a driver is loaded again without a GPU that died, so a GPU
    is the one that its UUID says. One that is no longer told of keeps a place
    behind the others.
    """
    told = {answers.uuid for answers in readings}
    untold = {index: gpu for index, gpu in last.items() if gpu.uuid not in told}
    by_uuid = {gpu.uuid: gpu for gpu in last.values()}
    merged = {}
    for index, answers in enumerate(readings):
        known = untold.pop(index, None) if answers.uuid is None else by_uuid.get(answers.uuid)
        gpu = gpu_from(answers, known)
        if gpu is not None:
            merged[index] = gpu
    for gpu in untold.values():
        merged[max(len(readings) - 1, *merged, -1) + 1] = _faulty(gpu, "the driver does not tell of it any more")
    return merged


def _faulty(gpu: Gpu, fault: str) -> Gpu:
    return replace(gpu, memory_used_mib=0, utilization_percent=0, fault=fault)


class Nvml:
    """
    The driver, opened at the first reading that finds it.

    Attributes:
        minors: See ``minors``.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._last: dict[int, Gpu] = {}
        self.minors: Mapping[str, int | None] = {}
        self._xids = Xids()
        # Readings may overlap when one of them hangs.
        self._lock = threading.Lock()

    def read(self) -> list[Gpu]:
        """Read all GPUs."""
        with self._lock:
            try:
                count = pynvml.nvmlDeviceGetCount() if self._open() else 0
            except pynvml.NVMLError as error:
                _log.warning("the NVIDIA driver does not answer", error=str(error))
                self._is_open = False
                self._last = {index: _faulty(gpu, str(error)) for index, gpu in self._last.items()}
            else:
                self._last = merge([_ask(index) for index in range(count)], self._last)
                self._xids.read(count)
            self.minors = {gpu.uuid: gpu.minor for gpu in self._last.values()}
            return [self._xids.judge(gpu) for gpu in self._last.values()]

    def _open(self) -> bool:
        if not self._is_open:
            try:
                pynvml.nvmlInit()
            except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
                return False
            self._is_open = True
            self._xids = Xids()
        return True


class Xids:
    """What the driver tells of errors since it was opened; nothing where it cannot."""

    def __init__(self) -> None:
        self._events: Any = None
        self._uuids: dict[int, str] = {}
        """UUIDs of the GPUs of which it tells, by the address that stands for each."""
        self._faults: dict[str, str] = {}

    def read(self, count: int) -> None:
        """Take in all errors since the last reading; *count* GPUs are there."""
        try:
            if self._events is None:
                self._events = pynvml.nvmlEventSetCreate()
            for index in range(count):
                self._register(index)
            for _ in range(_XIDS_A_READING):
                self._note(pynvml.nvmlEventSetWait_v2(self._events, 0))
        except pynvml.NVMLError:
            return  # no more of them, or a driver that tells of none

    def judge(self, gpu: Gpu) -> Gpu:
        """Return a GPU with the fault that an error has left."""
        fault = self._faults.get(gpu.uuid, "")
        return replace(gpu, fault=fault) if fault and not gpu.fault else gpu

    def _register(self, index: int) -> None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            if uuid not in self._uuids.values():
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
                self._uuids[_address(handle)] = uuid
        except pynvml.NVMLError:
            return  # it does not answer, or cannot tell

    def _note(self, event: Any) -> None:
        if event.eventType != pynvml.nvmlEventTypeXidCriticalError:
            return
        xid, address = int(event.eventData), _address(event.device)
        uuids = [self._uuids[address]] if address in self._uuids else list(self._uuids.values())
        _log.warning("the NVIDIA driver tells of an error", xid=xid, gpus=uuids)
        if xid in CRITICAL_XIDS:
            for uuid in uuids:
                self._faults.setdefault(uuid, f"XID {xid}: {CRITICAL_XIDS[xid]}")


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


_process_nvml = Nvml()
"""Opens nothing until it is read."""

_CANNOT_TELL = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
)


def _ask(index: int) -> Answers:
    faults: list[str] = []

    def ask(question: Callable[..., Any], *about: object) -> Any:
        try:
            return question(*about)
        except pynvml.NVMLError as error:
            if error.value not in _CANNOT_TELL:
                faults.append(str(error))
            return None

    handle = ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return Answers(
            uuid=None,
            model=None,
            memory_bytes=None,
            memory_used_bytes=None,
            utilization_percent=None,
            fault=faults[0] if faults else "the driver gives no access to it",
        )
    uuid = ask(pynvml.nvmlDeviceGetUUID, handle)
    model = ask(pynvml.nvmlDeviceGetName, handle)
    memory = ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    utilization = ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    minor = ask(pynvml.nvmlDeviceGetMinorNumber, handle)
    return Answers(
        uuid=uuid,
        model=model,
        memory_bytes=memory and int(memory.total),
        memory_used_bytes=memory and int(memory.used),
        utilization_percent=utilization and int(utilization.gpu),
        fault=faults[0] if faults else "",
        minor=minor,
    )
