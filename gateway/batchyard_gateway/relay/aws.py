"""
AWS's services: queues of SQS, topics of SNS, buses of EventBridge, at AWS or at any endpoint that speaks for them.

botocore finds credentials as it does everywhere: the environment, a profile, a role of the machine. Nothing of them
is stored in a yard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from batchyard.v1 import sink_pb2 as pb
from batchyard_gateway.services import Members

from .bodies import Body
from .receivers import DeliveryError, batches

INSTALL = 'needs botocore; install it with: pip install "batchyard[aws]"'


class AwsReceiver:
    """Sends batches, each by one call."""

    def __init__(self, sink: pb.Sink) -> None:
        try:
            import botocore.session  # noqa: PLC0415  # an extra
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        except ImportError:
            raise DeliveryError(INSTALL) from None
        kind, _, self._to = sink.url.partition(":")
        self._failures = (BotoCoreError, ClientError)
        service = {"sqs": "sqs", "sns": "sns", "events": "events"}[kind]
        self._call: Callable[[Any, str, Sequence[Body]], list[int]] = {
            "sqs": _send_messages,
            "sns": _publish,
            "events": _put_events,
        }[kind]
        config = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1})
        try:
            self._client: Any = botocore.session.get_session().create_client(
                service,
                region_name=sink.region or _region_in(self._to) or None,
                endpoint_url=sink.endpoint_url or None,
                config=config,
            )
        except self._failures as err:
            raise DeliveryError(str(err)) from err

    def deliver(self, bodies: Sequence[Body], secret: str) -> None:
        """See ``Receiver``."""
        done = 0
        for batch in batches(bodies):
            try:
                failed = self._call(self._client, self._to, batch)
            except self._failures as err:
                raise DeliveryError(str(err), done) from err
            if failed:
                raise DeliveryError(f"{len(failed)} of {len(batch)} were refused", done + min(failed))
            done += len(batch)

    def close(self) -> None:
        """See ``Receiver``."""
        self._client.close()


def _region_in(to: str) -> str:
    """Return the region that an ARN or the address of an SQS queue names."""
    if to.startswith("arn:"):
        return to.split(":")[3]
    host = to.partition("//")[2].partition("/")[0].split(".")
    return host[1] if host[0] == "sqs" and len(host) > 2 else ""


def _send_messages(client: Any, to: str, batch: Sequence[Body]) -> list[int]:
    entries = []
    for place, body in enumerate(batch):
        entry: Members = {"Id": str(place), "MessageBody": body.text()}
        if to.endswith(".fifo"):
            entry |= {"MessageGroupId": body.about or "yard", "MessageDeduplicationId": body.id}
        entries.append(entry)
    answer = client.send_message_batch(QueueUrl=to, Entries=entries)
    return [int(each["Id"]) for each in answer.get("Failed", ())]


def _publish(client: Any, to: str, batch: Sequence[Body]) -> list[int]:
    entries = []
    for place, body in enumerate(batch):
        entry: Members = {"Id": str(place), "Message": body.text()}
        if to.endswith(".fifo"):
            entry |= {"MessageGroupId": body.about or "yard", "MessageDeduplicationId": body.id}
        entries.append(entry)
    answer = client.publish_batch(TopicArn=to, PublishBatchRequestEntries=entries)
    return [int(each["Id"]) for each in answer.get("Failed", ())]


def _put_events(client: Any, to: str, batch: Sequence[Body]) -> list[int]:
    import json  # noqa: PLC0415

    entries = [
        {
            "EventBusName": to,
            # AWS keeps sources that begin with "aws." to itself.
            "Source": str(body.members["source"]).replace("aws.batch", "batchyard"),
            "DetailType": body.members["detail-type"],
            "Time": body.members["time"],
            "Resources": body.members["resources"],
            "Detail": json.dumps(body.members["detail"], ensure_ascii=False),
        }
        for body in batch
    ]
    answer = client.put_events(Entries=entries)
    return [place for place, each in enumerate(answer.get("Entries", ())) if each.get("ErrorCode")]
