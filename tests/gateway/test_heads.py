"""The door, header by header: what another site's page sends is refused before its body has come."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from batchyard_gateway.errors import ApiError
from batchyard_gateway.heads import check_sender
from batchyard_gateway.wire import Request

from .endpoint import Endpoint, Yard

SUBMIT = json.dumps({"jobName": "j", "jobQueue": "q", "jobDefinition": "d"}).encode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Endpoint]:
    with Endpoint(host_names=("yard.example",)) as endpoint:
        Yard(endpoint, endpoint.batch())
        yield endpoint


FOREIGN = {
    "a foreign host": {"Host": "evil.example"},
    "a foreign host, with the port": {"Host": "evil.example:8471"},
    "any address": {"Host": "0.0.0.0"},
    "another's address": {"Host": "192.0.2.1"},
    "a name that only begins as ours": {"Host": "localhost.evil.example"},
    "a host of nothing": {"Host": ""},
    "a foreign origin": {"Origin": "http://evil.example"},
    "an origin that hides": {"Origin": "null"},
    "an origin of another port": {"Origin": "http://127.0.0.1:1"},
    "an origin of another scheme": {"Origin": "https://127.0.0.1"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "another port of ours": {"Sec-Fetch-Site": "same-site"},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_another_site_sends_is_refused(shared: Endpoint, case: str) -> None:
    before = shared.yard.stored()
    reply = shared.send("POST", "/v1/submitjob", SUBMIT, FOREIGN[case])
    assert (reply.status, reply.json()["__type"]) == (403, "AccessDeniedException")
    assert shared.yard.stored() == before


def test_it_is_refused_before_its_body_has_come(shared: Endpoint) -> None:
    for lines, status in (
        ("Host: evil.example\r\nContent-Type: application/json", b" 403 "),
        ("Host: localhost\r\nOrigin: http://evil.example\r\nContent-Type: application/json", b" 403 "),
        ("Host: localhost\r\nContent-Type: text/plain", b" 415 "),
        ("Host: localhost", b" 415 "),
    ):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=60) as connection:
            connection.sendall(f"POST /v1/submitjob HTTP/1.1\r\n{lines}\r\nContent-Length: 100\r\n\r\n".encode())
            assert status in connection.recv(65536).partition(b"\r\n")[0]


OWN = {
    "localhost": {"Host": "localhost:80"},
    "another address of this machine's own": {"Host": "127.0.0.2"},
    "version 6": {"Host": "[::1]:8471"},
    "this machine's name": {"Host": socket.gethostname().upper()},
    "a name that was told": {"Host": "Yard.example.:443"},
    "a page of its own": {"Host": "localhost:1", "Origin": "http://localhost:1", "Sec-Fetch-Site": "same-origin"},
    "a person": {"Sec-Fetch-Site": "none"},
}


@pytest.mark.parametrize("case", OWN)
def test_what_comes_from_no_other_site_is_taken(shared: Endpoint, case: str) -> None:
    assert shared.send("POST", "/v1/submitjob", SUBMIT, OWN[case]).status == 200


def test_a_header_that_says_two_things_is_refused() -> None:
    def check(*headers: tuple[bytes, bytes]) -> None:
        request = Request(method="POST", path=b"/", query=b"", headers=[(b"host", b"a.example"), *headers], body=b"")
        check_sender(request, scheme="http", own_address="::ffff:10.0.0.1", own_names={"a.example"})

    check((b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"none"))
    for headers in (
        [(b"host", b"evil.example")],
        [(b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")],
        [(b"origin", b"http://a.example"), (b"origin", b"http://evil.example")],
    ):
        with pytest.raises(ApiError, match="more than one header"):
            check(*headers)
