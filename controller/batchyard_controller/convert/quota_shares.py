"""Quota shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batchyard.rows import Rows
from batchyard.v1 import quota_share_pb2 as pb
from batchyard_controller.core.model.quota_shares import QuotaShare
from batchyard_controller.core.placement.quotas import SCALES, Account

_NEW = Rows(QuotaShare, pb.CreateQuotaShareRequest, record_only=("created_at_ms",))
_CHANGED = Rows(QuotaShare, pb.UpdateQuotaShareRequest, record_only=("tags", "created_at_ms"))
_SHARE = Rows(QuotaShare, pb.QuotaShare, message_only=("use",))


def quota_share(message: pb.CreateQuotaShareRequest) -> QuotaShare:
    """Turn a request into a quota share that is not created yet."""
    return _NEW.read(message)


def quota_share_changes(message: pb.UpdateQuotaShareRequest) -> Mapping[str, Any]:
    """Return what an update says, by the names of a quota share's fields."""
    return _CHANGED.said(message)


def quota_share_message(value: QuotaShare, accounts: Iterable[Account]) -> pb.QuotaShare:
    """Turn a quota share into a message, with how it stands."""
    return _SHARE.write(value, use=use_messages(accounts))


def use_messages(accounts: Iterable[Account]) -> list[pb.CapacityUse]:
    """Turn how a share stands into messages, counted in the units of capacity."""
    return [
        pb.CapacityUse(
            capacity_unit=each.unit,
            max_capacity=each.limit / SCALES.get(each.unit, 1),
            used=each.used / SCALES.get(each.unit, 1),
            borrowed=each.borrowed / SCALES.get(each.unit, 1),
            lent=each.lent / SCALES.get(each.unit, 1),
        )
        for each in accounts
    ]
