"""Usage: what is summed by what, and the sums."""

from __future__ import annotations

from batchyard.rows import Rows, Words
from batchyard.v1 import usage_pb2 as pb
from batchyard_controller.core.model.usage import UsageSum
from batchyard_controller.core.views.usage import UsageKey

_KEYS = Words(UsageKey, pb.UsageKey.DESCRIPTOR)
_SUM = Rows(UsageSum, pb.UsageSum, message_only=("keys",))


def usage_keys(numbers: list[int]) -> tuple[UsageKey, ...]:
    """
    Turn what is summed by into the core's words.

    Raises:
        InvalidArgumentError: one has none.
    """
    return tuple(_KEYS.read(number, f"by[{i}]") for i, number in enumerate(numbers))


def sum_message(keys: tuple[str, ...], value: UsageSum) -> pb.UsageSum:
    """Turn a sum into a message."""
    return _SUM.write(value, keys=keys)
