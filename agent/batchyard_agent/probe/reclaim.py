"""
Whether this machine is about to be taken away, and when: a file, a command, or a cloud's metadata says so.

It knows nothing of attempts and tells nobody but whom it is given. Laws: a source that
gives no answer leaves what was known; a notice without a time means two minutes, which
is the warning that Amazon EC2 gives; of several the earliest counts.

Source: Amazon EC2 User Guide, "Spot Instance interruption notices" (which also asks to
look every five seconds) and "Use IMDSv2".
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

import structlog

from batchyard_agent.core.events import Now

LOOK_S = 5.0
ANSWER_S = 4.0
NOTICE_MS = 120_000
CLOCK_SET_MS = 1_000
"""By how much the wall clock has to differ from what it was to show to count as set."""
LATEST_MS = 253_402_300_799_000
"""The end of the year 9999, which is the latest that the controller takes."""
EC2_METADATA = "http://169.254.169.254"
TOKEN_TTL_S = 6 * 3600
TEXT_BYTES_MAX = 4096

log = structlog.get_logger()


class NoAnswerError(Exception):
    """A source could not be asked; the text says why."""


class Source(Protocol):
    """Where it may be said that the machine is taken away."""

    async def ask(self) -> int:
        """
        Return when the machine is taken away (milliseconds since 1970); 0 if nothing is said.

        Raises:
            NoAnswerError: it could not be asked.
        """


def read_time(text: str, since_ms: int) -> int:
    """
    Read when the machine is taken away, in milliseconds since 1970.

    Args:
        text: A time as ``2026-01-31T12:00:00Z`` (UTC where no zone is given), or JSON with such a ``time``.
        since_ms: When it was said first, for a text that holds no time.
    """
    text = text.strip()
    try:
        if text.startswith("{"):
            text = str(json.loads(text).get("time", ""))
        if not text:
            return since_ms + NOTICE_MS
        at = datetime.fromisoformat(text)
        at_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        return min(max(1, at_ms), LATEST_MS)
    except (ValueError, OverflowError):
        log.warning("a notice of reclaim holds no time", text=text[:100])
        return since_ms + NOTICE_MS


class NoticeFile:
    """A file that exists when the machine is taken away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self) -> int:
        """See `Source`."""
        try:
            since_ms = self._path.stat().st_mtime_ns // 1_000_000
            with self._path.open("rb") as file:
                return read_time(file.read(TEXT_BYTES_MAX).decode(errors="replace"), since_ms)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise NoAnswerError(str(error)) from None


class NoticeCommand:
    """A command that succeeds while the machine is to be taken away."""

    def __init__(self, command: str, read_wall_ms: Callable[[], int]) -> None:
        self._command = command
        self._read_wall_ms = read_wall_ms
        self._since_ms = 0

    async def ask(self) -> int:
        """See `Source`."""
        try:
            process = await asyncio.create_subprocess_shell(
                self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise NoAnswerError(str(error)) from None
        try:
            async with asyncio.timeout(ANSWER_S):
                said, _ = await process.communicate()
        except TimeoutError:
            raise NoAnswerError(f"it took longer than {ANSWER_S:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what the shell began, too
                await process.wait()
        self._since_ms = (self._since_ms or self._read_wall_ms()) if process.returncode == 0 else 0
        return read_time(said[:TEXT_BYTES_MAX].decode(errors="replace"), self._since_ms) if self._since_ms else 0


class NoticeServer:
    """A metadata server as Amazon EC2 has it (IMDSv2)."""

    def __init__(self, url: str, read_wall_ms: Callable[[], int]) -> None:
        self._url = url
        self._read_wall_ms = read_wall_ms
        self._token = ""
        self._since_ms = 0
        # Never by a proxy: it would tell of its own machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    async def ask(self) -> int:
        """See `Source`."""
        try:
            return await asyncio.to_thread(self._ask)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NoAnswerError(str(error)) from None

    def _ask(self) -> int:
        for _ in range(2):
            try:
                self._token = self._token or self._call(
                    "PUT", "api/token", "X-aws-ec2-metadata-token-ttl-seconds", str(TOKEN_TTL_S)
                )
                said = self._call("GET", "meta-data/spot/instance-action", "X-aws-ec2-metadata-token", self._token)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 404:
                        self._since_ms = 0
                        return 0
                    if error.code != 401:
                        raise
                self._token = ""  # it has expired
            else:
                self._since_ms = self._since_ms or self._read_wall_ms()
                return read_time(said, self._since_ms)
        raise NoAnswerError("it takes none of its own tokens")

    def _call(self, method: str, path: str, header: str, value: str) -> str:
        url = f"{self._url}/latest/{path}"
        request = urllib.request.Request(url, method=method, headers={header: value})  # noqa: S310  # http alone: see config
        with self._opener.open(request, timeout=ANSWER_S / 2) as answer:
            return str(answer.read(TEXT_BYTES_MAX).decode(errors="replace"))


class Notices:
    """
    All sources of one machine, asked again and again.

    Args:
        sources: Where it may be said.
        on_change: Told when that is (milliseconds since 1970), or 0 that it is not, when that has changed, or
            how long it is until then, as the clock was set.
        read_now: Both clocks.
    """

    def __init__(
        self, sources: Sequence[Source], on_change: Callable[[int], None], read_now: Callable[[], Now]
    ) -> None:
        self._known = dict.fromkeys(sources, 0)
        self._on_change = on_change
        self._read_now = read_now
        self._at_ms = 0
        self._at_boot_ms = 0
        self._is_silent: set[Source] = set()

    async def look(self) -> None:
        """Ask all sources once, and tell what is new."""
        await asyncio.gather(*map(self._ask, self._known))
        at_ms = min(filter(None, self._known.values()), default=0)
        now = self._read_now()
        at_boot_ms = now.boot_ms + at_ms - now.wall_ms
        is_set = at_ms > 0 and abs(at_boot_ms - self._at_boot_ms) > CLOCK_SET_MS
        if at_ms == self._at_ms and not is_set:
            return
        if at_ms:
            log.warning("this machine is taken away", at=datetime.fromtimestamp(at_ms / 1000, UTC).isoformat())
        else:
            log.warning("this machine stays after all")
        self._at_ms, self._at_boot_ms = at_ms, at_boot_ms
        self._on_change(at_ms)

    async def run(self) -> NoReturn:
        """Look every few seconds, if there are any sources."""
        while self._known:
            await asyncio.sleep(LOOK_S)
            await self.look()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def _ask(self, source: Source) -> None:
        try:
            self._known[source] = await source.ask()
            self._is_silent.discard(source)
        except NoAnswerError as error:
            if source not in self._is_silent:
                self._is_silent.add(source)  # one line an outage
                log.warning(
                    "a source of notices of reclaim gives no answer", source=type(source).__name__, why=str(error)
                )
