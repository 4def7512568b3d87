"""
Man pages: what ``--help`` says of every command, in the form that man(1) reads.

    python -m batchyard.cli.man FOLDER      batchyard.1, batchyard-submit.1, batchyard-queue-create.1, ...

Its law: a page says what the help says, and nothing else says it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from batchyard.cli.app import COMMANDS, app

_CONTROLS = str.maketrans({"\\": r"\e", "-": r"\-", "\N{NO-BREAK SPACE}": " "})


def pages() -> Iterator[tuple[str, str]]:
    """Yield name and text of the page of every command, its groups' included."""
    yield from _pages_below(app, click.Context(app, info_name="batchyard"))


def _pages_below(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, str]]:
    name = ctx.command_path.replace(" ", "-")
    yield name, _page(name, command, ctx)
    if isinstance(command, click.Group):
        for each in command.list_commands(ctx):
            found = command.get_command(ctx, each)
            assert found is not None, each
            yield from _pages_below(found, click.Context(found, info_name=each, parent=ctx))


def _page(name: str, command: click.Command, ctx: click.Context) -> str:
    short = _short_of(ctx.parent.command, ctx.parent, str(ctx.info_name)) if ctx.parent else str(command.help)
    lines = [f'.TH "{name.upper()}" "1" "" "Batchyard" "Batchyard"']
    lines += [".SH NAME", f"{_text(name)} \\- {_text(short.rstrip('.'))}"]
    usage = " ".join(command.collect_usage_pieces(ctx))
    lines += [".SH SYNOPSIS", f"\\fB{_text(ctx.command_path)}\\fR {_text(usage)}"]
    lines += [".SH DESCRIPTION", *_paragraphs(command.help or short)]
    records = [record for param in command.get_params(ctx) if (record := param.get_help_record(ctx))]
    lines += _terms("OPTIONS", records)
    if isinstance(command, click.Group):
        lines += _terms("COMMANDS", [(each, _short_of(command, ctx, each)) for each in command.list_commands(ctx)])
    lines += [".SH NOTES", *_paragraphs(command.epilog)] if command.epilog else []
    lines += [".SH SEE ALSO", "\\fBbatchyard\\fR(1)"] if command is not app else []
    return "\n".join(lines) + "\n"


def _short_of(group: click.Command, ctx: click.Context, name: str) -> str:
    if group is app:
        return COMMANDS[name][1]
    found = group.get_command(ctx, name) if isinstance(group, click.Group) else None
    return found.get_short_help_str(limit=200) if found is not None else ""


def _terms(title: str, records: list[tuple[str, str]]) -> list[str]:
    lines = [f".SH {title}"] if records else []
    for term, meaning in records:
        lines += [".TP", f"\\fB{_text(term)}\\fR", _text(meaning)]
    return lines


def _paragraphs(said: str) -> list[str]:
    """Return help as paragraphs; click has those that begin with a backspace as they stand."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(said).split("\n\n"):
        first, *rest = paragraph.strip("\n").split("\n")
        if first.strip() == "\b":
            lines += [".PP", ".nf", *map(_text, rest), ".fi"]
        else:
            lines += [".PP", _text(" ".join(each.strip() for each in [first, *rest]))]
    return lines


def _text(said: str) -> str:
    """Return a line of text of which man obeys nothing."""
    safe = said.translate(_CONTROLS)
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def main(folder: str) -> int:
    """Write all pages into a folder, which is made."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, text in pages():
        (place / f"{name}.1").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
