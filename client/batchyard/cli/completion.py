"""The command ``completion``; the names it offers come from ``names``."""

from __future__ import annotations

import os

import click
from click.shell_completion import BashComplete, add_completion_class, get_completion_class, split_arg_string

_HELP = """
Write the script that makes a shell complete commands, options and the yard's own names.

\b
  bash: echo 'eval "$(batchyard completion bash)"' >> ~/.bashrc
  zsh:  echo 'eval "$(batchyard completion zsh)"' >> ~/.zshrc
  fish: batchyard completion fish > ~/.config/fish/completions/batchyard.fish
"""


_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    local line="${COMP_LINE:0:COMP_POINT}"
    # Where bash ends words at colons it keeps what stands before the last one, so it is not offered again.
    local word="${line##*[[:blank:]=]}" kept=""
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && kept="${word%%:*}:"

    response=$(env COMP_LINE="$line" %(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$kept"}")
        fi
    done

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion in bash by the line: bash's own words end at each colon, of which names of revisions have one."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the beginning of the one at it."""
        # With a letter at the end the last word is the one at the cursor, also if it is empty or in quotes.
        *words, last = split_arg_string(f"{os.environ['COMP_LINE']}x")  # noqa: TID251  # what shells ask by
        return words[1:], last[:-1]


def prepare() -> None:
    """Let click answer bash as `Bash` does."""
    add_completion_class(Bash)


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write a shell's script (the text of --help is ``_HELP``)."""
    prepare()
    complete = get_completion_class(shell)
    assert complete is not None, shell
    click.echo(complete(ctx.find_root().command, {}, "batchyard", "_BATCHYARD_COMPLETE").source())
