"""Which hosts an environment has, and by which rule it has not the others: the rule that placement goes by."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard

from batchyard.ids import HostId
from batchyard_controller.core.events import HostMarked
from batchyard_controller.core.model.launches import ENVIRONMENT_LABEL
from batchyard_controller.core.model.settings import CapacityType, ComputeEnvironment, ComputeResources
from batchyard_controller.core.views.membership import memberships

M5 = {"host_type": "m5.large", "labels": (("rack", "4"),)}
RESOURCES = "compute_resources"


@pytest.mark.parametrize(
    ("facts", "fields", "rule", "text"),
    [
        ({}, {}, "", ""),
        ({"purchase_option": "spot"}, {}, "type", "it is spot"),
        ({}, {"type": CapacityType.SPOT}, "type", "it is on-demand"),
        ({"purchase_option": "spot"}, {"type": CapacityType.SPOT}, "", ""),
        ({}, {"instance_types": ("m5", "m5.large")}, "", ""),
        ({}, {"instance_types": ("c5",)}, "instance_types", "its type is m5.large"),
        ({}, {"labels": (("rack", "4"),)}, "", ""),
        ({}, {"labels": (("rack", "5"),)}, "labels", "it lacks the label rack=5"),
        ({}, {"provider": "local"}, "provider", "its provider did not launch it"),
        ({"labels": ((ENVIRONMENT_LABEL, "old"),)}, {}, "provider", "it was launched for old"),
    ],
)
def test_rule_that_excludes_a_host_is_told(yard: Yard, facts: dict, fields: dict, rule: str, text: str):
    """By the field of the environment that decides."""
    yard.host("a", **(M5 | facts))
    environment = ComputeEnvironment(name="new", compute_resources=ComputeResources(**fields))
    told = {each.host.facts.name: each.exclusion for each in memberships(yard.world, environment)}["a"]
    assert (told is None) == (not rule)
    if told is not None:
        assert (told.rule, told.text) == (f"{RESOURCES}.{rule}", text)


def test_placement_goes_by_the_same(yard: Yard):
    """Hosts that are told to belong to an environment are those that jobs of it get."""
    yard.host("a", **M5)
    yard.host("b", purchase_option="spot", **M5)
    yard.environment("spot", compute_resources=ComputeResources(type=CapacityType.SPOT))
    for environment in yard.world.environments.values():
        told = {each.host.id for each in memberships(yard.world, environment) if each.exclusion is None}
        mask = yard.world.fleet.members(environment, "")
        assert told == {host_id for host_id, row in yard.world.fleet.rows.items() if mask[row]}


def test_hosts_without_new_work_say_why_in_order_of_names(yard: Yard):
    """They belong to it all the same."""
    yard.host("b")
    yard.host("a")
    yard.apply(HostMarked(host_id=HostId("b"), cordoned=True, draining=False))
    told = memberships(yard.world, ComputeEnvironment(name="new"))
    assert [(each.host.id, each.away, each.exclusion) for each in told if each.host.id != "h1"] == [
        ("a", "", None),
        ("b", "is cordoned", None),
    ]
