"""Attacks on the console over plain HTTP: floods, races, stolen and planted cookies, hostile names, TLS."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.gateway.endpoint import Endpoint, Yard

from batchyard_gateway.console import application
from batchyard_gateway.console.routes import ROWS
from batchyard_gateway.console.visit import ROOT

from .host import Host, host
from .visitor import FORM, Visitor

pytestmark = pytest.mark.timeout(180)

MIB = 1 << 20
AT_ONCE = 40


# Signing in ---------------------------------------------------------------------


def test_many_guesses_at_once_are_no_more_than_five(visitor: Visitor) -> None:
    guess = {"key": visitor.key_id, "secret": "guess"}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        tries = [threads.submit(Visitor(visitor.endpoint).send, "POST", "sign-in", guess) for _ in range(AT_ONCE)]
    statuses = [each.result().status for each in tries]
    assert statuses.count(403) == 5
    assert statuses.count(429) == AT_ONCE - 5


def test_signing_in_many_times_is_no_failure(visitor: Visitor) -> None:
    form = {"key": visitor.key_id, "secret": visitor.secret}
    assert {visitor.send("POST", "sign-in", form).status for _ in range(7)} == {303}


def test_a_link_that_is_opened_many_times_at_once_signs_in_once(visitor: Visitor) -> None:
    link = visitor.link()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        tries = [threads.submit(Visitor(visitor.endpoint).get, link) for _ in range(AT_ONCE)]
    assert [each.result().status for each in tries].count(303) == 1


def test_a_link_that_is_opened_again_leads_who_is_signed_in_on(visitor: Visitor) -> None:
    link = visitor.link()
    assert visitor.get(link).status == 303
    again = visitor.get(link)
    assert (again.status, again.headers["location"]) == (303, "/console/")
    assert Visitor(visitor.endpoint).get(link).status == 403


def test_a_planted_cookie_is_not_taken_up(visitor: Visitor) -> None:
    """Who knows a browser's cookie before it signs in knows nothing of its session."""
    name = visitor.cookie.partition("=")[0]
    victim = Visitor(visitor.endpoint, cookie=f"{name}=planted")
    assert victim.send("POST", "sign-in", {"key": visitor.key_id, "secret": visitor.secret}).status == 303
    assert victim.cookie.partition("=")[2] != "planted"
    assert Visitor(visitor.endpoint, cookie=f"{name}=planted").get("about").status == 303


def test_a_cookie_that_another_port_plants_shuts_nobody_out(visitor: Visitor) -> None:
    """Ports share a browser's cookies: one of the same name for all paths comes behind the console's own."""
    name = visitor.cookie.partition("=")[0]
    assert Visitor(visitor.endpoint, cookie=f"{visitor.cookie}; {name}=planted").get("about").status == 200


def test_signing_in_again_ends_the_session_before(visitor: Visitor) -> None:
    before = visitor.cookie
    assert visitor.send("POST", "sign-in", {"key": visitor.key_id, "secret": visitor.secret}).status == 303
    assert visitor.get("about").status == 200
    assert Visitor(visitor.endpoint, cookie=before).get("about").status == 303


def test_the_token_of_another_session_changes_nothing(visitor: Visitor) -> None:
    other = Visitor(visitor.endpoint).sign_in()
    before = dict(visitor.endpoint.yard.stored())
    assert visitor.send("POST", "secrets", {"csrf": other.csrf(), "name": "a", "value": "b"}).status == 403
    assert visitor.endpoint.yard.stored() == before


def test_two_tabs_of_one_session_both_go_on(visitor: Visitor) -> None:
    one, two = visitor.csrf(), visitor.csrf()
    assert visitor.send("POST", "secrets", {"csrf": one, "name": "a", "value": "b"}).status == 303
    assert visitor.send("POST", "secrets", {"csrf": two, "name": "b", "value": "b"}).status == 303


def test_slow_bodies_keep_nobody_waiting(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "REQUESTS_MAX", 4)
    head = (
        f"POST {ROOT}/secrets HTTP/1.1\r\nHost: 127.0.0.1:{visitor.endpoint.port}\r\nCookie: {visitor.cookie}\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: 1000\r\n\r\ncsrf="
    )
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", visitor.endpoint.port)))
            slow.sendall(head.encode())
        for _ in range(5):
            assert visitor.get("about").status == 200


# Whole and part -----------------------------------------------------------------


@pytest.mark.parametrize("part", ["content", "rows", "title", "nothing", "../base", "%00"])
def test_no_part_of_a_page_is_told_without_a_session(visitor: Visitor, yard: Yard, part: str) -> None:
    job_id = yard.submit("told")
    for path in ("jobs", f"jobs/{job_id}", "counts", "secrets", "keys"):
        assert "told" in visitor.get("jobs").text
        reply = Visitor(visitor.endpoint).get(f"{path}?part={part}")
        assert reply.status == 401
        assert job_id not in reply.text


@pytest.mark.parametrize("path", [*(row.path.replace("{", "").replace("}", "") for row in ROWS), "/sign-in", "/no"])
def test_a_head_ends_at_once(visitor: Visitor, path: str) -> None:
    """Over one connection: what went on behind it, as a stream of events does, would keep the next from its answer."""
    statuses = heads(visitor, f"{ROOT}{path}")
    assert statuses[0] < 500
    assert statuses[1] == 200


def heads(visitor: Visitor, path: str) -> list[int]:
    """Return the statuses of a HEAD and of a page after it, over the same connection."""
    connection = http.client.HTTPConnection("127.0.0.1", visitor.endpoint.port, timeout=60)
    statuses = []
    for method, each in (("HEAD", path), ("GET", f"{ROOT}/about")):
        connection.request(method, each, headers={"Cookie": visitor.cookie})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


@pytest.fixture
def real(endpoint: Endpoint, tmp_path: Path) -> Iterator[Host]:
    """Return a host that runs processes."""
    endpoint.run(endpoint.yard.furnish())
    with host(endpoint, tmp_path) as connected:
        yield connected


def test_a_head_of_a_log_that_goes_on_waits_for_no_end(visitor: Visitor, real: Host) -> None:
    with real.talker() as talker:
        talker.say(b"a line\n")
        path = f"{ROOT}/jobs/{talker.job_id}/log.txt"
        assert heads(visitor, path) == [200, 200]
        reply = visitor.send("HEAD", path)
    assert reply.headers["content-disposition"] == f'attachment; filename="talker-{talker.job_id}-1.log"'


# Floods -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [("a=" + "x" * MIB, 413), ("a=1&" * 100_000, 413), ("csrf=x&a=" + "x" * (MIB - 100), 403)],
    ids=["a mebibyte and more", "100,000 fields", "just short enough"],
)
def test_a_form_has_its_bounds(visitor: Visitor, body: str, status: int) -> None:
    assert flood(visitor, "secrets", body) == status
    assert visitor.get("about").status == 200


@pytest.mark.parametrize("body", ["key=" + "x" * (64 << 10), "a&" * 6_000], ids=["long", "many fields"])
def test_what_strangers_may_send_is_short(stranger: Visitor, body: str) -> None:
    assert flood(stranger, "sign-in", body) == 413


def flood(visitor: Visitor, path: str, body: str) -> int:
    headers = {"Content-Type": FORM, "Cookie": visitor.cookie}
    return visitor.endpoint.send("POST", f"{ROOT}/{path}", body.encode(), headers).status


def test_forms_that_never_end_keep_nobody_out(visitor: Visitor) -> None:
    """More than may wait from one address: the oldest of them make room."""
    head = (
        f"POST {ROOT}/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 1000\r\n\r\nkey="
    )
    slow = [socket.create_connection(("127.0.0.1", visitor.endpoint.port)) for _ in range(200)]
    for each in slow:
        each.sendall(head.encode())
    assert visitor.get("about").status == 200
    for each in slow:
        each.close()


# Names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "there", [f"{ROOT}/a%0d%0aSet-Cookie:%20x=1", f"{ROOT}/\r\nX: y", f"{ROOT}/é", f"{ROOT}/\u2028"]
)
def test_a_way_back_adds_no_header(visitor: Visitor, there: str) -> None:
    for path in ("sign-in", "clock"):
        form = {"key": visitor.key_id, "secret": visitor.secret, "next": there, "back": there, "csrf": visitor.csrf()}
        reply = visitor.send("POST", path, form)
        assert reply.status == 303
        assert "x" not in reply.headers
        assert "x=1" not in reply.headers.get("set-cookie", "")


@pytest.mark.parametrize("name", ["a%0d%0aX:%20y", "a%3Fb", "a%23b", "%2e%2e%2f", "%00", "%C3%A9", "%FF"])
def test_names_in_paths_are_names(visitor: Visitor, name: str) -> None:
    """What no thing can be called is not found, whatever the method; the way back asks for the same."""
    token = visitor.csrf()
    for row in ROWS:
        if "{" not in row.path:
            continue
        path = f"{ROOT}{re.sub(r'{.*?}', name, row.path)}"
        stranger = Visitor(visitor.endpoint).get(path)
        assert stranger.status in (303, 404), path
        assert visitor.get(path).status in (303, 400, 404, 422), path
        if row.change:
            assert visitor.send("POST", path, {"csrf": token}).status in (303, 400, 404, 405, 422), path


def test_one_comes_back_to_the_name_that_one_asked_for(visitor: Visitor) -> None:
    """What is escaped in a path is not what it stands for."""
    reply = Visitor(visitor.endpoint).get("definitions/a%3Fb%23c%0d")
    assert reply.headers["location"] == f"{ROOT}/sign-in?next={ROOT}/definitions/a%253Fb%2523c%250d"
    assert (
        f'href="{ROOT}/definitions/a%3Fb%23c%0d?x=1" data-key="r"' in visitor.get("definitions/a%3Fb%23c%0d?x=1").text
    )


@pytest.mark.parametrize(
    "path",
    ["static/../application.py", "static/%2e%2e/application.py", "static/..%2fapplication.py", "static//etc/passwd"],
)
def test_nothing_but_its_own_files_is_served(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status == 404


# TLS ----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_under_tls_the_cookie_is_for_tls_alone(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway"]
    making += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(making, check=True, capture_output=True)
    with Endpoint(listen="0.0.0.0:0", tls_cert=str(cert), tls_key=str(key)) as endpoint:
        made = endpoint.run(endpoint.client.create_access_key())
        connection = http.client.HTTPSConnection(
            "127.0.0.1", endpoint.port, context=ssl.create_default_context(cafile=str(cert)), timeout=30
        )
        form = urlencode({"key": made.access_key.id, "secret": made.secret})
        origin = f"https://127.0.0.1:{endpoint.port}"
        plain = {"Content-Type": FORM, "Origin": origin.replace("https", "http")}
        assert status_of(connection, "POST", "sign-in", form, plain) == 403
        connection.request("POST", f"{ROOT}/sign-in", form, {"Content-Type": FORM, "Origin": origin})
        answer = connection.getresponse()
        answer.read()
        cookie = answer.headers["set-cookie"]
        assert answer.status == 303
        assert cookie.startswith(f"__Secure-batchyard-{endpoint.port}=")
        assert {"Secure", "HttpOnly", "SameSite=strict", f"Path={ROOT}"} <= set(cookie.split("; "))
        named = cookie.partition(";")[0]
        assert status_of(connection, "GET", "about", "", {"Cookie": named}) == 200
        assert status_of(connection, "GET", "about", "", {"Cookie": named.removeprefix("__Secure-")}) == 303
        connection.close()


def status_of(
    connection: http.client.HTTPSConnection, method: str, path: str, body: str, headers: dict[str, str]
) -> int:
    connection.request(method, f"{ROOT}/{path}", body or None, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_beyond_loopback_nobody_signs_in_without_tls() -> None:
    with Endpoint(listen="0.0.0.0:0") as endpoint:
        made = endpoint.run(endpoint.client.create_access_key())
        visitor = Visitor(endpoint, key_id=made.access_key.id, secret=made.secret)
        for reply in (
            visitor.get("sign-in"),
            visitor.get(visitor.link()),
            visitor.send("POST", "sign-in", {"key": visitor.key_id, "secret": visitor.secret}),
        ):
            assert reply.status == 403
            assert "--tls-cert" in reply.text
        assert not visitor.cookie
