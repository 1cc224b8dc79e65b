"""The token bucket with time as an argument."""

from relay.core.quota import TokenBucket


def test_a_burst_is_allowed_then_the_rate_holds():
    bucket = TokenBucket(rate=10, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.05)
    assert bucket.take(0.1)
    assert not bucket.take(0.1)


def test_an_amount_is_taken_whole_or_not_at_all():
    bucket = TokenBucket(rate=10, burst=100, now=0.0)
    assert bucket.take(0.0, 70)
    assert not bucket.take(0.0, 31)
    assert bucket.take(0.0, 30)
    assert bucket.take(1.0, 10)


def test_the_burst_does_not_grow_while_nothing_is_taken():
    bucket = TokenBucket(rate=10, burst=2, now=0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]
