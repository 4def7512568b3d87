"""SQS, SNS and EventBridge take events from botocore, as moto's server speaks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.gateway.test_relay import body

from batchyard.v1 import sink_pb2 as pb
from batchyard_gateway.relay.aws import AwsReceiver
from batchyard_gateway.relay.receivers import DeliveryError

from .moto_server import moto
from .tools import MOTO

pytestmark = [pytest.mark.pypi, pytest.mark.timeout(600)]

REGION = "eu-west-1"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    MOTO.install()
    with pytest.MonkeyPatch.context() as patch, moto(tmp_path_factory.mktemp("moto")) as url:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield url


def client(service: str, endpoint: str) -> Any:
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION)


def receiver(url: str, endpoint: str) -> AwsReceiver:
    return AwsReceiver(pb.Sink(name="s", url=url, endpoint_url=endpoint, region=REGION))


def taken(sqs: Any, url: str) -> list[Any]:
    """Return all messages of a queue, in the order in which it gives them."""
    found: list[Any] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        for message in messages:
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_a_fifo_queue_has_all_in_order_and_once_though_they_come_twice(endpoint: str) -> None:
    sqs = client("sqs", endpoint)
    attributes = {"FifoQueue": "true"}
    url = sqs.create_queue(QueueName="events.fifo", Attributes=attributes)["QueueUrl"]
    sink = receiver(f"sqs:{url}", endpoint)
    bodies = [body(i, f"job-{i % 4}") for i in range(30)]
    sink.deliver(bodies, "")
    sink.deliver(bodies[-3:], "")
    got = [each["n"] for each in taken(sqs, url)]
    assert sorted(got) == list(range(30))
    for job in range(4):
        assert [n for n in got if n % 4 == job] == list(range(job, 30, 4))
    sink.close()


def test_a_topic_passes_them_on(endpoint: str) -> None:
    sqs, sns = client("sqs", endpoint), client("sns", endpoint)
    url = sqs.create_queue(QueueName="behind-topic")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="events")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    receiver(f"sns:{topic}", endpoint).deliver([body(i) for i in range(12)], "")
    assert sorted(each["n"] for each in taken(sqs, url)) == list(range(12))


def test_a_bus_passes_on_what_its_rules_match(endpoint: str) -> None:
    sqs, events = client("sqs", endpoint), client("events", endpoint)
    url = sqs.create_queue(QueueName="behind-bus")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.create_event_bus(Name="yard")
    pattern = {"source": ["batchyard"], "detail-type": ["Batch Job State Change"], "detail": {"status": ["FAILED"]}}
    events.put_rule(Name="failed", EventBusName="yard", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="failed", EventBusName="yard", Targets=[{"Id": "1", "Arn": arn}])
    told = []
    for number, status in enumerate(("RUNNING", "FAILED")):
        members = {
            "id": str(number), "detail-type": "Batch Job State Change", "source": "aws.batch",
            "time": "2026-11-26T17:00:00Z", "resources": [], "detail": {"status": status},
        }  # fmt: skip
        told.append(type(body(number))(id=str(number), cursor="", about=str(number), members=members))
    receiver("events:yard", endpoint).deliver(told, "")
    (got,) = taken(sqs, url)
    assert (got["source"], got["detail"]) == ("batchyard", {"status": "FAILED"})


def test_what_is_not_there_is_told(endpoint: str) -> None:
    with pytest.raises(DeliveryError, match="NonExistentQueue"):
        receiver(f"sqs:{endpoint}/123456789012/none", endpoint).deliver([body(1)], "")


def test_nothing_is_delivered_without_an_answer(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="Could not connect") as failed:
        receiver("sqs:http://127.0.0.1:9/1/q", "http://127.0.0.1:9").deliver([body(1)], "")
    assert failed.value.delivered == 0
