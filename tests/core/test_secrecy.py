"""Secrets of jobs: what a container may ask for, which secret it means, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.core.yard import Yard, container, task

from batchyard.errors import InvalidArgumentError, NotFoundError, Reason, ResourceExhaustedError
from batchyard.tasks import Secret
from batchyard_controller.core import limits
from batchyard_controller.core.events import AccessKeyCreated, AccessKeyRevoked, DefinitionChanged, SecretPut
from batchyard_controller.core.jobs.resolution import Overrides, Submission
from batchyard_controller.core.model.jobs import JobDefinition
from batchyard_controller.core.model.secrets import AccessKey, Sealed, StoredSecret
from batchyard_controller.core.model.values import Instant
from batchyard_controller.core.requests import secrecy
from batchyard_controller.core.requests.checks import Violations
from batchyard_controller.core.requests.job_rules import check_submission
from batchyard_controller.core.requests.secret_names import secret_names

SEALED = Sealed(key_id="k", nonce=b"n", ciphertext=b"c")
ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
PARAMETER = "arn:aws:ssm:eu-central-1:123456789012:parameter/"


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.environment()
    yard.queue()
    return yard


def put(yard: Yard, name: str) -> None:
    yard.apply(secrecy.put_secret(yard.world, StoredSecret(name=name, sealed=SEALED), yard.now))


def asking(*secrets: tuple[str, str], **environment: str) -> Any:
    wanted = tuple(Secret(name=name, value_from=value_from) for name, value_from in secrets)
    return replace(container(), secrets=wanted, environment=tuple(sorted(environment.items())))


@pytest.mark.parametrize(
    ("value_from", "names"),
    [
        ("prod/db", ("prod/db",)),
        (ARN + "prod/db", ("prod/db",)),
        (ARN + "prod/db-A1b2C3", ("prod/db-A1b2C3", "prod/db")),
        (ARN + "prod/db-A1b2C3:::", ("prod/db-A1b2C3", "prod/db")),
        (ARN + "prod/db-A1b2C3:password::", ()),
        (PARAMETER + "db", ("db", "/db")),
        (PARAMETER + "prod/db", ("prod/db", "/prod/db")),
        ("arn:aws:s3:::bucket", ()),
        ("a b", ()),
        ("", ()),
        ("n" * 513, ()),
    ],
)
def test_value_from_means_a_name(value_from: str, names: tuple[str, ...]) -> None:
    assert secret_names(value_from) == names


@pytest.mark.parametrize(
    ("secrets", "environment", "field", "says"),
    [
        ((("", "db"),), {}, "[0].name", "'' must be letters, digits and '_'"),
        ((("A-B", "db"),), {}, "[0].name", "'A-B' must be letters"),
        ((("1A", "db"),), {}, "[0].name", "the first no digit"),
        ((("AWS_BATCH_X", "db"),), {}, "[0].name", "are reserved"),
        ((("A", "db"), ("A", "other")), {}, "[1].name", "The secret name must be unique"),
        ((("A", "db"),), {"A": "b"}, "[0].name", "not shared with any new or existing environment variables"),
        ((("A", ""),), {}, "[0].value_from", "'' is no secret's name"),
        ((("A", ARN + "db:password::"),), {}, "[0].value_from", "is no secret's name, and no ARN of a whole"),
        (tuple((f"A{i}", "db") for i in range(51)), {}, "", "51 secrets; at most 50 are allowed"),
    ],
)
def test_what_a_container_may_not_ask_for(
    secrets: tuple[tuple[str, str], ...], environment: dict[str, str], field: str, says: str
) -> None:
    submission = Submission(name="n", queue="q", task=task(asking(*secrets, **environment)))
    (violation,) = check_submission(submission)
    assert violation.field == f"container.secrets{field}"
    assert says in violation.message


def test_job_is_taken_when_its_secrets_are_there_and_refused_by_name_when_not(yard: Yard) -> None:
    put(yard, "db")
    yard.submit(container=asking(("A", "db"), ("B", ARN + "db-A1b2C3")))
    with pytest.raises(NotFoundError, match=r"^secret 'token' not found$"):
        yard.submit(container=asking(("A", "db"), ("B", "token")))


def test_override_may_not_take_the_name_of_a_secret(yard: Yard) -> None:
    put(yard, "db")
    yard.apply(DefinitionChanged(definition=JobDefinition(name="d", revision=1, task=task(asking(("A", "db"))))))
    yard.submit(definition="d", container=None)
    with pytest.raises(InvalidArgumentError, match="The secret name must be unique"):
        yard.submit(definition="d", container=None, overrides=Overrides(environment=(("A", "b"),)))


@pytest.mark.parametrize("name", ["", "a b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a:b", "n" * 513])
def test_bad_names_of_secrets(name: str) -> None:
    out: Violations = []
    secrecy.check_secret_name(out, "name", name)
    assert len(out) == 1


def test_replaced_secret_keeps_when_it_was_made(yard: Yard) -> None:
    put(yard, "db")
    later = Instant(wall_ms=9_000, boot_ms=9_000)
    event = secrecy.put_secret(yard.world, StoredSecret(name="db", sealed=SEALED), later)
    assert (event.secret.created_at_ms, event.secret.updated_at_ms) == (yard.now.wall_ms, 9_000)


def test_numbers_are_bounded_but_a_value_may_always_be_replaced(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECRETS_MAX", 1)
    monkeypatch.setattr(limits, "ACCESS_KEYS_MAX", 1)
    put(yard, "db")
    put(yard, "db")
    with pytest.raises(ResourceExhaustedError, match="there are 1 secrets, the most allowed"):
        put(yard, "other")
    yard.apply(secrecy.create_access_key(yard.world, AccessKey(id="BYAK1", sealed=SEALED), yard.now))
    with pytest.raises(ResourceExhaustedError, match="there are 1 access keys"):
        secrecy.create_access_key(yard.world, AccessKey(id="BYAK2", sealed=SEALED), yard.now)


def test_what_is_deleted_is_touched_and_gone(yard: Yard) -> None:
    yard.apply(SecretPut(secret=StoredSecret(name="db", sealed=SEALED)))
    yard.apply(AccessKeyCreated(access_key=AccessKey(id="BYAK1", sealed=SEALED)))
    yard.world.ledger.take()
    yard.apply(secrecy.delete_secret(yard.world, "db"))
    yard.apply(AccessKeyRevoked(id="BYAK1"))
    assert {touch for group in yard.world.ledger.take().values() for touch in group} == {
        ("secret", "db"),
        ("access_key", "BYAK1"),
    }
    with pytest.raises(NotFoundError, match="secret 'db' not found"):
        secrecy.delete_secret(yard.world, "db")
    with pytest.raises(NotFoundError, match="access key 'BYAK1' not found"):
        secrecy.revoke_access_key(yard.world, "BYAK1")


@pytest.mark.parametrize(
    ("date", "is_told"),
    [("20260227", False), ("20260228", True), ("20260301", True), ("20260302", True), ("20260303", False)],
)
def test_signing_keys_are_of_these_days(date: str, is_told: bool) -> None:
    """Of yesterday, today and tomorrow, as clocks differ; at the turn of a month too."""
    now = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    out: Violations = []
    secrecy.check_signing_scope(out, int(now.timestamp() * 1000), date, "eu", "batch")
    assert [violation.reason for violation in out] == ([] if is_told else [Reason.OUT_OF_RANGE])


# Whose -----------------------------------------------------------------------------


def put_of(yard: Yard, name: str, owner: str, *queues: str) -> None:
    secret = StoredSecret(name=name, sealed=SEALED, owner=owner, queues=queues)
    yard.apply(secrecy.put_secret(yard.world, secret, yard.now))


def test_a_secret_is_for_jobs_of_its_owner_or_of_its_queues(yard: Yard) -> None:
    yard.queue("other")
    put_of(yard, "anns", "ann")
    put_of(yard, "shared", "bob", "q")
    both = asking(("A", "anns"), ("S", "shared"))
    assert yard.submit("q", owner="ann", container=both).spec.owner == "ann"
    yard.submit("other", container=both)
    for queue, owner, missing in (("other", "ann", "shared"), ("q", "bob", "anns"), ("q", "anne", "anns")):
        with pytest.raises(NotFoundError) as caught:
            yard.submit(queue, owner=owner, container=both)
        assert caught.value.metadata == {"name": missing}


def test_a_name_that_came_to_another_gives_nothing_to_who_waits(yard: Yard) -> None:
    put_of(yard, "db", "ann")
    job = yard.submit("q", owner="ann", container=asking(("DB", "db")))
    yard.host("alpha")
    yard.plan()
    (attempt,) = yard.world.attempts.values()
    assert set(secrecy.secrets_of(yard.world, attempt.id, attempt.host_id)[""]) == {"DB"}
    yard.apply(secrecy.delete_secret(yard.world, "db"))
    put_of(yard, "db", "bob")
    with pytest.raises(NotFoundError):
        secrecy.secrets_of(yard.world, attempt.id, attempt.host_id)
    assert yard.world.jobs[job.id].spec.owner == "ann"


def test_a_new_value_leaves_a_secret_whose_it_is(yard: Yard) -> None:
    put_of(yard, "db", "ann")
    put_of(yard, "db", "sam", "q")
    assert (yard.world.secrets["db"].owner, yard.world.secrets["db"].queues) == ("ann", ("q",))
