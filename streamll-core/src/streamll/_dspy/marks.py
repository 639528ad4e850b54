"""Which programs are instrumented: a mark on the class or the instance, nothing else.

No method is wrapped, so a marked program copies, pickles, saves, loads and compiles as an
unmarked one, and marking twice or subclassing changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import dspy

from streamll._capture import CaptureOptions
from streamll._spans import Span

__all__ = ["is_wanted", "mark", "options_of"]

_MARK: Final = "_streamll_options"


def mark(target: Any, options: CaptureOptions) -> None:
    """Mark a `dspy.Module` class or instance.

    Raises:
        TypeError: for anything else; the message says what to do.
    """
    kind = target if isinstance(target, type) else type(target)
    if not issubclass(kind, dspy.Module):
        raise TypeError(
            f"@streamll.instrument needs a dspy.Module class or instance, not {_named(target)}; "
            "for plain functions use @streamll.trace(name)"
        )
    setattr(target, _MARK, options)


def _named(target: Any) -> str:
    name = getattr(target, "__name__", None)
    return f"{type(target).__name__} {name!r}" if name else f"a {type(target).__name__}"


def options_of(module: Any) -> CaptureOptions | None:
    """Return the options of a marked module, the instance's before its class's."""
    found = _own(module).get(_MARK) or getattr(type(module), _MARK, None)
    return found if isinstance(found, CaptureOptions) else None


def _own(module: Any) -> Mapping[str, Any]:
    """Return the attributes of *module* itself; `Module.__getattribute__` is guarded."""
    try:
        attributes: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return attributes


def is_wanted(span: Span) -> bool:
    """Whether events of this operation are to be emitted; hidden calls still count as parents."""
    operations = span.options.operations
    return operations is None or span.operation in operations
