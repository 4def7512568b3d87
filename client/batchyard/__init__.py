"""
Batchyard: AWS Batch for your own machines. This is the Python SDK.

    from batchyard import Client, container

    with Client() as yard:
        job = yard.submit_job(name="hello", container=container(["echo", "hello"]))
        print(yard.wait(job.job_id).exit_code)

Importing it opens nothing and loads no gRPC: public names arrive on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchyard.arguments import container, nodes, overrides
    from batchyard.client import AsyncClient
    from batchyard.errors import (
        AlreadyExistsError,
        BatchyardError,
        DeadlineExceededError,
        FailedPreconditionError,
        InternalError,
        InvalidArgumentError,
        NotFoundError,
        PermissionDeniedError,
        Reason,
        RequestError,
        ResourceExhaustedError,
        UnauthenticatedError,
        UnavailableError,
        Violation,
        WorldError,
    )
    from batchyard.pod_arguments import pod
    from batchyard.states import JobState
    from batchyard.submit_calls import submit_error
    from batchyard.sync import Client
    from batchyard.wording import job_state

__all__ = [
    "AlreadyExistsError",
    "AsyncClient",
    "BatchyardError",
    "Client",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "JobState",
    "NotFoundError",
    "PermissionDeniedError",
    "Reason",
    "RequestError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "Violation",
    "WorldError",
    "container",
    "job_state",
    "nodes",
    "overrides",
    "pod",
    "submit_error",
]

_HOMES = {
    "AsyncClient": "client",
    "Client": "sync",
    "JobState": "states",
    "container": "arguments",
    "job_state": "wording",
    "nodes": "arguments",
    "overrides": "arguments",
    "pod": "pod_arguments",
    "submit_error": "submit_calls",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
