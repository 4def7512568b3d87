"""Notices of reclaim: from a file, a command, and a server that speaks as EC2's metadata does."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from batchyard_agent import clock
from batchyard_agent.core.events import Now
from batchyard_agent.probe import reclaim
from batchyard_agent.probe.reclaim import (
    NOTICE_MS,
    NoAnswerError,
    NoticeCommand,
    NoticeFile,
    Notices,
    NoticeServer,
    read_time,
)

NOON = "2026-01-31T12:00:00Z"
NOON_MS = 1_769_860_800_000
NOW_MS = NOON_MS - 60_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        (NOON, NOON_MS),
        (f" {NOON}\n", NOON_MS),
        ("2026-01-31T12:00:00", NOON_MS),
        ("2026-01-31T13:00:00+01:00", NOON_MS),
        (json.dumps({"action": "terminate", "time": NOON}), NOON_MS),
        ("", 5 + NOTICE_MS),
        ("soon", 5 + NOTICE_MS),
        ('{"action": "stop"}', 5 + NOTICE_MS),
        ('{"time": 7', 5 + NOTICE_MS),
        ("0001-01-01T00:00:00Z", 1),
        ("9999-12-31T23:59:59-12:00", 253_402_300_799_000),
    ],
)
def test_a_notice_holds_its_time_or_means_two_minutes(text: str, at_ms: int):
    assert read_time(text, since_ms=5) == at_ms


# --- a file -----------------------------------------------------------------------------


async def test_a_file_says_it_for_as_long_as_it_exists(tmp_path: Path):
    path = tmp_path / "reclaim"
    source = NoticeFile(path)
    assert await source.ask() == 0
    path.touch()
    assert await source.ask() == path.stat().st_mtime_ns // 1_000_000 + NOTICE_MS
    path.write_text(NOON)
    assert await source.ask() == NOON_MS
    path.unlink()
    assert await source.ask() == 0


async def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path):
    with pytest.raises(NoAnswerError, match="directory"):
        await NoticeFile(tmp_path).ask()
    with pytest.raises(NoAnswerError):
        await NoticeFile(tmp_path / ("x" * 300)).ask()


# --- a command --------------------------------------------------------------------------


async def test_a_command_says_it_by_its_success_and_prints_when(tmp_path: Path):
    now_ms = [NOW_MS]
    gate = tmp_path / "gate"
    source = NoticeCommand(f"cat {gate}", lambda: now_ms[0])
    assert await source.ask() == 0
    gate.touch()
    assert await source.ask() == NOW_MS + NOTICE_MS
    now_ms[0] += 5_000
    assert await source.ask() == NOW_MS + NOTICE_MS, "two minutes from when it was said first"
    gate.write_text(NOON)
    assert await source.ask() == NOON_MS
    gate.unlink()
    assert await source.ask() == 0
    gate.touch()
    assert await source.ask() == NOW_MS + 5_000 + NOTICE_MS


async def test_a_command_that_does_not_end_gives_no_answer_and_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reclaim, "ANSWER_S", 0.2)
    with pytest.raises(NoAnswerError, match=r"longer than 0\.2 s"):
        await NoticeCommand(f"sleep 60 & echo $! >{tmp_path}/pid; wait", lambda: NOW_MS).ask()
    pid = int((tmp_path / "pid").read_text())
    async with asyncio.timeout(50):
        while _is_alive(pid):
            await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- a metadata server ------------------------------------------------------------------


class Metadata(http.server.BaseHTTPRequestHandler):
    """EC2's metadata service, as far as it is asked."""

    notice = ""
    tokens: tuple[str, ...] = ()
    status = 0
    asked: ClassVar[list[str]] = []
    url = ""

    def do_PUT(self) -> None:  # the library's name
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
        assert self.path == "/latest/api/token"
        type(self).tokens += (f"token-{len(self.tokens)}",)
        self._answer(200, self.tokens[-1])

    def do_GET(self) -> None:  # the library's name
        assert self.path == "/latest/meta-data/spot/instance-action"
        self.asked.append(self.headers["X-aws-ec2-metadata-token"] or "")
        if self.headers["X-aws-ec2-metadata-token"] != (self.tokens or ("",))[-1]:
            self._answer(401, "")
        elif self.status:
            self._answer(self.status, "")
        else:
            self._answer(200 if self.notice else 404, self.notice)

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def metadata() -> Iterator[type[Metadata]]:
    class Mine(Metadata):
        asked: ClassVar[list[str]] = []
        url = ""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine) as server:
        Mine.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Mine
        server.shutdown()
        thread.join()


async def test_a_server_is_asked_with_a_token_that_lasts(metadata: type[Metadata], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    source = NoticeServer(metadata.url, lambda: NOW_MS)
    assert await source.ask() == 0
    metadata.notice = json.dumps({"action": "terminate", "time": NOON})
    assert await source.ask() == NOON_MS
    assert metadata.asked == ["token-0"] * 2
    metadata.tokens += ("renewed",)
    metadata.notice = ""
    assert await source.ask() == 0
    assert metadata.tokens[-1] == "token-2"


async def test_a_server_that_fails_says_nothing(metadata: type[Metadata]):
    source = NoticeServer(metadata.url, lambda: NOW_MS)
    metadata.status = 500
    with pytest.raises(NoAnswerError, match="500"):
        await source.ask()
    metadata.status = 401
    with pytest.raises(NoAnswerError, match="tokens"):
        await source.ask()
    metadata.status = 1
    with pytest.raises(NoAnswerError):
        await source.ask()
    with pytest.raises(NoAnswerError, match="refused"):
        await NoticeServer("http://127.0.0.1:1", lambda: NOW_MS).ask()


# --- all of them ------------------------------------------------------------------------


class Told:
    """A source that says what a test has it say."""

    def __init__(self, said: int | None = 0) -> None:
        self.said = said

    async def ask(self) -> int:
        if self.said is None:
            raise NoAnswerError("away")
        return self.said


async def test_changes_are_told_the_earliest_counts_and_silence_changes_nothing():
    told: list[int] = []
    first, second = Told(), Told()
    notices = Notices([first, second], told.append, lambda: Now(boot_ms=5, wall_ms=9))
    for said in ((0, 0), (0, 9), (7, 9), (7, 9), (7, 5), (None, 5), (None, 0), (0, 0)):
        first.said, second.said = said
        await notices.look()
    assert told == [9, 7, 5, 7, 0]


async def test_a_time_is_told_again_when_the_clock_was_set():
    """How long it is until then is another; a clock that is slewed may drift."""
    told: list[int] = []
    source, wall_ms = Told(), [0, 4_000, 8_999, 3_612_000, 3_616_000, 20_000]
    source.said = 7_200_000
    nows = iter([Now(boot_ms=4_000 * i, wall_ms=each) for i, each in enumerate(wall_ms)])
    notices = Notices([source], told.append, lambda: next(nows))
    for expected in (1, 1, 1, 2, 2, 3):
        await notices.look()
        assert len(told) == expected


async def test_sources_are_asked_again_and_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reclaim, "LOOK_S", 0.0)
    seen = asyncio.Event()
    source = Told()
    notices = Notices([source], lambda _: seen.set(), clock.read_now)
    await notices.look()
    source.said = 3
    async with asyncio.timeout(50):
        running = asyncio.create_task(notices.run())
        await seen.wait()
        running.cancel()
