"""Arguments by name: the quick way gives what `inspect.getcallargs` gives."""

from __future__ import annotations

import inspect
import uuid
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll._dspy.arguments import Inspect, arguments
from streamll._dspy.call_ids import CallIds


class Thing:
    """Methods of every shape."""

    def plain(self, a, b=2): ...

    def rest(self, a, *args, b=3, **kwargs): ...

    def only(self, /, a, *, b): ...

    def named(self, **kwargs): ...

    def none(self): ...


SHAPES = [Thing.plain, Thing.rest, Thing.only, Thing.named, Thing.none]
values = st.integers()


def bound_by_inspect(function, given_, named):
    """Return what `inspect` makes of a call, or None where it does not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return inspect.getcallargs(function, *given_, **named)
        except TypeError:
            return None


@given(
    st.sampled_from(SHAPES),
    st.lists(values, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "self", "kwargs"]), values),
)
def test_arguments_are_bound_as_inspect_binds_them(function, given_, named):
    """Same names, same values; a call that does not fit is left to the function to refuse."""
    expected = bound_by_inspect(function, given_, named)
    if expected is None:
        expected = {"args": tuple(given_[1:]), "kwargs": named}
    assert arguments(function, *given_, **named) == expected


@pytest.mark.parametrize("name", ["iscoroutinefunction", "signature", "getfullargspec"])
def test_all_else_of_inspect_is_inspects(name):
    """What DSPy looks up there besides is the module's own."""
    assert getattr(Inspect(), name) is getattr(inspect, name)


def test_call_ids_are_uuids_and_never_repeat():
    """As the ones DSPy draws itself."""
    drawn = [CallIds().uuid4() for _ in range(1_000)]
    assert len(set(drawn)) == 1_000
    assert {(one.version, one.variant) for one in drawn} == {(4, uuid.RFC_4122)}
