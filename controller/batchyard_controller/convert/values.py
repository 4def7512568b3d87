"""Plain values on the wire: amounts, lists of names."""

from __future__ import annotations

from batchyard.errors import InvalidArgumentError, Reason, Violation
from batchyard.resources import Resources
from batchyard.rows import Rows
from batchyard.v1 import resources_pb2
from batchyard_controller.core import limits

_RESOURCES = Rows(Resources, resources_pb2.Resources)


def check_describe(field: str, names: list[str]) -> None:
    """
    Check how many things one call may describe.

    Raises:
        InvalidArgumentError: too many, or none.
    """
    if not names or len(names) > limits.DESCRIBE_MAX:
        text = f"{len(names)} given; 1 to {limits.DESCRIBE_MAX} are allowed"
        raise InvalidArgumentError.from_violations([Violation(field, text, Reason.OUT_OF_RANGE)])


def resources_message(value: Resources) -> resources_pb2.Resources:
    """Turn amounts into a message."""
    return _RESOURCES.write(value)
