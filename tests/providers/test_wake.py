"""The example that wakes own machines, with something harmless in the place of SSH and of the magic packet."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.ids import LaunchId
from batchyard.resources import Resources
from batchyard_controller.core.model.hosts import HostFacts
from batchyard_controller.core.model.launches import Launch
from batchyard_controller.core.scaling.catalogue import LaunchType
from batchyard_controller.providers.command import CommandProvider
from batchyard_controller.providers.protocol import ProviderError, Wanted

WAKE = Path(__file__).parents[2] / "examples" / "wake.py"
NOTE = "import sys; open(sys.argv[1], 'a').write('|'.join(sys.argv[2:]) + '\\n')"
DESK = LaunchType(facts=HostFacts(name="", host_type="desk", capacity=Resources(cpu_millis=8000, memory_mib=16384)))
LAUNCH = Launch(id=LaunchId("burst-1"), environment="burst", provider="wake", host_type="desk", cpu_millis=8000)
OTHER = replace(LAUNCH, id=LaunchId("burst-2"))


class Room:
    """Two sleeping machines, of one type each."""

    def __init__(self, folder: Path) -> None:
        self._done = folder / "done"
        self.file = folder / "machines.json"
        note = [sys.executable, "-c", NOTE, str(self._done)]
        machines = {
            name: {"type": kind, "mac": "00:11:22:33:44:55", "ssh": name}
            for name, kind in (("a", "desk"), ("b", "rack"))
        }
        self.file.write_text(json.dumps({"machines": machines, "wake": [*note, "wake"], "ssh": [*note, "ssh"]}))
        self.provider = CommandProvider([sys.executable, str(WAKE), str(self.file)], {}, "yard:8470")

    def done(self) -> list[list[str]]:
        lines = self._done.read_text().splitlines()
        self._done.write_text("")
        return [line.split("|") for line in lines]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


async def test_a_machine_is_woken_told_and_put_to_sleep(room: Room) -> None:
    wanted = Wanted(launch=LAUNCH, type=DESK)
    await room.provider.launch(wanted)
    woken, (_, machine, command) = room.done()
    assert woken == ["wake", "00:11:22:33:44:55"]
    assert machine == "a"
    (options,) = (word for word in shlex.split(command) if word.startswith("AGENT_OPTIONS="))
    told = shlex.split(options.removeprefix("AGENT_OPTIONS="))
    assert told == ["--controller", "yard:8470", *wanted.agent_options()]
    assert await room.provider.existing() == {"burst-1"}
    await room.provider.stop(LAUNCH)
    (asleep,) = room.done()
    assert "systemctl suspend" in asleep[2]
    assert await room.provider.existing() == frozenset()


async def test_what_is_asked_twice_is_done_for_one_machine(room: Room) -> None:
    for _ in range(2):
        await room.provider.launch(Wanted(launch=LAUNCH, type=DESK))
    assert await room.provider.existing() == {"burst-1"}
    with pytest.raises(ProviderError, match="all machines of type desk are awake already"):
        await room.provider.launch(Wanted(launch=OTHER, type=DESK))
    await room.provider.stop(OTHER)
    assert await room.provider.existing() == {"burst-1"}
