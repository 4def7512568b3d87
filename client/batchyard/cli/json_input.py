"""
JSON input: messages of the contract as people and this command line write them.

As protobuf's JSON mapping, and enums also in the words that the JSON written here has:
``N_TO_N`` beside ``DEPENDENCY_TYPE_N_TO_N``, nothing for what is not specified.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")


def parse(text: str | bytes, message: M) -> M:
    """
    Fill *message* from JSON and return it.

    Raises:
        json_format.ParseError: it is no JSON, or none of such a message.
        UnicodeDecodeError: it is no UTF-8.
    """
    from google.protobuf import json_format

    try:
        plain = json.loads(text, object_pairs_hook=_object)
        if not isinstance(plain, dict):
            raise json_format.ParseError("it is no JSON object")
        return parse_plain(plain, message)
    except json.JSONDecodeError as err:
        raise json_format.ParseError(f"Failed to load JSON: {err}.") from err
    except RecursionError as err:
        raise json_format.ParseError("it is nested too deep") from err


def parse_plain(plain: dict[str, Any], message: M) -> M:
    """
    Fill *message* from what JSON, or the like, was read as, and return it; *plain* is changed.

    Raises:
        json_format.ParseError: it is none of such a message.
    """
    from google.protobuf import json_format

    _spell_out(message.DESCRIPTOR, plain)
    return json_format.ParseDict(plain, message)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    from google.protobuf import json_format

    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise json_format.ParseError(f'Failed to load JSON: duplicate key "{twice}".')
    return found


def _spell_out(descriptor: Any, plain: Any) -> None:
    """Put enums as the contract has them in the place of their words; what is wrong otherwise stays."""
    if not isinstance(plain, dict):
        return
    for name, value in list(plain.items()):
        field = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
        if field is None or (field.message_type is not None and field.message_type.GetOptions().map_entry):
            continue
        parts = value if isinstance(value, list) else [value]
        if field.message_type is not None:
            for part in parts:
                _spell_out(field.message_type, part)
        elif field.enum_type is not None:
            spelt = [_name(field.enum_type, part) for part in parts]
            plain[name] = spelt if isinstance(value, list) else spelt[0]


def _name(enum: Any, word: Any) -> Any:
    unspecified = str(enum.values_by_number[0].name)
    if word == "":
        return unspecified
    full = f"{unspecified.removesuffix('UNSPECIFIED')}{word}"
    return full if full in enum.values_by_name else word
