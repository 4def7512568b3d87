"""
Rendering: pages to HTML, whole or a part.

A part of a page is a block of its template: what a page shows first and what is fetched
again later are the same lines. It must never know HTTP. Law: what comes from outside is
text (autoescape), and a name that a template does not get is an error, not nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from batchyard_gateway.console.forms.tables import labels
from batchyard_gateway.console.settings.revisions import paths
from batchyard_gateway.console.visit import ROOT, Page, Visit
from batchyard_gateway.console.writing import moments
from batchyard_gateway.staleness import stale_since

from .assets import Asset


class UnknownPartError(Exception):
    """A page has no part of that name."""


class Renderer:
    """
    Renders pages.

    Args:
        assets: By name.
        constants: What every template may show, such as the yard's name.
    """

    def __init__(self, assets: Mapping[str, Asset], constants: Mapping[str, Any]) -> None:
        self._environment = Environment(
            loader=PackageLoader("batchyard_gateway.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(
            constants, root=ROOT, asset=lambda name: f"{ROOT}/{assets[name].address}", live=_live
        )
        self._environment.filters.update(
            moment=_moment, span=moments.span, pretty=_pretty, paths=paths, labels=labels, unit=_unit
        )
        self._environment.globals["stale_since"] = stale_since
        self._environment.globals["ui"] = self._environment.get_template("macros.html").module

    def render(self, page: Page, visit: Visit | None, part: str = "") -> str:
        """
        Return a page as HTML.

        Args:
            page: What to show.
            visit: None for who has not signed in.
            part: A block of its template alone; empty for all.

        Raises:
            UnknownPartError: it has no such part.
        """
        template = self._environment.get_template(page.template)
        view = {"page": page, "visit": visit, **page.view}
        if not part:
            return template.render(view)
        if part not in template.blocks:
            raise UnknownPartError(part)
        return "".join(template.blocks[part](template.new_context(view)))


def _live(visit: Visit, part: str, topic: str, *, is_late: bool = False) -> Markup:
    """
    Return the attributes of an element that holds a part and fetches it again at each event of a topic.

    A late one is not in the page, which would weigh too much with it: it is fetched as soon as that is there.
    """
    return Markup(
        'id="part-{0}" data-live="{1}" hx-get="{2}" hx-trigger="{3}live-{1} from:body" hx-swap="innerMorph"'
    ).format(part, topic, visit.url(part=part), "load, " if is_late else "")


def _unit(job_id: str) -> str:
    """Write an id as part of an address, in which the mark of a node would end it."""
    return job_id.replace("#", "%23")


def _pretty(value: Any) -> str:
    """Return a value as JSON for people; escaped as any text."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@pass_context
def _moment(context: Context, at_ms: int) -> Markup:
    """Return a moment as an element: what the reader has chosen, with the exact time to point at."""
    visit: Visit = context["visit"]
    if not at_ms:
        return Markup("-")
    # By "%", which takes less than "format": this is called for every row.
    text, exact = visit.clock.text(at_ms), visit.clock.exact(at_ms)
    title = Markup("") if text == exact else Markup(' title="%s"') % exact
    return Markup('<time datetime="%s"%s>%s</time>') % (moments.iso(at_ms), title, text)
