"""The circuit breaker, on a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamll._delivery.breaker import PROBE_LIMIT, Breaker, Change, State


def make(
    threshold: int = 3,
    recovery: float = 10.0,
    *,
    enabled: bool = True,
    random: Callable[[], float] = lambda: 0.5,
    observe: Callable[[Change], None] = lambda change: None,
) -> Breaker:
    return Breaker(
        enabled=enabled, threshold=threshold, recovery=recovery, random=random, observe=observe
    )


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.failure(breaker.generation, now)


def opened(**options: float) -> Breaker:
    breaker = make(**options)  # type: ignore[arg-type]
    fail(breaker, 0.0, breaker.threshold)
    return breaker


def test_consecutive_failures_open_it() -> None:
    """The circuit opens at the threshold, not before."""
    breaker = make()
    fail(breaker, 0.0, 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 0.0)
    assert breaker.state is State.OPEN


def test_a_success_starts_the_count_again() -> None:
    """Only consecutive failures count."""
    breaker = make()
    fail(breaker, 0.0, 2)
    breaker.success(breaker.generation, 0.0)
    fail(breaker, 0.0, 2)
    assert breaker.state is State.CLOSED


def test_a_permanent_failure_opens_it_at_once() -> None:
    """A wrong password is tried once per open period."""
    breaker = make()
    breaker.failure(breaker.generation, 0.0, permanent=True)
    assert breaker.state is State.OPEN


def test_circuit_breaker_false_never_opens() -> None:
    """`circuit_breaker=False` is honoured, whatever fails how often."""
    breaker = make(enabled=False)
    fail(breaker, 0.0, 1000)
    breaker.failure(breaker.generation, 0.0, permanent=True)
    assert breaker.state is State.CLOSED
    assert breaker.failures == 1001


def test_the_open_period_ends_in_one_probe() -> None:
    """After recovery_timeout the circuit is half open; a success closes it."""
    breaker = opened()
    breaker.tick(9.99)
    assert breaker.state is State.OPEN
    assert breaker.wait(9.0) == pytest.approx(1.0)
    breaker.tick(10.0)
    assert breaker.state is State.HALF_OPEN
    breaker.success(breaker.generation, 10.0)
    assert breaker.state is State.CLOSED
    assert breaker.failures == 0


def test_open_periods_double_while_probes_fail_and_start_again_after_success() -> None:
    """10, 20, 40, 60, 60 s; then 10 s again once the sink worked."""
    breaker, now, periods = opened(), 0.0, []
    for _ in range(5):
        periods.append(breaker.wait(now))
        now += breaker.wait(now)
        breaker.tick(now)
        fail(breaker, now)
    assert periods == pytest.approx([10, 20, 40, 60, 60])
    breaker.tick(now + 60)
    breaker.success(breaker.generation, now)
    fail(breaker, now, 3)
    assert breaker.wait(now) == pytest.approx(10)


def test_a_recovery_timeout_above_a_minute_is_kept() -> None:
    """The cap of 60 s never shortens what the user asked for."""
    assert opened(recovery=300.0).wait(0.0) == pytest.approx(300.0)


@pytest.mark.parametrize(("chance", "period"), [(0.0, 8.0), (0.5, 10.0), (0.999999, 12.0)])
def test_jitter_is_a_fifth_either_way(chance: float, period: float) -> None:
    """Open periods vary by 20 %, so that processes do not probe in step."""
    breaker = make(random=lambda: chance)
    fail(breaker, 0.0, 3)
    assert breaker.wait(0.0) == pytest.approx(period, abs=0.001)


def test_a_late_result_does_not_flip_a_newer_state() -> None:
    """A result carries the generation of its attempt; one from an older one changes nothing."""
    breaker = make()
    stale = breaker.generation
    fail(breaker, 0.0, 3)
    breaker.success(stale, 1.0)
    assert breaker.state is State.OPEN
    breaker.tick(10.0)
    breaker.failure(stale, 10.0, permanent=True)
    assert breaker.state is State.HALF_OPEN


def test_a_lost_probe_never_sticks_half_open() -> None:
    """A probe without a result within the limit counts as failed."""
    breaker = opened()
    breaker.tick(10.0)
    probe = breaker.attempt(10.0)
    breaker.tick(10.0 + PROBE_LIMIT)
    assert breaker.state is State.OPEN
    breaker.success(probe, 50.0)
    assert breaker.state is State.OPEN


def test_a_half_open_circuit_without_a_probe_waits_for_one() -> None:
    """While nothing needs delivery the circuit stays half open: no probe, no loss of one."""
    breaker = opened()
    breaker.tick(10.0)
    breaker.tick(10_000.0)
    assert breaker.state is State.HALF_OPEN


def test_an_open_period_does_not_end_while_the_sink_hangs() -> None:
    """As long as no probe could go out, the circuit says what it is: open."""
    breaker = opened()
    breaker.tick(100.0, free=False)
    assert breaker.state is State.OPEN
    breaker.tick(100.0)
    assert breaker.state is State.HALF_OPEN


def test_changes_are_observed_in_order() -> None:
    """Every change is reported once, with old and new state."""
    seen: list[Change] = []
    breaker = make(observe=seen.append)
    fail(breaker, 0.0, 3)
    breaker.tick(10.0)
    breaker.success(breaker.generation, 10.0)
    closed, open_, half = State.CLOSED, State.OPEN, State.HALF_OPEN
    assert seen == [Change(closed, open_), Change(open_, half), Change(half, closed)]


def test_closing_hastens_the_probe() -> None:
    """A closing channel gets one try at once; a closed circuit is not touched."""
    breaker = opened()
    breaker.hasten(1.0)
    breaker.tick(1.0)
    assert breaker.state is State.HALF_OPEN


class BreakerProbeCancelledOrPaused(RuleBasedStateMachine):
    """Row 53: attempts may never end, end late, or end twice; probes stay single and finite."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = make(threshold=2, recovery=5.0)
        self.permits: list[int] = []
        self.probed = float("inf")

    @rule(seconds=st.floats(0.0, 40.0))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.tick(self.now)

    @precondition(lambda self: self.breaker.state is not State.OPEN)
    @rule()
    def attempt(self) -> None:
        self.permits.append(self.breaker.attempt(self.now))
        self.probed = self.now

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), worked=st.booleans(), permanent=st.booleans())
    def end(self, data: st.DataObject, *, worked: bool, permanent: bool) -> None:
        permit = data.draw(st.sampled_from(self.permits))
        before, stale = self.breaker.state, permit != self.breaker.generation
        if worked:
            self.breaker.success(permit, self.now)
        else:
            self.breaker.failure(permit, self.now, permanent=permanent)
        assert not (stale and before is not self.breaker.state)

    @invariant()
    def never_stuck(self) -> None:
        if self.breaker.state is State.HALF_OPEN:
            waiting = self.breaker.generation not in self.permits
            assert waiting or self.now - self.probed <= PROBE_LIMIT
        assert self.breaker.wait(self.now) <= 60.0 * 1.2


TestRow53 = BreakerProbeCancelledOrPaused.TestCase
TestRow53.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
