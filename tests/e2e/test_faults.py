"""Whatever is killed while jobs run: no acknowledged job is lost, none runs twice, every exit code is right."""

from __future__ import annotations

import pytest
from tests.contract.etcd_server import EtcdServer
from tests.e2e.conftest import OpenYard, etcd_store
from tests.e2e.load import Load
from tests.e2e.programs import until
from tests.e2e.witness import Witness
from tests.e2e.yard import Yard

pytestmark = pytest.mark.timeout(180)

KILLS = 5


def test_jobs_survive_five_kills_of_the_controller_on_sqlite(yard: Yard, witness: Witness) -> None:
    """Killed with -9 while 200 jobs run and submissions go on: each runs once and ends as it must."""
    _kill_the_controller_while_jobs_run(yard, witness)


@pytest.mark.etcd
def test_jobs_survive_five_kills_of_the_controller_on_etcd(yards: OpenYard, etcd: EtcdServer, witness: Witness) -> None:
    """The same where another store remembers."""
    _kill_the_controller_while_jobs_run(yards(etcd_store(etcd)), witness)


def _kill_the_controller_while_jobs_run(yard: Yard, witness: Witness) -> None:
    yard.start("a", "b", cpus=4)

    def kill(_: int) -> None:
        yard.controller.kill()
        yard.controller.start()

    with yard.client() as client:
        load = Load(client, witness)
        load.run(kill, faults=KILLS)
        load.check()
        load.check_logs()


def test_jobs_survive_five_kills_of_an_agent(yard: Yard, witness: Witness) -> None:
    """Killed with -9 while 200 jobs run as processes: exit codes of what ended meanwhile are learnt, logs complete."""
    yard.start("a", "b", cpus=4)

    def kill(fault: int) -> None:
        agent = yard.agents["ab"[fault % 2]]
        agent.kill()
        agent.start()

    with yard.client() as client:
        load = Load(client, witness)
        load.run(kill, faults=KILLS)
        load.check()
        load.check_logs()
        until(
            lambda: not yard.kept_processes("a") + yard.kept_processes("b"), "nothing is kept of acknowledged attempts"
        )
