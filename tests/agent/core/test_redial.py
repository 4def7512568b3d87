"""Where an agent goes that is out of touch, and how often it knocks."""

from __future__ import annotations

from itertools import pairwise

from batchyard_agent.core.redial import ELECTION_MS, ELECTION_PAUSE_MAX_S, PAUSE_MAX_S, PAUSE_MIN_S, Redial


def tries(redial: Redial, says: dict[str, str], until_ms: int) -> list[tuple[int, str]]:
    """Return when an agent tried whom, that is welcomed by nobody; *says* is what each answers of who leads."""
    found, now_ms = [], 0
    while now_ms < until_ms:
        found.append((now_ms, redial.target))
        now_ms += int(redial.failed(says.get(redial.target, ""), now_ms) * 1000)
    return found


def test_the_next_one_is_tried_and_after_the_last_the_first():
    redial = Redial(["a", "b", "c"])
    assert [who for _, who in tries(redial, {}, 3_000)][:4] == ["a", "b", "c", "a"]


def test_who_is_told_of_another_leader_goes_there_at_once():
    redial = Redial(["a", "b", "c"])
    for _ in range(8):
        redial.failed("", 0)
    redial.target = "b"
    assert (redial.failed("a", 1_000), redial.target) == (PAUSE_MIN_S, "a")


def test_a_leader_that_does_not_answer_is_not_asked_the_more_often_for_being_named():
    """Where only the way to the leader is broken a standby names it for ever: thousands of agents would knock there."""
    named, unnamed = (tries(Redial(["a", "b"]), says, 600_000) for says in ({"b": "a"}, {}))
    assert len(named) <= len(unnamed) + 1
    assert {who for _, who in named} == {"a", "b"}


def test_another_election_is_news():
    redial = Redial(["a", "b", "c"])
    tries(redial, {"b": "a", "c": "a"}, 30_000)
    redial.target = "b"
    assert (redial.failed("c", 30_000), redial.target) == (PAUSE_MIN_S, "c")


def test_names_that_are_not_known_lead_nowhere():
    redial = Redial(["a", "b"])
    redial.failed("elsewhere", 0)
    assert redial.target == "b"


def test_pauses_double_stay_short_while_somebody_is_elected_and_are_longer_after_that():
    at = [when for when, _ in tries(Redial(["a", "b"]), {}, 3 * ELECTION_MS)]
    pauses = [later - sooner for sooner, later in pairwise(at)]
    assert pauses[:3] == [200, 400, 800]
    assert max(pauses[: sum(when < ELECTION_MS for when in at)]) == ELECTION_PAUSE_MAX_S * 1000
    assert pauses[-1] == PAUSE_MAX_S * 1000


def test_a_single_controller_is_no_election():
    at = [when for when, _ in tries(Redial(["a"]), {}, ELECTION_MS)]
    assert at[-1] - at[-2] == PAUSE_MAX_S * 1000


def test_a_welcome_begins_anew():
    redial = Redial(["a", "b"])
    tries(redial, {"b": "a"}, 5 * ELECTION_MS)
    redial.welcomed()
    assert redial.failed("", 10 * ELECTION_MS) == PAUSE_MIN_S
    redial.target = "b"
    assert redial.failed("a", 10 * ELECTION_MS) == PAUSE_MIN_S
