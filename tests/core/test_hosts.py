"""Which host is meant: by its id, by a name that several may have, by the beginning of an id."""

from __future__ import annotations

import pytest
from tests.core.yard import Yard, facts

from batchyard.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from batchyard.ids import HostId
from batchyard_controller.core.events import HostJoined, HostLeft
from batchyard_controller.core.requests.hosts import find_host, remove_host

OLD, OLDER, NEW = (HostId(f"{digit * 4}5678-0000-4000-8000-000000000000") for digit in "abc")


def yard_with(*host_ids: str, connected: str = "") -> Yard:
    """Return a yard with hosts that are all called ``alpha``."""
    yard = Yard()
    for host_id in map(HostId, host_ids):
        yard.apply(HostJoined(host_id=host_id, facts=facts("alpha"), session=1, reports=()))
        if host_id != connected:
            yard.apply(HostLeft(host_id=host_id, session=1))
    return yard


def removed(yard: Yard, given: str) -> str:
    return remove_host(yard.world, given, force=False).host_id


def test_of_two_hosts_of_one_name_the_one_that_is_away_is_removed() -> None:
    """As after a machine was set up anew; all else is about the one that is there."""
    yard = yard_with(OLD, NEW, connected=NEW)
    assert removed(yard, "alpha") == OLD
    assert find_host(yard.world, "alpha").record.id == NEW


def test_of_several_that_are_away_each_is_removed_by_its_id() -> None:
    yard = yard_with(OLD, OLDER, NEW, connected=NEW)
    with pytest.raises(InvalidArgumentError) as told:
        removed(yard, "alpha")
    text = f"several hosts named alpha are not connected; remove each by its id: {OLD}, {OLDER}"
    assert [(v.field, v.message) for v in told.value.violations] == [("host", text)]
    assert [removed(yard, given) for given in (OLDER, "aaaa")] == [OLDER, OLD]


def test_a_host_that_is_connected_is_not_removed() -> None:
    yard = yard_with(OLD, NEW, connected=NEW)
    with pytest.raises(FailedPreconditionError):
        removed(yard, NEW)


def test_the_beginning_of_an_id_is_enough_if_no_other_begins_so() -> None:
    yard = yard_with(OLD, f"{OLD[:-1]}1", NEW)
    for length in (4, 8, 35):
        assert find_host(yard.world, NEW[:length]).record.id == NEW
    with pytest.raises(NotFoundError):
        find_host(yard.world, NEW[:3])
    with pytest.raises(InvalidArgumentError, match=f"the ids of several hosts begin with aaaa: {OLD}, {OLD[:-1]}1"):
        find_host(yard.world, "aaaa")


def test_a_name_goes_before_the_beginning_of_an_id() -> None:
    yard = yard_with(NEW)
    yard.host("cccc")
    assert find_host(yard.world, "cccc").record.id == "cccc"
