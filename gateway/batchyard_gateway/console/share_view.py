"""
Share view: what pages show of quota shares.

Pure: shares of the contract in, records for a template out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from batchyard.v1 import compute_environment_pb2 as environment_pb
from batchyard.v1 import quota_share_pb2 as pb
from batchyard.wording import word

from . import amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How a share stands with one unit of capacity, in words; *percent* is what is used of its own."""

    unit: str
    own: str
    used: str
    borrowed: str
    lent: str
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow:
    """
    One line of a list of quota shares.

    Attributes:
        path: Its name as a part of an address.
        sharing: Its strategy, and how much it may borrow.
        preempts: Whether its own jobs may be stopped for others of it.
        uses: A unit each.
    """

    name: str
    path: str
    state: str
    sharing: str
    preempts: str
    uses: Sequence[Use]


def rows_of(shares: Iterable[pb.QuotaShare]) -> list[ShareRow]:
    """Return a line for each share."""
    return [
        ShareRow(
            name=share.name,
            path=quote(share.name, safe=""),
            state=word(environment_pb.ResourceState, share.state),
            sharing=_sharing(share),
            preempts="yes" if share.in_share_preemption else "no",
            uses=[_use(each) for each in share.use],
        )
        for share in shares
    ]


def _sharing(share: pb.QuotaShare) -> str:
    strategy = word(pb.SharingStrategy, share.sharing_strategy)
    if share.sharing_strategy != pb.SHARING_STRATEGY_LEND_AND_BORROW:
        return strategy
    return (
        f"{strategy}, at most {share.borrow_limit} % of its own" if share.borrow_limit >= 0 else f"{strategy}, any idle"
    )


def _use(use: pb.CapacityUse) -> Use:
    def text(amount: float) -> str:
        return amounts.memory(amount) if use.capacity_unit == "MEMORY_MIB" else amounts.count(amount)

    return Use(
        unit=use.capacity_unit,
        own=text(use.max_capacity),
        used=text(use.used),
        borrowed=text(use.borrowed),
        lent=text(use.lent),
        percent=amounts.share(use.used, use.max_capacity),
    )
