"""The log of a real process, over plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.endpoint import Endpoint

from .host import Host, host
from .visitor import Visitor

pytestmark = pytest.mark.timeout(180)

LONG = "%031.0f"
"""How ``seq`` writes lines so long that 2,000 just fit into a page's bytes: shorter ones make more work, and no more pages."""


@pytest.fixture
def yard(endpoint: Endpoint, tmp_path: Path) -> Iterator[Host]:
    """Return a host that runs processes."""
    endpoint.run(endpoint.yard.furnish())
    with host(endpoint, tmp_path) as connected:
        yield connected


def shown(text: str) -> list[str]:
    """Return the lines of a page, as markup."""
    return re.findall(r"<code>(.*?)</code>", text, re.DOTALL)


def links(text: str, name: str) -> str:
    """Return where a link of a page leads."""
    found = re.search(rf'href="([^"]+)"[^>]*>{name}<', text)
    assert found is not None, name
    return found[1].replace("&amp;", "&")


def test_a_short_log_is_shown_whole_with_the_numbers_of_its_lines(visitor: Visitor, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "printf '\\033[31mred\\033[0m\\n\"><script>x()</script>\\na\\000b\\377'")
    page = visitor.get(f"jobs/{job_id}/log")
    assert shown(page.text) == [
        '<span class="f1">red</span>', "&#34;&gt;&lt;script&gt;x()&lt;/script&gt;", "a\u2400b\ufffd",
    ]  # fmt: skip
    assert re.findall(r">(\d+)</a><code>", page.text) == ["1", "2", "3"]
    assert "this is all of its log" in page.text
    assert "Older lines" not in page.text
    part = visitor.get(f"jobs/{job_id}/log?part=lines")
    assert shown(part.text) == shown(page.text)
    assert visitor.get(f"jobs/{job_id}/log?part=lines", If_None_Match=part.headers["etag"]).status == 304


def test_a_long_log_is_read_backward_and_forward_without_scripts(visitor: Visitor, yard: Host) -> None:
    job_id = yard.run("sh", "-c", f"seq -f {LONG} 100000 108000")
    page, lines = visitor.get(f"jobs/{job_id}/log").text, list[str]()
    assert shown(page)[-1] == f"{108000:031}"
    assert re.search(rf'tabindex="-1">256000</a><code>{108000:031}', page), "an offset, as its number is not known"
    while True:
        lines = shown(page) + lines
        if "Older lines" not in page:
            break
        page = visitor.get(links(page, "Older lines")).text
    assert lines == [f"{number:031}" for number in range(100000, 108001)]
    assert f'">1</a><code>{100000:031}' in page
    lines, page = [], visitor.get(links(page, "To the top")).text
    while got := shown(page):
        lines += got
        page = visitor.get(links(page, "Newer lines")).text
    assert lines == [f"{number:031}" for number in range(100000, 108001)]


def test_colours_go_on_into_every_slice(visitor: Visitor, yard: Host) -> None:
    """Fifty lines in red, fifty plain, and so on: wherever a slice begins, it begins as the one before ended."""
    marks = '/00$/ {printf "\\033[31m"} /50$/ {printf "\\033[0m"} {print}'
    script = f"seq -f {LONG} 100000 107999 | awk '{marks}'"
    job_id = yard.run("sh", "-c", script)
    pages = [f"jobs/{job_id}/log", f"jobs/{job_id}/log?at=150003"]
    while "Older lines" in (page := visitor.get(pages[-1]).text):
        pages.append(links(page, "Older lines"))
    for address in pages:
        lines = shown(visitor.get(address).text)
        wrong = [line for line in lines if ("f1" in line) != (int(re.sub(r"<[^>]+>", "", line)) % 100 < 50)]
        assert not wrong, (address, wrong[:3])
    assert len(pages) > 3


def test_a_link_to_a_line_shows_it_and_what_stands_before(visitor: Visitor, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "seq 100000 140000")
    page = visitor.get(f"jobs/{job_id}/log?at={7 * 20000}").text
    assert "120000" in shown(page)
    assert "119000" in shown(page)
    assert f'id="b{7 * 20000}"' in page
    assert f"at={7 * 20000}#b{7 * 20000}" in page


def test_what_was_dropped_of_a_log_is_told(visitor: Visitor, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "seq -f %099.0f 100000 129999; echo cause", log_size_mib=1)
    page, gaps, lines = visitor.get(f"jobs/{job_id}/log").text, 0, list[str]()
    for _ in range(100):
        gaps += page.count("its middle was dropped")
        lines = shown(page) + lines
        if "Older lines" not in page:
            break
        page = visitor.get(links(page, "Older lines")).text
    assert gaps == 1
    assert (lines[0], lines[-1]) == (f"{100000:099}", "cause")
    page = visitor.get(f"jobs/{job_id}/log?from=0").text
    while got := shown(page):
        last = got[-1]
        page = visitor.get(links(page, "Newer lines")).text
    assert last == "cause"


def test_each_attempt_has_its_log(visitor: Visitor, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "echo try $AWS_BATCH_JOB_ATTEMPT; exit 3", attempts=2)
    assert shown(visitor.get(f"jobs/{job_id}/log").text) == ["try 2"]
    first = visitor.get(f"jobs/{job_id}/log?attempt=1").text
    assert shown(first) == ["try 1"]
    assert "Attempt 1 (exit 3)" in first
    assert "Attempt 2 (exit 3)" in first
    assert "Job" in visitor.get(f"jobs/{job_id}/log?attempt=9").text
    assert "has no attempt 9" in visitor.get(f"jobs/{job_id}/log?attempt=9").text


@pytest.mark.parametrize("query", ["attempt=x", "from=-1", "before=1e3", "at=\u0661", "line=x", f"from={10**20}"])
def test_a_number_that_is_none_is_refused(visitor: Visitor, yard: Host, query: str) -> None:
    job_id = yard.run("true")
    path = f"jobs/{job_id}/log?from=0&{query}" if query.startswith("line") else f"jobs/{job_id}/log?{query}"
    reply = visitor.get(path.replace("\u0661", "%D9%A1"))
    assert reply.status == 400
    assert "a number, not" in reply.text


def test_why_there_is_no_log_is_said(visitor: Visitor, yard: Host) -> None:
    silent = yard.run("true")
    assert "The attempt wrote nothing." in visitor.get(f"jobs/{silent}/log").text
    never = yard.run("/no/such/program")
    assert "The attempt never started: " in visitor.get(f"jobs/{never}/log").text
    waiting = yard.endpoint.run(yard.endpoint.client.submit_job(name="x", job_definition=large(yard))).job_id
    assert "No output yet: the job has not started." in visitor.get(f"jobs/{waiting}/log").text
    assert visitor.get("jobs/019a0000-0000-7000-8000-000000000000/log").status == 404


def large(yard: Host) -> str:
    """Return a definition that no host has room for."""
    from batchyard import container  # noqa: PLC0415

    what = container(["true"], image="process://", vcpus=64, memory="64M")
    yard.endpoint.run(yard.endpoint.client.register_job_definition("large", container=what))
    return "large"


def test_a_log_that_its_host_keeps_no_longer_was_removed(visitor: Visitor, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.run(endpoint.yard.furnish())
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    with host(endpoint, before) as yard:
        job_id = yard.run("echo", "x")
    with host(endpoint, after):
        page = visitor.get(f"jobs/{job_id}/log")
        assert page.status == 200
        assert "Removed: host alpha keeps no log of this attempt." in page.text
        assert visitor.get(f"jobs/{job_id}/log.txt").status == 404


def test_a_host_that_is_away_has_its_logs(visitor: Visitor, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.run(endpoint.yard.furnish())
    with host(endpoint, tmp_path) as yard:
        job_id = yard.run("echo", "x")
    page = visitor.get(f"jobs/{job_id}/log")
    assert page.status == 200
    assert re.search(r"Host alpha has been away since 20\d\d-.*The log is there", page.text)


def test_the_whole_log_is_a_file(visitor: Visitor, yard: Host) -> None:
    job_id = yard.run("sh", "-c", "seq 1 300000; printf '\\033[31m\\377<script>'", name="big")
    connection = http.client.HTTPConnection("127.0.0.1", visitor.endpoint.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/console/jobs/{job_id}/log.txt", headers={"Cookie": visitor.cookie})
        reply = connection.getresponse()
        assert reply.status == 200
        assert reply.headers["content-disposition"] == f'attachment; filename="big-{job_id}-1.log"'
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["x-content-type-options"] == "nosniff"
        body = reply.read()
    assert body == b"".join(b"%d\n" % number for number in range(1, 300001)) + b"\x1b[31m\xff<script>"
