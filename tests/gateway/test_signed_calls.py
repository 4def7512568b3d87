"""boto3's own signatures, access keys of a real controller: the right key is let in, all else is told AWS's code."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from click.testing import CliRunner
from tests.gateway.surroundings import ACCOUNT, REGION, Around, around
from tests.gateway.test_signature import SERVICES

from batchyard import AsyncClient
from batchyard_agent import clock
from batchyard_gateway.__main__ import main
from batchyard_gateway.authentication import KEY_TTL_S, Authenticator


@dataclass
class Clock:
    """The machine's, put forward."""

    offset_s: float = 0.0

    def read(self) -> float:
        return clock.read_wall_ms() / 1000 + self.offset_s


@pytest.fixture
def time() -> Clock:
    return Clock()


@pytest.fixture
async def yard(tmp_path: Path, time: Clock) -> AsyncIterator[Around]:
    def guard(client: AsyncClient) -> Authenticator:
        return Authenticator(client, region=REGION, services=SERVICES, read_wall_s=time.read)

    async with around(tmp_path, guard=guard) as opened:
        yield opened


async def make_key(yard: Around) -> tuple[str, str]:
    answer = await yard.client.create_access_key()
    return answer.access_key.id, answer.secret


async def test_every_service_takes_the_right_key(yard: Around) -> None:
    keys = await make_key(yard)
    identity = await yard.call(yard.boto("sts", *keys).get_caller_identity)
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{keys[0]}"
    await yard.call(yard.boto("logs", *keys).describe_log_groups)
    await yard.call(yard.boto("ecs", *keys).list_clusters)
    await yard.call(yard.boto("ec2", *keys).describe_instances)


async def test_tags_of_an_encoded_arn_are_signed_in_path_query_and_body(yard: Around) -> None:
    batch = yard.boto("batch", *await make_key(yard))
    arn = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/default"
    await yard.call(batch.tag_resource, resourceArn=arn, tags={"größe ✓": "a b/c", "b+c": "d"})
    await yard.call(batch.untag_resource, resourceArn=arn, tagKeys=["b+c", "none/of & these"])
    assert await yard.call(batch.list_tags_for_resource, resourceArn=arn) == {"tags": {"größe ✓": "a b/c"}}


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("batch", "describe_job_queues"),
        ("sts", "get_caller_identity"),
        ("logs", "describe_log_groups"),
        ("ecs", "list_clusters"),
        ("ec2", "describe_instances"),
    ],
)
async def test_wrong_keys_are_refused_in_each_services_own_form(yard: Around, service: str, operation: str) -> None:
    key_id, secret = await make_key(yard)
    told = {
        await yard.refused(getattr(yard.boto(service, *keys), operation))
        for keys in ((key_id, "wrong"), ("AKIDNOBODYNOBODY1234", secret))
    }
    assert len(told) == 1, "nobody learns which keys there are"
    code, status, message = told.pop()
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    assert message.startswith("The request signature we calculated does not match the signature you provided.")


async def test_a_clock_that_is_off_is_told(yard: Around, time: Clock) -> None:
    keys = await make_key(yard)
    time.offset_s = 310
    code, status, _ = await yard.refused(yard.boto("ecs", *keys).list_clusters)
    assert (code, status) == ("RequestTimeTooSkewed", 403)


async def test_nobody_is_served_without_a_key_and_a_revoked_one_dies(yard: Around, time: Clock) -> None:
    stranger = yard.boto("ecs")
    assert (await yard.refused(stranger.list_clusters))[0] == "SignatureDoesNotMatch"
    keys, other = await make_key(yard), await make_key(yard)
    assert (await yard.refused(stranger.list_clusters))[0] == "SignatureDoesNotMatch"
    known = yard.boto("ecs", *keys)
    await yard.call(known.list_clusters)
    await yard.client.revoke_access_key(keys[0])
    time.offset_s += KEY_TTL_S
    assert (await yard.refused(known.list_clusters))[0] == "SignatureDoesNotMatch"
    await yard.call(yard.boto("ecs", *other).list_clusters)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
async def test_with_a_certificate_the_gateway_speaks_tls_alone(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway"]
    making += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(making, check=True, capture_output=True)
    async with around(tmp_path, tls_cert=str(cert), tls_key=str(key)) as yard:
        await yard.call(yard.boto("sts", verify=str(cert)).get_caller_identity)
        plain = Around(yard.client, yard.url.replace("https", "http"))
        with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
            await plain.call(plain.boto("sts").get_caller_identity)
        plain.close()


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.touch()
    answer = CliRunner().invoke(main, ["--tls-cert", str(cert)])
    assert answer.exit_code == 2
    assert "--tls-cert and --tls-key belong together" in answer.output
