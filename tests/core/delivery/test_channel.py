"""The channel without I/O: what it decides, on a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.delivery.doubles import encode, is_notice, make_event, make_pure, token
from streamll._delivery.actions import Done, Wait, Wake, Write
from streamll._delivery.breaker import State
from streamll._delivery.channel import Channel
from streamll._delivery.outcome import Failure, failure_of
from streamll.errors import Outcome, OutcomeUnknown, PermanentError, TransientError
from streamll.events import Event
from streamll.sink import Verdict

TRANSIENT = failure_of(TransientError(), sent=True)
PERMANENT = failure_of(PermanentError(), sent=True)
UNKNOWN = failure_of(OutcomeUnknown(), sent=True)


def offer(channel: Channel, *events: Event, now: float = 0.0) -> None:
    for event in events:
        channel.offer(event, encode(event), now)
        assert channel.ledger.balances


def numbers(first: int, last: int, **fields: Any) -> list[Event]:
    return [make_event(n, **fields) for n in range(first, last + 1)]


def write(channel: Channel, now: float = 0.0) -> Write:
    action = channel.next(now)
    assert isinstance(action, Write), action
    return action


def sequences(action: Write) -> list[int]:
    return [event.sequence for event in action.batch]


def drain(channel: Channel, judge: Callable[[Write], Any], limit: int = 2000) -> list[int]:
    """Let *judge* decide on every write until nothing is left; return what was delivered."""
    now, got = 0.0, []
    for _ in range(limit):
        action = channel.next(now)
        if isinstance(action, Write):
            result = judge(action)
            if isinstance(result, Failure):
                channel.failed(action, result, now)
            else:
                channel.succeeded(action, result, now)
                bad = result or {}
                got += [e.sequence for i, e in enumerate(action.batch) if i not in bad]
        elif isinstance(action, Wait) and action.seconds is not None:
            now += action.seconds
        else:
            return got
        assert channel.ledger.balances
    raise AssertionError("it never came to rest")


# -- batches ------------------------------------------------------------------------------------


def test_an_event_goes_out_at_once() -> None:
    """With batch_age=0 nothing waits while the sink is free."""
    channel = make_pure()
    offer(channel, make_event(1))
    assert sequences(write(channel)) == [1]


def test_a_batch_holds_at_most_batch_size_events() -> None:
    """Batches are cut by size, in order, and only one is open at a time."""
    channel = make_pure(batch_size=2)
    offer(channel, *numbers(1, 3))
    first = write(channel)
    assert channel.next(0.0) == Wait(None, Wake.NEVER)
    channel.succeeded(first, None, 0.0)
    assert (sequences(first), sequences(write(channel))) == ([1, 2], [3])


def test_an_event_waits_for_company_no_longer_than_batch_age() -> None:
    """A batch goes out when it is full or its oldest event is batch_age old."""
    channel = make_pure(batch_size=3, batch_age=1.0)
    offer(channel, make_event(1), now=5.0)
    assert channel.next(5.25) == Wait(0.75, Wake.FULL)
    assert sequences(write(channel, 6.0)) == [1]


def test_a_full_batch_does_not_wait() -> None:
    """batch_age is an upper bound, not a delay."""
    channel = make_pure(batch_size=2, batch_age=60.0)
    offer(channel, *numbers(1, 2))
    assert sequences(write(channel)) == [1, 2]


def test_flush_and_close_end_the_wait_for_company() -> None:
    """Nothing that waits when the user asks for it waits any longer."""
    for hurry in (Channel.hurry, lambda channel: channel.close(0.0)):
        channel = make_pure(batch_age=60.0)
        offer(channel, make_event(1))
        hurry(channel)
        assert sequences(write(channel)) == [1]


def test_bodies_are_the_events() -> None:
    """A batch carries each event with the JSON it was emitted with."""
    channel = make_pure()
    offer(channel, *numbers(1, 3))
    batch = write(channel).batch
    assert batch.bodies == tuple(encode(event) for event in batch)
    assert batch.attempt == 1


# -- failures -----------------------------------------------------------------------------------


def test_what_failed_goes_first_again_in_order() -> None:
    """After a failure the same events come again, in front, as attempt 2, after a delay."""
    channel = make_pure(retry_delay=1.0)
    offer(channel, *numbers(1, 3))
    channel.failed(write(channel), TRANSIENT, 0.0)
    offer(channel, make_event(4))
    assert channel.next(0.0) == Wait(0.75, Wake.NEVER)
    again = write(channel, 0.75)
    assert again.batch.attempt == 2
    assert sequences(again) == [1, 2, 3]
    channel.succeeded(again, None, 0.75)
    assert sequences(write(channel, 0.75)) == [4]


def test_what_a_sink_says_is_shown_and_what_others_say_is_not() -> None:
    """A `DeliveryError` explains itself, on one line, without passwords; others hold payload."""
    said = PermanentError("cannot log in\n at redis://me:hunter2@host \x1b[31m")
    assert failure_of(said, sent=True).error == (
        "PermanentError: cannot log in at redis://[credentials]@host [31m"
    )
    assert failure_of(ValueError("the prompt"), sent=True).error == "ValueError"
    assert len(failure_of(TransientError("x" * 999), sent=True).error) < 350


def test_unknown_outcomes_bound_the_duplicates() -> None:
    """Every event tried again after an unknown outcome is counted in retried_unknown."""
    channel = make_pure(batch_size=3)
    offer(channel, *numbers(1, 3))
    channel.failed(write(channel), UNKNOWN, 0.0)
    assert channel.stats().retried_unknown == 3
    channel.failed(write(channel, 1.0), TRANSIENT, 1.0)
    assert channel.stats().retried_unknown == 3


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError(), Outcome.REJECTED_TRANSIENT),
        (TransientError(), Outcome.REJECTED_TRANSIENT),
        (PermanentError(), Outcome.REJECTED_PERMANENT),
        (OutcomeUnknown(), Outcome.UNKNOWN),
        (TimeoutError(), Outcome.UNKNOWN),
        (SystemExit(), Outcome.UNKNOWN),
    ],
)
def test_exceptions_are_classified_by_type(error: BaseException, outcome: Outcome) -> None:
    """A timeout is unknown, never failed; anything streamll does not know is transient."""
    assert failure_of(error, sent=True) == Failure(outcome, type(error).__name__)


def test_an_open_circuit_holds_events_back_until_a_probe_of_one() -> None:
    """Open: wait. Half open: one event. Closed again: the rest."""
    channel = make_pure(failure_threshold=1, recovery_timeout=10.0)
    offer(channel, *numbers(1, 4))
    channel.failed(write(channel), TRANSIENT, 0.0)
    assert channel.next(1.0) == Wait(9.0, Wake.NEVER)
    probe = write(channel, 10.0)
    assert sequences(probe) == [1]
    channel.succeeded(probe, None, 10.0)
    assert channel.stats().circuit == "closed"
    assert sequences(write(channel, 10.0))[0] == 2


def test_a_permanent_error_opens_the_circuit_at_once_and_keeps_the_events() -> None:
    """A wrong password is tried once per open period, and costs no event."""
    channel = make_pure(failure_threshold=100)
    offer(channel, *numbers(1, 2))
    channel.failed(write(channel), PERMANENT, 0.0)
    stats = channel.stats()
    assert (stats.circuit, stats.queued, stats.dropped) == ("open", 2, {})
    assert stats.last_error == "PermanentError"


def test_without_a_breaker_retries_back_off_for_ever() -> None:
    """circuit_breaker=False: no open circuit, but delays that grow to their cap."""
    channel, now = make_pure(circuit_breaker=False, retry_delay=1.0), 0.0
    offer(channel, make_event(1))
    for _ in range(50):
        channel.failed(write(channel, now), TRANSIENT, now)
        action = channel.next(now)
        assert isinstance(action, Wait)
        now += action.seconds or 0.0
    assert action.seconds == 22.5
    assert channel.stats().circuit == "closed"


def test_a_failed_open_blames_no_event() -> None:
    """When `open` fails the attempt does not count against the events."""
    channel = make_pure(max_attempts=1, circuit_breaker=False)
    offer(channel, *numbers(1, 3))
    for now in (0.0, 100.0, 200.0):
        channel.failed(write(channel, now), failure_of(OSError(), sent=False), now)
    again = write(channel, 300.0)
    assert (sequences(again), again.batch.attempt) == ([1, 2, 3], 1)


def test_a_late_result_changes_nothing() -> None:
    """The result of a write that was given up is ignored."""
    channel = make_pure()
    offer(channel, make_event(1))
    late = write(channel)
    channel.expire_all("shutdown_timeout")
    channel.succeeded(late, None, 1.0)
    channel.failed(late, PERMANENT, 1.0)
    assert channel.stats().dropped == {"shutdown_timeout": 1}
    assert channel.stats().circuit == "closed"
    assert channel.ledger.balances


# -- verdicts -----------------------------------------------------------------------------------


def test_one_bad_event_costs_only_itself() -> None:
    """A permanent verdict drops that event under its reason; its neighbours are delivered."""
    channel = make_pure()
    offer(channel, *numbers(1, 3))
    report = {1: Verdict(Outcome.REJECTED_PERMANENT, "oversize")}
    channel.succeeded(write(channel), report, 0.0)
    stats = channel.stats()
    assert (stats.delivered, stats.dropped) == (2, {"oversize": 1})


def test_a_verdict_without_a_reason_is_rejected() -> None:
    """The default reason is "rejected"."""
    channel = make_pure()
    offer(channel, make_event(1))
    channel.succeeded(write(channel), {0: Verdict(Outcome.REJECTED_PERMANENT)}, 0.0)
    assert channel.stats().dropped == {"rejected": 1}


def test_transient_verdicts_come_again_without_counting_as_failure() -> None:
    """What a sink could not take this time is retried; the circuit sees a working sink."""
    channel = make_pure()
    offer(channel, *numbers(1, 3))
    report = {0: Verdict(Outcome.REJECTED_TRANSIENT), 2: Verdict(Outcome.UNKNOWN)}
    channel.succeeded(write(channel), report, 0.0)
    stats = channel.stats()
    assert (stats.delivered, stats.failures, stats.retried_unknown) == (1, 0, 1)
    assert sequences(write(channel, 1.0)) == [1, 3]


def test_if_no_event_was_taken_the_sink_failed() -> None:
    """Only transient verdicts are a failed attempt."""
    channel = make_pure(failure_threshold=1)
    offer(channel, *numbers(1, 2))
    both = dict.fromkeys(range(2), Verdict(Outcome.REJECTED_TRANSIENT))
    channel.succeeded(write(channel), both, 0.0)
    assert channel.stats().circuit == "open"


def test_an_event_others_outlive_max_attempts_times_is_rejected() -> None:
    """A transient verdict on the same event, while others pass, ends after max_attempts."""
    channel = make_pure(max_attempts=3)
    offer(channel, make_event(1))
    for now in range(5):
        offer(channel, make_event(now + 2), now=now)
        batch = write(channel, float(now))
        bad = [i for i, e in enumerate(batch.batch) if e.sequence == 1]
        verdicts = dict.fromkeys(bad, Verdict(Outcome.REJECTED_TRANSIENT))
        channel.succeeded(batch, verdicts, float(now))
    assert channel.stats().dropped == {"rejected": 1}


def test_an_event_that_was_never_tried_is_not_to_blame() -> None:
    """However often a batch ends before its turn, an unsent event keeps its place and record."""
    channel = make_pure(max_attempts=2)
    offer(channel, make_event(1))
    for now in range(20):
        offer(channel, make_event(now + 2), now=now)
        batch = write(channel, float(now))
        assert batch.batch.attempt == 1
        unsent = [i for i, e in enumerate(batch.batch) if e.sequence == 1]
        verdicts = dict.fromkeys(unsent, Verdict(Outcome.REJECTED_TRANSIENT, "unsent"))
        channel.succeeded(batch, verdicts, float(now))
    stats = channel.stats()
    assert (stats.delivered, stats.queued, stats.dropped) == (20, 1, {})


def test_an_announcement_that_is_dropped_is_counted_and_not_announced() -> None:
    """Where nothing can be routed, one announcement is made per loss, and none of itself."""
    channel = make_pure()
    offer(channel, make_event(1))
    unroutable = Verdict(Outcome.REJECTED_PERMANENT, "unroutable")
    writes: list[Write] = []

    def refuse_all(action: Write) -> dict[int, Verdict]:
        writes.append(action)
        return dict.fromkeys(range(len(action.batch)), unroutable)

    assert drain(channel, refuse_all) == []
    assert [[is_notice(event) for event in action.batch] for action in writes] == [[False], [True]]
    assert channel.stats().dropped == {"unroutable": 2}
    assert channel.ledger.balances


def test_announcements_nobody_takes_are_given_up_for_good() -> None:
    """A sink that loses no event but every announcement is not told of those, by and by."""
    channel = make_pure(batch_size=2)
    unroutable = Verdict(Outcome.REJECTED_PERMANENT, "unroutable")
    lost = {"first": True}

    def judge(action: Write) -> dict[int, Verdict]:
        bad = [i for i, e in enumerate(action.batch) if is_notice(e) or lost.pop("first", False)]
        return dict.fromkeys(bad, unroutable)

    offer(channel, *numbers(1, 10))
    assert drain(channel, judge) == list(range(2, 11))
    assert channel.stats().dropped == {"unroutable": 2}


def test_a_report_that_makes_no_sense_is_an_unknown_outcome() -> None:
    """Indices out of range are ignored; what is no verdict is tried again."""
    channel = make_pure()
    offer(channel, *numbers(1, 2))
    channel.succeeded(write(channel), {1: "no", 99: "no"}, 0.0)
    stats = channel.stats()
    assert (stats.delivered, stats.queued, stats.retried_unknown) == (1, 1, 1)


def test_reasons_a_sink_invents_are_bounded() -> None:
    """A sink that puts payload into its reasons does not grow the accounting for ever."""
    channel = make_pure(batch_size=1)
    offer(channel, *numbers(1, 200))
    drain(
        channel, lambda w: {0: Verdict(Outcome.REJECTED_PERMANENT, f"{w.batch[0].sequence}" * 99)}
    )
    dropped = channel.stats().dropped
    assert len(dropped) <= 33
    assert all(len(reason) <= 64 for reason in dropped)


# -- poison -------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [{1}, {50}, {100}, {1, 2, 3}, {7, 8, 60}])
def test_a_poison_event_is_isolated_and_dropped(poison: set[int]) -> None:
    """An event that makes every write fail is found and dropped; all others arrive once."""
    channel = make_pure(batch_size=64, failure_threshold=3)
    offer(channel, *numbers(1, 120))

    def judge(action: Write) -> Failure | None:
        return (
            TRANSIENT if poison & {e.sequence for e in action.batch if not is_notice(e)} else None
        )

    got = drain(channel, judge)
    assert sorted(n for n in got if n) == [n for n in range(1, 121) if n not in poison]
    assert channel.stats().dropped == {"rejected": len(poison)}


def test_a_failing_batch_is_halved_down_to_one_event() -> None:
    """8, 8, 4, 2, 1: the search for the culprit costs a logarithm, after one more try."""
    channel, sizes = make_pure(batch_size=8, circuit_breaker=False), []
    offer(channel, *numbers(1, 8))
    for now in range(0, 600, 100):
        action = write(channel, float(now))
        sizes.append(len(action.batch))
        channel.failed(action, TRANSIENT, float(now))
    assert sizes == [8, 8, 4, 2, 1, 1]


def test_a_sink_that_fails_every_other_time_keeps_its_large_batches() -> None:
    """Half of all attempts fail, and yet the others carry full batches."""
    channel, sizes = make_pure(batch_size=8, circuit_breaker=False), []
    offer(channel, *numbers(1, 64))
    for now in range(0, 1600, 100):
        action = write(channel, float(now))
        sizes.append(len(action.batch))
        if now % 200:
            channel.succeeded(action, None, float(now))
        else:
            channel.failed(action, TRANSIENT, float(now))
    assert sizes == [8] * 16


def test_a_dead_sink_costs_no_event() -> None:
    """If everything fails it is the sink's fault: nothing is dropped, however long it lasts."""
    channel, now = make_pure(max_attempts=2, batch_size=4), 0.0
    offer(channel, *numbers(1, 50))
    for _ in range(500):
        action = channel.next(now)
        if isinstance(action, Write):
            channel.failed(action, TRANSIENT, now)
        elif action.seconds is not None:
            now += action.seconds
    assert channel.stats().dropped == {}
    assert sorted(drain(channel, lambda action: None)) == list(range(1, 51))


def test_a_single_poison_event_without_successors_is_kept() -> None:
    """Nothing proves that the event is to blame as long as no other gets through."""
    channel, now = make_pure(max_attempts=2), 0.0
    offer(channel, make_event(1))
    for _ in range(100):
        action = channel.next(now)
        if isinstance(action, Write):
            channel.failed(action, TRANSIENT, now)
        else:
            now += action.seconds or 0.0
    assert channel.stats().queued == 1


# -- full, late, shed ---------------------------------------------------------------------------


def test_a_full_buffer_drops_by_policy_and_says_so() -> None:
    """What gives way is counted as buffer_full and announced ahead of what follows."""
    channel = make_pure(buffer_size=3)
    offer(channel, *numbers(1, 5))
    first, *rest = write(channel).batch
    assert is_notice(first)
    assert first.data == {
        "count": 2,
        "by_type": {"custom": 2},
        "cause": "buffer_full",
        "sink": "Sink",
        "execution_id": "e" * 32,
        "first_sequence": 1,
        "last_sequence": 2,
    }
    assert [event.sequence for event in rest] == [3, 4, 5]
    assert channel.stats().accepted == 6


def test_an_event_larger_than_the_buffer_costs_no_other() -> None:
    """It is dropped as "oversize" rather than emptying the buffer in vain."""
    channel = make_pure(buffer_bytes=2000)
    offer(channel, make_event(1), make_event(2, data={"x": "y" * 3000}))
    assert channel.stats().dropped == {"oversize": 1}
    assert channel.stats().queued == 1


def test_announcements_are_never_one_per_drop() -> None:
    """Drops during an outage become one announcement, and none while one is on its way."""
    channel = make_pure(buffer_size=2, failure_threshold=1, recovery_timeout=1.0)
    notices, now = set(), 0.0
    for number in range(1, 200):
        offer(channel, make_event(number), now=now)
        action = channel.next(now)
        if isinstance(action, Write):
            notices |= {id(event) for event in action.batch if is_notice(event)}
            channel.failed(action, TRANSIENT, now)
        now += 0.1
    assert len(notices) == 1
    got = []
    while isinstance(action := channel.next(now), (Write, Wait)):
        if isinstance(action, Wait) and action.seconds is None:
            break
        if isinstance(action, Write):
            got += [event for event in action.batch if is_notice(event)]
            channel.succeeded(action, None, now)
        else:
            now += action.seconds or 0.0
    assert sum(event.data["count"] for event in got) == channel.stats().dropped["buffer_full"]


def test_a_rejected_announcement_is_not_announced() -> None:
    """Announcing the loss of an announcement would never end."""
    channel = make_pure()
    offer(channel, make_event(1))
    drain(
        channel, lambda w: dict.fromkeys(range(len(w.batch)), Verdict(Outcome.REJECTED_PERMANENT))
    )
    stats = channel.stats()
    assert (stats.accepted, stats.dropped) == (2, {"rejected": 2})


def test_a_loss_is_announced_even_if_no_event_follows() -> None:
    """The announcement itself goes out when nothing else waits."""
    channel = make_pure()
    channel.refuse(make_event(1), "breaker_open")
    (notice,) = write(channel).batch
    assert is_notice(notice)


def test_events_expire_after_their_deadline() -> None:
    """`deadline` seconds after it was accepted an undelivered event is dropped as "expired"."""
    channel = make_pure(deadline=5.0, failure_threshold=1)
    offer(channel, make_event(1), now=0.0)
    offer(channel, make_event(2), now=3.0)
    channel.failed(write(channel, 3.0), TRANSIENT, 3.0)
    assert channel.next(3.0) == Wait(2.0, Wake.NEVER)
    channel.tick(5.0)
    assert channel.stats().dropped == {"expired": 1}
    channel.tick(8.0)
    assert channel.stats().dropped == {"expired": 2}


def test_when_open_drop_sheds_while_the_circuit_is_open() -> None:
    """when_open="drop": what waits and what comes is dropped; the next period tries again."""
    channel = make_pure(when_open="drop", failure_threshold=1, recovery_timeout=10.0)
    offer(channel, *numbers(1, 2))
    channel.failed(write(channel), TRANSIENT, 0.0)
    offer(channel, make_event(3), now=1.0)
    assert channel.stats().dropped == {"breaker_open": 3}
    offer(channel, make_event(4), now=10.0)
    assert channel.stats().queued == 1
    assert channel.breaker.state is State.HALF_OPEN


def test_an_open_circuit_buffers_by_default() -> None:
    """when_open="buffer": events wait, and arrive after recovery."""
    channel = make_pure(failure_threshold=1)
    offer(channel, make_event(1))
    channel.failed(write(channel), TRANSIENT, 0.0)
    offer(channel, make_event(2), now=1.0)
    assert drain(channel, lambda action: None) == [1, 2]


# -- life cycle ---------------------------------------------------------------------------------


def test_close_drains_refuses_and_ends() -> None:
    """Closing: what waits is delivered, what comes is counted as "closed", then Done."""
    channel = make_pure()
    offer(channel, make_event(1))
    channel.close(0.0)
    offer(channel, make_event(2))
    channel.succeeded(write(channel), None, 0.0)
    assert channel.next(0.0) == Done()
    stats = channel.stats()
    assert (stats.delivered, stats.dropped) == (1, {"closed": 1})


def test_close_gives_an_open_circuit_one_try() -> None:
    """A sink that recovered in the meantime gets its events; one that did not, no second try."""
    channel = make_pure(failure_threshold=1, recovery_timeout=1000.0)
    offer(channel, *numbers(1, 2))
    channel.failed(write(channel), TRANSIENT, 0.0)
    channel.close(1.0)
    channel.failed(write(channel, 1.0), TRANSIENT, 1.0)
    action = channel.next(1.0)
    assert isinstance(action, Wait)
    assert action.seconds is not None
    assert action.seconds > 10


def test_expire_all_leaves_nothing() -> None:
    """At the deadline everything, in flight, aside or waiting, is counted and gone."""
    channel = make_pure(batch_size=2)
    offer(channel, *numbers(1, 5))
    write(channel)
    channel.close(0.0)
    channel.expire_all("shutdown_timeout")
    stats = channel.stats()
    assert (stats.queued, stats.in_flight, stats.queued_bytes) == (0, 0, 0)
    assert stats.dropped == {"shutdown_timeout": 5}
    assert channel.next(0.0) == Done()


def test_settled_waits_for_what_was_accepted_before_only() -> None:
    """A flush does not wait for events that come after it."""
    channel = make_pure(batch_size=2)
    offer(channel, *numbers(1, 2))
    mark = channel.mark
    offer(channel, *numbers(3, 4))
    assert not channel.settled(mark)
    first = write(channel)
    assert not channel.settled(mark)
    channel.succeeded(first, None, 0.0)
    assert channel.settled(mark)


def test_an_interrupted_offer_is_settled() -> None:
    """After Ctrl-C inside `offer`, a recount makes the identity hold again."""
    channel = make_pure()
    offer(channel, *numbers(1, 3))
    channel.ledger.accept()
    channel.waiting.buffer.count += 1
    channel.recount()
    assert channel.ledger.balances
    assert channel.stats().dropped == {"interrupted": 1}
    assert sequences(write(channel)) == [1, 2, 3]


def test_coalesced_tokens_count_as_many() -> None:
    """Merged tokens stay in the accounting as the events they stand for."""
    channel = make_pure(overflow="coalesce", buffer_size=2)
    offer(channel, *(token(n, "x") for n in range(1, 11)))
    assert channel.stats().queued == 10
    drain(channel, lambda action: None)
    assert channel.stats().delivered == 10
