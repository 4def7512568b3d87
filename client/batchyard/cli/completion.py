"""The command ``completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""
    Write the script that makes a shell complete this command.

    \b
      bash: echo 'eval "$(batchyard completion bash)"' >> ~/.bashrc
      zsh:  echo 'eval "$(batchyard completion zsh)"' >> ~/.zshrc
      fish: batchyard completion fish > ~/.config/fish/completions/batchyard.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None, shell
    click.echo(complete(ctx.find_root().command, {}, "batchyard", "_BATCHYARD_COMPLETE").source())
