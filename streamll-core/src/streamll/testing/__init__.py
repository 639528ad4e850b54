"""Doubles and suites for people who test programs or write sinks. Public API.

Needs no broker, no key and, but for `ScriptedLM` and `build_demo`, no dspy.
"""

from streamll.testing._capture import capture_events
from streamll.testing._clock import FakeClock
from streamll.testing._contract import SinkContract, make_batch
from streamll.testing._demo import build_demo
from streamll.testing._scripted import (
    ScriptedAnswer,
    ScriptedCall,
    ScriptedLM,
    ScriptedUsage,
    ScriptError,
)
from streamll.testing._sinks import FlakySink, MemorySink
from streamll.testing._source import MemorySource
from streamll.testing._tree import Node, tree

__all__ = [
    "FakeClock",
    "FlakySink",
    "MemorySink",
    "MemorySource",
    "Node",
    "ScriptError",
    "ScriptedAnswer",
    "ScriptedCall",
    "ScriptedLM",
    "ScriptedUsage",
    "SinkContract",
    "build_demo",
    "capture_events",
    "make_batch",
    "tree",
]
