"""The systemd units: systemd accepts them, and they keep what the project promises."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
NEWER_KEYS = ("DelegateSubgroup",)
"""Settings that Debian 12's systemd says it ignores, and does."""


def service_section(unit: Path) -> dict[str, str]:
    """Return the settings of a unit's [Service] section; of repeated ones the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's names are case-sensitive
    parser.read_string(unit.read_text())
    return dict(parser["Service"])


def test_there_are_units_for_all_programs() -> None:
    assert [unit.name for unit in UNITS] == [
        f"batchyard-{name}.service" for name in ("agent", "controller", "gateway", "relay")
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (on Debian: apt-get install systemd)")
    answer = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=100
    )
    complaints = [line for line in answer.stderr.splitlines() if not any(key in line for key in NEWER_KEYS)]
    assert (answer.returncode, answer.stdout, complaints) == (0, "", [])


@pytest.mark.parametrize(("unit", "drop_in"), [("controller", "secrets-key"), ("gateway", "tls")])
def test_systemd_accepts_what_hands_keys_over(unit: str, drop_in: str, tmp_path: Path) -> None:
    """Users of units that are locked in cannot read root's keys by themselves."""
    name = f"batchyard-{unit}.service"
    shutil.copy(DEPLOY / name, tmp_path)
    (tmp_path / f"{name}.d").mkdir()
    shutil.copy(DEPLOY / f"{drop_in}.conf", tmp_path / f"{name}.d")
    assert "LoadCredential=" in (DEPLOY / f"{drop_in}.conf").read_text()
    test_systemd_accepts_the_unit(tmp_path / name)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_restart_for_ever(unit: Path) -> None:
    assert service_section(unit)["Restart"] == "always"
    assert "StartLimitIntervalSec=0" in unit.read_text()


def test_stopping_the_agent_takes_no_attempt_down() -> None:
    """Neither systemd nor the kernel's out-of-memory killer may end the unit's other processes."""
    agent = service_section(DEPLOY / "batchyard-agent.service")
    assert agent["KillMode"] == "process"
    assert agent["OOMPolicy"] == "continue"


def test_the_agent_keeps_no_mounts_of_its_own() -> None:
    """A private mount dies with the agent; an attempt that lives on would lose its files."""
    agent = service_section(DEPLOY / "batchyard-agent.service")
    private = {"PrivateTmp", "PrivateDevices", "ProtectSystem", "ProtectHome", "DynamicUser", "PrivateMounts"}
    assert private.isdisjoint(agent)
