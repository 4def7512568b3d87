"""Pages of a log show each event once, whichever way they are turned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard_gateway import log_pages
from batchyard_gateway.log_pages import Line, Page, Place, page_backward, page_forward, place_from, window

LOG = b"one\ntwo\n\nthree\nrest"


def read(log: bytes, place: Place, *, limit: int, is_last: bool) -> Page:
    """Turn one page as the gateway does."""
    offset, length = window(place)
    data = log[offset : offset + length]
    if place.way == "f":
        return page_forward(data, offset, limit=limit, is_last=is_last and offset + length >= len(log))
    return page_backward(data, offset, limit=limit, is_last=is_last or place.offset < len(log))


def texts(page: Page) -> list[str]:
    return [line.text for line in page.lines]


def test_lines_are_events_and_empty_ones_are_none() -> None:
    page = page_forward(LOG, 0, limit=10, is_last=True)
    assert page.lines == (
        Line(offset=0, text="one"),
        Line(offset=4, text="two"),
        Line(offset=9, text="three"),
        Line(offset=15, text="rest"),
    )
    assert (page.start, page.end) == (0, len(LOG))


def test_an_unfinished_line_waits_for_its_end() -> None:
    page = page_forward(LOG, 0, limit=10, is_last=False)
    assert (texts(page), page.end) == (["one", "two", "three"], 15)
    assert page_forward(LOG[15:], 15, limit=10, is_last=False) == Page(lines=(), start=15, end=15)


def test_the_limit_ends_a_page_and_the_next_goes_on_behind_it() -> None:
    page = page_forward(LOG, 0, limit=2, is_last=True)
    assert (texts(page), page.end) == (["one", "two"], 8)
    assert texts(page_forward(LOG[8:], 8, limit=2, is_last=True)) == ["three", "rest"]


def test_backward_takes_the_last_lines_in_order() -> None:
    page = page_backward(LOG, 0, limit=2, is_last=True)
    assert (texts(page), page.start, page.end) == (["three", "rest"], 9, len(LOG))
    page = page_backward(LOG[:9], 0, limit=9, is_last=True)
    assert (texts(page), page.start) == (["one", "two"], 0)
    assert page_backward(b"", 0, limit=9, is_last=True) == Page(lines=(), start=0, end=0)


def test_a_window_that_begins_within_a_line_leaves_that_line_to_the_next() -> None:
    page = page_backward(LOG[1:], 1, limit=9, is_last=True)
    assert (texts(page), page.start) == (["two", "three", "rest"], 4)
    # The byte before the window is a line's end: the line is whole.
    assert texts(page_backward(LOG[3:], 3, limit=9, is_last=True)) == ["two", "three", "rest"]


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert texts(page_forward(b"a\xffb\n", 0, limit=1, is_last=True)) == ["a\ufffdb"]


@pytest.mark.parametrize("text", ["", "f/", "f/-1", "x/1", "f/1 ", "f/" + "9" * 19, "b/0x1"])
def test_other_texts_are_no_tokens(text: str) -> None:
    assert place_from(text) is None


@given(way=st.sampled_from(["f", "b"]), offset=st.integers(0, 10**18 - 1))
def test_a_token_leads_back_to_its_place(way: str, offset: int) -> None:
    place = Place(way="f" if way == "f" else "b", offset=offset)
    assert place_from(str(place)) == place


lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20), max_size=8)


@given(rows=lines, limit=st.integers(1, 7), window_bytes=st.integers(16, 64), is_cut=st.booleans())
def test_all_pages_one_way_and_the_other_hold_the_whole_log(
    rows: list[str], limit: int, window_bytes: int, is_cut: bool
) -> None:
    """Windows are smaller than many lines here: lines are cut, none is lost or shown twice."""
    log = "\n".join(rows).encode() + (b"" if is_cut else b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_pages, "WINDOW_BYTES", window_bytes)
        patch.setattr(log_pages, "EVENT_BYTES_MAX", window_bytes // 2)
        forward, place = "", Place(way="f", offset=0)
        while (page := read(log, place, limit=limit, is_last=True)).end != place.offset:
            assert len(page.lines) <= limit
            forward += "".join(texts(page))
            place = Place(way="f", offset=page.end)
        backward, place = b"", Place(way="b", offset=len(log))
        while (page := read(log, place, limit=limit, is_last=True)).start != place.offset:
            assert len(page.lines) <= limit
            backward = log[page.start : page.end].replace(b"\n", b"") + backward
            place = Place(way="b", offset=page.start)
    assert forward == "".join(rows)
    assert backward == "".join(rows).encode()
    assert place.offset == 0
