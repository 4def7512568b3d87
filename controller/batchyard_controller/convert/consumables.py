"""Consumable resources."""

from __future__ import annotations

from batchyard.rows import Row, Rows, Words
from batchyard.v1 import consumable_resource_pb2 as pb
from batchyard_controller.core.model.consumables import ConsumableOperation, ConsumableResource, ConsumableType

_NEW = Rows(
    ConsumableResource,
    pb.CreateConsumableResourceRequest,
    Row("type", unset=ConsumableType.REPLENISHABLE),
    record_only=("consumed", "updates", "created_at_ms"),
)
_RESOURCE = Rows(
    ConsumableResource,
    pb.ConsumableResource,
    record_only=("total", "updates"),
    message_only=("total", "in_use", "available"),
)
_OPERATIONS = Words(ConsumableOperation, pb.ConsumableResourceOperation.DESCRIPTOR)


def consumable(message: pb.CreateConsumableResourceRequest) -> ConsumableResource:
    """Turn a request into a consumable resource that is not created yet."""
    return _NEW.read(message)


def consumable_operation(number: int) -> ConsumableOperation:
    """
    Turn what an update does into the core's word.

    Raises:
        InvalidArgumentError: it has none.
    """
    return _OPERATIONS.read(number, "operation")


def consumable_message(value: ConsumableResource, in_use: int) -> pb.ConsumableResource:
    """Turn a consumable resource, of which so much is in use, into a message."""
    return _RESOURCE.write(value, total=max(value.left, in_use), in_use=in_use, available=max(0, value.left - in_use))
