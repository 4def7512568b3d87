"""docs/operations.md, word for word: its commands on three machines make a yard that runs jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.machines import Machine, Switch
from tests.wheels import ROOT, build_wheel

PAGE = ROOT / "docs" / "operations.md"
LIMIT_S = 60.0

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("told"), pytest.mark.timeout(600)]


def commands(heading: str) -> str:
    """Return the first block of commands below a heading of the page."""
    page = PAGE.read_text()
    below = page[page.index(f"\n{heading}\n") :]
    block = re.search(r"```\n(.*?)```", below, re.DOTALL)
    assert block is not None, heading
    return block[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and return the folder that it alone is in."""
    folder = tmp_path_factory.mktemp("wheel")
    build_wheel(folder)
    return folder


@pytest.fixture(scope="module")
def machines(wheel: Path) -> Iterator[dict[str, Machine]]:
    """Three machines on which the first three steps have been followed."""
    with Switch(wheel) as switch:
        addresses = {"head": "10.0.0.1", "left": "10.0.0.11", "right": "10.0.0.12"}
        made = {name: switch.add(name, address) for name, address in addresses.items()}
        for machine in made.values():
            machine.run(commands("### 1. On every machine"))
            # The packages that pip was told not to look for.
            machine.run("cd /opt/batchyard/lib/python3.*/site-packages && echo /mnt/packages > packages.pth")
        made["head"].run(commands("### 2. On the controller's machine"))
        head = made["head"]
        until(head, "batchyard hosts")
        token = head.run(commands("### 3. A token for the hosts, on the controller's machine")).strip()
        credentials = head.run("cat /var/lib/batchyard-controller/administrator.toml")
        for name in ("left", "right"):
            made[name].run(commands("### 4. On each host").replace("TOKEN", token))
            keep = "umask 077; mkdir -p /root/.config/batchyard; cat > /root/.config/batchyard/credentials.toml"
            made[name].run(f"{keep} <<'TOML'\n{credentials}TOML\n")
        until(made["right"], "batchyard hosts | grep -c READY | grep 2")
        yield made


@pytest.fixture(scope="module")
def told(machines: dict[str, Machine]) -> str:
    """Follow the last two steps in one shell, as whoever reads the page does; return what was written."""
    head = machines["head"]
    last_two = ("### 5. Where jobs wait, and on which hosts they run", "### 6. AWS's tools, if you want them")
    return head.run("".join(map(commands, last_two)))


def until(machine: Machine, command: str) -> None:
    """Wait until a command succeeds."""
    give_up_at = time.monotonic() + LIMIT_S
    while machine.run(f"{{ {command}; }} >/dev/null 2>&1 && echo yes || true") != "yes\n":
        assert time.monotonic() < give_up_at, f"{command}: never"
        time.sleep(0.2)


def test_the_steps_lead_to_a_yard_that_runs_jobs(machines: dict[str, Machine]) -> None:
    """Each job names the host it ran on, and both hosts are used."""
    written = machines["left"].run(
        "cd /tmp; job=$(batchyard submit --array 8 --vcpus $(nproc) -- sh -c 'sleep 1; hostname')\n"
        'batchyard wait "$job"\n'
        'for index in 0 1 2 3 4 5 6 7; do batchyard logs "$job:$index"; done'
    )
    assert set(written.split()) == {"left", "right"}


def test_the_controller_runs_as_a_user_of_its_own(machines: dict[str, Machine]) -> None:
    """It keeps its store, and can read nothing of root's."""
    head = machines["head"]
    user = head.run("ps -o uid= -p $(cat /run/batchyard-controller.pid)").strip()
    assert int(user) > 0
    assert head.run("stat -c %u /var/lib/batchyard-controller/controller.db").strip() == user


def test_the_gateways_key_stays_roots(machines: dict[str, Machine], told: str) -> None:
    """Beyond loopback it serves signed calls over TLS, with a key that its user cannot read by itself."""
    head = machines["head"]
    key, secret = re.findall(r"^(?:Access key id|Secret access key) +(\S+)$", told, re.MULTILINE)
    left = machines["left"]
    until(left, "python3 -c \"import socket; socket.create_connection(('10.0.0.1', 8471))\"")
    left.run(f"cat > /root/ca.crt <<'PEM'\n{head.run('cat /etc/batchyard/ca.crt')}PEM\n")
    ask = "import boto3; print(*[q['jobQueueName'] for q in boto3.client('batch').describe_job_queues()['jobQueues']])"
    where = "AWS_ENDPOINT_URL_BATCH=https://10.0.0.1:8471 AWS_CA_BUNDLE=/root/ca.crt AWS_DEFAULT_REGION=us-east-1"
    who = f"AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}"
    assert left.run(f'{where} {who} /opt/batchyard/bin/python -c "{ask}"') == "default\n"


def test_the_secrets_key_stays_roots(machines: dict[str, Machine]) -> None:
    """
    The unit's user reads its copy of the key; a job gets a secret that was sealed with it.

    The last of this file: the access key of step 6 was sealed with the key that was there before.
    """
    head = machines["head"]
    head.run(key_commands())
    assert head.run("stat -c '%a %u' /etc/batchyard/secrets.key") == "600 0\n"
    until(head, "batchyard secret list")
    written = head.run(
        "echo -n sesame | batchyard secret put prod/db\n"
        "batchyard secret list -o json | grep '\"k1\"'\n"
        "job=$(batchyard submit --secret DB_PASSWORD=prod/db -- sh -c 'echo it is $DB_PASSWORD')\n"
        'batchyard wait "$job"; batchyard logs "$job"'
    )
    assert "it is sesame" in written


def key_commands() -> str:
    """Return the block that makes the key file."""
    blocks = [
        code
        for kind, code in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        if not kind
    ]
    (block,) = (each for each in blocks if "> /etc/batchyard/secrets.key" in each)
    return str(block)
