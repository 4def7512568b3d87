"""Where settings come from, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchyard import InvalidArgumentError, settings


def write(path: Path, text: str) -> dict[str, str]:
    path.write_text(text, encoding="utf-8")
    return {"BATCHYARD_CONFIG": str(path)}


def test_defaults_without_file_and_environment() -> None:
    found = settings.client_settings({"HOME": "/nonexistent", "XDG_STATE_HOME": "/nonexistent"})
    assert found == settings.ClientSettings(
        address="unix:/nonexistent/batchyard/controller.sock", timeout_s=30.0, retry_s=30.0
    )


def test_environment_over_file_over_defaults(tmp_path: Path) -> None:
    env = write(tmp_path / "c.toml", '[client]\naddress = "yard:1"\ntimeout-s = 5\n')
    assert settings.client_settings(env).address == "yard:1"
    found = settings.client_settings(env | {"BATCHYARD_ADDRESS": "other"})
    assert (found.address, found.timeout_s, found.retry_s) == ("other:8470", 5.0, 30.0)


def test_the_first_file_that_exists_is_read(tmp_path: Path) -> None:
    place = tmp_path / ".config" / "batchyard"
    place.mkdir(parents=True)
    (place / "config.toml").write_text('[agent]\nname = "alpha"\n')
    assert settings.defaults("agent", environment={"HOME": str(tmp_path)}) == {"name": "alpha"}


def test_values_come_as_click_wants_them(tmp_path: Path) -> None:
    text = '[agent]\nstate-dir = "/var"\nruntimes = ["docker", "process"]\nlabels = { zone = "a", rack = 4 }\nfast = true\n'
    assert settings.defaults("agent", environment=write(tmp_path / "c.toml", text)) == {
        "state_dir": "/var",
        "runtimes": ["docker", "process"],
        "labels": ["zone=a", "rack=4"],
        "fast": True,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[client\n", "is no TOML"),
        (
            "[server]\nx = 1\n",
            "server: no such section; there are [client], [controller], [agent], [kubernetes], [gateway]",
        ),
        ("address = 1\n", "address: no such section"),
        (
            "[client]\nadress = 'x'\n",
            "client.adress: no such key; there are address, credentials, insecure_loopback_only, output, queue, retry_s, timeout_s",
        ),
        ("[client]\naddress = [[1]]\n", "client.address: must be a plain value or a list of them"),
        ("[client]\naddress = 'a:b:c'\n", "address: must be host:port or unix:/path, not 'a:b:c'"),
        ("[client]\ntimeout_s = 'soon'\n", "timeout_s: must be a number of seconds, not 'soon'"),
        ("[client]\ntimeout_s = -1\n", "timeout_s: must be a number of seconds, not -1"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        settings.client_settings(write(tmp_path / "c.toml", text))
    assert message in str(caught.value)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be read: No such file"):
        settings.client_settings({"BATCHYARD_CONFIG": str(tmp_path / "nothing.toml")})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("yard", "yard:8470"),
        ("yard:1", "yard:1"),
        ("[::1]", "[::1]:8470"),
        ("[::1]:9", "[::1]:9"),
        ("unix:/run/batchyard.sock", "unix:/run/batchyard.sock"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert settings.parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "a:0",
        "a:65536",
        "a:b",
        "a b:1",
        "::1",
        "unix:",
        "a:999999999999",
        "http://a:1",
        "a:\N{FULLWIDTH DIGIT ONE}",
    ],
)
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must be host:port"):
        settings.parse_address(text)


def test_state_is_kept_where_the_system_wants_it(tmp_path: Path) -> None:
    assert settings.state_dir({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "batchyard"
