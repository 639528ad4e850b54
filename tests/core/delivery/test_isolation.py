"""Which event of a failing batch is to blame."""

from __future__ import annotations

import pytest

from core.delivery.doubles import encode, make_event
from streamll._delivery.isolation import Isolation
from streamll._delivery.item import Item


@pytest.mark.parametrize(("unknown", "attempts"), [(False, 5), (True, 50)])
def test_silence_is_blamed_on_an_event_ten_times_as_late_as_a_failure(unknown, attempts):
    """A frozen server answers nothing: the event that waits for it is not overtaken."""
    isolation = Isolation(batch_size=1, max_attempts=5)
    event = make_event(1)
    item = Item(event, encode(event), 0.0, 100)
    stays = 0
    while True:
        isolation.blame([item])
        if not isolation.failed([item], others=True, unknown=unknown):
            break
        stays += 1
    assert stays == attempts - 1
    assert len(isolation) == 1
