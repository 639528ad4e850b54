"""Globs over event type, operation and "operation.type"."""

from __future__ import annotations

import pytest

from streamll import ConfigurationError
from streamll.patterns import Patterns, parse_patterns
from support.events import make_event


@pytest.mark.parametrize(
    ("only", "globs"),
    [
        (None, None),
        ("token", ("token",)),
        ("token, *.end", ("token", "*.end")),
        (["a", "b"], ("a", "b")),
    ],
)
def test_patterns_are_a_sequence_or_a_comma_separated_text(only, globs):
    """None, which means all, stays None."""
    assert parse_patterns(only) == globs


@pytest.mark.parametrize("only", ["", ",", [""], [None], [b"token"], (), b"token", 7])
def test_what_is_no_pattern_is_refused(only):
    """It would match nothing, silently."""
    with pytest.raises(ConfigurationError, match=r"no pattern|no event at all"):
        parse_patterns(only)


def test_only_as_many_answers_are_remembered_as_there_is_room_for():
    """Custom names may be unbounded; the answers stay right."""
    patterns = Patterns(("kind-1*",))
    for number in range(3000):
        event = make_event(event_type=f"kind-{number}")
        assert patterns.accepts(event) == str(number).startswith("1")
    assert len(patterns._known) <= 1001
