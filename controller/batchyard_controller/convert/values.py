"""Plain values on the wire: maps, enums, amounts, lists of names."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.resources import RESOURCE_KINDS, Resources
from batchyard.v1 import (
    resources_pb2,
)
from batchyard_controller.core import limits
from batchyard_controller.core.model.values import Pairs

E = TypeVar("E", bound=StrEnum)


def pairs(mapping: Mapping[str, str]) -> Pairs:
    """Turn a map into sorted pairs."""
    return tuple(sorted(mapping.items()))


def check_describe(field: str, names: list[str]) -> None:
    """
    Check how many things one call may describe.

    Raises:
        InvalidArgumentError: too many, or none.
    """
    if not names or len(names) > limits.DESCRIBE_MAX:
        text = f"{len(names)} given; 1 to {limits.DESCRIBE_MAX} are allowed"
        raise InvalidArgumentError.from_violations([Violation(field, text, Reason.OUT_OF_RANGE)])


def enum_value(wrapper: Any, prefix: str, type_: type[E], value: int, default: E | None, field: str) -> E:
    """Turn an enum number into the core's value; *default* stands for UNSPECIFIED, None if one is required."""
    if value == 0 and default is not None:
        return default
    names = {number: name for name, number in wrapper.items() if number}
    if value not in names:
        allowed = ", ".join(n.removeprefix(prefix) for n in names.values())
        text = f"{value} is not one of {allowed}" if value else f"is required, one of {allowed}"
        reason = Reason.UNKNOWN_VALUE if value else Reason.REQUIRED
        raise InvalidArgumentError.from_violations([Violation(field, text, reason)])
    return type_[names[value].removeprefix(prefix)]


def resources(message: resources_pb2.Resources) -> Resources:
    """Turn amounts into the core's."""
    return Resources(**{kind: getattr(message, kind) for kind in RESOURCE_KINDS})


def resources_message(value: Resources) -> resources_pb2.Resources:
    """Turn amounts into a message."""
    return resources_pb2.Resources(**{kind: getattr(value, kind) for kind in RESOURCE_KINDS})
