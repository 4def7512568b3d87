"""Refusals at the fields they are about."""

from __future__ import annotations

import pytest

from batchyard.errors import InvalidArgumentError, NotFoundError, RequestError, Violation
from batchyard_gateway.console.forms.faults import faults_of
from batchyard_gateway.errors import ApiError, ClientException

FIELDS = {"name": "name", "container.image": "image", "jobQueueName": "name", "priority": "priority", "tags": "tags"}


def violated(*fields: str) -> InvalidArgumentError:
    return InvalidArgumentError.from_violations([Violation(field, "is wrong") for field in fields])


def wrapped() -> ApiError:
    """As the gateway tells what the controller refused: AWS's text, caused by the controller's error."""
    try:
        try:
            raise violated("container.image")
        except RequestError as err:
            raise ClientException("Container image must not be ...") from err
    except ApiError as err:
        return err


@pytest.mark.parametrize(
    ("refusal", "faults"),
    [
        (violated("name"), {"name": "is wrong"}),
        (violated("name", "name", "container.image"), {"name": "is wrong; is wrong", "image": "is wrong"}),
        (violated("tags[a.b]"), {"tags": "is wrong"}),
        (violated("container.image.tag"), {"image": "is wrong"}),
        (violated("container.vcpus"), {"": "container.vcpus: is wrong"}),
        (violated(""), {"": ": is wrong"}),
        (wrapped(), {"image": "is wrong"}),
        (ClientException("priority must be between 0 and 10"), {"priority": "priority must be between 0 and 10"}),
        (ClientException("jobQueueName and priority"), {"name": "jobQueueName and priority"}),
        (ClientException("priorityless"), {"": "priorityless"}),
        (NotFoundError("there is none"), {"": "there is none"}),
        (InvalidArgumentError("broken"), {"": "broken"}),
    ],
)
def test_faults_stand_at_their_fields(refusal: ApiError | RequestError, faults: dict[str, str]) -> None:
    assert faults_of(refusal, FIELDS) == faults
