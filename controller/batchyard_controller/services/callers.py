"""
Callers: who makes the call that is being served.

Set by the authorizer before a handler runs, in the call's own context, and read by the
handlers of all services: so none can forget to hand it on, and what was started for a
call is asked as its caller. Law: without an authorizer there is no caller, and nothing
that asks for one is served.
"""

from __future__ import annotations

from contextvars import ContextVar

from batchyard_controller.core.access.roles import Principal

CALLER: ContextVar[Principal] = ContextVar("caller")


def caller() -> Principal:
    """
    Return who calls.

    Raises:
        LookupError: outside a call that was authorized.
    """
    return CALLER.get()
