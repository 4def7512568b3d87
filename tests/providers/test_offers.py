"""What the settings file may declare of providers, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from batchyard_controller.core.scaling.catalogue import Catalogue
from batchyard_controller.providers.offers import Surroundings, offers

AROUND = Surroundings(socket="unix:/run/c.sock", hosts=None, scratch=None, environment={}, cpus=6, memory_mib=6144)
GOOD = """
[wake]
kind = "command"
command = ["/usr/local/bin/wake", "--fast"]
timeout_s = 30
join_timeout_s = 90
[wake.types.small]
vcpus = 2
memory = "4G"
[wake.types.big]
vcpus = 0.5
memory = 512
gpus = 2
price = 1.5
spot_price = 0.5
count = 3
runtimes = ["docker"]
allow_privileged = true
allow_volume = ["/data"]
"""


def read(text: str, around: Surroundings = AROUND) -> list[Catalogue]:
    return [offer.catalogue for offer in offers(tomllib.loads(text), around)]


def test_a_declaration_is_read() -> None:
    (wake,) = read(GOOD)
    assert (wake.provider, wake.join_limit_s, list(wake.types)) == ("wake", 90, ["small", "big"])
    small, big = wake.types["small"], wake.types["big"]
    assert (small.facts.capacity.cpu_millis, small.facts.capacity.memory_mib) == (2000, 4096)
    assert (small.price, small.spot_price, small.count, small.facts.runtimes) == (0, None, 0, ("docker", "process"))
    assert (big.facts.capacity.cpu_millis, len(big.facts.gpus), big.facts.runtimes) == (500, 2, ("docker",))
    assert (big.price, big.spot_price, big.count) == (1.5, 0.5, 3)
    assert (big.facts.allows_privileged, big.facts.volume_paths) == (True, ("/data",))


def test_local_hosts_need_no_declaration_but_a_folder() -> None:
    around = Surroundings(
        socket="unix:/s", hosts=Path("/state/hosts"), scratch=None, environment={}, cpus=6, memory_mib=6144
    )
    assert read("") == []
    (local,) = read("", around)
    assert {name: each.facts.capacity.memory_mib for name, each in local.types.items()} == {
        "small": 1024, "medium": 2048, "large": 4096,
    }  # fmt: skip
    (own,) = read('[local]\nkind = "local"\n[local.types.t]\nvcpus = 1\nmemory = "1G"', around)
    assert list(own.types) == ["t"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (('"command"\n', '"cloud"\n'), "provider.wake.kind: must be local or command, not 'cloud'"),
        (('["/usr/local/bin/wake", "--fast"]', '"wake --fast"'), "provider.wake.command: must be a list of texts"),
        (('["/usr/local/bin/wake", "--fast"]', "[]"), "provider.wake.command: must be a list: the program"),
        (("timeout_s = 30", "timeout_s = -1"), "provider.wake.timeout_s: must be a number of at least 0.001, not -1"),
        (("timeout_s = 30", "timeout = 30"), "provider.wake.timeout: no such key"),
        (("vcpus = 2", "vcpus = 0"), "provider.wake.types.small.vcpus: must be above 0, not 0"),
        (("vcpus = 2", "vpcus = 2"), "provider.wake.types.small.vcpus: is required, and must be an amount"),
        (('memory = "4G"', 'memory = "much"'), "provider.wake.types.small.memory: is required, and must be an amount"),
        (("price = 1.5", "price = true"), "provider.wake.types.big.price: must be a number of at least 0, not True"),
        (("price = 1.5", "prize = 1.5"), "provider.wake.types.big.prize: no such key"),
        (
            ('["docker"]', '["podman"]'),
            "provider.wake.types.big.runtimes: must be of docker, process, fake, not podman",
        ),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], error: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ValueError, match=r"provider\.") as caught:
        read(GOOD.replace(*change))
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "error"),
    [
        ({"wake": 1}, "provider.wake: must be a table, not 1"),
        ({"a b": {"kind": "local"}}, "provider.a b: a provider's name has letters"),
        ({"w": {"kind": "local", "folder": "/x"}}, "provider.w.types: must be a table of at least one type"),
        ({"w": {"kind": "local", "types": {"t": {"vcpus": 1, "memory": "1G"}}}}, "provider.w.folder: is required"),
    ],
)
def test_what_is_no_provider_is_named(tables: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=r"provider\.") as caught:
        offers(tables, AROUND)
    assert error in str(caught.value)
