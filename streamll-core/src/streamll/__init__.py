"""Stream what happens inside DSPy programs, as it happens, to sinks of your choice.

    import streamll
    from streamll.sinks import TerminalSink

    streamll.configure(sinks=[TerminalSink()])

    @streamll.instrument
    class RAG(dspy.Module): ...

Importing streamll imports neither dspy nor a plugin, and starts no thread. Observing never
blocks the program, never fails it and never changes what it does.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from streamll._tracing import bound, context, emit, set_context, trace
from streamll.errors import (
    ConfigurationError,
    DeliveryError,
    Outcome,
    OutcomeUnknown,
    PermanentError,
    PluginError,
    StreamllError,
    TransientError,
)
from streamll.events import SCHEMA_VERSION, Batch, Event
from streamll.hookspecs import hookimpl
from streamll.settings import DeliverySettings, reject_unknown
from streamll.sink import AsyncSink, Report, Sink, SinkStats, Verdict
from streamll.source import Message, Source, Start
from streamll.templates import Template

if _TYPE_CHECKING:
    from streamll._config import configure, plugins
    from streamll._instrument import instrument
    from streamll._lifecycle import Configuration, flush, get_sinks, shutdown
    from streamll._sigterm import drain_on_sigterm
    from streamll._stream import Stream, stream
    from streamll._tokens import OutputFields, Parser, Piece
    from streamll.consuming import EventConsumer, EventStream, ReadStats, consume

__all__ = [  # noqa: RUF022 - grouped by use
    # Configure
    "Configuration",
    "configure",
    "drain_on_sigterm",
    "flush",
    "get_sinks",
    "plugins",
    "shutdown",
    # Capture
    "Stream",
    "instrument",
    "stream",
    # Your own events
    "bound",
    "context",
    "emit",
    "set_context",
    "trace",
    # Events
    "SCHEMA_VERSION",
    "Batch",
    "Event",
    # Read events back
    "EventConsumer",
    "EventStream",
    "Message",
    "ReadStats",
    "Source",
    "Start",
    "consume",
    # Sinks and plugins
    "AsyncSink",
    "DeliverySettings",
    "OutputFields",
    "Parser",
    "Piece",
    "Report",
    "Sink",
    "SinkStats",
    "Template",
    "Verdict",
    "hookimpl",
    "reject_unknown",
    # Errors
    "ConfigurationError",
    "DeliveryError",
    "Outcome",
    "OutcomeUnknown",
    "PermanentError",
    "PluginError",
    "StreamllError",
    "TransientError",
]


#: Resolved when asked for: what these need (delivery, asyncio, XML) takes longer to import than
#: all the rest, and a library that only emits never asks.
_LAZY = {
    "Configuration": "streamll._lifecycle",
    "EventConsumer": "streamll.consuming",
    "EventStream": "streamll.consuming",
    "OutputFields": "streamll._tokens",
    "Parser": "streamll._tokens",
    "Piece": "streamll._tokens",
    "ReadStats": "streamll.consuming",
    "Stream": "streamll._stream",
    "configure": "streamll._config",
    "consume": "streamll.consuming",
    "drain_on_sigterm": "streamll._sigterm",
    "flush": "streamll._lifecycle",
    "get_sinks": "streamll._lifecycle",
    "instrument": "streamll._instrument",
    "plugins": "streamll._config",
    "shutdown": "streamll._lifecycle",
    "stream": "streamll._stream",
}


def __getattr__(name: str) -> _Any:
    if name in _LAZY:
        value = globals()[name] = getattr(_import_module(_LAZY[name]), name)
        return value
    # Reading the version takes importlib.metadata, half of what importing streamll costs.
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("streamll-core")
    raise AttributeError(f"module 'streamll' has no attribute {name!r}")
