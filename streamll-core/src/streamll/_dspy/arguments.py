"""The arguments of a call by name, as `inspect.getcallargs` gives them, but quickly.

DSPy asks for them at every call that a callback watches, and `inspect` reads the function's
signature anew each time: more than all the rest of announcing a call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import attrs

__all__ = ["Inspect", "arguments"]


@attrs.frozen
class _Shape:
    """What a function takes."""

    names: tuple[str, ...]
    known: frozenset[str]
    defaults: Mapping[str, Any]
    rest: str | None
    others: str | None

    @classmethod
    def of(cls, function: Callable[..., Any]) -> _Shape:
        spec = inspect.getfullargspec(function)
        optional = dict(zip(reversed(spec.args), reversed(spec.defaults or ()), strict=False))
        return cls(
            tuple(spec.args),
            frozenset(spec.args + spec.kwonlyargs),
            {**optional, **(spec.kwonlydefaults or {})},
            spec.varargs,
            spec.varkw,
        )

    def bind(self, given: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments by name; None where the call does not fit."""
        names = self.names
        bound = dict(zip(names, given, strict=False))
        fits = len(given) <= len(names) or self.rest is not None
        if not fits or not bound.keys().isdisjoint(named):
            return None
        if self.rest is not None:
            bound[self.rest] = given[len(names) :]
        return self._add_named(bound, named)

    def _add_named(self, bound: dict[str, Any], named: Mapping[str, Any]) -> dict[str, Any] | None:
        if named.keys() <= self.known:
            bound.update(named)
            others = {}
        else:
            others = {name: value for name, value in named.items() if name not in self.known}
            bound.update((name, named[name]) for name in named if name in self.known)
        if others and self.others is None:
            return None
        if self.others is not None:
            bound[self.others] = others
        return self._add_defaults(bound)

    def _add_defaults(self, bound: dict[str, Any]) -> dict[str, Any] | None:
        bound = {**self.defaults, **bound}
        return bound if self.known <= bound.keys() else None


_shapes: WeakKeyDictionary[Any, _Shape] = WeakKeyDictionary()


def arguments(function: Callable[..., Any], /, *given: Any, **named: Any) -> dict[str, Any]:
    """Return what `inspect.getcallargs` returns.

    Where the call does not fit, `inspect` would raise, before the function is called and with
    a text of its own; we leave that to the function, and return the arguments as they are.
    """
    if type(function) is not FunctionType:
        return inspect.getcallargs(function, *given, **named)
    shape = _shapes.get(function)
    if shape is None:
        shape = _shapes[function] = _Shape.of(function)
    bound = shape.bind(given, named)
    return {"args": given[1:], "kwargs": named} if bound is None else bound


class Inspect:
    """Stands in for the `inspect` module where DSPy looks `getcallargs` up."""

    getcallargs = staticmethod(arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)
