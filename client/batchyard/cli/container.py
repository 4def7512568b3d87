"""
Options about a job's container: its image, what it needs, and what it has around its command.

They are spelled as for ``docker run`` where AWS Batch knows the same. Only the form
of a flag is checked here; what it may say, the controller knows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchyard import resources
from batchyard.cli import options

if TYPE_CHECKING:
    from batchyard.v1.job_definition_pb2 import ContainerProperties
    from batchyard.v1.resources_pb2 import Resources

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_VCPUS = "1"
DEFAULT_MEMORY = "256M"
STDIN_BYTES_READ = 1 << 20
"""More than the controller takes; it says how much that is."""

FLAGS = {
    "volumes": "--volume",
    "devices": "--device",
    "user": "--user",
    "cwd": "--cwd",
    "stdin": "--stdin",
    "log_file": "--log-file",
    "privileged": "--privileged",
    "read_only": "--read-only",
    "shm_size": "--shm-size",
    "log_size": "--log-size",
    "gpu_models": "--gpu-model",
    "gpu_memory": "--gpu-memory",
    "cpu_architecture": "--cpu-architecture",
    "tmpfs": "--tmpfs",
    "ulimits": "--ulimit",
}
"""Names of the values that a submission cannot say in place of its definition, and their flags."""

_PERMISSIONS = {"r": "READ", "w": "WRITE", "m": "MKNOD"}


def volume(value: str) -> tuple[str, str, bool]:
    """Read ``[HOST:]CONTAINER[:ro]``: where on the host (empty: scratch), where in the container, read only."""
    *paths, last = value.split(":")
    is_read_only = last == "ro" and bool(paths)
    if last not in ("ro", "rw") or not paths:
        paths.append(last)
    if not 1 <= len(paths) <= 2 or not all(paths):
        raise click.BadParameter(f"{value!r} is not [HOST:]CONTAINER[:ro]")
    return (paths[0] if len(paths) == 2 else "", paths[-1], is_read_only)


def device(value: str) -> tuple[str, str, tuple[str, ...]]:
    """Read ``HOST[:CONTAINER][:rwm]``: where on the host, where in the container (empty: same), permissions."""
    host, *rest = value.split(":")
    letters = rest.pop() if rest and rest[-1] and set(rest[-1]) <= _PERMISSIONS.keys() else ""
    if not host or len(rest) > 1 or "" in rest:
        raise click.BadParameter(f"{value!r} is not HOST[:CONTAINER][:rwm]")
    return host, rest[0] if rest else "", tuple(word for letter, word in _PERMISSIONS.items() if letter in letters)


def tmpfs(value: str) -> tuple[str, int, tuple[str, ...]]:
    """Read ``CONTAINER:size=SIZE[,OPTION...]``: where, MiB, other options."""
    path, _, rest = value.partition(":")
    wanted = [option for option in rest.split(",") if option.startswith("size=")]
    if not path or len(wanted) != 1:
        raise click.BadParameter(f"{value!r} is not CONTAINER:size=SIZE[,OPTION...]")
    size_mib = resources.parse_mib(options.size(wanted[0].removeprefix("size=")))
    return path, size_mib, tuple(option for option in rest.split(",") if option not in wanted)


def ulimit(value: str) -> tuple[str, int, int]:
    """Read ``NAME=SOFT[:HARD]``: name, soft and hard limit (the same if it is left out)."""
    name, _, limits = value.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return name, int(soft), int(hard or soft)
    except ValueError as err:
        raise click.BadParameter(f"{value!r} is not NAME=SOFT[:HARD]") from err


def variable(value: str) -> tuple[str, str]:
    """Read ``KEY=VALUE``; or ``KEY``, whose value is taken from the environment here."""
    if "=" in value:
        return options.pair(value)
    try:
        return value, os.environ[value]  # noqa: TID251  # the user's own variables, and no settings
    except KeyError as err:
        raise click.BadParameter(f"{value!r} is not KEY=VALUE, and not set here") from err


def described(function: F) -> F:
    """Add the options; their values go to ``fill``, with a ``command``."""
    for option in (
        options.pairs(
            "--secret-file", "secret_files", "File K, below $BATCHYARD_SECRETS_DIR, that holds the secret V."
        ),
        options.pairs("--secret", "secrets", "Environment variable K whose value is the secret V."),
        click.option(
            *("--env-file", "env_files"),
            type=click.File(),
            multiple=True,
            help="Environment variables, a K=V a line, or a K that is taken along; - is stdin. --env wins.",
        ),
        click.option(
            *("--env", "env"),
            type=variable,
            multiple=True,
            metavar="K[=V]",
            help="Environment variable; K alone is taken along from here.",
        ),
        _surroundings,
        click.option("--disk", type=options.size, metavar="SIZE", help="Disk space. Default 0."),
        click.option(
            "--cpu-architecture",
            type=click.Choice(["X86_64", "ARM64"], case_sensitive=False),
            help="Only hosts with such CPUs. Default: any.",
        ),
        click.option("--gpu-memory", type=options.size, metavar="SIZE", help="Least memory of each of its GPUs."),
        click.option(
            *("--gpu-model", "gpu_models"),
            multiple=True,
            metavar="NAME",
            help="Model of its GPUs: words of it, or all of it with * for any rest; any of several will do.",
        ),
        click.option("-g", "--gpus", type=options.amount, metavar="N", help="Below 1 shares a GPU. Default 0."),
        click.option(
            "-m", "--memory", type=options.size, metavar="SIZE", help="A hard limit, such as 4G. Default 256M."
        ),
        click.option("-c", "--vcpus", type=options.amount, metavar="N", help="In steps of 0.001. Default 1."),
        click.option("--image", help="Container image. Default: none, a process."),
    ):
        function = option(function)
    return function


def _surroundings(function: F) -> F:
    for flag, name, kind, metavar, text in (
        ("--ulimit", "ulimits", ulimit, "NAME=SOFT[:HARD]", "Limit of its processes, such as nofile=1024:2048."),
        ("--tmpfs", "tmpfs", tmpfs, "CONTAINER:size=SIZE[,OPTION...]", "File system in memory."),
        ("--device", "devices", device, "HOST[:CONTAINER][:rwm]", "Device of the host, if the host allows it."),
        (
            *("--volume", "volumes", volume, "[HOST:]CONTAINER[:ro]"),
            "Folder of the host, if the host allows it; without HOST an empty one for each try.",
        ),
    ):
        function = click.option(flag, name, type=kind, metavar=metavar, multiple=True, help=text)(function)
    for option in (
        click.option("--shm-size", type=options.size, metavar="SIZE", help="Size of /dev/shm."),
        click.option(
            "--log-size", type=options.size, metavar="SIZE", help="How much of each try's output is kept: both ends."
        ),
        click.option("--read-only", is_flag=True, help="Make the image's files read only."),
        click.option("--privileged", is_flag=True, help="Give it all rights, if the host allows it."),
        click.option(
            "--cwd",
            metavar="FOLDER",
            help="Where it starts; of a plain process one that its host has, . is this one. Default: the image's; a "
            "process of `submit` starts in this one where its host has it, else in an empty one for each try.",
        ),
        click.option("--stdin", type=click.File("rb"), help="What it reads, at most 64 KiB; - is stdin here."),
        click.option(
            "--log-file",
            metavar="PATTERN",
            help="File on the host for a copy of its log; %j is the job's id, %a the child's number, %t the "
            "try, %n the node, %x the job's name, %N the host, %% a %.",
        ),
        click.option("--user", metavar="NAME|UID[:GID]", help="Whom it runs as. Default: the image's."),
    ):
        function = option(function)
    return function


def given(flags: Mapping[str, Any]) -> str:
    """Return one of the options about a container that is given, as it is written; empty if none is."""
    named = {**FLAGS, "image": "--image", "vcpus": "--vcpus", "memory": "--memory", "gpus": "--gpus", "disk": "--disk"}
    named |= {
        "env": "--env",
        "env_files": "--env-file",
        "secrets": "--secret",
        "secret_files": "--secret-file",
        "command": "a command",
    }
    return next((flag for name, flag in named.items() if flags[name]), "")


def environment(flags: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the variables that files and options say together.

    Raises:
        click.UsageError: a line of a file says none, or one that is not set here.
    """
    found: dict[str, str] = {}
    for file in flags["env_files"]:
        for number, line in enumerate(file, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                found.update([variable(line.rstrip("\r\n"))])
            except click.BadParameter as err:
                raise click.UsageError(f"--env-file {file.name}, line {number}: {err.message}") from err
    return {**found, **options.as_map(flags["env"])}


def fill(wanted: ContainerProperties, flags: Mapping[str, Any]) -> ContainerProperties:
    """Put what the options say into a container, in place of its parts or beside its lists, and return it."""
    from batchyard import arguments

    if flags["image"] is not None:
        wanted.image = arguments.text("container.image", flags["image"])
    wanted.command[:] = arguments.texts("container.command", flags["command"]) or wanted.command
    wanted.environment.update(arguments.text_map("container.environment", environment(flags)))
    for name, secret in arguments.text_map("container.secrets", options.as_map(flags["secrets"])).items():
        wanted.secrets.add(name=name, value_from=secret)
    for name, secret in arguments.text_map("container.secrets", options.as_map(flags["secret_files"])).items():
        wanted.secrets.add(name=name, value_from=secret, delivery="SECRET_DELIVERY_FILE")
    _fill_resources(wanted.resources, flags)
    _fill_surroundings(wanted, flags)
    return wanted


def start_here(wanted: ContainerProperties) -> None:
    """Have a plain process start in this folder where its host has it, unless it is told where."""
    from batchyard.runtimes import PROCESS, runtime_of

    if runtime_of(wanted.image) != PROCESS or wanted.working_directory:
        return
    with suppress(FileNotFoundError):  # this one was removed
        wanted.working_directory = os.getcwd()  # noqa: PTH109  # as it is, links and all
        wanted.working_directory_optional = True


def _fill_resources(wanted: Resources, flags: Mapping[str, Any]) -> None:
    from batchyard import arguments

    if flags["vcpus"] is not None or not wanted.cpu_millis:
        wanted.cpu_millis = arguments.amount("container.vcpus", flags["vcpus"] or DEFAULT_VCPUS)
    if flags["memory"] is not None or not wanted.memory_mib:
        wanted.memory_mib = arguments.size("container.memory", flags["memory"] or DEFAULT_MEMORY)
    if flags["gpus"] is not None:
        wanted.gpu_millis = arguments.amount("container.gpus", flags["gpus"])
    if flags["disk"] is not None:
        wanted.disk_mib = arguments.size("container.disk", flags["disk"])


def _fill_surroundings(wanted: ContainerProperties, flags: Mapping[str, Any]) -> None:
    from batchyard import arguments

    if flags["user"] is not None:
        wanted.user = arguments.text("user", flags["user"])
    if flags["cwd"] is not None:
        # Links of this machine are none of the host's or image's.
        wanted.working_directory = os.path.abspath(arguments.text("cwd", flags["cwd"]))  # noqa: PTH100
    if flags["stdin"] is not None:
        wanted.stdin = flags["stdin"].read(STDIN_BYTES_READ)
    if flags["log_file"] is not None:
        path = arguments.text("log_file", flags["log_file"])
        # A container's folder is none of its host's.
        wanted.output_path = os.path.abspath(path) if wanted.image and path else path  # noqa: PTH100
    if flags["privileged"]:
        wanted.privileged = True
    if flags["read_only"]:
        wanted.readonly_root_filesystem = True
    if flags["shm_size"] is not None:
        wanted.linux_parameters.shared_memory_size_mib = arguments.size("shm_size", flags["shm_size"])
    if flags["log_size"] is not None:
        wanted.log_size_mib = arguments.size("log_size", flags["log_size"])
    wanted.gpu_models[:] = arguments.texts("gpu_model", flags["gpu_models"]) or wanted.gpu_models
    if flags["cpu_architecture"] is not None:
        wanted.cpu_architecture = arguments.text("cpu_architecture", flags["cpu_architecture"])
    if flags["gpu_memory"] is not None:
        wanted.gpu_memory_mib = arguments.size("gpu_memory", flags["gpu_memory"])
    for host, place, is_read_only in flags["volumes"]:
        name = _free_name({known.name for known in wanted.volumes})
        wanted.volumes.add(name=name, host_source_path=arguments.text("volume", host))
        wanted.mount_points.add(
            source_volume=name, container_path=arguments.text("volume", place), read_only=is_read_only
        )
    for host, place, permissions in flags["devices"]:
        host_path, container_path = arguments.text("device", host), arguments.text("device", place)
        wanted.linux_parameters.devices.add(host_path=host_path, container_path=container_path, permissions=permissions)
    for place, size_mib, mount_options in flags["tmpfs"]:
        wanted.linux_parameters.tmpfs.add(
            container_path=arguments.text("tmpfs", place),
            size_mib=arguments.integer("tmpfs", size_mib),
            mount_options=arguments.texts("tmpfs", mount_options),
        )
    for name, soft, hard in flags["ulimits"]:
        wanted.ulimits.add(
            name=arguments.text("ulimit", name),
            soft_limit=arguments.integer("ulimit", soft),
            hard_limit=arguments.integer("ulimit", hard),
        )


def _free_name(taken: set[str]) -> str:
    return next(name for i in range(len(taken) + 1) if (name := f"volume-{i}") not in taken)
