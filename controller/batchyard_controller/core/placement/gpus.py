"""
GPUs: which of a host's GPUs a job may be given, which a claim takes, and how much of them is left.

A host may have GPUs of several kinds. Law: a job that says which it wants is judged by,
and given, those alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from batchyard.resources import GPU_WHOLE
from batchyard_controller.core.model.attempts import GpuClaim
from batchyard_controller.core.model.hosts import GpuFacts

_WORD = re.compile(r"[a-z0-9]+")

NOTHING_LOST: Sequence[int] = (0,) * (GPU_WHOLE + 1)
"""What remainders are worth where no prices say it."""


def choose_gpus(free: Mapping[str, int], asked: int, remainders: Sequence[int] = NOTHING_LOST) -> tuple[GpuClaim, ...]:
    """
    Take whole GPUs that are quite free, or for a part the one whose remainder loses least, of equal ones the tightest.

    Args:
        free: Thousandths left of each GPU that will do of a host that has room; of equal ones the first is taken.
        asked: Thousandths.
        remainders: What is worth what is left of a GPU, by thousandths.
    """
    if asked == 0:
        return ()
    if asked >= GPU_WHOLE:
        whole = [uuid for uuid, left in free.items() if left == GPU_WHOLE][: asked // GPU_WHOLE]
        return tuple(GpuClaim(uuid=uuid, millis=GPU_WHOLE) for uuid in whole)
    first: dict[int, str] = {}
    for uuid, left in free.items():
        if left >= asked:
            first.setdefault(left, uuid)
    best = min(first, key=lambda left: (remainders[left] - remainders[left - asked], left))
    return (GpuClaim(uuid=first[best], millis=asked),)


def gpu_levels(free: Mapping[str, int]) -> tuple[int, int]:
    """Return how many of a host's GPUs are quite free, and the most that is left of one."""
    levels = [*free.values()]
    return levels.count(GPU_WHOLE), max(levels, default=0)


def gpu_needs(asked: int) -> tuple[int, int]:
    """Return how many quite free GPUs, and how much of one, a job needs that asks for so much."""
    return (asked // GPU_WHOLE, 0) if asked >= GPU_WHOLE else (0, asked)


def kind_of(gpu: GpuFacts) -> GpuFacts:
    """Return all of a GPU by which jobs may choose."""
    return GpuFacts(uuid="", model=gpu.model, memory_mib=gpu.memory_mib)


def kinds_of(gpus: Iterable[GpuFacts]) -> tuple[GpuFacts, ...]:
    """Return the kinds of a host's GPUs, those with the least memory first; of faulty ones too, as these may be mended."""
    return tuple(sorted({kind_of(gpu) for gpu in gpus}, key=lambda kind: (kind.memory_mib, kind.model)))


def by_kind(gpus: tuple[GpuFacts, ...]) -> tuple[tuple[GpuFacts, int], ...]:
    """Return GPUs in the order of their kinds, each with the place of its kind; nothing if all are of one."""
    kinds = kinds_of(gpus)
    if len(kinds) < 2:
        return ()
    return tuple(sorted(((gpu, kinds.index(kind_of(gpu))) for gpu in gpus), key=lambda placed: placed[1]))


def is_wanted(gpu: GpuFacts, models: tuple[str, ...], memory_mib: int) -> bool:
    """Say whether a GPU has the memory and one of the names, if there are any."""
    return gpu.memory_mib >= memory_mib and (not models or any(_bears(gpu.model, name) for name in models))


@lru_cache(maxsize=4096)
def _bears(model: str, name: str) -> bool:
    """
    Say whether a model bears a name, whatever the case.

    A name with ``*`` is all of the model; else it is words of it in their order: A10 is no A100.
    """
    model, name = model.lower(), name.lower()
    if "*" in name:
        return _matches(model, name.split("*"))
    words, wanted = _WORD.findall(model), _WORD.findall(name)
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


def _matches(model: str, parts: list[str]) -> bool:
    """Say whether a text begins with the first part, ends with the last, and has the others in order between them."""
    first, *between, last = parts
    place, end = len(first), len(model) - len(last)
    if place > end or not model.startswith(first) or not model.endswith(last):
        return False
    for part in between:  # each as early as can be: no other choice leaves more for the next
        found = model.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True
