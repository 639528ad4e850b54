"""Telling the operator, through the logger `streamll`: never payload, never credentials."""

from __future__ import annotations

import logging

__all__ = ["warn"]

_logger = logging.getLogger("streamll")


def warn(line: str) -> None:
    """Log a warning. A handler or filter that raises reaches neither the program nor delivery."""
    try:
        _logger.warning("streamll: %s", line)
    except Exception:  # noqa: BLE001
        return
