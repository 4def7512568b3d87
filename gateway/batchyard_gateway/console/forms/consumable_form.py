"""
The forms of a consumable resource: a new one, and how many there are of one.

Pure.
"""

from __future__ import annotations

from .environment_form import TAGS
from .fields import Choice, Field, Number
from .tables import Form, Section

NEW: Form = (
    Section(
        title="",
        fields=(
            Field(
                name="consumableResourceName", label="Name", hint="1 to 128 letters, digits, - and _.", is_required=True,
                called=("Consumable resource name", "Object already exists", "name"),
            ),
            Choice(
                name="resourceType", label="Kind", called=("type",),
                options=(
                    ("REPLENISHABLE", "Given back when a job ends"), ("NON_REPLENISHABLE", "Used up by jobs that ran"),
                ),
            ),
            Number(name="totalQuantity", label="How many there are", is_required=True, called=("total",)),
            TAGS,
        ),
    ),
)  # fmt: skip

CHANGE: Form = (
    Section(
        title="",
        fields=(
            Choice(name="operation", label="Change", options=(("SET", "Set to"), ("ADD", "Add"), ("REMOVE", "Remove"))),
            Number(name="quantity", label="Quantity", is_required=True),
        ),
    ),
)
