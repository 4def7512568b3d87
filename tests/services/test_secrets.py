"""Secrets and access keys over the wire: kept, listed, forgotten, and never told again."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

from batchyard.errors import Reason
from batchyard.v1 import access_key_pb2 as ak
from batchyard.v1 import job_definition_pb2 as definition_pb
from batchyard.v1 import secret_pb2 as sp
from batchyard.v1.job_pb2 import SubmitJobRequest
from batchyard_controller.app import clock
from batchyard_controller.doors import Door, PeerKind
from batchyard_controller.services.access_keys import SIGNATURES_KEPT_MS, Signatures
from batchyard_controller.vault import Vault, make_keys

from .controller import MemoryController, container, refusal, submission
from .hand_agent import OTHER_ID, HandAgent, ended, running

VALUE = "hunter2-canary"
NOW = datetime.fromtimestamp(clock().wall_ms / 1000, UTC)
TODAY = NOW.strftime("%Y%m%d")


async def put(yard: MemoryController, name: str, value: str = VALUE) -> sp.SecretInfo:
    answer = await yard.secrets.PutSecret(sp.PutSecretRequest(name=name, value=value))
    info = answer.secret
    assert isinstance(info, sp.SecretInfo)
    return info


async def test_secret_is_told_of_and_its_value_is_not(bare: MemoryController) -> None:
    first = await put(bare, "prod/db")
    second = await put(bare, "prod/db", "other-canary")
    assert (second.name, second.created_at_ms) == ("prod/db", first.created_at_ms)
    assert second.updated_at_ms >= first.updated_at_ms
    listed = await bare.secrets.ListSecrets(sp.ListSecretsRequest())
    assert list(listed.secrets) == [second]
    (stored,) = (value for key, value in bare.stored().items() if key.startswith("secret/"))
    assert b"canary" not in stored
    assert b'"key_id"' in stored


async def test_secrets_are_listed_in_pages_and_deleted(bare: MemoryController) -> None:
    for name in ("c", "a", "b"):
        await put(bare, name)
    page = await bare.secrets.ListSecrets(sp.ListSecretsRequest(page_size=2))
    rest = await bare.secrets.ListSecrets(sp.ListSecretsRequest(page_size=2, page_token=page.next_page_token))
    assert [s.name for s in (*page.secrets, *rest.secrets)] == ["a", "b", "c"]
    assert not rest.next_page_token
    for name in ("a", "b", "c"):
        await bare.secrets.DeleteSecret(sp.DeleteSecretRequest(name=name))
    assert not [key for key in bare.stored() if key.startswith("secret/")]
    gone = await refusal(bare.secrets.DeleteSecret(sp.DeleteSecretRequest(name="a")))
    assert (gone.code, gone.text) == ("NOT_FOUND", "secret 'a' not found")


async def test_value_that_is_refused_is_not_repeated(bare: MemoryController) -> None:
    for value in (VALUE + "\0", VALUE * 4000):
        told = await refusal(bare.secrets.PutSecret(sp.PutSecretRequest(name="db", value=value)))
        assert told.code == "INVALID_ARGUMENT"
        assert "canary" not in told.text


async def test_without_a_key_secrets_and_access_keys_are_refused(bare: MemoryController) -> None:
    async with MemoryController(vault=Vault({})) as keyless:
        await keyless.until_leads()
        for call in (
            keyless.secrets.PutSecret(sp.PutSecretRequest(name="db", value=VALUE)),
            keyless.access_keys.CreateAccessKey(ak.CreateAccessKeyRequest()),
        ):
            told = await refusal(call)
            assert (told.code, told.reason) == ("FAILED_PRECONDITION", Reason.NO_ENCRYPTION_KEY)
            assert "--secrets-key FILE" in told.text


def _signing_key(secret: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (TODAY.encode(), b"eu-central-1", b"batch", b"aws4_request"):
        key = hmac.new(key, part, hashlib.sha256).digest()
    return key


def _scope(key_id: str) -> ak.DeriveSigningKeyRequest:
    return ak.DeriveSigningKeyRequest(access_key_id=key_id, date=TODAY, region="eu-central-1", service="batch")


async def test_access_key_signs_until_it_is_revoked(bare: MemoryController) -> None:
    none = await bare.access_keys.DeriveSigningKey(ak.DeriveSigningKeyRequest())
    assert (none.signing_key, none.any_keys) == (b"", False)
    made = await bare.access_keys.CreateAccessKey(ak.CreateAccessKeyRequest(description="ci"))
    assert re.fullmatch(r"BYAK[A-Z0-9]{16}", made.access_key.id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", made.secret)
    derived = await bare.access_keys.DeriveSigningKey(_scope(made.access_key.id))
    assert (derived.signing_key, derived.any_keys) == (_signing_key(made.secret), True)
    unknown = await bare.access_keys.DeriveSigningKey(_scope("BYAK" + "0" * 16))
    assert (unknown.signing_key, unknown.any_keys) == (b"", True)
    listed = await bare.access_keys.ListAccessKeys(ak.ListAccessKeysRequest())
    assert list(listed.access_keys) == [made.access_key]
    assert not any(made.secret.encode() in value for value in bare.stored().values())
    await bare.access_keys.RevokeAccessKey(ak.RevokeAccessKeyRequest(id=made.access_key.id))
    after = await bare.access_keys.DeriveSigningKey(_scope(made.access_key.id))
    assert (after.signing_key, after.any_keys) == (b"", False)
    again = await refusal(bare.access_keys.RevokeAccessKey(ak.RevokeAccessKeyRequest(id=made.access_key.id)))
    assert again.code == "NOT_FOUND"


async def test_signing_keys_of_other_days_are_told_to_nobody(bare: MemoryController) -> None:
    made = await bare.access_keys.CreateAccessKey(ak.CreateAccessKeyRequest())
    for days in (-400, 400):
        asked = _scope(made.access_key.id)
        asked.date = (NOW + timedelta(days=days)).strftime("%Y%m%d")
        told = await refusal(bare.access_keys.DeriveSigningKey(asked))
        assert (told.code, told.violation_reasons) == ("INVALID_ARGUMENT", (Reason.OUT_OF_RANGE,)), days
    assert (await bare.access_keys.DeriveSigningKey(_scope(made.access_key.id))).signing_key


async def test_a_signature_is_known_to_whoever_asks_of_it_again(bare: MemoryController) -> None:
    first = await bare.access_keys.NoteSignature(ak.NoteSignatureRequest(signature="0a" * 32))
    again = await bare.access_keys.NoteSignature(ak.NoteSignatureRequest(signature="0a" * 32))
    assert (first.age_ms, again.age_ms >= 0) == (0, True)
    told = await refusal(bare.access_keys.NoteSignature(ak.NoteSignatureRequest(signature="0A" * 32)))
    assert (told.code, told.violation_reasons) == ("INVALID_ARGUMENT", (Reason.MALFORMED,))


def test_signatures_are_forgotten_when_they_are_too_old_to_come_again() -> None:
    signatures = Signatures()
    assert [signatures.note("a", at_ms) for at_ms in (0, 10_001, SIGNATURES_KEPT_MS)] == [0, 10_001, SIGNATURES_KEPT_MS]
    signatures.note("b", SIGNATURES_KEPT_MS + 1)
    assert signatures.note("a", SIGNATURES_KEPT_MS + 1) == 0


async def test_access_keys_are_not_served_where_users_come_in() -> None:
    """Who reaches the port of hosts and users can neither list keys nor have one that signs for another."""
    async with MemoryController(door=Door(PeerKind.PLAIN)) as public:
        await public.until_leads()
        for call in (
            public.access_keys.ListAccessKeys(ak.ListAccessKeysRequest()),
            public.access_keys.DeriveSigningKey(_scope("BYAK" + "0" * 16)),
            public.access_keys.CreateAccessKey(ak.CreateAccessKeyRequest()),
            public.access_keys.NoteSignature(ak.NoteSignatureRequest(signature="0a" * 32)),
            public.access_keys.RevokeAccessKey(ak.RevokeAccessKeyRequest(id="BYAK")),
        ):
            told = await refusal(call)
            assert (told.code, told.reason) == ("FAILED_PRECONDITION", Reason.SOCKET_ONLY)
            assert "own socket" in told.text
        await public.furnish()


async def test_next_controller_reads_what_the_former_kept_and_says_when_it_has_another_key() -> None:
    vault = Vault(make_keys())
    async with MemoryController(vault=vault) as former:
        await former.until_leads()
        await put(former, "db")
        made = await former.access_keys.CreateAccessKey(ak.CreateAccessKeyRequest())
    async with MemoryController(former.data, vault) as heir:
        await heir.until_leads()
        assert [s.name for s in (await heir.secrets.ListSecrets(sp.ListSecretsRequest())).secrets] == ["db"]
        derived = await heir.access_keys.DeriveSigningKey(_scope(made.access_key.id))
        assert derived.signing_key == _signing_key(made.secret)
    async with MemoryController(former.data) as stranger:
        await stranger.until_leads()
        told = await refusal(stranger.access_keys.DeriveSigningKey(_scope(made.access_key.id)))
        assert (told.code, told.reason) == ("FAILED_PRECONDITION", Reason.ENCRYPTION_KEY_MISSING)
        assert "is not in the key file" in told.text
        await put(stranger, "db")  # a value that nobody can read any more may be replaced


# Delivery -------------------------------------------------------------------------


def asking(**secrets: str) -> definition_pb.ContainerProperties:
    wanted = [definition_pb.Secret(name=name, value_from=value_from) for name, value_from in secrets.items()]
    return container(secrets=wanted)


async def test_host_gets_the_secrets_of_its_own_live_attempt_alone(yard: MemoryController) -> None:
    await put(yard, "db")
    await put(yard, "token", "t")
    agent, other = HandAgent(yard), HandAgent(yard, OTHER_ID, "beta")
    await agent.join()
    await yard.submit(container=asking(DB="db", TOKEN="arn:aws:ssm:eu-central-1:1:parameter/token"))
    (spec,) = await agent.hear_starts()
    assert "canary" not in str(spec)
    assert dict((await agent.ask_secrets(spec.attempt_id)).values) == {"DB": VALUE, "TOKEN": "t"}
    await other.join()
    stolen = await other.ask_secrets(spec.attempt_id)
    assert (dict(stolen.values), stolen.error) == ({}, "the attempt is not one that this host is to start")
    await agent.report(running(spec.attempt_id))
    await agent.hear_nothing()
    started = await agent.ask_secrets(spec.attempt_id)
    assert (dict(started.values), started.error) == ({}, stolen.error), "it has what it needs"
    await agent.finish(spec.attempt_id)
    late = await agent.ask_secrets(spec.attempt_id)
    assert (dict(late.values), late.error) == ({}, "the attempt is not one that this host is to start")


async def test_unknown_secret_is_refused_at_submission_and_told_when_it_went_later(yard: MemoryController) -> None:
    refused = await refusal(yard.jobs.SubmitJob(submission(container=asking(DB="db"))))
    assert (refused.code, refused.text) == ("NOT_FOUND", "secret 'db' not found")
    await put(yard, "db")
    agent = HandAgent(yard)
    await agent.join()
    await yard.submit(container=asking(DB="db"))
    (spec,) = await agent.hear_starts()
    await yard.secrets.DeleteSecret(sp.DeleteSecretRequest(name="db"))
    assert (await agent.ask_secrets(spec.attempt_id)).error == "secret 'db' not found"


async def test_value_under_another_key_is_an_error_for_the_attempt_and_for_nobody_else() -> None:
    async with MemoryController() as former:
        await former.until_leads()
        await put(former, "db")
    async with MemoryController(former.data) as stranger:
        await stranger.until_leads()
        await stranger.furnish()
        agent = HandAgent(stranger)
        await agent.join()
        await stranger.submit(container=asking(DB="db"))
        (spec,) = await agent.hear_starts()
        assert "is not in the key file" in (await agent.ask_secrets(spec.attempt_id)).error
        await agent.report(ended(spec.attempt_id))
        await agent.hear("ack")


async def test_each_of_several_containers_has_its_own_secrets(yard: MemoryController) -> None:
    """Also under one name of a variable."""
    await put(yard, "db")
    await put(yard, "token", "t")
    agent = HandAgent(yard, features=["several-containers"])
    await agent.join()
    task = definition_pb.TaskProperties(
        containers=[
            definition_pb.ContainerProperties(
                name=name,
                image="busybox",
                resources=container().resources,
                secrets=[definition_pb.Secret(name="SECRET", value_from=secret)],
            )
            for name, secret in (("a", "db"), ("b", "token"))
        ]
    )
    await yard.jobs.SubmitJob(SubmitJobRequest(name="two", queue="default", task=task))
    (spec,) = await agent.hear_starts()
    answer = await agent.ask_secrets(spec.attempt_id)
    assert not answer.values
    assert {name: dict(each.values) for name, each in answer.containers.items()} == {
        "a": {"SECRET": VALUE},
        "b": {"SECRET": "t"},
    }
