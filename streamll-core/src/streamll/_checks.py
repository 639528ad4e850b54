"""What an option may be: attrs validators that say what to write instead."""

from __future__ import annotations

import math
from typing import Any

import attrs

from streamll.errors import ConfigurationError

__all__ = ["check", "flag", "is_number", "not_negative", "positive", "positive_int", "text"]


def check(condition: bool, message: str) -> None:
    """Raise ConfigurationError with *message* unless *condition* holds."""
    if not condition:
        raise ConfigurationError(message)


def is_number(value: Any) -> bool:
    """Whether *value* is a finite number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def positive(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept a number above 0."""
    ok = is_number(value) and value > 0
    check(ok, f"{attribute.name} must be a number above 0, not {value!r}")


def positive_int(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept a whole number above 0."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value > 0
    check(ok, f"{attribute.name} must be a whole number above 0, not {value!r}")


def not_negative(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept a number of at least 0."""
    ok = is_number(value) and value >= 0
    check(ok, f"{attribute.name} must be a number of at least 0, not {value!r}")


def flag(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept True and False."""
    check(isinstance(value, bool), f"{attribute.name} must be True or False, not {value!r}")


def text(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept a string, or None for none."""
    ok = value is None or isinstance(value, str)
    check(ok, f"{attribute.name} must be a string, not {value!r}")
