"""
Faults: what a refusal says, at the fields of the form that it is about.

Pure. Law: no refusal is lost; one that names no field of the form stands above it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchyard.errors import InvalidArgumentError, RequestError
from batchyard_gateway.errors import ApiError

Faults = dict[str, str]
"""Sentences by field; the empty name is for the form as a whole."""

Refusal = ApiError | RequestError
"""What a form may be answered with; all else is not the form's fault."""


def faults_of(refusal: Refusal, fields: Mapping[str, str]) -> Faults:
    """
    Return what a refusal says, by the form's fields.

    Args:
        refusal: AWS's, or the controller's.
        fields: Of the form, by the words that refusals call them: paths of the contract's fields,
            such as ``fairshare.share_decay_s``, and members of AWS's, such as ``shareDecaySeconds``.
            A path stands for all below it, too.
    """
    cause = refusal if isinstance(refusal, RequestError) else refusal.__cause__
    if isinstance(cause, InvalidArgumentError) and cause.violations:
        found: Faults = {}
        for each in cause.violations:
            field = _by_path(each.field, fields)
            text = each.message if field else str(each)
            found[field] = f"{found[field]}; {text}" if field in found else text
        return found
    text = refusal.message if isinstance(refusal, ApiError) else str(refusal)
    return {_by_mention(text, fields): text}


def _by_path(path: str, fields: Mapping[str, str]) -> str:
    while path:
        if path in fields:
            return fields[path]
        path = re.sub(r"(\[[^\]]*\]|\.?[^.\[]*)$", "", path)
    return ""


def _by_mention(text: str, fields: Mapping[str, str]) -> str:
    """Return the field whose member is named first, as a word of its own."""
    places = {name: re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", text) for name in fields}
    named = [(place.start(), -len(name), fields[name]) for name, place in places.items() if place]
    return min(named)[2] if named else ""
