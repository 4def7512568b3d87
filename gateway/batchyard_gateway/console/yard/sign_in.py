"""Signing in: the page that asks for an access key, and the ways back from it."""

from __future__ import annotations

from urllib.parse import quote

from batchyard_gateway.console.visit import ROOT, Page, Redirect

WITHOUT_TLS = (
    "This gateway listens beyond its own machine without TLS, where anybody on the way could read your secret: "
    "start it with --tls-cert and --tls-key, or on 127.0.0.1 behind a tunnel (ssh -L 8471:127.0.0.1:8471)."
)


def form(back: str, *, has_keys: bool, refusal: str = "", status: int = 200) -> Page:
    """Return the page that asks."""
    view = {"back": back, "has_keys": has_keys, "refusal": refusal}
    return Page(template="sign_in.html", title="Sign in", view=view, status=status)


def redirect(here: str) -> Redirect:
    """Return the way to signing in and back."""
    return Redirect(location=f"{ROOT}/sign-in?next={quote(here, safe='/')}")


def ended() -> Page:
    """Return what a part of a page, or a form, gets when the session is over."""
    view = {"text": "The session has ended: sign in again; nothing was changed."}
    return Page(template="problem.html", title="Signed out", view=view, status=401)
