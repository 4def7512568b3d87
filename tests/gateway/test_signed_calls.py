"""boto3's own signatures against the gateway: the right key is let in, all else is told AWS's code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.surroundings import ACCOUNT, REGION, Around, around
from tests.gateway.test_authentication import AccessKeys
from tests.gateway.test_signature import KEY_ID, SECRET, SERVICES

from batchyard_agent import clock
from batchyard_gateway.authentication import Authenticator


@dataclass
class Clock:
    """The machine's, put forward."""

    offset_s: float = 0.0

    def read(self) -> float:
        return clock.read_wall_ms() / 1000 + self.offset_s


CLOCK = Clock()


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Around]:
    def authenticate(_: Any) -> Authenticator:
        return Authenticator(AccessKeys(), region=REGION, services=SERVICES, is_loopback=True, read_wall_s=CLOCK.read)

    async with around(tmp_path, authenticate=authenticate) as opened:
        yield opened


async def test_every_service_takes_the_right_key(yard: Around) -> None:
    identity = await yard.call(yard.boto("sts", KEY_ID, SECRET).get_caller_identity)
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{KEY_ID}"
    await yard.call(yard.boto("logs", KEY_ID, SECRET).describe_log_groups)
    await yard.call(yard.boto("ecs", KEY_ID, SECRET).list_clusters)
    await yard.call(yard.boto("ec2", KEY_ID, SECRET).describe_instances)


@pytest.mark.parametrize("service", ["sts", "logs", "ecs", "ec2"])
async def test_wrong_keys_are_refused_in_each_services_own_form(yard: Around, service: str) -> None:
    operation = {
        "sts": "get_caller_identity",
        "logs": "describe_log_groups",
        "ecs": "list_clusters",
        "ec2": "describe_instances",
    }[service]
    told = {
        await yard.refused(getattr(yard.boto(service, *keys), operation))
        for keys in ((KEY_ID, "wrong"), ("AKIDNOBODYNOBODY1234", SECRET))
    }
    assert len(told) == 1, "nobody learns which keys there are"
    code, status, message = told.pop()
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    assert message.startswith("The request signature we calculated does not match the signature you provided.")


async def test_a_clock_that_is_off_is_told(yard: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CLOCK, "offset_s", 310.0)
    code, status, _ = await yard.refused(yard.boto("ecs", KEY_ID, SECRET).list_clusters)
    assert (code, status) == ("RequestTimeTooSkewed", 403)
