"""Parts of pages, and bugs that must not pass for parts that are not there."""

from __future__ import annotations

import pytest

from batchyard_gateway.console import assets
from batchyard_gateway.console.rendering import Renderer, UnknownPartError
from batchyard_gateway.console.visit import Page


def render(part: str, text: object) -> str:
    constants = {"version": "0", "yard": "here", "styles": (), "metrics_url": ""}
    page = Page(template="problem.html", title="t", view={"text": text})
    return Renderer(assets.load(), constants).render(page, None, part)


def test_a_part_is_a_block_alone() -> None:
    assert "<html" in render("", "told")
    assert render("content", "told").startswith("<p")


def test_a_part_that_is_not_there_is_said() -> None:
    with pytest.raises(UnknownPartError):
        render("none", "told")


@pytest.mark.parametrize("part", ["", "content"])
def test_a_bug_is_no_part_that_is_not_there(part: str) -> None:
    class Text:
        def __html__(self) -> str:
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        render(part, Text())
