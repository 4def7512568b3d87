"""Secrets, access keys, consumable resources and scheduling policies, over plain HTTP."""

from __future__ import annotations

import re

import pytest
from tests.gateway.endpoint import Yard

from batchyard.v1.scheduling_policy_pb2 import FairsharePolicy, SchedulingPolicy, ShareWeight
from batchyard_gateway.console.pages.policies import Typed, policy_of, shown

from .visitor import Visitor

HOSTILE = '"><script>x()</script>'
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
    form = {"name": "licence", "kind": "REPLENISHABLE", "total": "5"}
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
        ({"name": "a b", "kind": "REPLENISHABLE", "total": "1"}, "name"),
        ({"name": "", "kind": "REPLENISHABLE", "total": "1"}, "name"),
        ({"name": "a", "kind": "REPLENISHABLE", "total": "-1"}, "total"),
        ({"name": "a", "kind": "REPLENISHABLE", "total": "many"}, "total"),
        ({"name": "a", "kind": "REPLENISHABLE", "total": "9" * 17}, "total"),
        ({"name": "a", "kind": "WHATEVER", "total": "1"}, "kind"),
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
    visitor.post("consumables", {"name": "licence", "kind": "REPLENISHABLE", "total": "0"})
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
    shares = {"share": ["a", "b*", "", ""], "weight": ["0.5", "", "", ""], "running": ["", "3", "", ""]}
    form = {"name": "fair", "decay": "3600", "reservation": "10", **shares, "vcpus": ["", "", "", ""]}
    assert visitor.post("policies", form).status == 303
    page = visitor.get("policies/fair").text
    assert 'name="share" value="b*"' in page
    assert 'name="weight" value="0.5"' in page
    assert visitor.post("policies/fair", {**form, "decay": "7200"}).status == 303
    assert 'name="decay" type="text" value="7200"' in visitor.get("policies/fair").text
    assert visitor.post("policies/fair", {"delete": "yes"}).status == 303
    assert visitor.get("policies/fair").status == 404


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "a", "decay": "604801"}, "decay"),
        ({"name": "a", "reservation": "100"}, "reservation"),
        ({"name": "a", "reservation": "x"}, "reservation"),
        ({"name": "a", "share": ["x"], "weight": ["0"], "running": [""], "vcpus": [""]}, "shares"),
        ({"name": "a", "share": ["x"], "weight": ["heavy"], "running": [""], "vcpus": [""]}, "shares"),
        ({"name": "a", "share": ["x*", "xy"], "weight": ["", ""], "running": ["", ""], "vcpus": ["", ""]}, "shares"),
    ],
)
def test_a_wrong_policy_is_refused_at_its_field(visitor: Visitor, form: dict[str, str], field: str) -> None:
    reply = visitor.post("policies", form)
    assert reply.status == 422
    assert f'id="fault-{field}"' in reply.text
    assert "There is none" in reply.text


def test_a_policy_survives_its_form() -> None:
    fairshare = FairsharePolicy(
        share_decay_s=600,
        compute_reservation=5,
        share_distribution=[
            ShareWeight(share_identifier="a", weight_factor=0.0001, max_running=2, max_vcpus=3),
            ShareWeight(share_identifier="b*", weight_factor=999.9999),
            ShareWeight(share_identifier="c"),
        ],
    )
    read, faults = policy_of(shown(SchedulingPolicy(name="p", fairshare=fairshare)))
    assert not faults
    assert read == fairshare
    assert policy_of(Typed()) == (FairsharePolicy(), {})
