"""Configuration from ``STREAMLL_*`` variables, checked as strictly as keywords."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown

__all__ = ["check", "flag", "script_name", "sinks", "text"]

_PREFIX: Final = "STREAMLL_"
KNOWN: Final = (
    "STREAMLL_CAPTURE",
    "STREAMLL_DISABLED",
    "STREAMLL_ENVIRONMENT",
    "STREAMLL_LEVEL",
    "STREAMLL_PLUGINS",
    "STREAMLL_RELEASE",
    "STREAMLL_SERVICE",
    "STREAMLL_SINKS",
)
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def check(plugins: Iterable[str] = ()) -> None:
    """Raise ConfigurationError for a misspelt ``STREAMLL_*`` variable.

    ``STREAMLL_<PLUGIN>_...`` is the plugin's to judge.
    """
    theirs = tuple(f"{_PREFIX}{name.upper()}_" for name in plugins)
    given = [name for name in os.environ if name.startswith(_PREFIX)]
    ours = [name for name in given if not (theirs and name.startswith(theirs))]
    reject_unknown(ours, KNOWN, "environment variable")


def text(name: str) -> str | None:
    """Return ``STREAMLL_<name>``, or None when unset or blank."""
    return os.environ.get(_PREFIX + name, "").strip() or None


def flag(name: str) -> bool:
    """Return ``STREAMLL_<name>`` as a boolean; unset is False."""
    value = text(name)
    if value is None:
        return False
    if value.lower() not in _FLAGS:
        raise ConfigurationError(f"{_PREFIX}{name} must be 1 or 0, not {value!r}")
    return _FLAGS[value.lower()]


def sinks() -> list[str]:
    """Return ``STREAMLL_SINKS``, names and URLs separated by commas or blanks; or the terminal.

    A comma inside a URL's query is kept: a separator is followed by a name or a scheme.
    """
    value = text("SINKS")
    if value is None:
        return ["terminal"]
    return [part for part in re.split(r"\s+|,(?=[a-z][\w+.-]*(?:://|,|$))", value) if part]


def script_name() -> str:
    """Return the name of the running script, the default `service`."""
    return PurePath(sys.argv[0] or "python").stem or "python"
