"""Stream what happens inside DSPy programs, as it happens, to sinks of your choice.

    import streamll
    from streamll.sinks import TerminalSink

    streamll.configure(sinks=[TerminalSink()])

    @streamll.instrument
    class RAG(dspy.Module): ...

Importing streamll imports neither dspy nor a plugin, and starts no thread. Observing never
blocks the program, never fails it and never changes what it does.
"""

from importlib.metadata import version as _version

from streamll._config import Configuration, configure, flush, get_sinks, plugins, shutdown
from streamll._instrument import instrument
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
from streamll.settings import DeliverySettings
from streamll.sink import AsyncSink, Report, Sink, SinkStats, Verdict
from streamll.templates import Template

__version__ = _version("streamll-core")

__all__ = [  # noqa: RUF022 - grouped by use
    # Configure
    "Configuration",
    "configure",
    "flush",
    "get_sinks",
    "plugins",
    "shutdown",
    # Capture
    "instrument",
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
    # Sinks and plugins
    "AsyncSink",
    "DeliverySettings",
    "Report",
    "Sink",
    "SinkStats",
    "Template",
    "Verdict",
    "hookimpl",
    # Errors
    "ConfigurationError",
    "DeliveryError",
    "Outcome",
    "OutcomeUnknown",
    "PermanentError",
    "PluginError",
    "StreamllError",
    "TransientError",
    # About
    "__version__",
]
