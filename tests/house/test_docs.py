"""The pages tell the truth where a machine can check it: links, commands, paths."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batchyard.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
MAKE = re.compile(r"`make ([a-z-]+)")
COMMAND = re.compile(r"(?:^|[ (])(?<!from )batchyard ([a-z][a-z-]*)", re.MULTILINE)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_of(page: Path) -> str:
    """Return what a page shows as code, where words are meant literally."""
    text = page.read_text()
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))])


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(MAKE.findall(page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_exist(page: Path) -> None:
    assert set(COMMAND.findall(code_of(page))) <= set(app.list_commands(click.Context(app)))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_take_the_options_that_pages_give_them(page: Path) -> None:
    wrong = []
    for words in command_lines(page):
        try:
            parse(words)
        except click.UsageError as error:
            wrong.append(f"{shlex.join(words)}: {error.format_message()}")
    assert wrong == []


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of ours in a page's blocks, up to what is the shell's."""
    blocks = re.findall(r"```(?:console|sh|bash)?\n(.*?)```", page.read_text(), re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        found = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:[A-Z]+=\$\()?batchyard (.*)", line)
        if found is None:
            continue
        lexer = shlex.shlex(found[1], posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        yield list(itertools.takewhile(lambda word: not set(word) <= set("|&;<>()") or not word, lexer))


def parse(words: list[str]) -> None:
    """
    Read a command's words as it would.

    Raises:
        click.UsageError: it has no such command or option, or an option lacks its value.
    """
    command: click.Command = app
    ctx = click.Context(app, info_name="batchyard", **app.context_settings)
    while isinstance(command, click.Group):
        _, words, _ = command.make_parser(ctx).parse_args(words)
        if not words:
            return
        name, found, words = command.resolve_command(ctx, words)
        assert found is not None, name
        # Of those that become programs it says that they take options of their own.
        command, ctx = found, click.Context(found, info_name=name, parent=ctx, **found.context_settings)
    command.make_parser(ctx).parse_args(words)


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    records = {page.name for page in (ROOT / "docs/decisions").glob("0*.md")}
    assert set(re.findall(r"\((0[^)]+\.md)\)", index)) == records


def test_make_explains_its_targets() -> None:
    answer = subprocess.run(["make", "-s", "help"], capture_output=True, text=True, check=True, cwd=ROOT, timeout=100)
    assert {"setup", "demo", "test", "lint", "types", "proto", "fmt", "bench"} <= {
        line.split()[0] for line in answer.stdout.splitlines()
    }
