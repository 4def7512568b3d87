"""
Settings: where a value comes from when no flag gives it.

    flags  >  BATCHYARD_* environment  >  context  >  TOML file  >  defaults

The file is ``$BATCHYARD_CONFIG``, else ``~/.config/batchyard/config.toml``, else
``/etc/batchyard/config.toml``; the first that exists is read, alone. Its sections
are ``[client]``, ``[controller]``, ``[agent]`` and ``[gateway]``; keys are the long flags'
names, with ``_`` or ``-``. In ``[provider.NAME]`` the controller is told who launches hosts
(see its ``providers.offers``). A context (`batchyard.contexts`) that is in use says where a yard is
in place of the file; one that is named outright (``--context``) also in place of the environment.
The client's one door to the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchyard.contexts import NONE, Contexts
from batchyard.errors import InvalidArgumentError, Reason, Violation

DEFAULT_PORT = 8470
SOCKET_NAME = "controller.sock"
SYSTEM_SOCKET = Path("/run/batchyard") / SOCKET_NAME
"""Where the controller that systemd starts listens."""

SECTIONS = ("client", "controller", "agent", "kubernetes", "gateway", "relay")
PROVIDER = "provider"
"""A table of this name has one of the controller's providers in each of its own."""
_OF_ATTEMPTS = ("BATCHYARD_ATTEMPT", "BATCHYARD_FENCE")
"""What the variables that an attempt is given begin with."""
_OF_KUBERNETES = re.compile(r"BATCHYARD(_[A-Z0-9]+)*_(SERVICE_HOST|(SERVICE_)?PORT(_[A-Z0-9_]+)?)")
"""What a pod is given for each service beside it whose name begins with ours."""

CLIENT_KEYS = frozenset({"address", "credentials", "insecure_loopback_only", "timeout_s", "retry_s", "output", "queue"})
CREDENTIALS_NAME = "credentials.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """
    What the SDK needs to know.

    Attributes:
        address: ``host:port``, or ``unix:/path``, or several with commas, of which one leads;
            default as ``default_address`` says, and where nobody listens there, that of the credentials.
        credentials: File with what is needed for an address that is no socket; None: there is none.
        is_insecure: Speak plain text with an address of loopback, for tests.
        timeout_s: Deadline of each call.
        retry_s: How long a submit is repeated while the controller is away.
    """

    address: str
    credentials: Path | None = None
    is_insecure: bool = False
    timeout_s: float = 30.0
    retry_s: float = 30.0


def client_settings(environment: Mapping[str, str] | None = None, *, context: str | None = None) -> ClientSettings:
    """
    Return the client's settings by environment, context, file and defaults.

    Args:
        environment: Instead of the process's own.
        context: The name of a context that comes before the environment; None: the one in use, behind it.

    Raises:
        InvalidArgumentError: a value or a file is broken, or there is no such context; the violation names it.
    """
    env = os.environ if environment is None else environment  # noqa: TID251  # the client's one door to it
    values = client_values(env, context=context)
    fallback = ClientSettings(address="")
    credentials = Path(str(values["credentials"])) if values.get("credentials") else _found_credentials(env)
    return ClientSettings(
        address=parse_addresses(str(values.get("address") or _address_of(credentials, default_address(env)))),
        credentials=credentials,
        is_insecure=_switch("insecure_loopback_only", values.get("insecure_loopback_only", False)),
        timeout_s=_seconds("timeout_s", values.get("timeout_s", fallback.timeout_s)),
        retry_s=_seconds("retry_s", values.get("retry_s", fallback.retry_s)),
    )


def client_values(environment: Mapping[str, str], *, context: str | None = None) -> dict[str, object]:
    """
    Return what the client's settings say, by key, before anything of it is read; arguments as of `client_settings`.

    Raises:
        InvalidArgumentError: a variable, a key or a context is none.
    """
    check_environment(environment, CLIENT_KEYS)
    values = defaults("client", environment=environment, known=CLIENT_KEYS)
    known = contexts(environment)
    chosen = context or environment.get("BATCHYARD_CONTEXT") or known.current() or NONE
    said = {key: value for key in CLIENT_KEYS if (value := environment.get(variable(key)))}
    return {**values, **said, **known.read(chosen)} if context else {**values, **known.read(chosen), **said}


def contexts(environment: Mapping[str, str] | None = None) -> Contexts:
    """Return a user's contexts."""
    env = os.environ if environment is None else environment  # noqa: TID251  # the client's one door to it
    return Contexts(folder=_own_folder(env))


def _own_folder(env: Mapping[str, str]) -> Path:
    home = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config"
    return Path(home) / "batchyard"


def defaults(
    section: str, *, environment: Mapping[str, str] | None = None, known: Collection[str] | None = None
) -> dict[str, object]:
    """
    Return one section of the file, as click's ``default_map`` takes it.

    A table of plain values becomes a list of ``key=value``.

    Args:
        section: One of `SECTIONS`.
        environment: Instead of the process's own.
        known: The keys allowed; None allows any.

    Raises:
        InvalidArgumentError: the file cannot be read, is no TOML, or has an unknown
            section, an unknown key or a value of the wrong kind.
    """
    env = os.environ if environment is None else environment  # noqa: TID251  # the client's one door to it
    path = config_path(env)
    if path is None:
        return {}
    tables = _read(path)
    for name, table in tables.items():
        if name not in (*SECTIONS, PROVIDER) or not isinstance(table, dict):
            raise _broken(path, name, f"no such section; there are {', '.join(f'[{s}]' for s in SECTIONS)}")
    values = {key.replace("-", "_"): _value(path, section, key, v) for key, v in tables.get(section, {}).items()}
    for key in values:
        if known is not None and key not in known:
            raise _broken(path, f"{section}.{key}", f"no such key; there are {', '.join(sorted(known))}")
    return values


def provider_tables(environment: Mapping[str, str]) -> dict[str, object]:
    """
    Return what the file says below ``[provider.NAME]``, by name, as it is written.

    Raises:
        InvalidArgumentError: the file cannot be read, or is no TOML.
    """
    path = config_path(environment)
    return _read(path).get(PROVIDER, {}) if path is not None else {}


def check_environment(environment: Mapping[str, str], known: Collection[str], program: str = "") -> None:
    """
    Refuse variables that look like settings and are none, as unknown keys of the file are.

    Those that Kubernetes makes of services are nobody's wish, and are passed over.

    Args:
        environment: The process's own.
        known: The keys of settings.
        program: Whose settings are looked at, a section but ``client``;
            empty: the client's, which leaves alone what is the programs' or an attempt's.

    Raises:
        InvalidArgumentError: naming each.
    """
    names = sorted(variable(key, program) for key in known) + (
        [] if program else ["BATCHYARD_CONFIG", "BATCHYARD_CONTEXT"]
    )
    wrong = [
        name
        for name in environment
        if name.startswith(variable("", program)) and name not in names and not _is_of_others(name, program)
    ]
    if wrong:
        text = f"no such setting; there are {', '.join(names)}"
        raise InvalidArgumentError.from_violations([Violation(name, text, Reason.MALFORMED) for name in sorted(wrong)])


def _is_of_others(name: str, program: str) -> bool:
    """Say whether a variable is none that *program*, or for empty the client, has to know."""
    others = () if program else (*(variable("", section) for section in SECTIONS[1:]), *_OF_ATTEMPTS)
    return name.startswith(others) or _OF_KUBERNETES.fullmatch(name) is not None


def variable(key: str, program: str = "") -> str:
    """Return the variable that sets a key of a program, or of the client."""
    return "_".join(part.upper() for part in ("BATCHYARD", program, key) if part) + ("" if key else "_")


def config_path(environment: Mapping[str, str]) -> Path | None:
    """Return the file that is read; None when there is none."""
    named = environment.get("BATCHYARD_CONFIG")
    if named:
        return Path(named)
    places = [_own_folder(environment) / "config.toml", Path("/etc/batchyard/config.toml")]
    return next((place for place in places if place.is_file()), None)


def state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return where ``batchyard up`` keeps its state: below the user's home, for root in /var/lib."""
    env = os.environ if environment is None else environment  # noqa: TID251  # the client's one door to it
    if env.get("XDG_STATE_HOME"):
        return Path(env["XDG_STATE_HOME"]) / "batchyard"
    if os.geteuid() == 0:
        return Path("/var/lib/batchyard")
    return Path(env.get("HOME", "/")) / ".local" / "state" / "batchyard"


def default_address(environment: Mapping[str, str] | None = None) -> str:
    """
    Return where a controller of this machine listens: a socket of this user's, else systemd's.

    Nobody but its owner can connect to the first, so whoever is found there is oneself.
    """
    own = state_dir(environment) / SOCKET_NAME
    # os.path, as it says no of a folder that is closed to us.
    is_system = not os.path.exists(own) and os.path.exists(SYSTEM_SOCKET)  # noqa: PTH110
    return f"unix:{SYSTEM_SOCKET if is_system else own}"


def agents_socket(socket: Path) -> Path:
    """Return where agents of this machine come in, where a group may use the controller's *socket*."""
    return socket.with_name("agents.sock")


def default_agents_address() -> str:
    """Return where a controller of this machine listens for agents."""
    found = default_address()
    own = agents_socket(Path(found.removeprefix("unix:")))
    return f"unix:{own}" if os.path.exists(own) else found  # noqa: PTH110  # says no of closed folders


def own_credentials() -> Path:
    """Return where a user's own credentials lie, whether there are any or not."""
    return _own_credentials(os.environ)  # noqa: TID251  # the client's one door to it


def _own_credentials(env: Mapping[str, str]) -> Path:
    return _own_folder(env) / CREDENTIALS_NAME


def _found_credentials(env: Mapping[str, str]) -> Path | None:
    """Return the file of credentials that is read where none is named; None when there is none."""
    places = [_own_credentials(env), Path("/etc/batchyard") / CREDENTIALS_NAME]
    return next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113  # says no of closed folders


def _address_of(credentials: Path | None, socket: str) -> str:
    """Return where the controller is if nobody says: on this machine if there is one, else where credentials say."""
    if credentials is None or os.path.exists(socket.removeprefix("unix:")):  # noqa: PTH110  # the same
        return socket
    from batchyard.credentials import read_credentials  # noqa: PLC0415  # it needs a reader of TOML

    return read_credentials(credentials).address


def parse_address(address: str) -> str:
    """
    Return *address* as ``host:port`` or ``unix:/path``; a bare host gets port 8470.

    Raises:
        InvalidArgumentError: if it is neither.
    """
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(DEFAULT_PORT)
    is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    is_host = bool(host) and host.isascii() and host.isprintable() and not set(host) & set(" /?#@,")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not is_port or not is_host or (":" in host and not is_bracketed):
        violation = Violation("address", f"must be host:port or unix:/path, not {address!r}", Reason.MALFORMED)
        raise InvalidArgumentError.from_violations([violation])
    return f"{host}:{port}"


def parse_addresses(addresses: str) -> str:
    """
    Return *addresses*, one or several with commas, each as ``parse_address`` returns it.

    Raises:
        InvalidArgumentError: if one of them is none.
    """
    return ",".join(parse_address(address.strip()) for address in addresses.split(","))


def is_wildcard(listen: str) -> bool:
    """Say whether a listener's address names none by which it can be reached from elsewhere."""
    return listen.rpartition(":")[0].strip("[]") in ("", "0.0.0.0", "::")


def split_address(address: str) -> tuple[str, int]:
    """
    Return host, without brackets, and port of ``host:port``.

    Raises:
        InvalidArgumentError: it is something else.
    """
    host, _, port = parse_address(address).rpartition(":")
    if address.startswith("unix:"):
        raise InvalidArgumentError.from_violations(
            [Violation("address", f"must be host:port, not {address!r}", Reason.MALFORMED)]
        )
    return host.strip("[]"), int(port)


def is_loopback(listen: str) -> bool:
    """Say whether nobody beyond this machine can reach a listener at this address."""
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost" or listen.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> dict[str, dict[str, object]]:
    import tomllib  # noqa: PLC0415  # 40 ms that only those with a file pay

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise _broken(path, "", f"cannot be read: {err.strerror}") from err
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise _broken(path, "", f"is no TOML: {err}") from err


def _value(path: Path, section: str, key: str, value: object) -> object:
    match value:
        case str() | bool() | int() | float():
            return value
        case list() if all(isinstance(item, str | int | float) for item in value):
            return [str(item) for item in value]
        case dict() if all(isinstance(item, str | int | float) for item in value.values()):
            return [f"{name}={item}" for name, item in value.items()]
        case _:
            raise _broken(path, f"{section}.{key}", f"must be a plain value or a list of them, not {value!r}")


def _switch(key: str, value: object) -> bool:
    text = str(value).lower()
    if text not in ("1", "true", "0", "false", ""):
        raise InvalidArgumentError.from_violations(
            [Violation(key, f"must be true or false, not {value!r}", Reason.MALFORMED)]
        )
    return text in ("1", "true")


def _seconds(key: str, value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        text = f"must be a number of seconds, not {value!r}"
        raise InvalidArgumentError.from_violations([Violation(key, text, Reason.MALFORMED)])
    return seconds


def _broken(path: Path, where: str, message: str) -> InvalidArgumentError:
    place = f"{path}: {where}" if where else str(path)
    return InvalidArgumentError.from_violations([Violation(place, message, Reason.MALFORMED)])
