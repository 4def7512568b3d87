"""How a commit is cut into transactions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchyard_controller.store.packing import (
    ATOM_BYTES_MAX,
    ATOM_CHANGES_MAX,
    TRANSACTION_BYTES,
    check,
    merge,
    pack,
    weigh,
)
from batchyard_controller.store.protocol import Atom, Delete, Put

atoms_lists = st.lists(
    st.builds(
        lambda keys, size: tuple(Put(f"k{key}", bytes(size)) for key in keys),
        st.lists(st.integers(0, 99), max_size=100),
        st.sampled_from([0, 10, 5000]),
    ),
    max_size=20,
)


@given(atoms_lists)
def test_groups_hold_every_atom_whole_and_in_order(atoms: list[Atom]) -> None:
    groups = pack(atoms)
    assert [atom for group in groups for atom in group] == atoms
    for group in groups:
        check(group)
        assert sum(len(atom) for atom in group) <= ATOM_CHANGES_MAX
        assert len(group) <= 1 or sum(map(weigh, group)) <= TRANSACTION_BYTES


def test_250_single_changes_are_three_groups() -> None:
    atoms: list[Atom] = [(Put(f"k/{n}", b""),) for n in range(250)]
    assert [len(group) for group in pack(atoms)] == [100, 100, 50]


def test_atom_larger_than_a_transaction_goes_alone() -> None:
    small, large = (Put("s", b""),), (Put("l", bytes(ATOM_BYTES_MAX - 1)),)
    assert pack([small, large, small]) == [[small], [large], [small]]


def test_nothing_is_one_empty_group() -> None:
    assert pack([]) == [[]]


def test_weight_counts_bytes_not_letters() -> None:
    assert weigh((Put("é", b"12"), Delete("é"))) == 6


def test_last_change_of_a_key_wins() -> None:
    assert merge([(Put("a", b"1"), Put("b", b"1")), (Delete("a"),)]) == [Delete("a"), Put("b", b"1")]
