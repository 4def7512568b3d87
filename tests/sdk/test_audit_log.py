"""Chain: whatever is done to the lines of an audit log, it is seen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchyard.audit_log import BrokenChainError, Link, add, follow


def lines(number: int, after: Link | None = None) -> list[str]:
    made, link = [], after or Link()
    for i in range(number):
        line, link = add(link, {"who": f"user{i}", "text": "\n\N{PILE OF POO}"})
        made.append(line)
    return made


def test_a_chain_holds_and_says_where_it_is() -> None:
    made = lines(5)
    links = list(follow(made))
    assert [link.seq for link in links] == [1, 2, 3, 4, 5]
    assert list(follow(made[2:]))[-1] == links[-1], "its beginning may be gone"
    assert all("\n" not in line for line in made)


@given(st.integers(0, 4), st.sampled_from(["change", "drop", "repeat", "swap", "forge", "cut"]), st.data())
def test_tampering_is_seen(place: int, how: str, data: st.DataObject) -> None:
    made = lines(5)
    head = list(follow(made))[-1]
    match how:
        case "change":
            told = json.loads(made[place])
            told["who"] = data.draw(st.text(max_size=5).filter(lambda text: text != told["who"]))
            made[place] = json.dumps(told, separators=(",", ":"))
        case "drop":
            del made[place]
        case "repeat":
            made.insert(place, made[place])
        case "swap":
            other = (place + 1) % 5
            made[place], made[other] = made[other], made[place]
        case "forge":
            made[place] = add(Link(place, "f" * 64), {"who": "eve"})[0]
        case "cut":
            made = made[:place]
    try:
        end = ([Link(), *follow(made)])[-1]
    except BrokenChainError:
        return
    # What reaches the end or takes the beginning off leaves a chain, but not that one.
    assert end != head or (how == "drop" and place == 0)


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"seq":0}', '{"seq":"1"}', "1"])
def test_what_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(BrokenChainError):
        list(follow([line]))
