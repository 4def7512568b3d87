"""
Settings of programs: their flags, ``BATCHYARD_<PROGRAM>_*`` in the environment, the file.

A setting has one name in three spellings: ``--keep-jobs``, ``BATCHYARD_CONTROLLER_KEEP_JOBS`` and
``keep_jobs`` below ``[controller]``. Law: one that is misspelt is refused wherever it stands.
"""

from __future__ import annotations

import os
import sys

import click

from batchyard import settings
from batchyard.errors import InvalidArgumentError


def start(command: click.Command, program: str, *, name: str = "") -> None:
    """
    Start a program with all its settings; wrong ones are told, and end it with 2, but where help is wanted.

    Args:
        command: What it does.
        program: ``controller``, ``agent``, ``kubernetes`` (the agent there) or ``gateway``.
        name: What it is called, if not as the program.
    """
    names = name_settings(command, program)
    try:
        settings.check_environment(os.environ, names, program)  # noqa: TID251  # programs' one door to it
        found = settings.defaults(program, known=names)
    except InvalidArgumentError as err:
        if not {*command.get_help_option_names(click.Context(command))} & {*sys.argv}:
            click.echo(f"Error: {err}", err=True)
            sys.exit(2)
        found = {}
    command(prog_name=f"batchyard {name or program}", default_map={names[key]: value for key, value in found.items()})


def name_settings(command: click.Command, program: str) -> dict[str, str]:
    """Let each option be set by a variable that is called as its flag; return options' names by such names."""
    names: dict[str, str] = {}
    for option in command.params:
        if isinstance(option, click.Option) and option.name and option.expose_value:
            flag = max(option.opts, key=len).lstrip("-").replace("-", "_")
            option.envvar = settings.variable(flag, program)
            names[flag] = option.name
    return names
