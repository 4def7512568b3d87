"""Bytes of a log as lines: where slices begin and end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batchyard.errors import FailedPreconditionError, NotFoundError, Reason, UnavailableError
from batchyard.v1.job_definition_pb2 import CONTAINER_CONDITION_SUCCESS, ContainerProperties, TaskProperties
from batchyard.v1.job_pb2 import Attempt, ContainerStatus, Job
from batchyard_gateway.console.ansi import PLAIN, Style
from batchyard_gateway.console.job_view import facts
from batchyard_gateway.console.log_view import (
    LINES_MAX,
    PIECE_BYTES,
    Slice,
    absence,
    around,
    backward,
    container,
    forward,
    outcome_of_container,
)
from batchyard_gateway.log_slices import Piece


def piece(data: bytes, start: int = 0, asked: int | None = None) -> Piece:
    return Piece(data=data, start=start, asked=start if asked is None else asked)


def texts(found: Slice) -> list[str]:
    return ["".join(span.text for span in line.spans) for line in found.lines]


def whole(data: bytes, **more: int) -> Slice:
    return forward(piece(data, **more), style=PLAIN, number=1, is_final=True)


def test_lines_have_offsets_and_numbers() -> None:
    found = whole(b"one\n\nthree\r\nlast")
    assert texts(found) == ["one", "", "three", "last"]
    assert [(line.offset, line.number) for line in found.lines] == [(0, 1), (4, 2), (5, 3), (12, 4)]
    assert (found.end, found.number) == (16, 4)


def test_a_line_that_is_being_written_is_shown_and_read_again() -> None:
    found = forward(piece(b"one\ntw", 10), style=PLAIN, number=7, is_final=False)
    assert texts(found) == ["one", "tw"]
    assert [line.is_open for line in found.lines] == [False, True]
    assert (found.end, found.number) == (14, 8)


def test_the_style_of_a_line_that_is_being_written_is_not_carried_twice() -> None:
    found = forward(piece(b"\x1b[31mred\n\x1b[0m\x1b[1mbold"), style=PLAIN, number=1, is_final=False)
    assert found.style == Style(ink=1)


def test_a_long_line_is_shown_in_pieces() -> None:
    found = whole(b"x" * (2 * PIECE_BYTES + 5) + b"\nnext\n")
    assert [line.is_more for line in found.lines] == [False, True, True, False]
    assert [line.number for line in found.lines] == [1, 0, 0, 2]
    assert len(texts(found)[0]) == PIECE_BYTES


def test_no_letter_is_cut() -> None:
    found = whole(b"x" + "\u20ac".encode() * PIECE_BYTES)
    assert set("".join(texts(found))) == {"x", "\u20ac"}


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert texts(whole(b"a\xff\xfe\x00b\n")) == ["a\ufffd\ufffd\u2400b"]


def test_the_end_of_a_log_begins_with_a_whole_line() -> None:
    found = backward(piece(b"rest\none\ntwo\n", 100), is_final=True)
    assert texts(found) == ["one", "two"]
    assert (found.start, found.end, found.number) == (105, 113, 0)


def test_the_end_of_a_log_that_is_one_line_is_shown() -> None:
    assert texts(backward(piece(b"endless", 100), is_final=True)) == ["endless"]
    assert texts(backward(piece(b"endless\n", 100), is_final=True)) == ["endless"]


def test_a_gap_is_told_and_what_is_left_of_its_line_is_shown() -> None:
    for found in (
        backward(piece(b"half\none\n", 100, 90), is_final=True),
        whole(b"half\none\n", start=100, asked=90),
        around(piece(b"half\none\n", 100, 90), is_final=True),
    ):
        assert found.has_gap
        assert texts(found) == ["half", "one"]
        assert found.number == 0


def test_a_slice_has_so_many_lines() -> None:
    many = b"\n" * (LINES_MAX + 10)
    first, last = whole(many), backward(piece(many), is_final=True)
    assert (len(first.lines), first.end) == (LINES_MAX, LINES_MAX)
    assert (len(last.lines), last.start, last.end) == (LINES_MAX, 10, LINES_MAX + 10)
    assert last.number == 0


def test_a_link_shows_what_stands_around_a_line() -> None:
    assert texts(around(piece(b"rest\none\n", 50), is_final=True)) == ["one"]
    assert around(piece(b"one\n"), is_final=True).lines[0].number == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"\n", b"a", b"\r", b"\xff", "\u20ac".encode(), b"x" * 300, b"\x1b[31m", b"b" * PIECE_BYTES])
    ),
    st.integers(1, 5),
)
def test_slices_show_every_line_once(parts: list[bytes], step: int) -> None:
    """Slice by slice, as a page that follows asks for them, all comes as if it had been read at once."""
    data = b"".join(parts)
    expected, found = whole(data), []
    at, style, number = 0, PLAIN, 1
    for end in (*range(0, len(data), max(1, len(data) // step)), len(data)):
        if end <= at:
            continue
        got = forward(piece(data[at:end], at), style=style, number=number, is_final=end == len(data))
        found += [line for line in got.lines if not line.is_open]
        at, style, number = got.end, got.style, got.number
    shown = "".join("".join(span.text for span in line.spans) for line in found)
    assert at == len(data)
    if len(data) < PIECE_BYTES:
        assert [line.offset for line in found] == [line.offset for line in expected.lines]
        assert shown == "".join(texts(expected))


def test_why_there_is_no_log_is_said() -> None:
    never = FailedPreconditionError("did not start", reason=Reason.JOB_NEVER_RAN)
    away = UnavailableError("x", reason=Reason.HOST_DISCONNECTED)
    gone = NotFoundError("x", reason=Reason.LOG_NOT_FOUND)
    assert absence(never, why_never="no image") == "The attempt never started: no image"
    assert absence(away, host_name="alpha", away_since="12:00").startswith("Host alpha has been away since 12:00. The")
    assert absence(gone, host_name="alpha").startswith("Removed: host alpha keeps no log")
    assert absence(NotFoundError("job x has no attempt 9")) == "There is no log: job x has no attempt 9."


def test_of_several_containers_the_first_essential_one_is_shown_unless_another_is_asked_for() -> None:
    parts = [
        ContainerProperties(name="init", essential=False),
        ContainerProperties(name="main"),
        ContainerProperties(name="side", essential=True),
    ]
    job = Job(task=TaskProperties(containers=parts))
    assert [container(job, asked) for asked in ("", "init", "side", "nobody")] == ["main", "init", "side", "main"]
    assert container(Job(), "main") == ""
    attempt = Attempt(
        containers=[
            ContainerStatus(name="init", exit_code=3),
            ContainerStatus(name="main", reason="It was not started"),
            ContainerStatus(name="side"),
        ]
    )
    told = [outcome_of_container(attempt, name) for name in ("init", "main", "side")]
    assert told == ["exit code 3", "did not run", ""]


def test_what_several_containers_are_is_told_in_a_line_each() -> None:
    init = ContainerProperties(name="init", image="i", command=["a", "b c"], essential=False)
    main = ContainerProperties(name="main", image="m")
    main.depends_on.add(container="init", condition=CONTAINER_CONDITION_SUCCESS)
    for each in (init, main):
        each.resources.cpu_millis, each.resources.memory_mib = 500, 64
    told = dict(facts(Job(task=TaskProperties(containers=[init, main]), timeout_s=60)))
    assert told["init"] == "i; a 'b c'; 0.5 vCPU, 64 MiB; not essential"
    assert told["main"] == "m; 0.5 vCPU, 64 MiB; after success of init"
    assert told["Timeout"] == "60 s an attempt"
    assert "Image" not in told
