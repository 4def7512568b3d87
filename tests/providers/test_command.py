"""The provider that asks a program, with real programs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from batchyard.ids import LaunchId
from batchyard.resources import Resources
from batchyard_controller.core.model.hosts import GpuFacts, HostFacts
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.scaling.catalogue import LaunchType
from batchyard_controller.providers.command import CommandProvider
from batchyard_controller.providers.protocol import ProviderError, Wanted

LAUNCH = Launch(
    id=LaunchId("burst-1-1"),
    environment="burst",
    provider="p",
    host_type="small",
    cpu_millis=1500,
    purchase_option="spot",
    labels=(("rack", "4"),),
)
TYPE = LaunchType(
    facts=HostFacts(
        name="",
        host_type="small",
        capacity=Resources(cpu_millis=1500, memory_mib=2048),
        gpus=(GpuFacts(uuid="gpu-0"),),
        allows_privileged=True,
        volume_paths=("/data",),
    )
)
WANTED = Wanted(launch=LAUNCH, type=TYPE)


def provider(code: str, timeout_s: float = 20.0) -> CommandProvider:
    """Return a provider whose program is a piece of Python."""
    return CommandProvider([sys.executable, "-c", code], {"PATH": "/usr/bin:/bin"}, "yard:8470", timeout_s)


async def test_a_launch_is_told_all_that_its_host_needs(tmp_path: Path) -> None:
    kept = tmp_path / "asked.json"
    await provider(f"import sys; open({str(kept)!r}, 'w').write(sys.stdin.read())").launch(WANTED)
    assert json.loads(kept.read_text()) == {
        "operation": "launch",
        "launch": "burst-1-1",
        "environment": "burst",
        "type": "small",
        "purchase_option": "spot",
        "vcpus": 1.5,
        "memory_mib": 2048,
        "gpus": 1,
        "labels": {"rack": "4"},
        "controller": "yard:8470",
        "agent_options": [
            "--name", "burst-1-1", "--host-type", "small", "--purchase-option", "spot",
            "--label", "batchyard.launch=burst-1-1", "--label", "batchyard.environment=burst", "--label", "rack=4",
            "--allow-privileged", "--allow-volume", "/data",
        ],
    }  # fmt: skip


async def test_a_stop_names_the_launch(tmp_path: Path) -> None:
    kept = tmp_path / "asked.json"
    await provider(f"import sys; open({str(kept)!r}, 'w').write(sys.stdin.read())").stop(LAUNCH)
    asked = json.loads(kept.read_text())
    assert (asked["operation"], asked["launch"], asked["type"]) == ("stop", "burst-1-1", "small")


async def test_what_exists_is_what_it_writes() -> None:
    found = await provider('print(\'{"launches": ["a", "b"]}\')').existing()
    assert found == {"a", "b"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('first', file=sys.stderr); print('no quota ', file=sys.stderr); sys.exit(3)", "no quota"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("print('nonsense')", "no JSON"),
        ("print('[]')", 'not {"launches": [ID, ...]}'),
        ("print('{\"launches\": [1]}')", 'not {"launches": [ID, ...]}'),
    ],
)
async def test_failures_say_why(code: str, reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider(code).existing()
    assert reason in str(caught.value)


async def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ProviderError, match="/nowhere/at-all cannot be started: No such file or directory"):
        await CommandProvider(["/nowhere/at-all"], {}, "").stop(LAUNCH)


async def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"import os, subprocess; c = subprocess.Popen(['sleep', '600']); open({str(pids)!r}, 'w').write(f'{{c.pid}}'); c.wait()"
    with pytest.raises(ProviderError, match="did not end within 1 s"):
        await provider(code, timeout_s=1).launch(WANTED)
    child = int(pids.read_text())
    until = time.monotonic() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "its child lives on"
        await asyncio.sleep(0.05)


async def test_what_it_leaves_running_does_not_hold_it_up(tmp_path: Path) -> None:
    """As a script that starts an agent and ends: the agent holds its output open."""
    pids = tmp_path / "pids"
    code = f"import subprocess; c = subprocess.Popen(['sleep', '600']); open({str(pids)!r}, 'w').write(f'{{c.pid}}')"
    await asyncio.wait_for(provider(code).launch(WANTED), timeout=60)
    psutil.Process(int(pids.read_text())).kill()


async def test_its_environment_is_the_one_it_was_given() -> None:
    asker = CommandProvider(
        [sys.executable, "-c", "import os, json; print(json.dumps({'launches': sorted(os.environ)}))"],
        {"ONLY": "this"},
        "",
    )
    assert "ONLY" in await asker.existing()
    assert "HOME" not in await asker.existing()
