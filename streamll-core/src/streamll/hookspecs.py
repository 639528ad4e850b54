"""The hooks a plugin may implement (pluggy project and entry-point group ``streamll``).

A plugin needs one import::

    import streamll

    @streamll.hookimpl
    def streamll_register_sinks(register):
        register("webhook", WebhookSink, schemes=("https",))

streamll calls implementations one by one, each isolated: one that raises is reported and
never silences another, nor the observed program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamll._tokens import OutputFields, Parser
    from streamll.events import Event
    from streamll.sink import AsyncSink, Sink

__all__ = [
    "RegisterCommand",
    "RegisterParser",
    "RegisterSink",
    "RegisterSource",
    "hookimpl",
    "hookspec",
]

hookspec = pluggy.HookspecMarker("streamll")
hookimpl = pluggy.HookimplMarker("streamll")


class RegisterSink(Protocol):
    """Registers one sink; *factory* is a class or ``"module:attribute"``, resolved when used."""

    def __call__(self, name: str, factory: Any, *, schemes: Sequence[str] = ()) -> None:
        """Register *factory* under *name* and the URL *schemes*."""


class RegisterSource(Protocol):
    """Registers one read side for `consume`, by URL scheme."""

    def __call__(self, name: str, factory: Any, *, schemes: Sequence[str] = ()) -> None:
        """Register *factory* under *name* and the URL *schemes*."""


class RegisterParser(Protocol):
    """Registers the parser of one adapter class and its subclasses."""

    def __call__(self, adapter: str, factory: Callable[[OutputFields], Parser], /) -> None:
        """Register *factory* under the adapter's class name, e.g. "TemplateAdapter"."""


class RegisterCommand(Protocol):
    """Registers one command ``streamll <plugin> <name>``."""

    def __call__(self, name: str, function: str, /) -> None:
        """Register *function*, ``"module:attribute"``, imported when the command is run.

        Its parameters are the command's arguments and options, its docstring the help.
        """


@hookspec
def streamll_register_sinks(register: RegisterSink) -> None:
    """Register sinks. Called at configure time, never at import."""


@hookspec
def streamll_register_sources(register: RegisterSource) -> None:
    """Register the read side of `consume`. Called at configure or consume time."""


@hookspec
def streamll_register_parsers(register: RegisterParser) -> None:
    """Register parsers of adapters that streamll does not know. Called at configure time."""


@hookspec
def streamll_register_commands(register: RegisterCommand) -> None:
    """Register commands of the command line. Called with the other registrations."""


@hookspec
def streamll_process_event(event: Event) -> Event | None:
    """Return the event, another one, or None to drop it. Called in `emit`, in order.

    Fails closed: an implementation that raises drops the event, counted and reported.
    """


@hookspec
def streamll_emit(event: Event) -> None:
    """Observe every accepted event, in the emitting thread. Must not block."""


@hookspec
def streamll_sink_changed(sink: Sink | AsyncSink, old: str, new: str) -> None:
    """Observe circuit changes ("closed", "open", "half_open"). Never from a hot path."""


@hookspec
def streamll_configured(config: Any) -> None:
    """Observe a completed `configure`."""


@hookspec
def streamll_shutdown() -> None:
    """Observe the end of `shutdown`."""
