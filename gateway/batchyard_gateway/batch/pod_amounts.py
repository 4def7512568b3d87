"""
Pod amounts: what containers of pods ask for and may have, as Kubernetes writes it for AWS, and as the contract does.

Requests count for placement; what is not requested is as its limit. Memory and GPUs are
bounded by what was asked for, whichever way it was said. Rules: AWS Batch API reference,
EksContainerResourceRequirements; where its texts are not known these are in their style.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchyard.resources import GPU_WHOLE
from batchyard.v1 import job_definition_pb2 as pb
from batchyard.v1.resources_pb2 import Resources
from batchyard_gateway.errors import ExecutionException
from batchyard_gateway.services import Members

MEMORY, CPU, GPU = "memory", "cpu", "nvidia.com/gpu"
KINDS = (MEMORY, CPU, GPU)
WAYS = ("limits", "requests")
MEMORY_MIB_MIN = 4
CPU_STEP_MILLIS = 250

_MEBIBYTES = re.compile(r"([0-9]{1,9})Mi", re.ASCII)
_CPUS = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PodAmounts:
    """What a container asks for, and the bound of its CPU; 0: none."""

    resources: Resources
    cpu_limit_millis: int


def check(resources: Members) -> None:
    """
    Check what a container asks for.

    Raises:
        ClientException: an amount is wrong, or its limit is.
    """
    for way in WAYS:
        for kind, text in resources.get(way, {}).items():
            if kind not in KINDS:
                raise ExecutionException(
                    f"Resource {kind[:100]} is not valid. Valid resources are: [{', '.join(KINDS)}]"
                )
            _amount(kind, text)
    for kind in KINDS:
        limit, request = (resources.get(way, {}).get(kind) for way in WAYS)
        if limit is None or request is None:
            continue
        most, asked = _amount(kind, limit), _amount(kind, request)
        if kind == CPU and asked > most:
            raise ExecutionException(f"cpu limits {limit} must be at least as large as requests {request}.")
        if kind != CPU and asked != most:
            raise ExecutionException(f"{kind} limits {limit} must be equal to requests {request}.")


def of(resources: Members) -> PodAmounts:
    """Return what resources that were checked come to; what they do not say is 0."""
    limits, requests = (resources.get(way, {}) for way in WAYS)
    asked = {kind: _amount(kind, text) for kind, text in {**limits, **requests}.items()}
    return PodAmounts(
        resources=Resources(
            cpu_millis=asked.get(CPU, 0), memory_mib=asked.get(MEMORY, 0), gpu_millis=asked.get(GPU, 0)
        ),
        cpu_limit_millis=_amount(CPU, limits[CPU]) if CPU in limits else 0,
    )


def _amount(kind: str, text: str) -> int:
    """Return thousandths, or mebibytes."""
    if kind == MEMORY:
        match = _MEBIBYTES.fullmatch(text)
        if match is None or int(match[1]) < MEMORY_MIB_MIN:
            raise _wrong(kind, text, f"a whole number of at least {MEMORY_MIB_MIN} with the suffix Mi")
        return int(match[1])
    if kind == GPU:
        if not _WHOLE.fullmatch(text) or not int(text):
            raise _wrong(kind, text, "a whole number")
        return int(text) * GPU_WHOLE
    match = _CPUS.fullmatch(text)
    millis = int(match[1]) * 1000 + int(f"{match[2] or '':0<3}") if match is not None else 0
    if not millis or millis % CPU_STEP_MILLIS:
        raise _wrong(kind, text, "a multiple of 0.25")
    return millis


def _wrong(kind: str, text: str, wanted: str) -> ExecutionException:
    return ExecutionException(f"Value {text[:50]} for resource {kind} is not valid. It must be {wanted}.")


def shown(container: pb.ContainerProperties) -> Members:
    """Return AWS's resources of a container of a pod."""
    asked = container.resources
    requests = {
        CPU: _cpus(asked.cpu_millis) if asked.cpu_millis else "",
        MEMORY: f"{asked.memory_mib}Mi" if asked.memory_mib else "",
        GPU: str(asked.gpu_millis // GPU_WHOLE) if asked.gpu_millis else "",
    }
    limits = {**requests, CPU: _cpus(container.cpu_limit_millis) if container.cpu_limit_millis else ""}
    found = {"limits": limits, "requests": requests}
    told = {way: {kind: text for kind, text in amounts.items() if text} for way, amounts in found.items()}
    return {way: amounts for way, amounts in told.items() if amounts}


def _cpus(millis: int) -> str:
    whole, part = divmod(millis, 1000)
    return f"{whole}.{part:03}".rstrip("0") if part else f"{whole}"


def differs(given: Members, container: pb.ContainerProperties) -> bool:
    """Say whether a container's amounts are others than those that its definition gave."""
    found = of(given)
    asked = container.resources
    return (found.cpu_limit_millis, *_plain(found.resources)) != (container.cpu_limit_millis, *_plain(asked))


def _plain(resources: Resources) -> tuple[int, int, int]:
    return resources.cpu_millis, resources.memory_mib, resources.gpu_millis
