"""Arguments by name: the quick way gives what `inspect.getcallargs` gives."""

from __future__ import annotations

import inspect
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll._dspy.arguments import Inspect, arguments


class Thing:
    """Methods of every shape."""

    def plain(self, a, b=2): ...

    def rest(self, a, *args, b=3, **kwargs): ...

    def only(self, /, a, *, b): ...

    def named(self, **kwargs): ...

    def none(self): ...


SHAPES = [Thing.plain, Thing.rest, Thing.only, Thing.named, Thing.none, Thing().plain]
values = st.integers()


def outcome(call):
    """Return what *call* returns, or the type and text of what it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except TypeError as error:
        return "TypeError", str(error)


@given(
    st.sampled_from(SHAPES),
    st.lists(values, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "self", "kwargs"]), values),
)
def test_arguments_are_bound_as_inspect_binds_them(function, given_, named):
    """Same names, same values, same complaint about a call that does not fit."""
    expected = outcome(lambda: inspect.getcallargs(function, *given_, **named))
    assert outcome(lambda: arguments(function, *given_, **named)) == expected


@pytest.mark.parametrize("name", ["iscoroutinefunction", "signature", "getfullargspec"])
def test_all_else_of_inspect_is_inspects(name):
    """What DSPy looks up there besides is the module's own."""
    assert getattr(Inspect(), name) is getattr(inspect, name)
