"""Signing in and what keeps strangers out, over plain HTTP."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from batchyard_gateway.console.routes import ROWS
from batchyard_gateway.console.visit import ROOT

from .visitor import Visitor

PATHS = [row.path.replace("{", "").replace("}", "") for row in ROWS]


def test_a_key_and_its_secret_open_the_console(stranger: Visitor) -> None:
    assert stranger.get("about").status == 303
    stranger.sign_in()
    page = stranger.get("about")
    assert page.status == 200
    assert stranger.key_id in page.text
    assert stranger.secret not in page.text


def test_the_cookie_is_for_the_browser_and_the_console_alone(stranger: Visitor) -> None:
    made = stranger.endpoint.run(stranger.endpoint.client.create_access_key())
    reply = stranger.send("POST", "sign-in", {"key": made.access_key.id, "secret": made.secret})
    cookie = reply.headers["set-cookie"]
    assert all(flag in cookie for flag in ("HttpOnly", "SameSite=strict", f"Path={ROOT}"))
    assert made.secret not in cookie


@pytest.mark.parametrize("secret", ["", "wrong", "x" * 40])
def test_a_wrong_secret_opens_nothing(visitor: Visitor, secret: str) -> None:
    other = Visitor(visitor.endpoint)
    reply = other.send("POST", "sign-in", {"key": visitor.key_id, "secret": secret})
    assert reply.status == 403
    assert not other.cookie
    assert secret == "" or secret not in reply.text


def test_five_failures_a_minute_are_answered(visitor: Visitor) -> None:
    other = Visitor(visitor.endpoint)
    tries = [other.send("POST", "sign-in", {"key": visitor.key_id, "secret": "no"}).status for _ in range(6)]
    assert tries == [403] * 5 + [429]
    assert other.send("POST", "sign-in", {"key": visitor.key_id, "secret": visitor.secret}).status == 429


def test_a_link_signs_in_once(visitor: Visitor) -> None:
    link = visitor.link()
    first, second = Visitor(visitor.endpoint), Visitor(visitor.endpoint)
    assert first.get(link).headers["location"] == f"{ROOT}/"
    assert first.get("about").status == 200
    refused = second.get(link)
    assert refused.status == 403
    assert "opened before" in refused.text
    assert not second.cookie


@pytest.mark.parametrize("age_s", [400, -400, 100_000])
def test_an_old_link_signs_nobody_in(visitor: Visitor, age_s: int) -> None:
    other = Visitor(visitor.endpoint)
    reply = other.get(visitor.link(int((time.time() - age_s) * 1000)))
    assert reply.status == 403
    assert "too old" in reply.text


@pytest.mark.parametrize("made", ["", "abc", "-1", "٣", "9" * 16, "9" * 5000])
def test_a_link_without_a_moment_signs_nobody_in(visitor: Visitor, made: str) -> None:
    reply = Visitor(visitor.endpoint).get(f"{ROOT}/sign-in?key={visitor.key_id}&made={quote(made)}&signature=x")
    assert reply.status == 403


def test_a_link_of_another_key_signs_nobody_in(visitor: Visitor) -> None:
    other = Visitor(visitor.endpoint)
    assert other.get(visitor.link().replace(visitor.key_id, "BYAK0000000000000000")).status == 403
    assert other.get(f"{ROOT}/sign-in?key=&made=abc&signature=%C3%A9").status == 403


def test_one_comes_back_to_where_one_was(stranger: Visitor) -> None:
    assert stranger.get("about?a=b%26c").headers["location"] == f"{ROOT}/sign-in?next={ROOT}/about%3Fa%3Db%2526c"


@pytest.mark.parametrize("there", ["//evil.example", f"{ROOT}//evil", "https://evil.example", f"{ROOT}/\\evil", "/v1"])
def test_signing_in_leads_to_no_other_site(visitor: Visitor, there: str) -> None:
    form = {"key": visitor.key_id, "secret": visitor.secret, "next": there}
    assert visitor.send("POST", "sign-in", form).headers["location"] == f"{ROOT}/"


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    cookie = visitor.cookie
    assert visitor.post("sign-out").status == 303
    visitor.cookie = cookie
    assert visitor.get("about").status == 303


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_a_page_without_a_session(stranger: Visitor, path: str) -> None:
    reply = stranger.get(f"{ROOT}{path}")
    assert reply.status == 303
    assert reply.headers["location"].startswith(f"{ROOT}/sign-in?next=")


@pytest.mark.parametrize("path", [row.path.replace("{", "").replace("}", "") for row in ROWS if row.change])
def test_nothing_changes_but_by_the_consoles_own_forms(visitor: Visitor, path: str) -> None:
    """Without a token, with another origin, from another site, for another host, of another type."""
    before = dict(visitor.endpoint.yard.stored())
    token = {"csrf": visitor.csrf()}
    path = f"{ROOT}{path}"
    assert visitor.send("POST", path, {}).status == 403
    assert visitor.send("POST", path, {"csrf": "x"}).status == 403
    assert visitor.send("POST", path, token, Origin="http://evil.example").status == 403
    assert visitor.send("POST", path, token, Sec_Fetch_Site="cross-site").status == 403
    assert visitor.send("POST", path, token, Sec_Fetch_Site="same-site").status == 403
    assert visitor.send("POST", path, token, Host="evil.example").status == 403
    assert visitor.send("POST", path, token, Content_Type="text/plain").status == 415
    assert Visitor(visitor.endpoint).send("POST", path, token).status == 401
    assert visitor.endpoint.yard.stored() == before


def test_a_foreign_host_sees_nothing(visitor: Visitor) -> None:
    assert visitor.get("about", Host="evil.example").status == 403


def test_a_link_from_another_site_finds_the_session(visitor: Visitor) -> None:
    """The browser keeps a strict cookie from such a request; the page then asks for itself."""
    stranger = Visitor(visitor.endpoint)
    reply = stranger.get("about", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert reply.status == 200
    assert f'content="0;url={ROOT}/about"' in reply.text


def test_browsers_are_led_from_the_root_and_tools_are_not(stranger: Visitor) -> None:
    assert stranger.get("/", Accept="text/html,*/*").headers["location"] == f"{ROOT}/"
    assert stranger.get("/").status == 404


def test_every_answer_forbids_the_browser_what_is_not_needed(visitor: Visitor) -> None:
    for path in ("about", "sign-in", "nothing"):
        headers = visitor.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_what_is_not_there_is_said(visitor: Visitor) -> None:
    reply = visitor.get("no/such/page")
    assert reply.status == 404
    assert f"There is no page {ROOT}/no/such/page." in reply.text
    assert visitor.get("about?part=none").status == 404
