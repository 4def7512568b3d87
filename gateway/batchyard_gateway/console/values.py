"""Values: what stands in the fields of a form, by their names, and how it is read. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import QueryParams

from .faults import Faults

Values = Mapping[str, str]
"""What was typed, or is to be shown, by field."""

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def typed(form: QueryParams, names: Values) -> Values:
    """Return what was posted for each of the form's fields; nothing for what was not, as a box without its tick."""
    return {name: form.get(name, "") for name in names}


def whole(values: Values, name: str, faults: Faults) -> int:
    """Return a whole number, 0 where nothing stands; what is none becomes a fault."""
    text = values[name].strip().replace(",", "")
    if not text:
        return 0
    if not _WHOLE.fullmatch(text):
        faults[name] = f"{values[name][:50]!r} is not a whole number"
        return 0
    return int(text)


def flag(values: Values, name: str) -> bool:
    """Say whether a box is ticked."""
    return values[name] == "yes"
