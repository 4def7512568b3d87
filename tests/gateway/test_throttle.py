"""The token bucket: what passes in a span of time."""

from batchyard_gateway.throttle import TokenBucket


def test_no_rate_takes_all() -> None:
    bucket = TokenBucket(0)
    assert all(bucket.take(0.0) for _ in range(10_000))


def test_a_second_is_taken_at_once_and_then_the_rate() -> None:
    bucket = TokenBucket(10)
    assert [bucket.take(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.take(100.125)
    assert not bucket.take(100.125)


def test_long_quiet_saves_no_more_than_a_second() -> None:
    bucket = TokenBucket(5)
    bucket.take(0.0)
    assert [bucket.take(3600.0) for _ in range(6)] == [True] * 5 + [False]


def test_less_than_one_a_second() -> None:
    bucket = TokenBucket(0.5)
    assert [bucket.take(at_s) for at_s in (0.0, 1.0, 2.0, 3.0)] == [True, False, True, False]
