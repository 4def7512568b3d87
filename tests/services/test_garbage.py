"""Garbage: what has lived through a look at everything is looked at no more, until somebody asks for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from batchyard_controller import garbage


class Ring:
    """Something that names itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def spared() -> Iterator[None]:
    before = list(gc.callbacks)
    garbage.spare_survivors()
    yield
    gc.callbacks[:] = before
    gc.unfreeze()


@pytest.mark.usefixtures("spared")
def test_what_survives_is_looked_at_once() -> None:
    ring, gone = Ring(), Ring()
    spared, found = weakref.ref(ring), weakref.ref(gone)
    del gone
    gc.collect()
    assert found() is None  # a cycle that nobody names goes as ever
    assert gc.get_freeze_count() > 0
    del ring
    gc.collect()
    assert spared() is not None
    garbage.look_at_all()
    assert spared() is None


@pytest.mark.usefixtures("spared")
def test_a_look_at_few_spares_nobody() -> None:
    gc.collect()
    before, rings = gc.get_freeze_count(), [Ring() for _ in range(100)]
    gc.collect(1)
    assert gc.get_freeze_count() <= before
    del rings


def test_where_nothing_is_spared_nothing_is_looked_at_again() -> None:
    """What others in the process have set aside, as these tests do with all that was there before them, stays so."""
    gc.freeze()
    before = gc.get_freeze_count()
    garbage.look_at_all()
    # But for what ended by itself meanwhile, as in another thread.
    assert before - 1_000 < gc.get_freeze_count() <= before
    gc.unfreeze()
