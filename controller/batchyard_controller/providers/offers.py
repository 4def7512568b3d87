"""
Offers: providers as the controller's settings file declares them.

Whoever may write that file may have the controller run any command; whoever merely uses the
API names a provider, and cannot say what it does. What is misspelt is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchyard.features import FEATURES, SECURED_CONTAINERS, SECURED_PROCESSES
from batchyard.ids import is_name
from batchyard.resources import GPU_WHOLE, Resources, parse_mib, parse_millis
from batchyard.runtimes import DOCKER, PROCESS, RUNTIMES
from batchyard_controller.core import limits
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.scaling.catalogue import JOIN_LIMIT_S, Catalogue, LaunchType

from .command import TIMEOUT_S, CommandProvider
from .launcher import Offer
from .local import LocalProvider
from .protocol import Provider

LOCAL, COMMAND = "local", "command"
_SIZES = {"small": 1, "medium": 2, "large": 4, "xlarge": 8, "2xlarge": 16, "4xlarge": 32}
"""Types of the local provider that needs no declaration, by their vCPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """
    What providers are told beside their tables.

    Attributes:
        socket: Address of the controller on this machine.
        hosts: Folder of local hosts; None: there are none without a declaration.
        scratch: Where their processes work; None: beside it.
        environment: Of commands.
        cpus: vCPUs of this machine.
        memory_mib: Its memory.
    """

    socket: str
    hosts: Path | None
    scratch: Path | None
    environment: Mapping[str, str]
    cpus: int
    memory_mib: int


def offers(tables: Mapping[str, object], around: Surroundings) -> list[Offer]:
    """
    Return the providers that are declared, and ``local`` where a folder for its hosts is named.

    Raises:
        ValueError: a declaration is wrong; the text names it.
    """
    declared = [_Table(f"provider.{name}", table).offer(name, around) for name, table in tables.items()]
    if around.hosts is not None and LOCAL not in tables:
        provider = LocalProvider(around.hosts, around.scratch or _beside(around.hosts), around.socket)
        declared.append(Offer(provider=provider, catalogue=Catalogue(provider=LOCAL, types=_own_types(around))))
    return declared


def _own_types(around: Surroundings) -> dict[str, LaunchType]:
    """Return types of a power of two of vCPUs, each with its share of the memory, up to all of this machine."""
    sizes = {name: vcpus for name, vcpus in _SIZES.items() if vcpus <= max(1, around.cpus)}
    return {
        name: _launch_type(name, vcpus * 1000, vcpus * around.memory_mib // max(1, around.cpus), price=vcpus)
        for name, vcpus in sizes.items()
    }


def _launch_type(name: str, cpu_millis: int, memory_mib: int, *, gpus: int = 0, **more: Any) -> LaunchType:
    facts = {
        key: more.pop(key) for key in ("runtimes", "allows_privileged", "volume_paths", "device_paths") if key in more
    }
    return LaunchType(
        facts=HostFacts(
            name="",
            host_type=name,
            capacity=Resources(
                cpu_millis=cpu_millis,
                memory_mib=memory_mib,
                gpu_millis=gpus * GPU_WHOLE,
                disk_mib=limits.DISK_MIB_MAX,  # nobody declares it; the first host tells
            ),
            gpus=tuple(GpuFacts(uuid=f"gpu-{i}") for i in range(gpus)),
            # Their agents are as new as this controller, and root's, as far as is known before the first has come.
            features=(*FEATURES, SECURED_CONTAINERS, SECURED_PROCESSES),
            **{"runtimes": (DOCKER, PROCESS), **facts},
        ),
        **more,
    )


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-scratch")


class _Table:
    """A table of the settings file, of which each key is asked for once."""

    def __init__(self, place: str, table: Any) -> None:
        self._place = place
        if not isinstance(table, Mapping):
            raise ValueError(f"{place}: must be a table, not {table!r}")  # noqa: TRY004  # of the settings file
        self._left = {str(key).replace("-", "_"): value for key, value in table.items()}

    def offer(self, name: str, around: Surroundings) -> Offer:
        """Read a provider."""
        if not is_name(name):
            raise ValueError(f"{self._place}: a provider's name has letters, digits, - and _, at most 128")
        kind = self._text("kind")
        if kind not in (LOCAL, COMMAND):
            raise self._wrong("kind", f"must be {LOCAL} or {COMMAND}, not {kind!r}")
        types = self._take("types", {})
        if not isinstance(types, Mapping) or not types:
            raise self._wrong("types", "must be a table of at least one type")
        catalogue = Catalogue(
            provider=name,
            types={each: _Table(f"{self._place}.types.{each}", table).type(each) for each, table in types.items()},
            join_limit_s=math.ceil(self._number("join_timeout_s", JOIN_LIMIT_S)),
        )
        provider = self._local(around) if kind == LOCAL else self._command(around)
        self._finish()
        return Offer(provider=provider, catalogue=catalogue)

    def _local(self, around: Surroundings) -> Provider:
        folder = self._text("folder", str(around.hosts or ""))
        if not folder:
            raise self._wrong("folder", "is required: where the state of its hosts is kept")
        scratch = self._text("scratch", str(around.scratch or _beside(Path(folder))))
        return LocalProvider(Path(folder), Path(scratch), self._text("controller", around.socket))

    def _command(self, around: Surroundings) -> Provider:
        command = self._texts("command")
        if not command:
            raise self._wrong("command", "must be a list: the program and its arguments")
        return CommandProvider(
            command,
            around.environment,
            self._text("controller", around.socket),
            self._number("timeout_s", TIMEOUT_S),
        )

    def type(self, name: str) -> LaunchType:
        """Read a type of hosts."""
        if not 1 <= len(name) <= limits.INSTANCE_TYPE_LENGTH_MAX:
            raise ValueError(f"{self._place}: a type's name has 1 to {limits.INSTANCE_TYPE_LENGTH_MAX} letters")
        runtimes = tuple(self._texts("runtimes", [DOCKER, PROCESS]))
        if not set(runtimes) <= set(RUNTIMES):
            raise self._wrong("runtimes", f"must be of {', '.join(RUNTIMES)}, not {', '.join(runtimes)}")
        found = _launch_type(
            name,
            self._amount("vcpus", parse_millis),
            self._amount("memory", parse_mib),
            gpus=int(self._number("gpus", 0, low=0)),
            runtimes=runtimes,
            price=self._number("price", 0, low=0),
            spot_price=self._number("spot_price", 0, low=0) if "spot_price" in self._left else None,
            count=int(self._number("count", 0, low=0)),
            allows_privileged=bool(self._take("allow_privileged", False)),
            volume_paths=tuple(self._texts("allow_volume", [])),
            device_paths=tuple(self._texts("allow_device", [])),
        )
        self._finish()
        return found

    def _take(self, key: str, default: Any = None) -> Any:
        return self._left.pop(key, default)

    def _text(self, key: str, default: str = "") -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, f"must be a text, not {value!r}")
        return value

    def _texts(self, key: str, default: list[str] | None = None) -> list[str]:
        value = self._take(key, default)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, f"must be a list of texts, not {value!r}")
        return value

    def _number(self, key: str, default: float, low: float = 1e-3) -> float:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
            raise self._wrong(key, f"must be a number of at least {low:g}, not {value!r}")
        return float(value)

    def _amount(self, key: str, parse: Callable[[str], int]) -> int:
        value = self._take(key)
        try:
            amount = parse(str(value))
        except ValueError as err:
            raise self._wrong(key, f"is required, and must be an amount: {err}") from None
        if amount <= 0:
            raise self._wrong(key, f"must be above 0, not {value!r}")
        return amount

    def _finish(self) -> None:
        for key in self._left:
            raise self._wrong(key, "no such key")

    def _wrong(self, key: str, message: str) -> ValueError:
        return ValueError(f"{self._place}.{key}: {message}")
