"""Secrets, access keys, consumable resources and scheduling policies, over plain HTTP."""

from __future__ import annotations

import re

import pytest
from tests.gateway.endpoint import ARN, Yard

from .visitor import Visitor

HOSTILE = '"><script>x()</script>'
FAIR = "fairsharePolicy."
SHARES = f"{FAIR}shareDistribution"
KIND = "quotaSharePolicy.idleResourceAssignmentStrategy"
ESCAPED = "&#34;&gt;&lt;script&gt;x()&lt;/script&gt;"


def test_a_secret_is_put_and_deleted_and_its_value_never_shown(visitor: Visitor) -> None:
    assert "No secret is kept." in visitor.get("secrets").text
    assert visitor.post("secrets", {"name": "db/password", "value": "hush-hush"}).status == 303
    page = visitor.get("secrets").text
    assert "db/password" in page
    assert "The secret db/password is kept" in page
    assert "hush-hush" not in page
    assert visitor.post("secrets", {"delete": "db/password"}).status == 303
    assert "No secret is kept." in visitor.get("secrets").text


def test_a_secret_that_is_refused_is_not_shown_either(visitor: Visitor) -> None:
    reply = visitor.post("secrets", {"name": "a b", "value": "hush-hush"})
    assert reply.status == 422
    assert 'id="fault-name"' in reply.text
    assert 'value="a b"' in reply.text
    assert "hush-hush" not in reply.text
    assert visitor.post("secrets", {"name": "a"}).status == 422


def test_a_secret_keeps_its_lines(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form sends line ends as HTTP has them; a key file must not get them."""
    client, put = visitor.endpoint.client, []

    async def note(name: str, value: str) -> None:
        put.append((name, value))

    monkeypatch.setattr(client, "put_secret", note)
    visitor.post("secrets", {"name": "key", "value": "a\r\nb\n"})
    assert put == [("key", "a\nb\n")]


def test_deleting_a_secret_that_is_gone_says_so(visitor: Visitor) -> None:
    reply = visitor.post("secrets", {"delete": "nobody"})
    assert reply.status == 404
    assert "nobody" in reply.text


def test_a_key_is_shown_once_and_opens_the_console(visitor: Visitor) -> None:
    made = visitor.post("keys", {"description": HOSTILE}).text
    key_id = re.search(r'id="made-id">([A-Z0-9]{20})<', made)
    secret = re.search(r'id="made-secret">([^<]{40})<', made)
    assert key_id is not None
    assert secret is not None
    listed = visitor.get("keys").text
    assert key_id[1] in listed
    assert secret[1] not in listed
    assert HOSTILE not in listed
    assert ESCAPED in listed
    other = Visitor(visitor.endpoint)
    assert other.send("POST", "sign-in", {"key": key_id[1], "secret": secret[1]}).status == 303
    assert visitor.post("keys", {"revoke": key_id[1]}).status == 303
    assert Visitor(visitor.endpoint).send("POST", "sign-in", {"key": key_id[1], "secret": secret[1]}).status == 403


def test_ones_own_key_is_revoked_only_when_one_is_sure(visitor: Visitor) -> None:
    asked = visitor.post("keys", {"revoke": visitor.key_id})
    assert asked.status == 200
    assert "Revoke your own access key?" in asked.text
    assert visitor.key_id in visitor.get("keys").text
    assert visitor.post("keys", {"revoke": visitor.key_id, "sure": "yes"}).status == 303


def test_a_description_that_is_too_long_is_refused_at_its_field(visitor: Visitor) -> None:
    reply = visitor.post("keys", {"description": "x" * 10_000})
    assert reply.status == 422
    assert 'id="fault-description"' in reply.text


def test_a_consumable_resource_from_its_making_to_its_end(visitor: Visitor) -> None:
    assert "There is none." in visitor.get("consumables").text
    form = {"consumableResourceName": "licence", "resourceType": "REPLENISHABLE", "totalQuantity": "5"}
    assert visitor.post("consumables", form).status == 303
    assert "licence" in visitor.get("consumables").text
    assert visitor.post("consumables/licence", {"operation": "ADD", "quantity": "2"}).status == 303
    page = visitor.get("consumables/licence").text
    assert "<dd>7</dd>" in page
    assert visitor.post("consumables/licence", {"delete": "yes"}).status == 303
    assert visitor.get("consumables/licence").status == 404


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (
            {"consumableResourceName": "a b", "resourceType": "REPLENISHABLE", "totalQuantity": "1"},
            "consumableResourceName",
        ),
        (
            {"consumableResourceName": "", "resourceType": "REPLENISHABLE", "totalQuantity": "1"},
            "consumableResourceName",
        ),
        ({"consumableResourceName": "a", "resourceType": "REPLENISHABLE", "totalQuantity": "-1"}, "totalQuantity"),
        ({"consumableResourceName": "a", "resourceType": "REPLENISHABLE", "totalQuantity": "many"}, "totalQuantity"),
        ({"consumableResourceName": "a", "resourceType": "REPLENISHABLE", "totalQuantity": "9" * 17}, "totalQuantity"),
        ({"consumableResourceName": "a", "resourceType": "WHATEVER", "totalQuantity": "1"}, "resourceType"),
    ],
)
def test_a_wrong_consumable_resource_is_refused_at_its_field(
    visitor: Visitor, form: dict[str, str], field: str
) -> None:
    reply = visitor.post("consumables", form)
    assert reply.status == 422
    assert f'id="fault-{field}"' in reply.text
    assert "There is none." in reply.text


def test_a_resource_that_a_job_asks_for_is_not_deleted(visitor: Visitor, yard: Yard) -> None:
    visitor.post("consumables", {"consumableResourceName": "licence", "totalQuantity": "0"})
    yard.submit(
        consumableResourcePropertiesOverride={
            "consumableResourceList": [{"consumableResource": "licence", "quantity": 1}]
        }
    )
    page = visitor.get("consumables/licence").text
    assert "RUNNABLE" in page
    refused = visitor.post("consumables/licence", {"delete": "yes"})
    assert refused.status == 422
    assert 'role="alert"' in refused.text
    assert "licence" in visitor.get("consumables").text


def test_a_policy_from_its_making_to_its_end(visitor: Visitor) -> None:
    assert "There is none" in visitor.get("policies").text
    form = {
        "name": "fair", f"{FAIR}shareDecaySeconds": "3600", f"{FAIR}computeReservation": "10",
        f"{SHARES}.shareIdentifier": ["a", "b*", "", ""], f"{SHARES}.weightFactor": ["0.5", "", "", ""],
        f"{SHARES}.max_running": ["", "3", "", ""], f"{SHARES}.max_vcpus": ["", "", "", ""],
    }  # fmt: skip
    assert visitor.post("policies", form).status == 303
    page = visitor.get("policies/fair").text
    assert "fair share" in visitor.get("policies").text
    assert f'name="{SHARES}.shareIdentifier" value="b*"' in page
    assert f'name="{SHARES}.weightFactor" value="0.5"' in page
    assert f'name="{SHARES}.max_running" value="3"' in page
    assert visitor.post("policies/fair", {**form, f"{FAIR}shareDecaySeconds": "7200"}).status == 303
    assert f'name="{FAIR}shareDecaySeconds" type="text" value="7200"' in visitor.get("policies/fair").text
    assert visitor.post("policies/fair", {}).status == 303
    assert 'value="7200"' not in visitor.get("policies/fair").text, "what is no longer said is gone"
    assert visitor.post("policies/fair", {"delete": "yes"}).status == 303
    assert visitor.get("policies/fair").status == 404


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "a b"}, "name"),
        ({}, "name"),
        ({"name": "a", f"{FAIR}shareDecaySeconds": "604801"}, f"{FAIR}shareDecaySeconds"),
        ({"name": "a", f"{FAIR}computeReservation": "100"}, f"{FAIR}computeReservation"),
        ({"name": "a", f"{FAIR}computeReservation": "x"}, f"{FAIR}computeReservation"),
        ({"name": "a", f"{SHARES}.shareIdentifier": ["x"], f"{SHARES}.weightFactor": ["0"]}, SHARES),
        ({"name": "a", f"{SHARES}.shareIdentifier": ["x"], f"{SHARES}.weightFactor": ["heavy"]}, SHARES),
        ({"name": "a", f"{SHARES}.shareIdentifier": ["x"], f"{SHARES}.max_running": ["-1"]}, SHARES),
        ({"name": "a", f"{SHARES}.shareIdentifier": ["x*", "xy"]}, SHARES),
        ({"name": "a", KIND: "FIFO", f"{FAIR}computeReservation": "1"}, KIND),
        ({"name": "a", KIND: "LIFO"}, KIND),
    ],
)
def test_a_wrong_policy_is_refused_at_its_field(visitor: Visitor, form: dict[str, str], field: str) -> None:
    reply = visitor.post("policies", form)
    assert reply.status == 422
    assert f'id="fault-{field}"' in reply.text
    assert "There is none" in reply.text


def test_a_policy_of_quota_shares_is_not_taken_for_one_of_weights(visitor: Visitor, yard: Yard) -> None:
    assert visitor.post("policies", {"name": "quota", KIND: "FIFO"}).status == 303
    (told,) = yard.batch.describe_scheduling_policies(arns=[f"{ARN}scheduling-policy/quota"])["schedulingPolicies"]
    assert told["quotaSharePolicy"] == {"idleResourceAssignmentStrategy": "FIFO"}
    listed = visitor.get("policies").text
    assert "<td>quota shares</td>" in listed
    assert "10 min" not in listed, "no decay of weights that it has not"
    page = visitor.get("policies/quota").text
    assert "Quota shares: each has capacity of its own" in page
    assert "shareDecaySeconds" not in page
    assert visitor.post("policies/quota", {f"{FAIR}computeReservation": "1"}).status == 422
    assert visitor.post("policies/quota", {"delete": "yes"}).status == 303
