"""When an etcd is compacted and defragmented, and when its alarm may be put out: the decisions alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchyard_controller.store.etcd_upkeep import (
    COMPACT_S,
    DEFRAGMENT_S,
    HEAL_S,
    LAG_S,
    Look,
    Member,
    Upkeep,
    fault_of,
    is_bearable,
    may_disarm,
)

MIB = 1 << 20
QUOTA = 2048 * MIB


def member(number: int = 1, *, size: int = 100, used: int = 100, revision: int = 1, leads: bool = False) -> Member:
    return Member(
        endpoint=f"m{number}:2379",
        id=number,
        leads=leads,
        revision=revision,
        size_bytes=size * MIB,
        used_bytes=used * MIB,
    )


def look(at_s: float, *members: Member, is_whole: bool = True, full: frozenset[int] = frozenset()) -> Look:
    return Look(at_s=at_s, members=members, is_whole=is_whole, quota_bytes=QUOTA, full=full)


def test_with_room_the_last_minute_is_left_and_compaction_waits_for_its_schedule() -> None:
    """Who reads all of a moment, a standby or a leader that loads, needs that moment until it is done."""
    upkeep, done = Upkeep(), []
    for at_s in range(0, 1000, 5):
        seen = look(at_s, member(revision=100 + at_s))
        if revision := upkeep.compact_to(seen):
            upkeep.note_compaction(seen, revision)
            done.append((at_s, revision))
    assert done == [(60, 100), (360, 400), (660, 700), (960, 1000)]
    assert all(at_s + 100 - revision >= LAG_S for at_s, revision in done)
    assert done[1][0] - done[0][0] >= COMPACT_S


def test_a_filled_store_forgets_up_to_the_last_look_but_not_again_where_that_frees_nothing() -> None:
    upkeep = Upkeep()
    assert upkeep.compact_to(look(0, member(used=1300, revision=10))) == 0
    seen = look(5, member(used=1400, revision=20))
    assert upkeep.compact_to(seen) == 10
    upkeep.note_compaction(look(6, member(used=1390, revision=21)), 10)
    assert upkeep.compact_to(look(11, member(used=1391, revision=30))) == 0
    assert upkeep.compact_to(look(16, member(used=1600, revision=40))) == 30


def test_with_the_alarm_on_all_is_forgotten_at_once_and_every_member_defragmented_its_leader_last() -> None:
    seen = look(0, member(1, leads=True, revision=9), member(2, revision=9), full=frozenset({2}))
    upkeep = Upkeep()
    assert upkeep.compact_to(seen) == 9
    assert [each.id for each in upkeep.worth_defragmenting(seen)] == [2, 1]
    upkeep.note_defragmentation(seen)
    again = replace(seen, at_s=HEAL_S - 1)
    assert upkeep.compact_to(again) == 0
    assert upkeep.worth_defragmenting(again) == []
    assert upkeep.worth_defragmenting(replace(seen, at_s=HEAL_S)) != []


@pytest.mark.parametrize(
    ("size", "used", "is_worth_it"),
    [(2000, 1500, False), (900, 300, True), (900, 500, False), (1300, 600, True), (600, 200, False), (100, 1, False)],
)
def test_a_file_is_made_small_where_half_of_it_is_free_and_that_is_much(
    size: int, used: int, *, is_worth_it: bool
) -> None:
    assert bool(Upkeep().worth_defragmenting(look(0, member(size=size, used=used)))) is is_worth_it


def test_no_member_stands_still_while_another_is_away_nor_often() -> None:
    wasteful = member(size=1500, used=100)
    upkeep = Upkeep()
    assert upkeep.worth_defragmenting(look(0, wasteful, is_whole=False)) == []
    assert upkeep.worth_defragmenting(look(0, wasteful)) == [wasteful]
    upkeep.note_defragmentation(look(0, wasteful))
    assert upkeep.worth_defragmenting(look(DEFRAGMENT_S - 1, wasteful)) == []
    assert upkeep.worth_defragmenting(look(DEFRAGMENT_S, wasteful)) == [wasteful]


def test_a_leader_that_nobody_relieves_stands_still_for_a_short_while_or_in_need() -> None:
    """A commit that waits for longer than 5 s ends a term."""
    quick, slow, large = member(size=900, used=200), member(size=1500, used=600), member(size=1900, used=600)
    assert is_bearable(quick, look(0, quick))
    assert not is_bearable(slow, look(0, slow))
    assert is_bearable(large, look(0, large))
    assert is_bearable(slow, look(0, slow, full=frozenset({1})))


def test_the_alarm_is_put_out_where_all_members_have_room_again() -> None:
    small, large = member(1, size=100), member(2, size=2047)
    full = frozenset({1})
    assert may_disarm(look(0, small, full=full))
    assert not may_disarm(look(0, small))
    assert not may_disarm(look(0, small, large, full=full))
    assert not may_disarm(look(0, small, is_whole=False, full=full))


def test_what_cannot_be_put_right_is_said_with_what_helps() -> None:
    assert fault_of(look(0, member())) == ""
    assert "nearly full: 1,700 MiB of 2,048 MiB" in fault_of(look(0, member(size=1700, used=1700)))
    assert "--quota-backend-bytes" in fault_of(look(0, member(size=1700, used=1700)))
    assert "nothing left to forget" in fault_of(look(0, member(size=2048, used=2047), full=frozenset({1})))
    assert "does not answer" in fault_of(look(0, member(), is_whole=False, full=frozenset({1})))
    assert "CORRUPT" in fault_of(replace(look(0, member()), is_corrupt=True))
