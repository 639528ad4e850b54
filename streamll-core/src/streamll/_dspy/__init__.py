"""DSPy calls -> events: the only place that imports dspy.

Read in this order: `install` (where DSPy is asked to tell us), `callback` (a call becomes a
span), `calls` (what is told of each kind of call), `lm` (usage, cost, cache hits), `taps` and
`tokens` (the text as it streams).
"""

from __future__ import annotations

from streamll._dspy.install import install
from streamll._dspy.marks import mark

__all__ = ["install", "mark"]
