"""
Kinds: hosts that are alike in all that decides whether they may ever run a job, and which come first.

A yard of thousands of hosts has few kinds, so whether a job may go there, and how an
environment's strategy ranks it, is judged once a kind and looked up for a host. Law: a judgement reads nothing of a host but
what its kind is made of.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from batchyard.resources import NOTHING, Resources
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.launches import LAUNCH_LABEL
from batchyard_controller.core.model.settings import ComputeEnvironment

from .feasibility import Access, allows, belongs, offers, suits
from .gpus import kinds_of

Mask = npt.NDArray[np.bool_]

_MASKS_KEPT = 4096
"""Jobs may each ask for a path of their own."""
_NONE: Mask = np.zeros(0, dtype=np.bool_)
_NO_PLACES: Mask = np.zeros((0, 0), dtype=np.bool_)


class Kinds:
    """Numbers of kinds, and who may run on them; those that no host is of any more are kept."""

    def __init__(self) -> None:
        self._numbers: dict[HostFacts, int] = {}
        self._allowed: dict[tuple[ComputeEnvironment, str, Access], Mask] = {}
        self._wanted: dict[Access, Mask] = {}
        self.gpu_kinds_max = 1
        """Of how many kinds the GPUs of a host are at most."""

    def __len__(self) -> int:
        return len(self._numbers)

    def facts(self) -> list[HostFacts]:
        """Return what hosts of each kind are, by number."""
        return list(self._numbers)

    def number(self, facts: HostFacts) -> int:
        """Return the number of a host's kind."""
        kind = HostFacts(
            name="",
            runtimes=facts.runtimes,
            host_type=facts.host_type,
            purchase_option=facts.purchase_option,
            zone=facts.zone,
            price_per_hour=facts.price_per_hour,
            capacity=Resources(cpu_millis=facts.capacity.cpu_millis) if facts.price_per_hour else NOTHING,
            labels=tuple(pair for pair in facts.labels if pair[0] != LAUNCH_LABEL),  # else each were its own kind
            gpus=kinds_of(facts.gpus),
            allows_privileged=facts.allows_privileged,
            volume_paths=facts.volume_paths,
            device_paths=facts.device_paths,
            platforms=facts.platforms,
            cpu_architecture=facts.cpu_architecture,
            features=facts.features,
            kubernetes=facts.kubernetes and replace(facts.kubernetes, node_uid=""),  # else each were its own kind
        )
        self.gpu_kinds_max = max(self.gpu_kinds_max, len(kind.gpus))
        return self._numbers.setdefault(kind, len(self._numbers))

    def allowed(self, environment: ComputeEnvironment, runtime: str, access: Access) -> Mask:
        """Return, by number, which kinds belong to an environment and allow a runtime, empty for any, and the access."""
        key = (environment, runtime, access)
        mask = self._allowed.get(key, _NONE)
        if len(mask) < len(self._numbers):
            if len(self._allowed) >= _MASKS_KEPT:
                self._allowed.clear()
            new = [
                suits(environment, access)
                and belongs(kind, environment)
                and (not runtime or offers(kind, runtime))
                and allows(kind, access)
                for kind in islice(self._numbers, len(mask), None)
            ]
            mask = self._allowed[key] = np.append(mask, new).astype(np.bool_)
        return mask

    @property
    def are_mixed(self) -> Mask:
        """Whose hosts have GPUs of several kinds, by number."""
        return np.array([len(kind.gpus) > 1 for kind in self._numbers], dtype=np.bool_)

    def wanted(self, access: Access) -> Mask:
        """Return which GPUs will do, a line a kind of hosts and a column a place among the kinds of its GPUs."""
        mask = self._wanted.get(access, _NO_PLACES)
        if mask.shape != (len(self), self.gpu_kinds_max):
            if len(self._wanted) >= _MASKS_KEPT:
                self._wanted.clear()
            mask = np.zeros((len(self), self.gpu_kinds_max), dtype=np.bool_)
            for number, kind in enumerate(self._numbers):
                mask[number, : len(kind.gpus)] = [access.wants(gpu) for gpu in kind.gpus]
            self._wanted[access] = mask
        return mask
