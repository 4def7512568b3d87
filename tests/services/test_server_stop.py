"""What a server says when it ends while it is asked."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc.aio
import pytest
import structlog

from batchyard_controller.services.errors import _guard_unary


async def test_a_call_that_meets_the_servers_end_is_no_failure_of_ours() -> None:
    (stopped,) = (kind for kind in grpc.aio.BaseError.__subclasses__() if kind.__name__ == "_ServerStoppedError")

    async def handler(_: Any, __: Any) -> NoReturn:
        raise stopped("Server already stopped.")

    with structlog.testing.capture_logs() as logs, pytest.raises(stopped):
        await _guard_unary(handler, "/batchyard.v1.JobService/DescribeJob")(None, None)
    assert logs == []
