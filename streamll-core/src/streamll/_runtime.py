"""The one mutable global: the pipeline in force. None means: emit nothing, at no cost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamll._pipeline import Pipeline

__all__ = ["current", "replace"]

_pipeline: Pipeline | None = None


def current() -> Pipeline | None:
    """Return the pipeline in force, or None when nothing is configured."""
    return _pipeline


def replace(pipeline: Pipeline | None) -> Pipeline | None:
    """Put *pipeline* in force, for every thread at once, and return the one before."""
    global _pipeline
    before, _pipeline = _pipeline, pipeline
    return before


def _after_fork() -> None:
    if _pipeline is not None:
        _pipeline.renew_source()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
