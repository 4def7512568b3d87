"""The command ``completion``; the names it offers come from ``names``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_HELP = """
Write the script that makes a shell complete commands, options and the yard's own names.

\b
  bash: echo 'eval "$(batchyard completion bash)"' >> ~/.bashrc
  zsh:  echo 'eval "$(batchyard completion zsh)"' >> ~/.zshrc
  fish: batchyard completion fish > ~/.config/fish/completions/batchyard.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write a shell's script (the text of --help is ``_HELP``)."""
    complete = get_completion_class(shell)
    assert complete is not None, shell
    click.echo(complete(ctx.find_root().command, {}, "batchyard", "_BATCHYARD_COMPLETE").source())
