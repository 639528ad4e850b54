"""What was dropped and not yet announced."""

from __future__ import annotations

from core.delivery.doubles import make_event, token
from streamll._delivery.gaps import Gaps


def test_one_record_per_execution_and_cause() -> None:
    """Drops of one execution for one cause become one record with its range and types."""
    gaps = Gaps()
    for event in (token(4, "x"), token(5, "y"), make_event(9, "end")):
        gaps.record(event, "buffer_full")
    gaps.record(make_event(7), "expired")
    first, second = (gap.data("RedisSink") for gap in gaps.take())
    assert first == {
        "count": 3,
        "by_type": {"token": 2, "end": 1},
        "cause": "buffer_full",
        "sink": "RedisSink",
        "execution_id": "e" * 32,
        "first_sequence": 4,
        "last_sequence": 9,
    }
    assert (second["cause"], second["count"]) == ("expired", 1)
    assert not gaps


def test_many_executions_are_told_of_together() -> None:
    """However many executions lose events, the records stay few and their sum exact."""
    gaps = Gaps()
    for number in range(10_000):
        gaps.record(make_event(number, execution_id=str(number)), "buffer_full")
    records = [gap.data("s") for gap in gaps.take()]
    assert len(records) == 33
    assert sum(record["count"] for record in records) == 10_000
    assert "execution_id" not in records[-1]


def test_many_event_types_are_told_of_together() -> None:
    """Custom names may be unbounded; the record is not."""
    gaps = Gaps()
    for number in range(1000):
        gaps.record(make_event(number, f"custom-{number}"), "buffer_full")
    (gap,) = gaps.take()
    assert len(gap.by_type) == 33
    assert gap.by_type.total() == gap.count == 1000


def test_events_that_cannot_be_read_any_more_are_counted() -> None:
    """A damaged row has no execution and no type, but it counts."""
    gaps = Gaps()
    gaps.record(None, "spool_corrupt", 2)
    gaps.record(None, "spool_corrupt")
    (data,) = (gap.data("s") for gap in gaps.take())
    assert data == {"count": 3, "by_type": {"unknown": 3}, "cause": "spool_corrupt", "sink": "s"}
