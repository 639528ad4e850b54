"""How long to wait before the next attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamll._delivery.backoff import MAX_DELAY, Backoff


def test_delays_double() -> None:
    """Without jitter each delay is twice the one before."""
    backoff = Backoff(0.1, lambda: 1.0)
    assert [backoff.delay(n) for n in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]


@given(st.floats(0.001, 1000), st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_no_delay_leaves_its_bounds(base: float, failures: int, chance: float) -> None:
    """Every delay is between 0 and 30 s, however many failures there were."""
    assert 0 <= Backoff(base, lambda: chance).delay(failures) <= MAX_DELAY


def test_jitter_takes_away_at_most_half() -> None:
    """The shortest delay is half of the longest, so that retries spread but never rush."""
    assert Backoff(0.1, lambda: 0.0).delay(1) == 0.05
