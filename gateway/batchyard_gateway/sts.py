"""
AWS STS, as far as tools ask who they are: GetCallerIdentity.

Source: AWS Security Token Service API Reference.
"""

from __future__ import annotations

from .protocols import Query
from .services import Context, Members, Operation, Service


async def get_caller_identity(context: Context, members: Members) -> Members:
    """Tell the account, and the access key as its user."""
    key = context.principal.access_key_id
    return {
        "Arn": f"arn:aws:iam::{context.account_id}:user/{key}",
        "UserId": key,
        "Account": context.account_id,
    }


SERVICE = Service(
    name="sts",
    protocol=Query("https://sts.amazonaws.com/doc/2011-06-15/"),
    operations={"GetCallerIdentity": Operation(name="GetCallerIdentity", handler=get_caller_identity)},
)
