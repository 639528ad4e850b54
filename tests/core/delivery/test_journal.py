"""What is worth a log line."""

from __future__ import annotations

from streamll._delivery.breaker import Change, State
from streamll._delivery.journal import Journal
from streamll.sink import SinkStats

OPENED = Change(State.CLOSED, State.OPEN)
REOPENED = Change(State.HALF_OPEN, State.OPEN)
CLOSED = Change(State.HALF_OPEN, State.CLOSED)


def test_an_outage_is_two_lines_however_many_probes_fail() -> None:
    """One line when the circuit opens, one when it closes, none for the probes between."""
    journal = Journal("RedisSink")
    stats = SinkStats(failures=3, last_error="ConnectionError")
    changes = [OPENED, *[Change(State.OPEN, State.HALF_OPEN), REOPENED] * 50, CLOSED]
    opened, closed = journal.lines(changes, stats, 0.0)
    assert opened == "RedisSink: circuit open after 3 x ConnectionError; events wait"
    assert closed == "RedisSink: circuit closed, delivering again"


def test_drops_are_told_when_they_begin_and_once_a_minute() -> None:
    """The first drop is a line; the rest is summed up, by reason."""
    journal = Journal("s")
    assert journal.lines([], SinkStats(), 0.0) == []
    (first,) = journal.lines([], SinkStats(dropped={"buffer_full": 5}), 1.0)
    assert "5 buffer_full" in first
    later = SinkStats(dropped={"buffer_full": 5000, "expired": 1})
    assert journal.lines([], later, 60.0) == []
    (summary,) = journal.lines([], later, 61.0)
    assert "4995 buffer_full, 1 expired" in summary
    assert journal.lines([], later, 1000.0) == []


def test_a_flapping_circuit_does_not_flood_the_log() -> None:
    """At most ten lines a minute (S20)."""
    journal = Journal("s")
    told = [
        line for n in range(1000) for line in journal.lines([OPENED, CLOSED], SinkStats(), n / 100)
    ]
    assert len(told) == 10
    assert journal.lines([OPENED], SinkStats(), 61.0)
