"""Scheduling policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchyard.rows import Rows
from batchyard.v1 import scheduling_policy_pb2 as pb
from batchyard_controller.core.model.policies import SchedulingPolicy

_NEW = Rows(SchedulingPolicy, pb.CreateSchedulingPolicyRequest, record_only=("created_at_ms",))
_CHANGED = Rows(SchedulingPolicy, pb.UpdateSchedulingPolicyRequest, record_only=("tags", "created_at_ms"))
_POLICY = Rows(SchedulingPolicy, pb.SchedulingPolicy)


def policy(message: pb.CreateSchedulingPolicyRequest) -> SchedulingPolicy:
    """Turn a request into a policy that is not created yet."""
    return _NEW.read(message)


def policy_changes(message: pb.UpdateSchedulingPolicyRequest) -> Mapping[str, Any]:
    """Return what an update says, by the names of a policy's fields."""
    return _CHANGED.said(message)


def policy_message(value: SchedulingPolicy) -> pb.SchedulingPolicy:
    """Turn a policy into a message."""
    return _POLICY.write(value)
