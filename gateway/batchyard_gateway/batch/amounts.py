"""
Amounts: vCPUs, memory and GPUs as AWS writes them, and as the contract does.

AWS has two ways, ``resourceRequirements`` with numbers as texts, and the deprecated
``vcpus`` and ``memory``. Rules and texts: AWS Batch API reference, ResourceRequirement.
"""

from __future__ import annotations

import re

from batchyard.fargate import is_size, not_a_size
from batchyard.v1.resources_pb2 import Resources
from batchyard_gateway.errors import ClientException, ExecutionException
from batchyard_gateway.services import Members

MEMORY_MIB_MIN = 4
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_FRACTION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?", re.ASCII)


def amounts(members: Members, *, fargate: bool) -> Resources:
    """
    Return what a container or an override asks for; what it does not say is 0.

    Args:
        members: With ``resourceRequirements``, ``vcpus``, ``memory``, all optional.
        fargate: Whether fractions of a vCPU are allowed.

    Raises:
        ClientException: a value is wrong.
    """
    asked = {each["type"]: each["value"] for each in members.get("resourceRequirements", ())}
    found = Resources(
        cpu_millis=_vcpus(asked["VCPU"], fargate=fargate) if "VCPU" in asked else _deprecated_vcpus(members),
        memory_mib=_memory(asked["MEMORY"]) if "MEMORY" in asked else _deprecated_memory(members),
        gpu_millis=_whole("GPU", asked["GPU"]) * 1000 if "GPU" in asked else 0,
    )
    if "GPU" in asked and not found.gpu_millis:
        raise _wrong("GPU", asked["GPU"])
    return found


def check_fargate(found: Resources) -> None:
    """
    Check that AWS Fargate has this size.

    Raises:
        ClientException: it has not.
    """
    if not is_size(found.cpu_millis, found.memory_mib):
        raise ExecutionException(not_a_size(found.cpu_millis, found.memory_mib))


def requirements(found: Resources) -> list[dict[str, str]]:
    """Return amounts as ``resourceRequirements``."""
    texts = {
        "VCPU": _text(found.cpu_millis),
        "MEMORY": str(found.memory_mib) if found.memory_mib else "",
        "GPU": _text(found.gpu_millis),
    }
    return [{"type": kind, "value": text} for kind, text in texts.items() if text]


def has_fraction(members: Members) -> bool:
    """Say whether a part of a vCPU is asked for, which only Fargate has."""
    asked = [each["value"] for each in members.get("resourceRequirements", ()) if each["type"] == "VCPU"]
    return any(_FRACTION.fullmatch(text) and not _WHOLE.fullmatch(text) for text in asked)


def _vcpus(text: str, *, fargate: bool) -> int:
    if not (_FRACTION if fargate else _WHOLE).fullmatch(text):
        raise _wrong("VCPU", text)
    whole, _, part = text.partition(".")
    millis = int(whole) * 1000 + int(f"{part:0<3}")
    if millis == 0:
        raise _wrong("VCPU", text)
    return millis


def _memory(text: str) -> int:
    return _enough_memory(_whole("MEMORY", text))


def _deprecated_vcpus(members: Members) -> int:
    vcpus: int = members.get("vcpus", 0)
    if "vcpus" in members and vcpus < 1:
        raise ExecutionException(f"vCPU must be at least 1, not {vcpus}.")
    return vcpus * 1000


def _deprecated_memory(members: Members) -> int:
    return _enough_memory(members["memory"]) if "memory" in members else 0


def _enough_memory(memory_mib: int) -> int:
    if memory_mib < MEMORY_MIB_MIN:
        raise ExecutionException(f"Memory must be at least {MEMORY_MIB_MIN} MiB, not {memory_mib}.")
    return memory_mib


def _whole(kind: str, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise _wrong(kind, text)
    return int(text)


def _wrong(kind: str, text: str) -> ClientException:
    return ExecutionException(
        f"Value {text[:50]} for type {kind} in resourceRequirement is not valid. Please provide a numeric value."
    )


def _text(millis: int) -> str:
    if millis % 1000 == 0:
        return str(millis // 1000) if millis else ""
    return f"{millis / 1000:.3f}".rstrip("0")
