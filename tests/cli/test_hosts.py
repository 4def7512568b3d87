"""Hosts of one name, as after a machine was set up anew: they are told apart, and the one that is away is removed."""

from __future__ import annotations

import re

from tests.cli.conftest import Run, set_up_anew
from tests.sdk.yard import Yard
from tests.services.hand_agent import HOST_ID, OTHER_ID


def test_hosts_of_one_name_are_told_apart_by_their_ids(run: Run, yard: Yard) -> None:
    yard.do(set_up_anew(yard))
    heading, *rows = (line.split() for line in run("hosts").out.splitlines())
    assert heading[:3] == ["HOST", "ID", "STATE"]
    assert sorted(row[:3] for row in rows) == [["alpha", HOST_ID, "UNREACHABLE"], ["alpha", OTHER_ID, "READY"]]
    assert run("hosts", "-o", "wide").out.split().count("ID") == 1


def test_of_a_machine_that_was_set_up_anew_it_is_said_which_host_replaced_which(run: Run, yard: Yard) -> None:
    yard.do(set_up_anew(yard))
    text = f"by {OTHER_ID}: its machine joined anew; what ran there ends by its fence"
    assert f"batchyard: alpha, {HOST_ID}, was replaced {text}\n" in run("hosts").err
    assert re.search(f"Replaced +{text}\n", run("hosts", HOST_ID).out)
    assert "Replaced" not in run("hosts", OTHER_ID).out


def test_the_one_that_is_away_is_removed(run: Run, yard: Yard) -> None:
    yard.do(set_up_anew(yard))
    assert run("host", "remove", "alpha").code == 0
    assert [host.id for host in yard.client.list_hosts()] == [OTHER_ID]
    assert "ID" not in run("hosts").out.splitlines()[0].split()


def test_the_beginning_of_a_hosts_id_is_enough(run: Run, yard: Yard) -> None:
    yard.do(set_up_anew(yard))
    assert run("hosts", "0000").code == 3
    assert run("cordon", OTHER_ID[:-1]).code == 3
    assert run("host", "remove", HOST_ID).code == 0
    assert run("cordon", OTHER_ID[:8]).err == "batchyard: alpha is CORDONED; attempts on it: 0\n"


def test_a_host_is_reclaimed_in_a_while_and_kept_after_all(run: Run, yard: Yard) -> None:
    host = yard.join()
    yard.submit()
    yard.do(host.take())
    assert run("host", "reclaim", "alpha", "--in", "2m").err == "batchyard: alpha is RECLAIMED; attempts on it: 1\n"
    listed = run("hosts")
    assert "RECLAIMED" in listed.out
    assert re.search(r"alpha is reclaimed 20\d\d-.*Z \(.*in (2m|1m 5\ds)\)", listed.err), listed.err
    assert re.search(r"Reclaimed +20\d\d-", run("hosts", "alpha").out)
    assert run("host", "reclaim", "alpha", "--undo").err == "batchyard: alpha is READY; attempts on it: 1\n"
    assert run("host", "reclaim", "alpha", "--undo", "--in", "2m").code == 2
    assert run("host", "reclaim", "nobody").code == 3
