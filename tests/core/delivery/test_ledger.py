"""The accounting of one channel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamll._delivery.ledger import Ledger

MOVES = {
    "accept": lambda ledger: ledger.accept(3),
    "refuse": lambda ledger: ledger.refuse("closed"),
    "take": lambda ledger: ledger.take(2),
    "put_back": lambda ledger: ledger.put_back(1, unknown=True),
    "deliver": lambda ledger: ledger.deliver(1),
    "drop_waiting": lambda ledger: ledger.drop_waiting("buffer_full", 1),
    "drop_in_flight": lambda ledger: ledger.drop_in_flight("rejected", 1),
}


@given(st.lists(st.sampled_from(sorted(MOVES))))
def test_every_move_keeps_the_identity(moves: list[str]) -> None:
    """accepted == delivered + dropped + queued + in_flight after every single move."""
    ledger = Ledger()
    for move in moves:
        MOVES[move](ledger)
        assert ledger.balances


def test_events_put_back_after_an_unknown_outcome_are_counted() -> None:
    """`retried_unknown` counts what may become a duplicate, and nothing else."""
    ledger = Ledger(accepted=5, in_flight=5)
    ledger.put_back(2)
    ledger.put_back(3, unknown=True)
    assert ledger.retried_unknown == 3


def test_an_interrupted_step_is_settled() -> None:
    """What Ctrl-C lost between two counts becomes "interrupted"; the identity holds again."""
    ledger = Ledger(accepted=10, delivered=2, queued=9)
    ledger.settle(queued=5, in_flight=1)
    assert ledger.balances
    assert ledger.dropped == {"interrupted": 2}


def test_an_event_held_but_not_yet_counted_is_settled() -> None:
    """An event that was stored before it was counted as accepted is counted as accepted."""
    ledger = Ledger(accepted=1, queued=1)
    ledger.settle(queued=2, in_flight=0)
    assert ledger.balances
    assert ledger.accepted == 2
