"""Which plugins there are, and what they register.

Found by entry points (group ``streamll``) at configure time, each loaded on its own: a
broken one is recorded and does not stop the others. ``STREAMLL_PLUGINS`` is a comma list:
names allow only those, ``-name`` denies one.
"""

from __future__ import annotations

import difflib
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import pluggy

from streamll import hookspecs
from streamll.encoding import safe_text
from streamll.errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Plugin", "Registration", "Registry", "registry"]

GROUP: Final = "streamll"


@attrs.define(kw_only=True)
class Plugin:
    """One entry point, loaded or not.

    Attributes:
        name: entry-point name.
        distribution: the installed package that brings it.
        version: of that package.
        status: "loaded", "broken" or "denied".
        error: why it is broken; None otherwise.
        commands: name -> ``"module:attribute"`` of its commands ``streamll <plugin> <name>``.
    """

    name: str
    distribution: str
    version: str
    status: str = "loaded"
    error: str | None = None
    commands: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Registration:
    """A sink or source under a name and URL schemes."""

    name: str
    factory: Any
    schemes: tuple[str, ...]
    plugin: str

    def resolve(self) -> Any:
        """Return the factory, importing ``"module:attribute"``.

        Raises:
            PluginError: when the import fails; the message names the plugin.
        """
        if not isinstance(self.factory, str):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise PluginError(
                f"sink {self.name!r} of {self.plugin} cannot be imported: "
                f"{type(error).__name__}: {safe_text(error)}"
            ) from error


def _loaded_hooks(manager: pluggy.PluginManager, name: str) -> list[Callable[..., Any]]:
    """Return the implementations of a hook in the order the plugins were registered.

    We call them ourselves: pluggy stops a call at the first that raises.
    """
    return [impl.function for impl in getattr(manager.hook, name).get_hookimpls()]


class Registry:
    """Everything plugins registered. Built once, under a lock, when first asked."""

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self.plugins: list[Plugin] = []
        self.sinks: dict[str, Registration] = {}
        self.sources: dict[str, Registration] = {}
        self.parsers: dict[str, Any] = {}
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        points = _installed() if found is None else list(found)
        _reject_duplicates(points)
        for point in points:
            self._load(point)

    def _load(self, point: EntryPoint) -> None:
        plugin = _describe(point)
        self.plugins.append(plugin)
        if not _allowed(point.name):
            plugin.status = "denied"
            return
        try:
            module = point.load()
            self.register(module, plugin.name, f"plugin {plugin.name!r} ({plugin.distribution})")
            if hasattr(module, "streamll_register_commands"):
                module.streamll_register_commands(plugin.commands.__setitem__)
        except Exception as error:  # noqa: BLE001 - one broken plugin never stops another
            plugin.status = "broken"
            plugin.error = f"{type(error).__name__}: {safe_text(error)}"

    def register(self, module: Any, name: str, origin: str | None = None) -> None:
        """Add one plugin object, e.g. in a test or an application; undone on failure.

        Raises:
            PluginError: when a sink name or URL scheme is already taken.
        """
        origin = origin or f"plugin {name!r}"
        self.manager.register(module, name)
        sinks, sources = dict(self.sinks), dict(self.sources)
        try:
            self._collect(module, "streamll_register_sinks", self.sinks, origin)
            self._collect(module, "streamll_register_sources", self.sources, origin)
            self._collect_parsers(module)
        except BaseException:
            self.manager.unregister(module)
            self.sinks, self.sources = sinks, sources
            raise

    def unregister(self, module: Any) -> None:
        """Remove a plugin object and what it registered."""
        name = self.manager.get_name(module)
        self.manager.unregister(module)
        for table in (self.sinks, self.sources):
            for key in [k for k, v in table.items() if v.plugin.startswith(f"plugin {name!r}")]:
                del table[key]

    def _collect(self, module: Any, hook: str, table: dict[str, Registration], origin: str) -> None:
        implementation = getattr(module, hook, None)
        if implementation is None:
            return

        def register(name: str, factory: Any, *, schemes: Sequence[str] = ()) -> None:
            entry = Registration(name=name, factory=factory, schemes=tuple(schemes), plugin=origin)
            for key in (name, *(f"{scheme}://" for scheme in entry.schemes)):
                if key in table and table[key].plugin != origin:
                    raise PluginError(
                        f"{key!r} is registered by both {table[key].plugin} and {origin}"
                    )
                table[key] = entry

        implementation(register)

    def _collect_parsers(self, module: Any) -> None:
        implementation = getattr(module, "streamll_register_parsers", None)
        if implementation is not None:
            implementation(self.parsers.__setitem__)

    def hooks(self, name: str) -> list[Callable[..., Any]]:
        """Return the implementations of hook *name*, one callable each."""
        return list(reversed(_loaded_hooks(self.manager, name)))

    def sink(self, name: str) -> Registration:
        """Return the sink registered as *name*, or as ``scheme://``.

        Raises:
            PluginError: when the plugin of that name is broken or denied.
            ConfigurationError: when nothing of that name is installed.
        """
        return self._lookup(self.sinks, name, "sink")

    def source(self, name: str) -> Registration:
        """Return the source registered as *name*; raises as `sink` does."""
        return self._lookup(self.sources, name, "source")

    def _lookup(self, table: dict[str, Registration], name: str, what: str) -> Registration:
        if name in table:
            return table[name]
        plain = name.removesuffix("://")
        for plugin in self.plugins:
            if plugin.name == plain and plugin.status != "loaded":
                reason = plugin.error or "denied by STREAMLL_PLUGINS"
                raise PluginError(
                    f"plugin {plain!r} ({plugin.distribution}) is {plugin.status}: {reason}"
                )
        raise ConfigurationError(_unknown(what, name, table))


def _unknown(what: str, name: str, table: dict[str, Registration]) -> str:
    label = "URL scheme" if name.endswith("://") else f"{what} name"
    close = difflib.get_close_matches(name, table, n=1)
    if close:
        return f"unknown {label} {name!r}; did you mean {close[0]!r}?"
    package = {"rediss://": "redis", "amqp://": "rabbitmq", "amqps://": "rabbitmq"}.get(
        name, name.removesuffix("://")
    )
    bundled = package in {"redis", "rabbitmq", "terminal"}
    install = f'"streamll[{package}]"' if bundled else f"streamll-{package}"
    known = ", ".join(sorted(table)) or "none"
    advice = f"Is its plugin installed? Try: pip install {install}"
    return f"unknown {label} {name!r}; known: {known}. {advice}"


def _installed() -> list[EntryPoint]:
    # Here, not above: the module takes long to import, and only plugins need it.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return list(entry_points(group=GROUP))


def _describe(point: EntryPoint) -> Plugin:
    dist = point.dist
    return Plugin(
        name=point.name,
        distribution=dist.name if dist else "?",
        version=dist.version if dist else "?",
    )


def _allowed(name: str) -> bool:
    rules = [rule.strip() for rule in os.environ.get("STREAMLL_PLUGINS", "").split(",")]
    rules = [rule for rule in rules if rule]
    if f"-{name}" in rules:
        return False
    allow = [rule for rule in rules if not rule.startswith("-")]
    return not allow or name in allow


def _reject_duplicates(points: list[EntryPoint]) -> None:
    seen: dict[str, str] = {}
    for point in sorted(points, key=lambda p: (p.name, p.dist.name if p.dist else "")):
        origin = point.dist.name if point.dist else point.value
        if not _allowed(point.name):
            continue
        if point.name in seen and seen[point.name] != origin:
            raise PluginError(
                f"two installed packages bring a streamll plugin named {point.name!r}: "
                f"{seen[point.name]} and {origin}; uninstall one, or set "
                f"STREAMLL_PLUGINS=-{point.name}"
            )
        seen[point.name] = origin


_registry: Registry | None = None
#: Re-entrant: a plugin may ask for another sink while it is being imported.
_lock = threading.RLock()


def _after_fork() -> None:
    """Let go, in a forked child, of what a thread of the parent held."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def registry() -> Registry:
    """Return the process-wide registry, discovering plugins on first use. Thread-safe."""
    global _registry
    with _lock:
        if _registry is None:
            _registry = Registry()
        return _registry
