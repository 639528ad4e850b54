"""Observing changes nothing: results, exceptions, history, requests are the same."""

from __future__ import annotations

import attrs
import dspy
import pytest

from streamll.testing import capture_events
from support.programs import BATTERY, observe


@pytest.fixture(autouse=True)
def _fresh_cache():
    """Cached answers of one run must not reach the next."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


def comparable(outcome, ordered):
    """Requests of parallel calls come in any order; LiteLLM puts a traceback in its messages."""
    error = outcome.error and (outcome.error[0], outcome.error[1].splitlines()[0])
    outcome = attrs.evolve(outcome, error=error)
    if ordered:
        return outcome
    return (
        outcome.result,
        outcome.error,
        sorted(map(str, outcome.requests)),
        sorted(map(str, outcome.history)),
    )


@pytest.mark.parametrize("track_usage", [False, True], ids=["plain", "track_usage"])
@pytest.mark.parametrize("name", BATTERY)
def test_a_program_does_the_same_with_and_without_streamll(name, track_usage):
    """Same predictions, exceptions, history and number of LM calls."""
    run, make_lm, ordered = BATTERY[name]
    plain = observe(run, make_lm(), track_usage=track_usage)
    dspy.cache.reset_memory_cache()
    with capture_events() as events:
        watched = observe(run, make_lm(), track_usage=track_usage)
    assert comparable(watched, ordered) == comparable(plain, ordered)
    assert events


def test_settings_are_as_they_were_after_a_call():
    """Nothing of streamll is left in dspy.settings, and none of it shows there."""
    run, make_lm, _ = BATTERY["chat"]
    keys = ("callbacks", "usage_tracker", "caller_modules", "send_stream")
    before = {key: dspy.settings[key] for key in keys}
    with capture_events():
        observe(run, make_lm())
        assert {key: dspy.settings[key] for key in keys} == before
    assert {key: dspy.settings[key] for key in keys} == before
